"""Data sets in memory as uint8, augmentation on the training device, image folders, downloads."""
