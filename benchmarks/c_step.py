"""One training step at batch 1: the exported C against stock PyTorch and ONNX Runtime, with the same network, layers and image.

    python benchmarks/c_step.py [--threads 1]

MobileNetV2-w0.35 at 128x128, ten classes; every layer's weight and bias ("dense"), the last 22 layers, and the forward pass.
"PyTorch" is the module with ``requires_grad`` on those tensors, batch norm in eval mode, SGD; "ONNX Runtime" has batch norm
folded, and is left out, with the reason, where onnxruntime-training is not installed; "C" is the exported project, and
"finetune" what ``kilotune finetune --backend c`` does in a step: gradients by the C, SGD by PyTorch. One after the other in
every round; times are those of the processor, the best of the rounds; with one thread that is the time it takes on an idle
machine. More threads: of PyTorch and ONNX Runtime, and of the C, which is then compiled with OpenMP; times are then those of
the clock. The answer goes to ``benchmarks/results/c_step.json``.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

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
from kilotune.update_plan import ChannelSet, UpdatePlan

SIDE, CLASSES, RATE = 128, 10, 1e-4
ROUNDS, STEPS = 20, 5
RESULT = Path(__file__).parent / "results" / "c_step.json"

Times = dict[str, dict[str, float]]
Runs = tuple[Callable[[], object], ...]


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
    for name, times in results.items():
        for phase, found in times.items():
            others = ", ".join(f"{who} {ms:.2f} ms ({ms / found['C']:.1f}x)" for who, ms in found.items() if who != "C")
            print(f"{name}, {phase}: C {found['C']:.2f} ms; {others}")
    answer = {"threads": threads, "milliseconds": results, "onnxruntime": ort_step.missing() or "1.19.2"}
    answer |= {"torch": torch.__version__, "compiler": run_tool(["gcc", "--version"], "asking").splitlines()[0]}
    answer |= {"processor": processor(), "command": f"python benchmarks/c_step.py --threads {threads}"}
    RESULT.write_text(json.dumps(answer, indent=1) + "\n")


def processor() -> str:
    """What the processor calls itself."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def compare(model: torch.nn.Module, x: torch.Tensor, n_last: int | None, threads: int) -> Times:
    """Milliseconds of a step and of the forward pass, by who made it."""
    graph = without_dropout(capture(model, x))
    layers = graph.body if n_last is None else graph.body[-n_last:]
    sets = tuple(ChannelSet(layer.name, "in", tuple(range(layer.in_channels))) for layer in layers)
    plan = UpdatePlan(sets, tuple(layer.name for layer in layers))
    trained = (*layers, graph.layer[graph.classifier])
    values = describe(model, lay_out(graph, plan, Accounting(accumulate=False)), "float32")
    parameters = {f(graph.weighted(layer.name)) for layer in trained for f in (weight_name, bias_name)}
    runs: dict[str, Runs] = {"PyTorch": stock(model, x, parameters), "finetune": (finetune(model, x, plan),)}
    if ort_step.missing() is None:
        runs["ONNX Runtime"] = ort_step.steps(values, {layer.node for layer in trained}, x.numpy(), RATE, threads)
    with tempfile.TemporaryDirectory() as folder:
        runs["C"] = exported(decide(values, plan), Path(folder), x.numpy(), threads)
        clock = process_time if threads == 1 else perf_counter
        found = [
            milliseconds({who: run[phase] for who, run in runs.items() if len(run) > phase}, clock)
            for phase in range(2)
        ]
    return {"step": found[0], "forward": found[1]}


def exported(program: Program, folder: Path, image: np.ndarray, threads: int) -> Runs:
    """A training step of the exported project, and a forward pass."""
    write_sources(program, folder / "c", "benchmark", "given", RATE)
    flags = (*FAST, "-fopenmp") if threads > 1 else FAST
    library = compile_library(folder / "c" / "src", folder / "built", flags)
    project = HostProject(library, program.image_elements, program.classes)
    return lambda: project.train_step(image, 1), lambda: project.infer(image)


def finetune(model: torch.nn.Module, x: torch.Tensor, plan: UpdatePlan) -> Callable[[], object]:
    """A step of ``kilotune finetune --backend c``."""
    stepper = CStepper(prepare(model, x, plan), Recipe(model="", data=""), torch.device("cpu"))
    batch = x, torch.tensor([1])

    def step() -> None:
        stepper.gradient([batch])
        stepper.update(RATE)

    return step


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


def milliseconds(runs: dict[str, Callable[[], object]], clock: Callable[[], float]) -> dict[str, float]:
    """Of one call of each, the best of ``ROUNDS`` averages over ``STEPS``."""
    best = dict.fromkeys(runs, float("inf"))
    for who, run in [*runs.items()] * (ROUNDS + 1):
        run()
        started = clock()
        for _ in range(STEPS):
            run()
        best[who] = min(best[who], 1e3 * (clock() - started) / STEPS)
    return best


if __name__ == "__main__":
    main()
