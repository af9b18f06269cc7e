"""Fine-tune under a memory budget in three lines; the data are batches (images, labels) of your own."""

import torch

import kilotune as kt
from kilotune.models.digitnet import pretrained_digitnet

model, example = pretrained_digitnet(), torch.zeros(1, 3, 32, 32)
batches = [(torch.randn(16, 3, 32, 32), torch.arange(16) % 10) for _ in range(4)]

tuner = kt.FineTuner(model, example, budget="256KiB", policy="medyate", seed=0)
record = tuner.fit(batches, batches, epochs=3)
print(f"accuracy {record.accuracy:.1%}, at most {record.ledger.worst_total_bytes:,} B of RAM in any step")
