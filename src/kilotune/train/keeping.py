"""What ways of keeping need from a training run: calibration before it, a place in checkpoints, a word about their caps."""

import logging
from itertools import islice

import torch
from torch import Tensor

from kilotune.graph.low_rank import Lance
from kilotune.ops.low_rank import calibrated, gram
from kilotune.ops.prepare import Step
from kilotune.train.feed import Feed

logger = logging.getLogger(__name__)

CALIBRATION_BATCHES = 16
"""Batches from which LANCE's factors are made (the paper takes 100 of its pre-training data, section 4)."""


def calibrate(step: Step, feed: Feed) -> None:
    """Give the layers kept the LANCE way their factors, from the first batches of the first epoch, nothing being trained.

    Each mode's covariance is summed over the batches, outside any budget; layers that have factors keep theirs.
    """
    layers = [name for name, memory in step.memories.items() if isinstance(memory.way, Lance) and not memory.factors]
    if not layers:
        return
    sums: dict[str, list[Tensor]] = {}

    def add(name: str, x: Tensor) -> None:
        grams = [gram(x, mode) if mode else x.new_zeros(1, 1) for mode in range(x.dim())]
        sums[name] = [total + one for total, one in zip(sums[name], grams, strict=True)] if name in sums else grams

    with torch.no_grad():
        for x, _ in islice(feed.batches(0), CALIBRATION_BATCHES):
            step.look_at_inputs(x, layers, add)
    for name in layers:
        way = step.memories[name].way
        assert isinstance(way, Lance)
        step.memories[name].factors = calibrated(way, 0, sums[name])


def factor_tensors(step: Step) -> dict[str, Tensor]:
    """Factors that stay from step to step, as ``<layer>/<mode>``."""
    return {
        f"{name}/{mode}": factor
        for name, memory in step.memories.items()
        for mode, factor in memory.factors.items()
        if factor.numel()
    }


def restore_factors(step: Step, tensors: dict[str, Tensor]) -> None:
    """Give back what ``factor_tensors`` took."""
    for key, factor in tensors.items():
        name, _, mode = key.rpartition("/")
        step.memories[name].factors[int(mode)] = factor


def take_capped(step: Step) -> float:
    """Share of the compressed inputs since the last call that met their cap; the log names their layers."""
    memories = step.memories.values()
    seen, capped = sum(memory.seen for memory in memories), sum(memory.capped for memory in memories)
    layers = [f"{name} ({memory.capped}/{memory.seen})" for name, memory in step.memories.items() if memory.capped]
    if layers:
        logger.info("the cap of kept inputs was met %d of %d times: %s", capped, seen, ", ".join(layers))
    for memory in memories:
        memory.seen = memory.capped = 0
    return capped / seen if seen else 0.0
