"""One training step at batch 1: the exported C against stock PyTorch and ONNX Runtime, with the same network, layers and image.

    python benchmarks/c_step.py [--threads 1]

MobileNetV2-w0.35 at 128x128, ten classes; every layer's weight and bias ("dense"), the last 22 layers, and the forward pass.
"backend c" is what ``kilotune finetune --backend c`` does in a step, "exported" the project that ``kilotune export`` writes.
"PyTorch" is the module with ``requires_grad`` on the same tensors, batch norm in eval mode, SGD; "ONNX Runtime" has batch norm
folded, and is left out, with the reason, where onnxruntime-training is not installed. One after the other in every round; times
are those of the processor, the best of the rounds; ratios are the median over the rounds. More threads: of PyTorch and ONNX
Runtime, and of the exported C, which is then compiled with OpenMP; times are then those of the clock. The answer goes to
``benchmarks/results/c_step.json``.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
import ort_step
import torch
import torch.nn.functional as F

from kilotune import models
from kilotune.codegen.decide import decide, without_dropout
from kilotune.codegen.host import FAST, HostProject, compile_library
from kilotune.codegen.program import Program
from kilotune.codegen.project import write_sources
from kilotune.codegen.tools import run_tool
from kilotune.deploy.describe import describe, lay_out
from kilotune.deploy.trainer import CStepper
from kilotune.graph.capture import capture
from kilotune.graph.node import Conv2d, Linear
from kilotune.memory.ledger import Accounting
from kilotune.ops.prepare import prepare
from kilotune.ops.slices import bias_name
from kilotune.train.recipe import Recipe
from kilotune.update_plan import UpdatePlan

SIDE, CLASSES, RATE = 128, 10, 1e-4
ROUNDS, STEPS = 20, 5
RESULT = Path(__file__).parent / "results" / "c_step.json"

Runs = tuple[Callable[[], object], ...]


class Found(NamedTuple):
    """By who made it: the best time of a call, milliseconds; and the median over rounds of the time by that of the first."""

    milliseconds: dict[str, float]
    ratio: dict[str, float]


def main() -> None:
    """Print a row per set of layers, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="threads of everybody")
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = models.create("mobilenet_v2_w0.35", classes=CLASSES).eval()
    x = torch.randn(1, 3, SIDE, SIDE)
    results = {"dense": compare(model, x, None, threads), "last 22 layers": compare(model, x, 22, threads)}
    for name, phases in results.items():
        for phase, found in phases.items():
            print(
                f"{name}, {phase}:",
                ", ".join(f"{who} {ms:.2f} ms ({found.ratio[who]:.1f}x)" for who, ms in found.milliseconds.items()),
            )
    answer: dict[str, Any] = {"threads": threads, "onnxruntime": ort_step.missing() or "1.19.2"}
    answer["results"] = {
        name: {phase: found._asdict() for phase, found in phases.items()} for name, phases in results.items()
    }
    answer |= {"torch": torch.__version__, "compiler": run_tool(["gcc", "--version"], "asking").splitlines()[0]}
    answer |= {"processor": processor(), "command": f"python benchmarks/c_step.py --threads {threads}"}
    RESULT.write_text(json.dumps(answer, indent=1) + "\n")


def processor() -> str:
    """What the processor calls itself."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def compare(model: torch.nn.Module, x: torch.Tensor, n_last: int | None, threads: int) -> dict[str, Found]:
    """A step, and the forward pass."""
    graph = without_dropout(capture(model, x))
    layers = graph.body if n_last is None else graph.body[-n_last:]
    sets = tuple(layer.whole() for layer in layers)
    plan = UpdatePlan(sets, tuple(layer.name for layer in layers))
    trained = (*layers, graph.layer[graph.classifier])
    values = describe(model, lay_out(graph, plan, Accounting(accumulate=False)), "float32")
    parameters = {f(graph.weighted(layer.name)) for layer in trained for f in (weight_name, bias_name)}
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, Runs] = {"backend c": (finetune(model, x, plan),)}
        runs["exported"] = exported(decide(values, plan), Path(folder), x.numpy(), threads)
        runs["PyTorch"] = stock(model, x, parameters)
        if ort_step.missing() is None:
            runs["ONNX Runtime"] = ort_step.steps(values, {layer.node for layer in trained}, x.numpy(), RATE, threads)
        clock = process_time if threads == 1 else perf_counter
        return {
            phase: measure({who: run[number] for who, run in runs.items() if len(run) > number}, clock)
            for number, phase in enumerate(("step", "forward"))
        }


def exported(program: Program, folder: Path, image: np.ndarray, threads: int) -> Runs:
    """A training step of the exported project, and a forward pass."""
    write_sources(program, folder / "c", "benchmark", "given", RATE)
    flags = (*FAST, "-fopenmp") if threads > 1 else FAST
    library = compile_library(folder / "c" / "src", folder / "built", flags)
    project = HostProject(library, program.image_elements, program.classes)
    return lambda: project.train_step(image, 1), lambda: project.infer(image)


def finetune(model: torch.nn.Module, x: torch.Tensor, plan: UpdatePlan) -> Callable[[], object]:
    """A step of ``kilotune finetune --backend c``."""
    stepper = CStepper(
        prepare(model, x, plan), Recipe(model="", data=""), torch.device("cpu"), looks=False, draws=False
    )
    batch = x, torch.tensor([1])

    return lambda: stepper.train([batch], RATE, lambda: None)


def weight_name(op: Conv2d | Linear) -> str:
    """Of the module's parameter."""
    return op.weight


def stock(model: torch.nn.Module, x: torch.Tensor, trained: set[str | None]) -> Runs:
    """A training step of PyTorch, and a forward pass."""
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)
    optimizer = torch.optim.SGD([p for p in parameters.values() if p.requires_grad], lr=RATE)
    label = torch.tensor([1])

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), label).backward()
        optimizer.step()

    def forward() -> None:
        with torch.no_grad():
            model(x)

    return step, forward


def measure(runs: dict[str, Callable[[], object]], clock: Callable[[], float]) -> Found:
    """One call of each, in turn, ``ROUNDS`` times the average over ``STEPS``."""
    times: dict[str, list[float]] = {who: [] for who in runs}
    for who, run in [*runs.items()] * (ROUNDS + 1):
        run()
        started = clock()
        for _ in range(STEPS):
            run()
        times[who].append(1e3 * (clock() - started) / STEPS)
    first = next(iter(times.values()))
    ratios = {who: median(other / own for other, own in zip(each, first, strict=True)) for who, each in times.items()}
    return Found({who: min(each) for who, each in times.items()}, ratios)


if __name__ == "__main__":
    main()
