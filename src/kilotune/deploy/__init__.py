"""From trained models to C projects and back: export, comparison with PyTorch, and the C library as a trainer."""
