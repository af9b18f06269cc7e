"""Networks for the tests: random geometry with trained-looking statistics, and one small module per operation."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from kilotune.graph.patterns import BUFFER, has_patterns, patterns
from kilotune.prune.patterns import project


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


def cut_to_patterns(model: nn.Module, seed: int = 0) -> nn.Module:
    """A random pattern for every kernel of every convolution that can have some, dense and grouped ones too."""
    generator = torch.Generator().manual_seed(seed)
    for conv in model.modules():
        if isinstance(conv, nn.Conv2d) and has_patterns(conv.kernel_size):
            numbers = torch.randint(len(patterns(conv.kernel_size[0])), conv.weight.shape[:2], generator=generator)
            conv.register_buffer(BUFFER, numbers.to(torch.uint8))
    project(model)
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


class RandomNetwork(nn.Module):
    """A directed graph of operations: each reads earlier values, so that values branch, meet, and are read again later."""

    def __init__(self, wiring: tuple[tuple[str, int, int], ...], classes: int = 5):
        super().__init__()
        self.wiring = wiring
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.convs = nn.ModuleDict(
            {str(i): _CONVOLUTIONS[op]() for i, (op, _, _) in enumerate(wiring) if op in _CONVOLUTIONS}
        )
        self.shift = nn.Parameter(torch.zeros(4, 6, 6))
        self.head = nn.Linear(4, classes)
        randomise(self.double().eval())

    def forward(self, x: Tensor) -> Tensor:
        values = [self.stem(x)]
        for index, (op, first, second) in enumerate(self.wiring):
            a, b = values[first % len(values)], values[second % len(values)]
            values.append(self.convs[str(index)](a) if op in _CONVOLUTIONS else _OPERATIONS[op](self, a, b))
        return self.head((values[-1] + values[len(values) // 2]).mean((2, 3)))


_CONVOLUTIONS = {
    "pointwise": lambda: nn.Conv2d(4, 4, 1),
    "depthwise": lambda: nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4)),
}
_OPERATIONS = {
    "relu": lambda net, a, b: a.relu(),
    "relu6": lambda net, a, b: nn.functional.relu6(a),
    "silu": lambda net, a, b: nn.functional.silu(a),
    "sigmoid": lambda net, a, b: a.sigmoid(),
    "norm": lambda net, a, b: nn.functional.layer_norm(a, (6, 6)),
    "softmax": lambda net, a, b: a.softmax(1),
    "affine": lambda net, a, b: 0.5 * a + 1,
    "add": lambda net, a, b: a + b,
    "mul": lambda net, a, b: a * b.tanh(),
    "gate": lambda net, a, b: a * b.mean((2, 3), keepdim=True).sigmoid(),
    "shift": lambda net, a, b: net.shift + a,
    "pool": lambda net, a, b: nn.functional.max_pool2d(a, 3, 1, 1),
    "halves": lambda net, a, b: torch.cat([a[:, 2:], b[:, :2]], 1),
    "reshape": lambda net, a, b: a.flatten(1).relu().reshape(-1, 4, 6, 6) + b,
    "turn": lambda net, a, b: a.transpose(2, 3),
}
wirings = st.lists(
    st.tuples(st.sampled_from([*_CONVOLUTIONS, *_OPERATIONS]), st.integers(0, 9), st.integers(0, 9)),
    min_size=1,
    max_size=10,
).map(tuple)
