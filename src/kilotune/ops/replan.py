"""Exchanging an optimiser's parameters when the plan changes."""

import torch
from torch import Tensor, nn

from kilotune.update_plan import ChannelSet

Live = dict[str, nn.Parameter]
Sets = dict[str, ChannelSet]


def move_optimizer(
    optimizer: torch.optim.Optimizer, old: Live, new: Live, old_sets: Sets, new_sets: Sets, keep: bool
) -> None:
    """Replace the parameters ``old`` by ``new`` in their groups and carry over or drop their state.

    Names in both stay in their group; new names join the group of the first old one. A parameter object that is in both
    keeps its state; a re-drawn slice keeps the rows of the channels it still trains if ``keep``, else nothing.
    """
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    home = next((group_of[id(p)] for p in old.values() if id(p) in group_of), optimizer.param_groups[0])
    ours = {id(p) for p in old.values()}
    targets = {name: group_of.get(id(old[name]), home) if name in old else home for name in new}
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in ours]
    for name, parameter in new.items():
        targets[name]["params"].append(parameter)
    for name, parameter in old.items():
        if parameter is new.get(name):
            continue
        state = optimizer.state.pop(parameter, None)
        layer = name.removesuffix(".weight")
        if keep and state and name in new and old_sets[layer].axis == new_sets[layer].axis:
            rows = _shared_rows(old_sets[layer], new_sets[layer])
            optimizer.state[new[name]] = {
                key: _carry(value, parameter, new[name], rows) for key, value in state.items()
            }


def _shared_rows(old: ChannelSet, new: ChannelSet) -> tuple[list[int], list[int]]:
    place = {channel: row for row, channel in enumerate(old.indices)}
    pairs = [(place[channel], row) for row, channel in enumerate(new.indices) if channel in place]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _carry(value, old: Tensor, new: Tensor, rows: tuple[list[int], list[int]]):
    """State of the shape of the parameter moves row by row, one row per channel; anything else (a step count) as it is."""
    if not isinstance(value, Tensor) or value.shape != old.shape:
        return value
    moved = torch.zeros_like(new)
    moved[rows[1]] = value[rows[0]]
    return moved
