"""Fine-tune neural networks in kilobytes."""
