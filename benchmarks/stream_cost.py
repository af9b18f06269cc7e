"""What streaming a block costs on an emulated Cortex-M4F, block by block, beside what the planner reckons with.

Usage: python benchmarks/stream_cost.py

Of each network one firmware runs plainly, and in each of the others a single block is streamed: by channels in both passes, or,
of the first two blocks, row by row from an image of bytes in the forward pass. Weights are random and in float32, the bias of the
first layer is trained so that gradients pass all blocks. Instructions are exact counts of QEMU, not cycles. Prints the rates of
``memory.instructions`` anew, fitted to these counts (least squares of relative errors); the table goes to
``benchmarks/results/stream_cost.json``.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec
import numpy as np
import torch

from kilotune import models
from kilotune.codegen.boards import BOARDS
from kilotune.codegen.emulate import emulate
from kilotune.codegen.firmware import Project
from kilotune.codegen.session import Session
from kilotune.deploy.export import Export
from kilotune.graph.backward import StepGraph
from kilotune.graph.capture import capture
from kilotune.graph.node import Graph
from kilotune.memory import timelines
from kilotune.memory.instructions import backward_terms, extra_backward, extra_forward, forward_terms
from kilotune.memory.lifetime import Timeline
from kilotune.memory.segments import Block, Segment, chain_from_input, find_blocks
from kilotune.train.recipe import Recipe
from kilotune.update_plan import UpdatePlan

RESULTS = Path(__file__).parent / "results" / "stream_cost.json"
NETWORKS = (("mobilenet_v2_w0.35", 64), ("mcunet_5fps", 80), ("mobilenet_v2_w0.35", 128))
BOARD = "mps2-an386"


class Row(NamedTuple):
    """Instructions beyond those of the plain pass, as counted and as the planner reckons; terms: what its rates multiply."""

    network: str
    side: int
    layer: str
    direction: str
    mode: str
    counted: int
    reckoned: int
    terms: dict[str, int]


@dataclass(frozen=True)
class Firmware:
    """A network whose blocks are streamed as one is told."""

    network: str
    side: int

    @cached_property
    def graph(self) -> Graph:
        """The captured network."""
        return capture(self._model(), torch.zeros(1, 3, self.side, self.side))

    def count(self, forward: tuple[Segment, ...] = (), backward: tuple[Segment, ...] = ()) -> tuple[int, int]:
        """Instructions of the forward and of the backward pass."""
        as_bytes = any(segment.as_bytes for segment in forward)

        def chosen(step_graph: StepGraph, *rest: object) -> Timeline:
            image_bytes = 1 if as_bytes else None
            return Timeline(step_graph, forward=forward, backward=backward, image_bytes=image_bytes)

        plan = UpdatePlan((), () if as_bytes else (self.graph.body[0].name,))
        recipe = Recipe.of(input=(3, self.side, self.side), lr=1e-3, streamed=True)
        with patch.object(timelines, "stream", chosen), tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "project"
            Export(self._model(), recipe, plan=plan).write(folder)
            board = BOARDS[BOARD]
            found = emulate(Project.of(folder), board, board.ram.nbytes, self._session(as_bytes)).instructions
        return found["forward"].mean, found["step"].mean - found["forward"].mean

    def _model(self) -> torch.nn.Module:
        torch.manual_seed(0)
        return models.create(self.network, classes=10).eval()

    def _session(self, as_bytes: bool) -> Session:
        draws, shape = np.random.default_rng(0), (2, 3, self.side, self.side)
        images = draws.integers(0, 256, shape, np.uint8) if as_bytes else draws.standard_normal(shape, np.float32)
        return Session(images, np.arange(2), images[:1], np.arange(1), np.arange(2), 2, 0)

    def rows(self) -> Iterator[Row]:
        """Each block by channels, then the first two by rows; the stem's backward pass ends in it and is left out."""
        blocks, (forward, backward) = find_blocks(self.graph), self.count()
        for place, block in enumerate(blocks):
            segment = Segment((block,), ("channels",))
            both = place > 0 and block.function_behind(block.projection) is None
            ahead, back = self.count((segment,), (segment,) if both else ())
            yield self._row(block, "forward", "channels", ahead - forward)
            if both:
                yield self._row(block, "backward", "channels", back - backward)
        yield from self._by_rows(chain_from_input(self.graph, blocks)[:2], forward)

    def _by_rows(self, chain: tuple[Block, ...], plain: int) -> Iterator[Row]:
        """Costs of the blocks of a chain add up, so the second one's is what it adds to the first one's."""
        first, second = chain
        lines = self.count((Segment((first,), ("lines",), as_bytes=True),))[0]
        again = self.count((Segment((first,), ("again",), as_bytes=True),))[0]
        yield self._row(first, "forward", "lines", lines - plain)
        yield self._row(first, "forward", "again", again - plain)
        for mode in ("lines", "again"):
            both = self.count((Segment(chain, ("lines", mode), as_bytes=True),))[0]
            yield self._row(second, "forward", mode, both - lines)

    def _row(self, block: Block, direction: str, mode: Any, counted: int) -> Row:
        reckoned, terms = extra_forward(block, mode), forward_terms(block, mode)
        if direction == "backward":
            reckoned, terms = extra_backward(block), backward_terms(block)
        layer = block.nodes[0].layer
        row = Row(self.network, self.side, layer, direction, mode, counted, reckoned, terms)
        print(
            f"{self.network} {self.side} {layer} {direction} {mode}: {counted:,} counted, {reckoned:,} reckoned",
            flush=True,
        )
        return row


def fit(rows: list[Row]) -> dict[str, float]:
    """Rates with the least squares of relative errors."""
    counted = np.array([row.counted for row in rows])
    terms = np.array([list(row.terms.values()) for row in rows])
    rates = np.linalg.lstsq(terms / counted[:, None], np.ones(len(rows)), rcond=None)[0]
    return dict(zip(rows[0].terms, rates.tolist(), strict=True))


def errors(rows: list[Row]) -> dict[str, float]:
    """Relative errors of what the planner reckons."""
    found = [abs(row.reckoned / row.counted - 1) for row in rows]
    return {"mean": float(np.mean(found)), "max": max(found)}


def main() -> None:
    rows = [row for network, side in NETWORKS for row in Firmware(network, side).rows()]
    answer: dict[str, Any] = {"board": BOARD, "rows": [row._asdict() for row in rows]}
    for direction in ("forward", "backward"):
        chosen = [row for row in rows if row.direction == direction]
        answer[direction] = {"errors": errors(chosen), "rates": fit(chosen)}
        print(direction, answer[direction])
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(answer)) + b"\n")


if __name__ == "__main__":
    main()
