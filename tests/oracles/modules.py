"""A small network for every supported operation: convolution, the operation, flatten, linear layer."""

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kilotune.graph.capture import capture
from kilotune.graph.node import Graph
from tests.oracles.networks import randomise

INPUT = (3, 6, 6)
N_CLASSES = 5
Part = nn.Module | nn.Parameter | nn.Buffer
Middle = Callable[[Any, Tensor], Tensor]


class Between(nn.Module):
    """``head(middle(stem(x)))``: the gradient of the stem has to pass through the operation in the middle."""

    def __init__(self, middle: Middle, parts: dict[str, Part]):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        for name, part in parts.items():
            setattr(self, name, part)
        self.middle = middle
        with torch.no_grad():
            features = self.eval().middle(self, self.stem(torch.zeros(2, *INPUT))).flatten(1).shape[1]
        self.head = nn.Linear(features, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self, self.stem(x)).flatten(1))


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _heads(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], x.shape[1], 2, -1).transpose(1, 2)


def _attention(m, x):
    q, k, v = m.qkv(_tokens(x)).chunk(3, dim=-1)
    return F.scaled_dot_product_attention(_heads(q), _heads(k), _heads(v)).transpose(1, 2).reshape(-1, 36, 8)


def _attention_by_hand(m, x):
    tokens = _tokens(x)
    q, k, v = m.qkv(tokens).reshape(tokens.shape[0], 36, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    weights = ((q * 4**-0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).reshape(tokens.shape[0], 36, 8)


def _self_attention(m, x):
    tokens = _tokens(x)
    return m.part(tokens, tokens, tokens, need_weights=False)[0]


def _masked_attention(m, x):
    q, k, v = m.qkv(_tokens(x)).chunk(3, dim=-1)
    seen = torch.ones(36, 36, dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(_heads(q), _heads(k), _heads(v), attn_mask=seen).transpose(1, 2).flatten(2)


def _biased_attention(m, x):
    """Relative position bias: rows of a table, in the places that a buffer of numbers says."""
    q, k, v = m.qkv(_tokens(x)).chunk(3, dim=-1)
    bias = m.table[m.places.flatten()].view(36, 36, 2).permute(2, 0, 1).unsqueeze(0)
    scores = (_heads(q) @ _heads(k).transpose(-2, -1) + bias).masked_fill(m.places.remainder(7) == 0, -100.0)
    return (scores.softmax(-1) @ _heads(v)).transpose(1, 2).flatten(2)


def _windows(m, x):
    """Shifted windows of an image (n h w c) that is padded first, and back."""
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, 2, 1, 1)).roll((-1, -2), (1, 2))
    windows = x.view(-1, 2, 4, 2, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 8)
    return m.part(windows).view(-1, 2, 2, 4, 4, 4).permute(0, 1, 3, 2, 4, 5).reshape(-1, 8, 8, 4)


def _filled_mask(m, x):
    """A mask written window by window in forward(), repeated for every example."""
    mask = x.new_zeros(6, 6)
    for number, rows in enumerate((slice(0, -4), slice(-4, -2), slice(-2, None))):
        mask[rows, 1:] = number
    every = mask.unsqueeze(0).expand(x.shape[0], -1, -1)
    return x + torch.cat([every.unsqueeze(1), m.p.expand(x.shape[0], -1, 6, 6)], dim=1)


def _class_token(m, x):
    tokens = torch.cat([m.token.expand(x.shape[0], -1, -1), _tokens(x)], dim=1)
    return m.proj(tokens + m.position)[:, 0]


def _shuffle(m, x):
    n, c, h, w = x.shape
    a, b = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w).chunk(2, 1)
    return torch.cat([a, m.conv(b)], 1)


def _residual(m, x):
    return m.norm(m.conv(x)).add_(x).relu_()


def _only(function: Callable[[Tensor], Tensor]) -> Middle:
    return lambda m, x: function(x)


def _module(part: nn.Module) -> tuple[Middle, dict]:
    return (lambda m, x: m.part(x)), {"part": part}


def _conv(*args: Any, **kwargs: Any) -> tuple[Middle, dict]:
    return _module(nn.Conv2d(8, *args, **kwargs))


ACTIVATIONS: dict[str, tuple[Middle, dict]] = {
    **{
        f"nn.{part.__class__.__name__}": _module(part)
        for part in (
            nn.ReLU(),
            nn.ReLU6(),
            nn.Hardswish(),
            nn.Hardsigmoid(),
            nn.SiLU(),
            nn.GELU(),
            nn.Sigmoid(),
            nn.Tanh(),
            nn.LeakyReLU(0.2),
        )
    },
    **{
        f"nn.{part.__class__.__name__}(inplace)": _module(part)
        for part in (
            nn.ReLU(True),
            nn.ReLU6(True),
            nn.Hardswish(True),
            nn.Hardsigmoid(True),
            nn.SiLU(True),
            nn.LeakyReLU(0.2, True),
        )
    },
    "nn.GELU(tanh)": _module(nn.GELU("tanh")),
    "nn.Hardtanh(0, 6)": _module(nn.Hardtanh(0.0, 6.0)),
    "F.relu": (_only(F.relu), {}),
    "torch.relu_": (_only(torch.relu_), {}),
    "F.hardtanh": (_only(lambda x: F.hardtanh(x, 0.0, 6.0)), {}),
    "clamp(0, 6)": (_only(lambda x: x.clamp(0, 6)), {}),
    "clamp(min=0)": (_only(lambda x: x.clamp(min=0)), {}),
    "F.gelu": (_only(F.gelu), {}),
    "sigmoid": (_only(torch.sigmoid), {}),
    "tanh": (_only(torch.tanh), {}),
    "F.hardswish": (_only(F.hardswish), {}),
    "x * relu6(x + 3) / 6": (_only(lambda x: x * F.relu6(x + 3) / 6), {}),
    "x * sigmoid(x)": (_only(lambda x: x * torch.sigmoid(x)), {}),
    "relu6(x + 3) / 6": (_only(lambda x: F.relu6(x + 3.0, inplace=True) / 6.0), {}),
}

CONVOLUTIONS: dict[str, tuple[Middle, dict]] = {
    "conv strided": _conv(6, 3, stride=2, padding=1),
    "conv wide": _conv(6, (1, 5), padding=(0, 2)),
    "conv dilated": _conv(6, 3, dilation=2, padding=2),
    "conv grouped": _conv(12, 3, groups=4, bias=False),
    "conv depthwise": _conv(8, 3, groups=8, padding=1),
    "conv multiplier": _conv(16, 3, groups=8, stride=2),
    "conv same": _conv(6, 4, padding="same"),
    "conv same dilated": _conv(6, 3, padding="same", dilation=2),
    "conv valid": _conv(6, 3, padding="valid"),
    "pad then conv": _module(nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(8, 8, 3, stride=2, groups=8))),
    "F.pad then conv": (lambda m, x: m.part(F.pad(x, (1, 2, 0, 1))), {"part": nn.Conv2d(8, 4, 3, padding=1)}),
    "F.conv2d": (lambda m, x: F.conv2d(x, m.part.weight, m.part.bias), {"part": nn.Conv2d(8, 4, 3)}),
    "conv norm": _module(nn.Sequential(nn.Conv2d(8, 6, 3, bias=False), nn.BatchNorm2d(6, eps=1e-3))),
    "conv bias norm": _module(nn.Sequential(nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6))),
    "conv norm without affine": _module(nn.Sequential(nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6, affine=False))),
    "linear norm": _module(nn.Sequential(nn.Flatten(), nn.Linear(288, 6), nn.BatchNorm1d(6), nn.ReLU())),
    "norm alone": _module(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8), nn.ReLU())),
    "linear on tokens": (lambda m, x: m.part(_tokens(x)), {"part": nn.Linear(8, 3)}),
    "linear on pixels": (lambda m, x: m.part(x.permute(0, 2, 3, 1)), {"part": nn.Linear(8, 3, bias=False)}),
    "F.linear": (lambda m, x: F.linear(x.flatten(1), m.part.weight), {"part": nn.Linear(288, 3)}),
}

SHAPES: dict[str, tuple[Middle, dict]] = {
    "F.pad": (_only(lambda x: F.pad(x, (1, 0, 2, 1)).relu()), {}),
    "flatten": (_only(lambda x: torch.flatten(x, 1)), {}),
    "reshape": (_only(lambda x: x.reshape(x.shape[0], 4, -1)), {}),
    "view": (_only(lambda x: x.view(x.size(0), -1)), {}),
    "permute": (_only(lambda x: x.permute(0, 2, 3, 1).relu()), {}),
    "transpose": (_only(lambda x: x.transpose(1, -1)), {}),
    "unsqueeze": (_only(lambda x: x.unsqueeze(2).relu().squeeze(2)), {}),
    "unflatten": (_only(lambda x: x.unflatten(1, (2, 4))), {}),
    "chunk": (_only(lambda x: torch.cat(x.chunk(3, 1)[::-1], 1)), {}),
    "split": (_only(lambda x: x.split(3, dim=1)[1] * x.split([2, 3, 3], dim=1)[2]), {}),
    "unbind": (_only(lambda x: x.unbind(1)[2] + x.unbind(-1)[0].mean(1, keepdim=True)), {}),
    "stack": (_only(lambda x: torch.stack([x, x.relu()], dim=2)), {}),
    "slice": (_only(lambda x: x[:, 1:7:2, ::2, -3:]), {}),
    "select": (_only(lambda x: x[:, -1] + x.select(2, 0).mean(1, True)), {}),
    "cat": (_only(lambda x: torch.cat([x, x.relu(), x], dim=1)), {}),
    "contiguous": (_only(lambda x: x.contiguous().clone()), {}),
    "expand": (_only(lambda x: x * x.mean((2, 3), keepdim=True).expand(-1, -1, 6, 6)), {}),
    "shuffle": (_shuffle, {"conv": nn.Conv2d(4, 4, 1)}),
    "class token": (
        _class_token,
        {
            "token": nn.Parameter(torch.zeros(1, 1, 8)),
            "position": nn.Parameter(torch.zeros(1, 37, 8)),
            "proj": nn.Linear(8, 6),
        },
    ),
}

ARITHMETIC: dict[str, tuple[Middle, dict]] = {
    "add": (_only(lambda x: x + x.relu()), {}),
    "add itself": (_only(lambda x: x + x), {}),
    "add alpha": (_only(lambda x: torch.add(x, x.tanh(), alpha=0.5)), {}),
    "add number": (_only(lambda x: (x + 1.5).relu()), {}),
    "sub": (_only(lambda x: x - 2 * x.sigmoid()), {}),
    "rsub": (_only(lambda x: 1 - x), {}),
    "neg": (_only(lambda x: -x), {}),
    "div": (_only(lambda x: x / 3), {}),
    "mul": (_only(lambda x: x * x.sigmoid()), {}),
    "square": (_only(lambda x: x * x), {}),
    "mul broadcast": (_only(lambda x: x * x[:, :1]), {}),
    "in place": (_only(lambda x: x.mul_(2).add_(1).relu_()), {}),
    "residual": (_residual, {"conv": nn.Conv2d(8, 8, 3, padding=1), "norm": nn.BatchNorm2d(8)}),
    "sum with a parameter": (lambda m, x: (x + m.p) * x, {"p": nn.Parameter(torch.zeros(1, 8, 6, 6))}),
    "layer scale": (lambda m, x: x + m.p * x.relu(), {"p": nn.Parameter(torch.zeros(8, 1, 1))}),
    "squeeze and excite": (
        lambda m, x: x * F.hardsigmoid(m.b(F.relu(m.a(F.adaptive_avg_pool2d(x, 1))))),
        {"a": nn.Conv2d(8, 2, 1), "b": nn.Conv2d(2, 8, 1)},
    ),
    "dropout": _module(nn.Sequential(nn.Dropout(0.5), nn.ReLU())),
    "F.dropout": (lambda m, x: F.dropout(x, 0.3, m.training).relu(), {}),
    "softmax": (_only(lambda x: x.softmax(1)), {}),
    "F.softmax": (_only(lambda x: F.softmax(x.flatten(2), dim=-1)), {}),
    "layer norm": (lambda m, x: m.part(_tokens(x)).relu(), {"part": nn.LayerNorm(8)}),
    "layer norm of an image": (lambda m, x: F.layer_norm(x, (8, 6, 6)), {}),
    "F.batch_norm": (
        lambda m, x: F.batch_norm(x.relu(), m.n.running_mean, m.n.running_var),
        {"n": nn.BatchNorm2d(8, affine=False)},
    ),
    "matmul": (_only(lambda x: x @ x.transpose(-2, -1)), {}),
    "bmm": (_only(lambda x: torch.bmm(x.flatten(2), _tokens(x))), {}),
    "attention": (_attention, {"qkv": nn.Linear(8, 24)}),
    "attention by hand": (_attention_by_hand, {"qkv": nn.Linear(8, 24)}),
    "nn.MultiheadAttention": (_self_attention, {"part": nn.MultiheadAttention(8, 2, batch_first=True)}),
    "masked attention": (_masked_attention, {"qkv": nn.Linear(8, 24)}),
    "biased attention": (
        _biased_attention,
        {
            "qkv": nn.Linear(8, 24),
            "table": nn.Parameter(torch.zeros(71, 2)),
            "places": nn.Buffer((torch.arange(36)[:, None] - torch.arange(36)).add(35)),
        },
    ),
    "shifted windows": (_windows, {"part": nn.Linear(8, 4)}),
    "filled mask": (_filled_mask, {"p": nn.Parameter(torch.zeros(1, 7, 1, 1))}),
    "tensor made in forward": (_only(lambda x: x * torch.linspace(1, 2, 6) + torch.full_like(x, 0.5)), {}),
    "column of a parameter": (
        lambda m, x: x + m.p[:, 1:].transpose(1, 2).reshape(8, 1, 1),
        {"p": nn.Parameter(torch.zeros(1, 2, 8))},
    ),
}

POOLING: dict[str, tuple[Middle, dict]] = {
    "max pool": _module(nn.MaxPool2d(2)),
    "max pool overlapping": _module(nn.MaxPool2d(3, 2, 1)),
    "max pool ceil": _module(nn.MaxPool2d((3, 2), 2, ceil_mode=True)),
    "max pool dilated": _module(nn.MaxPool2d(2, 1, 1, 2)),
    "F.max_pool2d": (_only(lambda x: F.max_pool2d(x, 3, 2)), {}),
    "average pool": _module(nn.AvgPool2d(2)),
    "average pool padded": _module(nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)),
    "F.avg_pool2d": (_only(lambda x: F.avg_pool2d(x, (3, 2), 1, 1)), {}),
    "adaptive to one": _module(nn.AdaptiveAvgPool2d(1)),
    "adaptive to a grid": _module(nn.AdaptiveAvgPool2d((4, 5))),
    "mean": (_only(lambda x: x.mean((2, 3))), {}),
    "mean keepdim": (_only(lambda x: x.mean(-1, keepdim=True) * x), {}),
    "mean of channels": (_only(lambda x: torch.mean(x, 1)), {}),
}

MODULES = {**ACTIVATIONS, **CONVOLUTIONS, **SHAPES, **ARITHMETIC, **POOLING}


def build(name: str) -> nn.Module:
    """A fresh network of the catalogue in float64, in eval mode, its weights as after training."""
    return randomise(Between(*deepcopy(MODULES[name])).double().eval())


@cache
def captured(name: str) -> Graph:
    """Its graph; kept, because tracing takes longer than everything else."""
    return capture(build(name), torch.zeros(1, *INPUT, dtype=torch.float64))
