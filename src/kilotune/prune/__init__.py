"""Offline pruning of a pretrained network: whole channels, and kernels cut down to patterns."""
