"""Networks for the tests: random geometry with trained-looking statistics, and one small module per operation."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, and batch-norm statistics as after training: means, variances, scales and shifts all over the place."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        values = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        fan_in = max(tensor[0].numel(), 1) if tensor.dim() > 1 else 4
        if name.endswith("running_var"):
            values = values.square() + 0.3
        elif tensor.dim() > 1:
            values = values * (2.0 / fan_in) ** 0.5
        elif name.endswith("weight"):
            values = 1 + 0.3 * values
        else:
            values = 0.3 * values
        tensor.data.copy_(values)
    return model


def batch(shape: tuple[int, ...], n: int, classes: int, seed: int = 0, dtype=torch.float32) -> tuple[Tensor, Tensor]:
    """Images (n, ...) and labels (n,)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((n, *shape), generator=generator, dtype=dtype)
    return x, torch.randint(classes, (n,), generator=generator)


@dataclass(frozen=True)
class Geometry:
    """A convolution between two others: its channels per group, kernel, stride, uneven padding, dilation, groups."""

    groups: int
    inputs_per_group: int
    outputs_per_group: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: int
    bias: bool
    norm: bool
    activation: str
    size: tuple[int, int]

    @property
    def channels(self) -> tuple[int, int]:
        """(c, o)."""
        return self.groups * self.inputs_per_group, self.groups * self.outputs_per_group

    def build(self, classes: int = 5) -> nn.Module:
        """``(n, 2, h, w) -> (n, classes)`` in float64: pointwise layer, padding, the convolution, a strided one, a head."""
        inputs, outputs = self.channels
        left, right = self.padding[2:]
        conv = nn.Conv2d(inputs, outputs, self.kernel, self.stride, 0, self.dilation, self.groups, self.bias)
        layers = [nn.Conv2d(2, inputs, 1), nn.BatchNorm2d(inputs), nn.ReLU6()]
        layers += [nn.ZeroPad2d((left, right, *self.padding[:2])), conv]
        layers += [nn.BatchNorm2d(outputs)] if self.norm else []
        layers += [_ACTIVATIONS[self.activation](), nn.Conv2d(outputs, 3, 1, bias=False), nn.AdaptiveAvgPool2d(1)]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(3, classes))
        return randomise(model.double().eval())


_ACTIVATIONS = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "leaky_relu": nn.LeakyReLU, "hardswish": nn.Hardswish,
    "silu": nn.SiLU, "gelu": nn.GELU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh,
}  # fmt: skip


@st.composite
def geometries(draw) -> Geometry:
    """Any convolution whose window fits into its padded input: dense, grouped, depthwise with a multiplier."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.integers(1, 2))
    padding = draw(st.tuples(*[st.integers(0, 3)] * 4))
    depthwise = draw(st.booleans())
    groups = draw(st.integers(2, 4) if depthwise else st.sampled_from([1, 1, 2, 3]))
    size = tuple(
        draw(st.integers(max(2, dilation * (k - 1) + 1 - sum(padding[axis * 2 : axis * 2 + 2])), 11))
        for axis, k in enumerate(kernel)
    )
    return Geometry(
        groups,
        1 if depthwise else draw(st.integers(1, 4)),
        draw(st.integers(1, 2) if depthwise else st.integers(1, 4)),
        kernel,
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding,
        dilation,
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from(sorted(_ACTIVATIONS))),
        size,
    )


def some_of(draw, n_channels: int) -> tuple[int, ...]:
    """A set of channels, at least one, sometimes all."""
    chosen = draw(st.sets(st.integers(0, n_channels - 1), min_size=1, max_size=n_channels))
    return tuple(sorted(chosen))
