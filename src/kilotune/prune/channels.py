"""Channel pruning along the dependency graph (Fang et al. 2023, arXiv 2301.12900), through the torch-pruning library.

A group is what has to shrink together: the output channels of a layer, the batch norm behind it, the inputs of its readers, and
every layer that a residual sum or a squeeze-excite product ties to it. Its first layer gives it its name.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kilotune.errors import ModelError, PruneError
from kilotune.graph.capture import capture
from kilotune.prune.criteria import CRITERIA, torch_pruning


@dataclass(frozen=True)
class Settings:
    """How much of which layers goes. Raises PruneError for values out of range.

    ratio: share of the channels of every group that is removed, in [0, 1). layers: another ratio for the groups of
    these layers. criterion: a key of ``criteria.CRITERIA``, by which the least important channels go. scope: "layer"
    takes ``ratio`` of each group, "network" of all together, whichever they are in, by importance relative to the
    mean of their group. round_to: groups keep a multiple of this many channels, the nearest one, at least one multiple.
    seed: of the criterion "random".
    """

    ratio: float
    layers: dict[str, float] = field(default_factory=dict)
    criterion: str = "magnitude"
    scope: str = "layer"
    round_to: int = 8
    seed: int = 0

    def __post_init__(self):
        for where, ratio in [("the ratio", self.ratio), *((f"the ratio of {k}", v) for k, v in self.layers.items())]:
            if not 0 <= ratio < 1:
                raise PruneError(f"{where} is {ratio:g}; it is the share of channels that goes, in [0, 1)")
        if self.criterion not in CRITERIA:
            raise PruneError(f"criterion {self.criterion!r} is unknown; choose {', '.join(CRITERIA)}")
        if self.scope not in _SCOPES:
            raise PruneError(f"scope {self.scope!r} is unknown; choose {', '.join(_SCOPES)}")
        if self.round_to < 1:
            raise PruneError(f"channels cannot be rounded to multiples of {self.round_to}; give at least 1")


class Width(NamedTuple):
    """Output channels of a layer before and after."""

    layer: str
    before: int
    after: int


@dataclass(frozen=True)
class Narrowed:
    """A pruned copy of a model and the layers that became narrower."""

    model: nn.Module
    widths: tuple[Width, ...]


class _Group(NamedTuple):
    """place: of its first layer in the model. layers: those whose output channels are in it; blocks: runs of channels that
    must shrink alike (a grouped convolution has one for each group); scores: importance of each channel of a block."""

    place: int
    root: nn.Module
    layers: tuple[str, ...]
    blocks: int
    scores: Tensor


def prune_channels(
    model: nn.Module, example: Tensor, settings: Settings, loss: Callable[[nn.Module], Tensor] | None = None
) -> Narrowed:
    """A copy of ``model``, called with ``example`` (n, c, h, w), without its least important channels.

    The classifier keeps its outputs. loss: what criteria that need gradients differentiate.
    Raises UnsupportedError as ``capture`` does; PruneError where torch-pruning is missing, a layer named in the settings
    cannot be pruned, or the criterion needs a loss and there is none.
    """
    criterion = CRITERIA[settings.criterion]
    importance = criterion.build(torch_pruning())
    if criterion.needs_loss and loss is None:
        raise PruneError(f"criterion {settings.criterion!r} needs images to measure on; give a data set with --recover")
    classifier = capture(model, example).classifier
    pruned = deepcopy(model).eval().requires_grad_(True)
    if criterion.needs_loss and loss is not None:
        loss(pruned).backward()
    dependencies = torch_pruning().DependencyGraph().build_dependency(pruned, example)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        groups = sorted(_groups(pruned, dependencies, importance, classifier), key=lambda group: group.place)
    for group, gone in zip(groups, _least(groups, settings), strict=True):
        if gone:
            out = dependencies.get_pruner_of_module(group.root).prune_out_channels
            dependencies.get_pruning_group(group.root, out, gone).prune()
    _check_output(model, pruned, example)
    pruned.zero_grad(set_to_none=True)
    pruned.train(model.training)
    return Narrowed(pruned, tuple(_widths(model, pruned)))


def _groups(model: nn.Module, dependencies: Any, importance: Any, classifier: str | None) -> Iterator[_Group]:
    names = list(model.named_modules())
    places = {module: place for place, (_, module) in enumerate(names)}
    ignored = [module for name, module in model.named_modules() if name == classifier]
    for group in dependencies.get_all_groups(ignored_layers=ignored):
        shrinks = [dep.target.module for dep, _ in group if dependencies.is_out_channel_pruning_fn(dep.handler)]
        layers = sorted({places[module] for module in shrinks if isinstance(module, nn.Conv2d | nn.Linear)})
        blocks = max(_blocks(dep.target.module) for dep, _ in group)
        scores = importance(group)
        if scores is not None:
            scores = scores.detach().view(blocks, -1).mean(0)
            yield _Group(layers[0], shrinks[0], tuple(names[place][0] for place in layers), blocks, scores)


def _blocks(module: nn.Module) -> int:
    if isinstance(module, nn.Conv2d) and module.groups < module.in_channels:
        return module.groups
    return 1


def _least(groups: list[_Group], settings: Settings) -> list[list[int]]:
    """Channels of each group that go: the least important ones."""
    own = _own_ratios(groups, settings)
    free = [group.scores for group, ratio in zip(groups, own, strict=True) if ratio is None]
    ratios = _SCOPES[settings.scope](free, settings.ratio) if free else iter(())
    least = []
    for group, ratio in zip(groups, own, strict=True):
        n_channels = len(group.scores)
        kept = n_channels * (1 - (next(ratios) if ratio is None else ratio))
        multiple = max(1, settings.round_to // group.blocks)
        n_kept = min(n_channels, max(1, round(kept / multiple)) * multiple)
        gone = group.scores.argsort(stable=True)[: n_channels - n_kept].sort().values
        least.append([block * n_channels + i for block in range(group.blocks) for i in gone.tolist()])
    return least


def _own_ratios(groups: list[_Group], settings: Settings) -> list[float | None]:
    """The ratio that the settings give the layers of each group by name, None where they name none of them."""
    place = {layer: number for number, group in enumerate(groups) for layer in group.layers}
    own: list[float | None] = [None] * len(groups)
    for layer, ratio in settings.layers.items():
        if layer not in place:
            raise PruneError(f"{layer} cannot be pruned; the layers that can are {', '.join(place)}")
        if own[place[layer]] not in (None, ratio):
            tied = ", ".join(groups[place[layer]].layers)
            raise PruneError(f"{tied} shrink together, but were given different ratios; give them one")
        own[place[layer]] = ratio
    return own


def _by_layer(scores: list[Tensor], ratio: float) -> Iterator[float]:
    return iter([ratio] * len(scores))


def _by_network(scores: list[Tensor], ratio: float) -> Iterator[float]:
    """The share of each group that is below the threshold under which ``ratio`` of all channels are."""
    relative = [values / values.mean() for values in scores]
    ordered = torch.cat(relative).sort().values
    n_gone = int(len(ordered) * ratio)
    threshold = ordered[n_gone]
    return ((values < threshold).float().mean().item() for values in relative)


_SCOPES = {"layer": _by_layer, "network": _by_network}


def _check_output(model: nn.Module, pruned: nn.Module, example: Tensor) -> None:
    with torch.no_grad():
        wanted = tuple(model(example).shape)
        try:
            found = tuple(pruned.to(example)(example).shape)
        except RuntimeError as error:
            raise ModelError(
                f"{type(model).__name__} has sizes written into its forward pass and cannot become narrower: {error}; read "
                "them off the tensors there"
            ) from error
    if found != wanted:
        raise ModelError(
            f"pruning changed the output of {type(model).__name__} from {wanted} to {found}; end it with a linear classifier"
        )


def _widths(model: nn.Module, pruned: nn.Module) -> Iterator[Width]:
    for (name, old), new in zip(model.named_modules(), pruned.modules(), strict=True):
        if isinstance(old, nn.Conv2d | nn.Linear):
            before, after = (module.get_parameter("weight").shape[0] for module in (old, new))
            if before != after:
                yield Width(name, before, after)
