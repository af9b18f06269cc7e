"""Dynamic Gradient Sparse Update as a whole: an ImageNet MobileNetV2, pruned, then fine-tuned on CIFAR-10 inside 256 KiB.

Usage: python benchmarks/dgsu_system.py [--runs DIR] [--only NAME ...]   (needs KILOTUNE_DATA and the extra prune)

First ``kilotune prune`` makes the network narrower where the ledger has its peak, and trains it to answer as the original does at
a larger input; this looks at training images of CIFAR-10, never at labels. Then each row draws its plans under the budget, from
the whole network, and trains them.

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
from kilotune.data.images import Split, balanced, generator
from kilotune.ops.prepare import prepare
from kilotune.policies import make
from kilotune.policies.fit import Selector
from kilotune.train.schedule import Schedule

RESULTS = Path(__file__).parent / "results" / "dgsu_system.json"

SIDE, BUDGET, BATCH = 66, "256KiB", 32
MODEL, WEIGHTS = "mobilenet_v2_same", "mbv2_w1.0_int8"

# Where the forward pass is fullest, before the images are small: not more than 32 channels at half the side, 128 at a quarter.
# Then the widest layers at the end, whose channels are the most expensive to train, and the classifier's inputs.
WIDTHS = {
    "features.0.0": 0.375,
    "features.1.conv.1": 0.5,
    "features.2.conv.0.0": 0.75,
    "features.3.conv.0.0": 0.444,
    "features.4.conv.0.0": 0.278,
    "features.15.conv.0.0": 0.333,
    "features.16.conv.0.0": 0.333,
    "features.17.conv.0.0": 0.333,
    "features.18.0": 0.7,
}
RECOVERY = {"recover": "cifar10", "train_limit": 16_000, "recover_epochs": 4, "teacher_side": 96}

FIRST = 11  # The first block that is trained: 30 of 52 layers are before it.
VIEWS = 1
TRAIN = 10_000  # Training images, balanced; as many as two cores that others share go through.


@dataclass(frozen=True)
class Row:
    """A run: options of the policy, whether a new plan is drawn at every step, training images, epochs.

    watched: whether every epoch is evaluated, or the last only.
    """

    options: dict[str, Any] = field(default_factory=dict)
    dynamic: bool = True
    images: int = TRAIN
    epochs: int = 2
    lr: float = 0.1
    seed: int = 0
    watched: bool = False


DGSU = {"frozen": 30 / 52, "n_stages": 4, "decay": 0.5, "turns": 4, "traversal": "strided"}
SHORT, LONG = Row(images=4_000), Row(watched=True)
ROWS = {
    "dynamic": LONG,
    "fixed": replace(LONG, dynamic=False),
    **{f"dynamic, 4,000 images, seed {seed}": replace(SHORT, seed=seed) for seed in range(3)},
    **{f"fixed, 4,000 images, seed {seed}": replace(SHORT, seed=seed, dynamic=False) for seed in range(3)},
    **{
        f"largest norm, 4,000 images, seed {seed}": replace(
            SHORT, seed=seed, dynamic=False, options={"traversal": "largest"}
        )
        for seed in range(3)
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
            prune(MODEL, 0.0, file, WEIGHTS, (3, SIDE, SIDE), layers, round_to=4, as_json=True, **RECOVERY)
        return file

    def model(self, seed: int = 0) -> nn.Module:
        """The pruned network with a new classifier for ten classes."""
        return models.load(MODEL, str(self.weights), 10, seed).model.eval()

    @cached_property
    def graph(self) -> kt.Graph:
        """The whole network."""
        return kt.capture(self.model(), torch.zeros(1, 3, SIDE, SIDE))

    @cached_property
    def data(self) -> dict[str, Tensor]:
        """Labels, and outputs of the front: "test", "train 0", "train 1", ... by view; the first is not augmented."""
        file = self.folder / "front.safetensors"
        if not file.exists():
            dataset, front = sets.load("cifar10", train_limit=TRAIN), self.model().features[:FIRST]
            parts = {"train labels": dataset.train.labels, "test labels": dataset.test.labels}
            parts["test"] = torch.cat(list(_outputs(front, dataset.test, None)))
            for view in range(VIEWS):
                parts[f"train {view}"] = torch.cat(list(_outputs(front, dataset.train, view or None)))
            save_file(parts, file)
        return load_file(file)

    def selector(self, row: Row) -> Selector:
        """The policy of a row at the size that fits the budget."""
        return Selector.fit(self.graph, make("dgsu", **DGSU | row.options), kt.Budget.parse(BUDGET), row.seed)


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
    images = sets.load("cifar10").test.take(8, 0)
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
    started, data, selector = perf_counter(), system.data, system.selector(row)
    tail = Tail(system.model(row.seed))
    step = prepare(tail, data["test"][:1], selector.draw(), channels_last=True)
    optimizer = torch.optim.SGD(step.parameters(), lr=row.lr)
    labels = data["train labels"]
    chosen = balanced(labels, row.images, row.seed)
    n_steps = len(chosen) // BATCH
    schedule = Schedule(row.lr, n_steps // 5, row.epochs * n_steps)
    accuracies = []
    for epoch in range(row.epochs):
        order = chosen[torch.randperm(len(chosen), generator=generator(row.seed, epoch))]
        step.train()
        for index, batch in enumerate(order.split(BATCH)[:n_steps]):
            if row.dynamic and (epoch or index):
                step.replan(selector.draw(), optimizer)
            optimizer.param_groups[0]["lr"] = schedule.rate(epoch * n_steps + index)
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(step(data[f"train {epoch % VIEWS}"][batch]), labels[batch]).backward()
            optimizer.step()
        if row.watched or epoch + 1 == row.epochs:
            accuracies.append(accuracy(step, data))
            print(f"  epoch {epoch + 1}: {accuracies[-1]:.4f}", flush=True)
    return {"accuracies": accuracies, "seconds": perf_counter() - started}


@torch.no_grad()
def accuracy(step: nn.Module, data: dict[str, Tensor]) -> float:
    """Share of the test images classified correctly."""
    step.eval()
    logits = torch.cat([step(x) for x in data["test"].split(256)])
    return logits.argmax(1).eq(data["test labels"]).double().mean().item()


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
            asked = msgspec.to_builtins(row) | {"options": DGSU | row.options}
            records[name] = {"row": asked, "memory": memory(system, row), **train(system, row)}
            write_results(RESULTS, records)
        record, shares = records[name], records[name]["memory"]
        print(
            f"{name:28} {100 * record['accuracies'][-1]:.2f} %  weights {100 * shares['weights_share']:.2f} %  features "
            f"{100 * shares['features_share']:.2f} %  total {shares['worst_total_bytes']:>9,} B  {record['seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
