import sys

import pytest
import torch
from torch import nn

from kilotune.errors import ModelError, PruneError, UnsupportedError
from kilotune.prune.channels import Settings, prune_channels
from tests.oracles.prunable import EXAMPLE, GROUPS, prunable

pytest.importorskip("torch_pruning", reason="needs torch-pruning; make test installs it")

# The same sums in float64 with zeros left out; outputs are of the order of 1.
TOLERANCE = 1e-10

READERS = {
    ("stem", "project"): ("expand", "mix"),
    ("expand", "depthwise", "excite"): ("squeeze", "project"),
    ("squeeze",): ("excite",),
    ("mix",): ("grouped",),
    ("grouped",): ("classifier",),
}


def _silence(model: nn.Module, group: tuple[str, ...], gone: list[int]) -> None:
    """Make channels of a group zero, whatever the input, and the weights that read them too."""
    for name in group:
        for module in (getattr(model, name), getattr(model, f"{name}_norm", None)):
            if module is not None:
                module.weight.data[gone] = 0
                if module.bias is not None:
                    module.bias.data[gone] = 0
    for name in READERS[group]:
        reader = getattr(model, name)
        columns = [channel % reader.weight.shape[1] for channel in gone]
        reader.weight.data[:, columns] = 0


def _gone(n_channels: int, group: tuple[str, ...]) -> list[int]:
    if group in (("mix",), ("grouped",)):  # two groups each: the same channels of both
        half = n_channels // 2
        return [channel for channel in range(n_channels) if channel % half == 1]
    return list(range(0, n_channels, 4))


def test_channels_that_are_silent_go_and_nothing_changes():
    model = prunable()
    ratios = {}
    for group, n_channels in GROUPS.items():
        gone = _gone(n_channels, group)
        _silence(model, group, gone)
        ratios[group[0]] = len(gone) / n_channels
    narrowed = prune_channels(model, EXAMPLE, Settings(0, ratios, round_to=1))
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert (narrowed.model(x) - model(x)).abs().max() < TOLERANCE
    expected = {name: n - len(_gone(n, group)) for group, n in GROUPS.items() for name in group}
    assert {width.layer: width.after for width in narrowed.widths} == expected
    assert all(width.before > width.after for width in narrowed.widths)


def test_the_original_stays_as_it_was():
    model = prunable()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    narrowed = prune_channels(model, EXAMPLE, Settings(0.5, round_to=1))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in narrowed.model.parameters())


@pytest.mark.parametrize(
    ("ratio", "round_to", "kept"),
    [
        (0.0, 8, {"stem": 8, "expand": 16, "mix": 12, "squeeze": 4}),
        (0.5, 1, {"stem": 4, "expand": 8, "mix": 6, "squeeze": 2}),
        (0.5, 4, {"stem": 4, "expand": 8, "mix": 8, "squeeze": 4}),  # mix: 3 of each half, to the nearest multiple of 2
        (0.99, 8, {"stem": 8, "expand": 8, "mix": 8, "squeeze": 4}),
        (0.99, 1, {"stem": 1, "expand": 1, "mix": 2, "squeeze": 1}),
    ],
)
def test_widths_are_rounded_and_never_zero(ratio, round_to, kept):
    narrowed = prune_channels(prunable(), EXAMPLE, Settings(ratio, round_to=round_to)).model
    assert {name: len(getattr(narrowed, name).weight) for name in kept} == kept
    assert narrowed.classifier.out_features == 5


def test_the_scope_network_takes_its_share_of_all_channels():
    n_channels = sum(GROUPS.values())
    narrowed = prune_channels(prunable(), EXAMPLE, Settings(0.4, scope="network", round_to=1)).model
    left = sum(len(getattr(narrowed, group[0]).weight) for group in GROUPS)
    # The least important 40 %, but two channels of the grouped layers at a time, and one of each group at least.
    assert abs(left - 0.6 * n_channels) <= 3
    shares = {len(getattr(narrowed, group[0]).weight) / n for group, n in GROUPS.items()}
    assert len(shares) > 1


def test_taylor_takes_the_channels_that_do_not_matter_to_the_loss():
    model = prunable()
    model.mix.weight.data[3] *= 100  # large, but nobody listens
    model.grouped.weight.data[:, 3] = 0
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    heard = model.mix.weight[9].clone()
    settings = Settings(0, {"mix": 1 / 6}, "taylor", round_to=1)
    narrowed = prune_channels(model, EXAMPLE, settings, lambda network: network(x).square().sum()).model
    assert len(narrowed.mix.weight) == 10
    assert not any(torch.equal(row, heard) for row in narrowed.mix.weight)
    assert narrowed.mix.weight.abs().max() < model.mix.weight.abs().max()


def test_random_depends_on_the_seed_alone():
    model = prunable()

    def weights(seed):
        return prune_channels(model, EXAMPLE, Settings(0.5, criterion="random", round_to=1, seed=seed)).model.mix.weight

    state = torch.random.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ratio": 1.0}, "the ratio is 1; it is the share"),
        ({"ratio": -0.1}, "the ratio is -0.1"),
        ({"ratio": 0, "layers": {"stem": 1.5}}, "the ratio of stem is 1.5"),
        ({"ratio": 0, "criterion": "luck"}, "criterion 'luck' is unknown; choose magnitude"),
        ({"ratio": 0, "scope": "world"}, "scope 'world' is unknown; choose layer, network"),
        ({"ratio": 0, "round_to": 0}, "multiples of 0"),
    ],
)
def test_settings_out_of_range(settings, says):
    with pytest.raises(PruneError, match=says):
        Settings(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (Settings(0, {"classifier": 0.5}), "classifier cannot be pruned; the layers that can are stem"),
        (Settings(0, {"attic": 0.5}), "attic cannot be pruned"),
        (Settings(0, {"stem": 0.5, "project": 0.25}), "stem, project shrink together, but were given different ratios"),
        (Settings(0.5, criterion="taylor"), "criterion 'taylor' needs images"),
    ],
)
def test_settings_that_do_not_fit_the_network(settings, says):
    with pytest.raises(PruneError, match=says):
        prune_channels(prunable(), EXAMPLE, settings)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(PruneError, match=r"pip install kilotune\[prune\]"):
        prune_channels(prunable(), EXAMPLE, Settings(0.5))


class _Rigid(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.conv(x).view(x.shape[0], 8, -1).mean(2))


class _NoClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.other = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return (self.conv(x) * self.other(x)).mean((2, 3))


@pytest.mark.parametrize(
    ("model", "says"),
    [(_Rigid, "sizes written into its forward pass"), (_NoClassifier, "end it with a linear classifier")],
)
def test_networks_that_cannot_become_narrower(model, says):
    with pytest.raises(ModelError, match=says):
        prune_channels(model(), torch.zeros(1, 3, 8, 8), Settings(0.5, round_to=1))


def test_an_unsupported_network_is_refused_like_everywhere():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.erfinv(x)

    with pytest.raises(UnsupportedError, match="erfinv"):
        prune_channels(Odd(), torch.zeros(1, 3, 8, 8), Settings(0.5))
