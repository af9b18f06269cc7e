"""What a training step costs, side by side in one run: stock PyTorch, and kilotune under several plans.

Usage: python benchmarks/step_cost.py [--repeats 15] [--threads 2]

MobileNetV2-w0.35 (feature mix 112->448) at 128x128, 10 classes, float32, random weights. A step is forward, cross-entropy,
backward, SGD. "dense" is the module itself in train mode. Methods take turns, so that a busy machine slows all alike; the
table gives medians and their ratio to "dense", which is what to compare. "python" is the share of a step that is spent
outside torch's operators. The table goes to ``benchmarks/results/step_cost.json``.
"""

import argparse
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import msgspec
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from kilotune import Budget, Selector, Step, capture, models, prepare, saved_bytes
from kilotune.graph.node import Graph
from kilotune.policies import make

RESULTS = Path(__file__).parent / "results" / "step_cost.json"
NETWORK = "mobilenet_v2_w0.35_mix"
NO_LIMIT = 10**9
HELP = "import sys; sys.argv = ['kilotune', '--help']; from kilotune.cli.main import main; main()"

# Row -> policy, options, selection budget in elements.
PLANS = {
    "MeDyate, 27,946 elements": ("medyate", {}, 27_946),
    "TraDy, 27,946 elements": ("trady", {}, 27_946),
    "Sparse Update 49kb": ("sparse_update", {"scheme": "49kb"}, NO_LIMIT),
    "classifier only": ("classifier", {}, NO_LIMIT),
    "everything": ("full", {}, NO_LIMIT),
}


@dataclass(frozen=True)
class Contender:
    """One row: the step to time, and the bytes it keeps for backward."""

    step: Callable[[], None]
    kept_bytes: int


def contenders(batch: int) -> tuple[dict[str, Contender], dict[str, tuple[Selector, Step]]]:
    """The rows at one batch size, and what is needed to time redraws."""
    x, y = torch.randn(batch, 3, 128, 128), torch.randint(0, 10, (batch,))
    stock = models.create(NETWORK, classes=10).train()
    rows = {"dense": Contender(_step(stock, x, y), saved_bytes(stock, x, y))}
    graph = capture(stock, x)
    prepared = {name: _prepare(graph, *plan) for name, plan in PLANS.items()}
    for name, (_, step) in prepared.items():
        rows[name] = Contender(_step(step, x, y), saved_bytes(step, x, y))
    rows["forward only"] = Contender(_forward(prepared["classifier only"][1], x), 0)
    return rows, prepared


def _prepare(graph: Graph, policy: str, options: dict, elements: int) -> tuple[Selector, Step]:
    selector = Selector.fit(graph, make(policy, **options), Budget(elements * 4, "selection"))
    model = models.create(NETWORK, classes=10)
    return selector, prepare(model, torch.zeros(1, 3, 128, 128), selector.draw(), graph, channels_last=True)


def _step(module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(module(x), y).backward()
        optimizer.step()

    return step


def _forward(module: torch.nn.Module, x: torch.Tensor) -> Callable[[], None]:
    def forward() -> None:
        with torch.no_grad():
            module(x)

    return forward


def take_turns(rows: dict[str, Contender], repeats: int) -> dict[str, float]:
    """Median seconds of each row."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for repeat in range(repeats + 2):
        for name, row in rows.items():
            start = perf_counter()
            row.step()
            if repeat >= 2:  # the first two warm up
                seconds[name].append(perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}


def python_share(step: Callable[[], None]) -> float:
    """Share of a step spent outside torch's operators."""
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        start = perf_counter()
        step()
        total = perf_counter() - start
    operators = sum(event.self_cpu_time_total for event in trace.key_averages() if event.key.startswith("aten::"))
    return max(0.0, 1 - operators / 1e6 / total)


def redraw_seconds(selector: Selector, step: Step, repeats: int = 15) -> float:
    """Median time to draw a plan and change over to it."""
    optimizer, seconds = torch.optim.SGD(step.parameters(), lr=1e-3), []
    for _ in range(repeats):
        start = perf_counter()
        step.replan(selector.draw(), optimizer)
        seconds.append(perf_counter() - start)
    return median(seconds)


def import_seconds(statement: str) -> float:
    """Seconds that a fresh interpreter takes for ``statement``, less those of an empty one, best of five."""

    def best(code: str) -> float:
        times = []
        for _ in range(5):
            start = perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
            times.append(perf_counter() - start)
        return min(times)

    return best(statement) - best("pass")


def measure(batch: int, repeats: int) -> dict:
    """All rows at one batch size."""
    rows, prepared = contenders(batch)
    seconds = take_turns(rows, repeats)
    medyate = next(name for name in rows if name.startswith("MeDyate"))
    redraw = redraw_seconds(*prepared[medyate])
    return {
        "batch": batch,
        "rows": {
            name: {
                "milliseconds": 1000 * seconds[name],
                "ratio_to_dense": seconds[name] / seconds["dense"],
                "kept_bytes": row.kept_bytes,
            }
            for name, row in rows.items()
        },
        "python_share_medyate": python_share(rows[medyate].step),
        "redraw_milliseconds": 1000 * redraw,
        "redraw_share_of_100_steps": redraw / (100 * seconds[medyate]),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tables = [measure(1, 3 * arguments.repeats), measure(32, arguments.repeats)]
    result = {
        "torch": str(torch.__version__),
        "processor": platform.processor() or platform.machine(),
        "threads": arguments.threads,
        "import_seconds": import_seconds("import kilotune"),
        "help_seconds": import_seconds(
            "import sys; sys.argv = ['kilotune', '--help']; from kilotune.cli.main import main; main()"
        ),
        "tables": tables,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    for table in tables:
        print(f"batch {table['batch']}")
        for name, row in table["rows"].items():
            print(
                f"  {name:26} {row['milliseconds']:8.2f} ms  {row['ratio_to_dense']:.3f}  kept {row['kept_bytes']:>13,} B"
            )
        share, redraw = table["python_share_medyate"], table["redraw_share_of_100_steps"]
        print(f"  python {share:.0%} of a MeDyate step; a redraw takes {redraw:.2%} of an epoch of 100 steps")
    print(f"import kilotune {result['import_seconds']:.2f} s, kilotune --help {result['help_seconds']:.2f} s")


if __name__ == "__main__":
    main()
