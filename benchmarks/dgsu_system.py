"""Dynamic Gradient Sparse Update as a whole: an ImageNet MobileNetV2, pruned, then fine-tuned on CIFAR-10 inside 256 KiB.

Usage: python benchmarks/dgsu_system.py [--runs DIR] [--only NAME ...]   (needs KILOTUNE_DATA, the extra prune and 3 GB of disk)

``kilotune prune`` takes half of the classifier inputs away: they cost more of the budget than anything else that is trained.
The blocks before run streamed, as the firmware does it (``kilotune plan --streamed``). Gradients are summed over mini-batches
and the ledger counts the sums. Each row draws its plans under the budget, from the whole network, and trains them.

The front of the network is frozen, so it gives the same values in every epoch: they are computed once for each image, in VIEWS
versions (the first as it is, others shifted and mirrored), and stored, and only the layers behind are run again. What is trained,
and how, is what ``kilotune finetune`` trains with the same plans; before the first row this is checked on a batch.

Everything lies in ``--runs``; rows that are finished in ``benchmarks/results/dgsu_system.json`` are not repeated. The table has
accuracy on all 10,000 test images, the share of the convolution weights updated in an iteration, and the memory of kept features
against dense training, both as the papers count (inputs of the trained layers) and as autograd keeps it (masks too).
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import torch
from runs import write_results
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import kilotune as kt
from kilotune import models
from kilotune.data import sets
from kilotune.data.augment import Augment
from kilotune.data.images import Dataset, Split, balanced, generator
from kilotune.memory.accounting import Accounting
from kilotune.ops.prepare import prepare
from kilotune.policies import make
from kilotune.policies.fit import Selector
from kilotune.train.schedule import Schedule

RESULTS = Path(__file__).parent / "results" / "dgsu_system.json"

SIDE, BUDGET, BATCH = 112, "256KiB", 32
ACCOUNTING = Accounting(streamed=True, program_bytes=4096)
MODEL, WEIGHTS = "mobilenet_v2_same", "mbv2_w1.0_int8"
WIDTHS = {"features.18.0": 0.5}

FIRST = 11  # The first block that is trained: 30 of 52 layers are before it.
VIEWS = 4
TRAIN = 50_000

DGSU = {"frozen": 30 / 52, "n_stages": 4, "decay": 0.5, "turns": 4, "traversal": "strided"}


@dataclass(frozen=True)
class Row:
    """A run: the policy and its options, whether a new plan is drawn at every step, training images, epochs.

    watched: whether every epoch is evaluated, or the last only.
    """

    policy: str = "dgsu"
    options: dict[str, Any] = field(default_factory=lambda: DGSU)
    dynamic: bool = True
    images: int = TRAIN
    epochs: int = 4
    lr: float = 0.02
    seed: int = 0
    watched: bool = False


SHORT = Row(images=5_000)
CHOICES = {
    "dynamic": {},
    "fixed": {"dynamic": False},
    "classifier only": {"policy": "classifier", "options": {}, "dynamic": False},
}
ROWS = {
    "dynamic": Row(watched=True),
    **{
        f"{choice}, 5,000 images, seed {seed}": replace(SHORT, seed=seed, **fields)
        for seed in (0, 42, 100)
        for choice, fields in CHOICES.items()
    },
}


class Tail(nn.Module):
    """The blocks from ``FIRST`` on, and the classifier, under the names of the whole network."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.features, self.classifier = model.features[FIRST:], model.classifier

    def forward(self, x: Tensor) -> Tensor:
        """Logits of what the frozen front gives (n, c, h, w)."""
        return self.classifier(nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1)).flatten(1))


@dataclass(frozen=True)
class System:
    """The pruned network and what its frozen front makes of CIFAR-10."""

    folder: Path

    @cached_property
    def weights(self) -> Path:
        """The pruned network's file, made if it is not there."""
        file = self.folder / "pruned.safetensors"
        if not file.exists():
            from kilotune.cli.prune import prune

            layers = [f"{name}={ratio}" for name, ratio in WIDTHS.items()]
            prune(MODEL, 0.0, file, WEIGHTS, (3, SIDE, SIDE), layers, as_json=True)
        return file

    def model(self, seed: int = 0) -> nn.Module:
        """The pruned network with a new classifier for ten classes."""
        return models.load(MODEL, str(self.weights), 10, seed).model.eval()

    @cached_property
    def graph(self) -> kt.Graph:
        """The whole network."""
        return kt.capture(self.model(), torch.zeros(1, 3, SIDE, SIDE))

    @cached_property
    def dataset(self) -> Dataset:
        """All images."""
        return sets.load("cifar10")

    @cached_property
    def test(self) -> Tensor:
        """What the front makes of the test images."""
        return self._stored("test", self.dataset.test, None)

    @cached_property
    def train(self) -> list[Tensor]:
        """And of the training images, by view; the first is not augmented."""
        return [self._stored(f"train{view}", self.dataset.train, view or None) for view in range(VIEWS)]

    def _stored(self, name: str, split: Split, view: int | None) -> Tensor:
        file = self.folder / f"{name}.safetensors"
        if not file.exists():
            save_file({name: torch.cat(list(_outputs(self.model().features[:FIRST], split, view)))}, file)
        return load_file(file)[name]

    def selector(self, row: Row) -> Selector:
        """The policy of a row at the size that fits the budget."""
        return Selector.fit(self.graph, make(row.policy, **row.options), kt.Budget.parse(BUDGET), row.seed, ACCOUNTING)


@torch.no_grad()
def _outputs(front: nn.Module, split: Split, view: int | None) -> Iterator[Tensor]:
    augment = Augment(SIDE, "shift")
    draws = generator(0, view or 0)
    for images in split.images.split(128):
        x = augment.evaluate(images) if view is None else augment.train(images, draws)
        yield front(x.contiguous(memory_format=torch.channels_last)).contiguous()


def check(system: System) -> None:
    """The tail behind stored values has the loss and the gradients of the whole network."""
    plan, whole = system.selector(Row()).draw(), system.model()
    images = system.dataset.test.take(8, 0)
    x = Augment(SIDE).evaluate(images.images)
    with torch.no_grad():
        values = whole.features[:FIRST](x)
    steps = prepare(whole, x, plan), prepare(Tail(whole), values, plan)
    for step, inputs in zip(steps, (x, values), strict=True):
        cross_entropy(step(inputs), images.labels).backward()
    for ours, theirs in zip(steps[1].parameters(), steps[0].parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def train(system: System, row: Row) -> dict[str, Any]:
    """Carry out a row: accuracy on the test images after every epoch."""
    selector, labels = system.selector(row), system.dataset.train.labels
    tail = Tail(system.model(row.seed))
    step = prepare(tail, system.test[:1], selector.draw(), channels_last=True)
    optimizer = torch.optim.SGD(step.parameters(), lr=row.lr)
    chosen = balanced(labels, row.images, row.seed)
    n_steps = len(chosen) // BATCH
    schedule = Schedule(row.lr, n_steps // 5, row.epochs * n_steps)
    accuracies, started = [], perf_counter()
    for epoch in range(row.epochs):
        order = chosen[torch.randperm(len(chosen), generator=generator(row.seed, epoch))]
        step.train()
        view = system.train[epoch % VIEWS]
        for index, batch in enumerate(order.split(BATCH)[:n_steps]):
            if row.dynamic and (epoch or index):
                step.replan(selector.draw(), optimizer)
            optimizer.param_groups[0]["lr"] = schedule.rate(epoch * n_steps + index)
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(step(view[batch]), labels[batch]).backward()
            optimizer.step()
        if row.watched or epoch + 1 == row.epochs:
            accuracies.append(accuracy(step, system))
            print(f"  epoch {epoch + 1}: {accuracies[-1]:.4f}", flush=True)
    return {"accuracies": accuracies, "seconds": perf_counter() - started}


@torch.no_grad()
def accuracy(step: nn.Module, system: System) -> float:
    """Share of the test images classified correctly."""
    step.eval()
    logits = torch.cat([step(x) for x in system.test.split(256)])
    return logits.argmax(1).eq(system.dataset.test.labels).double().mean().item()


def memory(system: System, row: Row) -> dict[str, float]:
    """What an iteration updates and keeps at most, as shares of all and of dense training, and its bytes."""
    selector, graph = system.selector(row), system.graph
    reports = [selector.layout.report(selector.draw()) for _ in range(DGSU["turns"])]
    everything = tuple(kt.ChannelSet(layer.name, "in", tuple(range(layer.in_channels))) for layer in graph.body)
    dense = kt.ledger(graph, kt.UpdatePlan(everything))
    return {
        "weights_share": max(report.weight_elements for report in reports) / dense.weight_elements,
        "features_share": max(report.activation_elements for report in reports) / dense.activation_elements,
        "saved_share": max(report.saved_bytes for report in reports) / dense.saved_bytes,
        "saved_bytes": max(report.saved_bytes for report in reports),
        "dense_saved_bytes": dense.saved_bytes,
        "worst_total_bytes": selector.worst_case.total_bytes,
        "dense_total_bytes": dense.total_bytes,
    }


def main() -> None:
    """Run what is missing; write and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/dgsu"))
    parser.add_argument("--only", nargs="*", default=list(ROWS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    system = System(arguments.runs)
    records = msgspec.json.decode(RESULTS.read_bytes()) if RESULTS.exists() else {}
    check(system)
    for name in arguments.only:
        if name not in records:
            row = ROWS[name]
            records[name] = {"row": msgspec.to_builtins(row), "memory": memory(system, row), **train(system, row)}
            write_results(RESULTS, records)
        record, shares = records[name], records[name]["memory"]
        print(
            f"{name:28} {100 * record['accuracies'][-1]:.2f} %  weights {100 * shares['weights_share']:.2f} %  features "
            f"{100 * shares['features_share']:.2f} %  total {shares['worst_total_bytes']:>9,} B  {record['seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
