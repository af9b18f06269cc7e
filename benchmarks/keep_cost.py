"""What a training step costs when inputs are kept compressed, side by side in one run.

Usage: python benchmarks/keep_cost.py [--repeats 9] [--threads 1]

MobileNetV2-w0.35 ImageNet weights, at 128x128 with CIFAR-10 images, batch 32, float32; the last four
convolutions and the classifier are trained. A step is forward, cross-entropy, backward, SGD. "dense" is stock PyTorch
training everything; "exact" is kilotune with the same four layers and exact inputs. Methods take turns, so that a busy
machine slows all alike; the table gives medians. ASI has the ranks that HOSVD at 0.8 finds on the batch. Bytes are those
that the four layers really keep from forward to backward; ASI and LANCE hold their factors besides, from step to step.
The table goes to ``benchmarks/results/keep_cost.json``.
"""

import argparse
import platform
from pathlib import Path

import msgspec
import torch
from step_cost import Contender, _step, take_turns

from kilotune import capture, models, prepare
from kilotune.data.augment import Augment
from kilotune.data.sets import load
from kilotune.memory.measure import saved_by_layer
from kilotune.ops.prepare import Step
from kilotune.update_plan import Keep, UpdatePlan

RESULTS = Path(__file__).parent / "results" / "keep_cost.json"
NETWORK, WEIGHTS, BATCH, N_LAYERS = "mobilenet_v2_w0.35_same", "mbv2_w0.35_backbone", 32, 4
WAYS = ("svd:0.8", "hosvd:0.8", "hosvd:0.9", "lance:4", "filter:2", "filter:4", "prune:0.1", "int8", "int4")
LIMITS = {"hosvd:0.8": 1.5, "asi": 1.15, "filter:2": 0.6}


def last_layers(graph, ways: dict[str, str] | str | None) -> UpdatePlan:
    """All channels of the last convolutions, kept in ``ways``."""
    layers = graph.body[-N_LAYERS:]
    sets = tuple(layer.whole() for layer in layers)
    by_layer = dict.fromkeys((layer.name for layer in layers), ways) if isinstance(ways, str) else ways or {}
    return UpdatePlan(sets, keeps=tuple(Keep(name, way) for name, way in by_layer.items()))


def asi_ranks(step: Step, x: torch.Tensor) -> dict[str, str]:
    """The ranks that ``step``, which keeps inputs as HOSVD, finds on ``x``."""
    _, parts, _ = step.program.forward_keeping(x)
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for kept, part in zip(step.program.kept, parts, strict=True):
        if kept.form == "compressed":
            shapes.setdefault(kept.layer, []).append(tuple(part.shape))
    return {layer: f"asi:{'x'.join(map(str, core))}" for layer, (core, *_) in shapes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    data = load("cifar10", 128, 0, BATCH)
    x = Augment((128, 128), "none").evaluate(data.train.images[:BATCH])
    y = data.train.labels[:BATCH].long()
    stock = models.load(NETWORK, WEIGHTS, 10).model.train()
    graph = capture(stock, x)
    rows, kept = {"dense": Contender(_step(stock, x, y), 0)}, {}

    def add(name: str, ways: dict[str, str] | str | None) -> Step:
        step = prepare(
            models.load(NETWORK, WEIGHTS, 10).model, None, last_layers(graph, ways), graph, channels_last=True
        )
        by_layer = saved_by_layer(step, x, y)
        kept[name] = sum(by_layer[layer.name] for layer in graph.body[-N_LAYERS:])
        rows[name] = Contender(_step(step, x, y), kept[name])
        return step

    add("exact", None)
    prepared = {way: add(way, way) for way in WAYS}
    ranks = asi_ranks(prepared["hosvd:0.8"], x)
    add("asi", ranks)
    seconds = take_turns(rows, arguments.repeats)
    table = [
        {
            "way": name,
            "milliseconds": round(1000 * value, 2),
            "ratio_to_dense": round(value / seconds["dense"], 3),
            "ratio_to_exact": round(value / seconds["exact"], 3),
            "kept_bytes": kept.get(name),
            "limit": LIMITS.get(name),
        }
        for name, value in seconds.items()
    ]
    for row in table:
        ratios = f"{row['ratio_to_dense']:6.3f} of dense {row['ratio_to_exact']:6.3f} of exact"
        print(f"{row['way']:10} {row['milliseconds']:8.2f} ms {ratios} {row['kept_bytes']} B")
    command = f"python benchmarks/keep_cost.py --repeats {arguments.repeats} --threads {arguments.threads}"
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "torch": str(torch.__version__),
        "threads": arguments.threads,
    }
    result = {
        "command": command,
        "network": NETWORK,
        "batch": BATCH,
        "machine": machine,
        "asi_ranks": ranks,
        "table": table,
    }
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


if __name__ == "__main__":
    main()
