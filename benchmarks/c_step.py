"""One training step at batch 1: stock PyTorch against the exported C, the same network, trained layers and image.

    python benchmarks/c_step.py [--threads 1]

MobileNetV2-w0.35 at 128x128, ten classes; every layer's weight and bias ("dense"), the last 22 layers, and the forward pass.
"Stock" is the module with ``requires_grad`` on those tensors, batch norm in eval mode, SGD. Times are those of the processor,
the best of ten averages over five steps; with one thread that is the time it takes on an idle machine.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time

import torch
import torch.nn.functional as F

from kilotune import models
from kilotune.codegen.decide import decide, without_dropout
from kilotune.codegen.host import HostProject, compile_library
from kilotune.codegen.project import write_sources
from kilotune.deploy.describe import describe, lay_out
from kilotune.graph.capture import capture
from kilotune.memory.ledger import Accounting
from kilotune.ops.slices import bias_name
from kilotune.update_plan import ChannelSet, UpdatePlan

SIDE, CLASSES, RATE = 128, 10, 1e-4
ROUNDS, STEPS = 10, 5


def main() -> None:
    """Print a row per set of layers, and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch; the C has one")
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    model = models.create("mobilenet_v2_w0.35", classes=CLASSES).eval()
    x = torch.randn(1, 3, SIDE, SIDE)
    results = {"dense": compare(model, x, None), "last 22 layers": compare(model, x, 22)}
    for name, (stock, ours, forward, forward_c) in results.items():
        print(
            f"{name}: PyTorch {stock:.2f} ms, C {ours:.2f} ms, {stock / ours:.1f}x; forward {forward:.2f} and {forward_c:.2f} ms"
        )
    print(json.dumps(results))


def compare(model: torch.nn.Module, x: torch.Tensor, n_last: int | None) -> tuple[float, float, float, float]:
    """Milliseconds of a step and of the forward pass, PyTorch's and ours: (step, step in C, forward, forward in C)."""
    graph = without_dropout(capture(model, x))
    layers = graph.body if n_last is None else graph.body[-n_last:]
    sets = tuple(ChannelSet(layer.name, "in", tuple(range(layer.in_channels))) for layer in layers)
    plan = UpdatePlan(sets, tuple(layer.name for layer in layers))
    trained = {graph.weighted(layer.name).weight for layer in (*layers, graph.layer[graph.classifier])}
    trained |= {bias_name(graph.weighted(layer.name)) for layer in (*layers, graph.layer[graph.classifier])}
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)
    optimizer = torch.optim.SGD([parameters[name] for name in sorted(trained)], lr=RATE)
    label = torch.tensor([1])

    def stock() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), label).backward()
        optimizer.step()

    def forward() -> None:
        with torch.no_grad():
            model(x)

    with tempfile.TemporaryDirectory() as folder:
        program = decide(describe(model, lay_out(graph, plan, Accounting(accumulate=False)), "float32"), plan)
        write_sources(program, Path(folder) / "c", "benchmark", "given", RATE)
        library = compile_library(Path(folder) / "c" / "src", Path(folder) / "built")
        project = HostProject(library, program.image_elements, program.classes)
        image = x.numpy()
        times = [
            milliseconds(run)
            for run in (stock, lambda: project.train_step(image, 1), forward, lambda: project.infer(image))
        ]
    return times[0], times[1], times[2], times[3]


def milliseconds(run: Callable[[], object]) -> float:
    """Of one call, the best of ``ROUNDS`` averages over ``STEPS``."""
    run()
    best = float("inf")
    for _ in range(ROUNDS):
        started = process_time()
        for _ in range(STEPS):
            run()
        best = min(best, (process_time() - started) / STEPS)
    return 1e3 * best


if __name__ == "__main__":
    main()
