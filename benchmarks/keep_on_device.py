"""What a training step costs on an emulated Cortex-M4F when inputs are kept compressed.

Usage: python benchmarks/keep_on_device.py

The demo's network and weights at 32x32; the last eight convolutions and the classifier are trained, all channels of them.
Instructions are exact counts of QEMU, those of a board, and not cycles. "kept" is what the eight layers hand from forward to
backward, as the ledger has it. The table goes to ``benchmarks/results/keep_on_device.json``.
"""

import tempfile
from pathlib import Path

import msgspec
import numpy as np
import torch

from kilotune.codegen.boards import BOARDS
from kilotune.codegen.emulate import emulate
from kilotune.codegen.firmware import Project
from kilotune.codegen.session import Session
from kilotune.deploy.export import Export
from kilotune.graph.capture import capture
from kilotune.graph.keeping import keep_all
from kilotune.memory.ledger import ledger
from kilotune.models.digitnet import pretrained_digitnet
from kilotune.train.recipe import Recipe
from kilotune.update_plan import UpdatePlan

RESULTS = Path(__file__).parent / "results" / "keep_on_device.json"
WAYS = (None, "int8", "int4", "prune:0.1", "pattern:1", "filter:2")
BOARD, SIDE, N_LAYERS = "mps2-an386", 32, 8
SESSION_BYTES = 1024


def row(keep: str | None) -> dict[str, int]:
    """Instructions of a step, and bytes."""
    model = pretrained_digitnet()
    graph = capture(model, torch.zeros(1, 3, SIDE, SIDE))
    layers = graph.body[-N_LAYERS:]
    sets = tuple(layer.whole() for layer in layers)
    keeps = keep_all(graph, None if keep is None else {layer.name: keep for layer in layers})
    plan = UpdatePlan(sets, keeps=keeps)
    images = np.random.default_rng(0).standard_normal((2, 3, SIDE, SIDE)).astype(np.float32)
    session = Session(images, np.arange(2), images[:1], np.arange(1), np.arange(2), 2, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        manifest = Export(model, Recipe.of(input=(3, SIDE, SIDE), lr=1e-3), plan=plan).write(folder)
        found = emulate(Project.of(folder), BOARDS[BOARD], manifest.ram_bytes + SESSION_BYTES, session)
    by_layer = ledger(graph, plan).by_layer
    return {
        "instructions": found.instructions["step"].mean,
        "forward_instructions": found.instructions["forward"].mean,
        "kept_bytes": sum(by_layer[layer.name] for layer in layers),
        "arena_bytes": manifest.arena_bytes,
    }


def main() -> None:
    rows = {str(keep or "exact"): row(keep) for keep in WAYS}
    for name, numbers in rows.items():
        print(f"{name:10}", *(f"{key} {value:,}" for key, value in numbers.items()))
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode({"board": BOARD, "rows": rows})) + b"\n")


if __name__ == "__main__":
    main()
