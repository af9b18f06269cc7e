"""Kernels cut down to patterns."""

import torch
from torch import nn

from kilotune.graph.patterns import patterns
from kilotune.prune.patterns import project, prune_to_patterns
from tests.oracles.networks import randomise


def _network() -> nn.Module:
    layers = [
        nn.Conv2d(3, 6, 3),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Conv2d(6, 6, 5, groups=6),
        nn.Conv2d(6, 4, 3, groups=2),
    ]
    return randomise(nn.Sequential(*layers, nn.Conv2d(4, 4, 1, groups=4)).eval())


def test_each_depthwise_kernel_keeps_the_pattern_with_most_energy():
    model = _network()
    before = [layer.weight.detach().clone() for layer in model]
    assert prune_to_patterns(model) == ("1", "2")
    for number in (0, 3, 4):
        assert torch.equal(model[number].weight, before[number])
    for number in (1, 2):
        layer, side = model[number], model[number].kernel_size[0]
        for kernel, old, chosen in zip(layer.weight, before[number], layer.pattern, strict=True):
            energies = [old.flatten()[list(taps)].square().sum() for taps in patterns(side)]
            assert energies[int(chosen)] == max(energies)
            taps = list(patterns(side)[int(chosen)])
            assert torch.equal(kernel.flatten()[taps], old.flatten()[taps])
            assert kernel.count_nonzero() == len(taps)


def test_projection_undoes_what_dense_training_did_to_the_zeros():
    model = _network()
    prune_to_patterns(model)
    pruned = model[1].weight.detach().clone()
    with torch.no_grad():
        for layer in model:
            layer.weight.add_(1)
    project(model)
    assert torch.equal(model[1].weight, torch.where(pruned == 0, 0.0, pruned + 1))
    assert model[0].weight.ne(0).all()


def test_a_network_without_depthwise_layers_has_nothing_to_cut():
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert prune_to_patterns(model) == ()
    assert list(model.buffers()) == []
