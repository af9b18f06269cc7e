"""Pretrain the demo's backbone on the unshifted digits and write the checkpoint that is committed.

    python benchmarks/pretrain_digitnet.py [PATH]

One core, about a minute. PATH defaults to the checkpoint inside the package.
"""

import os
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from kilotune.data.augment import Augment
from kilotune.data.batches import Batches
from kilotune.data.digits import SIDE, read_digits
from kilotune.data.images import Dataset, Split
from kilotune.models.digitnet import CHECKPOINT, digitnet

SEED = 0
EPOCHS = 60
BATCH_SIZE = 32
# A large step leaves large weights in front of the batch norms, and with them a network that can later be tuned with
# frozen batch norms at the papers' learning rate of 0.125; pretrained at 0.05, its dense fine-tuning diverged.
LR, MOMENTUM, WARMUP_SHARE = 0.2, 0.9, 0.1
AUGMENT = Augment(SIDE, "shift", padding=1 / 16, flip=0.0)


def pretrain(dataset: Dataset) -> nn.Module:
    """The network after EPOCHS of SGD with momentum, one cycle of learning rates, shifts by up to 2 pixels."""
    torch.manual_seed(SEED)
    model = digitnet(dataset.n_classes)
    batches = Batches(dataset.train, BATCH_SIZE, AUGMENT, seed=SEED)
    optimizer = torch.optim.SGD(model.parameters(), LR, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LR, EPOCHS * len(batches), pct_start=WARMUP_SHARE, cycle_momentum=False
    )
    model.train()
    for _ in range(EPOCHS):
        for images, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, split: Split) -> float:
    """Share of ``split`` that ``model`` classifies correctly."""
    return (model(AUGMENT.evaluate(split.images)).argmax(1) == split.labels).float().mean().item()


def main(path: Path) -> None:
    """Pretrain, print the accuracy, write the checkpoint with its facts."""
    torch.set_num_threads(1)
    dataset = read_digits()
    model = pretrain(dataset)
    facts = {
        "accuracy_test": f"{accuracy(model, dataset.test):.4f}",
        "n_train": str(len(dataset.train)),
        "n_test": str(len(dataset.test)),
        "seed": str(SEED),
        "epochs": str(EPOCHS),
        "torch": torch.__version__,
        "made_by": "benchmarks/pretrain_digitnet.py",
    }
    partial = path.with_suffix(".partial")
    save_file({name: tensor for name, tensor in model.state_dict().items() if tensor.ndim}, partial, facts)
    os.replace(partial, path)
    print(facts, f"{path.stat().st_size:,} B")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else str(CHECKPOINT)))
