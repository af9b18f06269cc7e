"""What each traced operation becomes: a table from operation name to the nodes that compute it. No torch here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from kilotune.graph import node as ops
from kilotune.graph.node import Node, Op, TensorInfo

_CONSTANT = "a tensor made inside forward(); register it as a buffer of the module"


class Refused(Exception):
    """An operation, or this use of it, is not supported; the text is the nearest supported rewrite."""


@dataclass(frozen=True)
class Value:
    """A value of the network."""

    name: str
    info: TensorInfo


@dataclass(frozen=True)
class ParameterRef:
    """A parameter or buffer of the model, by its name there."""

    tensor: str
    shape: tuple[int, ...]


@dataclass
class Call:
    """One traced operation: its arguments by name, the infos of its results, and where it stands in the model."""

    name: str
    arguments: dict[str, Any]
    results: list[TensorInfo]
    module: str
    source: str
    nodes: list[Node] = field(default_factory=list)

    def __getitem__(self, argument: str) -> Any:
        return self.arguments.get(argument)

    def emit(self, op: Op, inputs: Sequence[Any], info: TensorInfo | None = None, layer: str | None = None) -> Value:
        """Append a node that computes ``op``; the last one emitted is the call's own value."""
        names = tuple(self.value(item).name for item in inputs)
        name = f"{self.name}.{len(self.nodes)}" if self.nodes else self.name
        info = info or self.results[0]
        self.nodes.append(
            Node(name, op, names, info, self.module or self.name if layer is None else layer, self.source)
        )
        return Value(name, info)

    def value(self, item: Any) -> Value:
        """``item`` as a value; a parameter used as one becomes a node of its own."""
        if isinstance(item, Value):
            return item
        if isinstance(item, ParameterRef):
            info = TensorInfo(item.shape, None)
            name = f"{self.name}.{len(self.nodes)}"
            self.nodes.append(Node(name, ops.Parameter(item.tensor), (), info, item.tensor, self.source))
            return Value(name, info)
        raise Refused(_CONSTANT)


def _pair(value: Any) -> tuple[int, int]:
    items = [value] if isinstance(value, int) else list(value)
    return (items[0], items[-1])


def _required(item: Any, what: str) -> ParameterRef:
    if not isinstance(item, ParameterRef):
        raise Refused(f"the {what} is computed; keep it a plain parameter of the module")
    return item


def _parameter(item: Any, what: str) -> str | None:
    return None if item is None else _required(item, what).tensor


def _conv2d(call: Call) -> Value:
    weight = _required(call["weight"], "weight")
    shape = weight.shape
    stride, dilation = _pair(call["stride"]), _pair(call["dilation"])
    height, width = call.value(call["input"]).info.shape[2:]
    padding = _padding(call["padding"], (height, width), shape[2:], stride, dilation)
    op = ops.Conv2d(weight.tensor, shape, _parameter(call["bias"], "bias"), stride, padding, dilation, call["groups"])
    return call.emit(op, [call["input"]], layer=_layer_name(weight.tensor))


def _padding(padding: Any, size: Any, kernel: Any, stride: Any, dilation: Any) -> tuple[int, int, int, int]:
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2)
    vertical, horizontal = _pair(padding)
    return (vertical, vertical, horizontal, horizontal)


def _layer_name(weight: str) -> str:
    return weight.removesuffix(".weight")


def _linear(call: Call) -> Value:
    weight = _required(call["weight"], "weight")
    op = ops.Linear(weight.tensor, weight.shape, _parameter(call["bias"], "bias"))
    return call.emit(op, [call["input"]], layer=_layer_name(weight.tensor))


def _batch_norm(call: Call) -> Value:
    if call["running_mean"] is None:
        raise Refused("a batch norm without running statistics; use track_running_stats=True")
    weight, bias = (_parameter(call[key], key) for key in ("weight", "bias"))
    mean, variance = call["running_mean"].tensor, call["running_var"].tensor
    return call.emit(ops.BatchNorm(ops.FoldedNorm(weight, bias, mean, variance, call["eps"])), [call["input"]])


def _activation(function: str) -> Callable[[Call], Value]:
    return lambda call: call.emit(ops.Activation(function), [call["self"] or call["input"]])


def _clamp(call: Call) -> Value:
    low, high = call["min"], call["max"]
    if "min_val" in call.arguments:
        low, high = call["min_val"], call["max_val"]
    functions = {(0, 6): "relu6", (0, None): "relu"}
    if (low, high) not in functions:
        raise Refused("only clamp(0, 6) and clamp(min=0) are supported; use ReLU6 or ReLU")
    return call.emit(ops.Activation(functions[low, high]), [call["self"]])


def _leaky_relu(call: Call) -> Value:
    if call["negative_slope"] < 0:
        raise Refused("a negative slope, which hides the sign of the input; use a slope of at least 0")
    return call.emit(ops.Activation("leaky_relu", float(call["negative_slope"])), [call["self"]])


def _gelu(call: Call) -> Value:
    return call.emit(ops.Activation("gelu" if call["approximate"] == "none" else "gelu_tanh"), [call["self"]])


def _is_number(item: Any) -> bool:
    return isinstance(item, int | float)


def _add(sign: float) -> Callable[[Call], Value]:
    def lower(call: Call) -> Value:
        scale = sign * (1 if call["alpha"] is None else call["alpha"])
        if _is_number(call["other"]):
            return call.emit(ops.Affine(1.0, scale * call["other"]), [call["self"]])
        other = call.value(call["other"])
        if scale != 1:
            other = call.emit(ops.Affine(float(scale), 0.0), [other], other.info)
        return call.emit(ops.Add(), [call["self"], other])

    return lower


def _rsub(call: Call) -> Value:
    if not _is_number(call["other"]) or call["alpha"] not in (None, 1):
        raise Refused("write a - b as a + (-1) * b")
    return call.emit(ops.Affine(-1.0, float(call["other"])), [call["self"]])


def _mul(call: Call) -> Value:
    if _is_number(call["other"]):
        return call.emit(ops.Affine(float(call["other"]), 0.0), [call["self"]])
    return call.emit(ops.Mul(), [call["self"], call["other"]])


def _div(call: Call) -> Value:
    if not _is_number(call["other"]) or call["rounding_mode"]:
        raise Refused("division by a tensor; multiply by its inverse, or divide by a number")
    return call.emit(ops.Affine(1.0 / call["other"], 0.0), [call["self"]])


def _max_pool(call: Call) -> Value:
    stride = call["stride"] or call["kernel_size"]
    op = ops.MaxPool(
        _pair(call["kernel_size"]), _pair(stride), _pair(call["padding"]), _pair(call["dilation"]), call["ceil_mode"]
    )
    if prod(op.kernel) > 256:
        raise Refused("max pooling over more than 256 positions; use mean pooling")
    return call.emit(op, [call["self"]])


def _avg_pool(call: Call) -> Value:
    if call["divisor_override"] is not None:
        raise Refused("divisor_override; scale the result instead")
    stride = call["stride"] or call["kernel_size"]
    op = ops.AvgPool(
        _pair(call["kernel_size"]), _pair(stride), _pair(call["padding"]), call["ceil_mode"], call["count_include_pad"]
    )
    return call.emit(op, [call["self"]])


def _adaptive_avg_pool(call: Call) -> Value:
    return call.emit(ops.AdaptiveAvgPool(_pair(call.results[0].shape[-2:])), [call["self"]])


def _axis(axis: int, rank: int) -> int:
    return axis % rank


def _mean(call: Call) -> Value:
    info = call.value(call["self"]).info
    axes = tuple(sorted(_axis(axis, len(info.shape)) for axis in call["dim"] or range(len(info.shape))))
    if info.batch_axis in axes:
        raise Refused("a mean over the batch; average over other axes")
    return call.emit(ops.Mean(axes, bool(call["keepdim"])), [call["self"]])


def _reshape(call: Call) -> Value:
    return call.emit(ops.Reshape(), [call["self"]])


def _same(call: Call) -> Value:
    return call.value(call["self"] or call["input"])


def _permute(call: Call) -> Value:
    return call.emit(ops.Permute(tuple(_axis(a, len(call["dims"])) for a in call["dims"])), [call["self"]])


def _transpose(call: Call) -> Value:
    rank = len(call.value(call["self"]).info.shape)
    axes = list(range(rank))
    first, second = (call["dim0"], call["dim1"]) if "dim0" in call.arguments else (0, rank - 1)
    first, second = _axis(first, rank), _axis(second, rank)
    axes[first], axes[second] = axes[second], axes[first]
    return call.emit(ops.Permute(tuple(axes)), [call["self"]])


def _cut(call: Call, axis: int, start: int, stop: int, step: int = 1) -> Value:
    source = call.value(call["self"])
    axis, size = _axis(axis, len(source.info.shape)), source.info.shape[axis]
    if axis == source.info.batch_axis and call.results[0].batch_axis is None:
        raise Refused("a slice of the batch; treat every example alike")
    start, stop = (min(max(bound + size if bound < 0 else bound, 0), size) for bound in (start, min(stop, size)))
    if (start, stop, step) == (0, size, 1):
        return source
    shape = list(source.info.shape)
    shape[axis] = len(range(start, stop, step))
    return call.emit(ops.Slice(axis, start, stop, step), [source], TensorInfo(tuple(shape), source.info.batch_axis))


def _slice(call: Call) -> Value:
    stop = call["end"] if isinstance(call["end"], int) else 2**63 - 1
    return _cut(call, call["dim"], call["start"] or 0, stop, call["step"])


def _select(call: Call) -> Value:
    index = call["index"] % call.value(call["self"]).info.shape[call["dim"]]
    return call.emit(ops.Reshape(), [_cut(call, call["dim"], index, index + 1)])


def _pieces(call: Call) -> list[Value]:
    axis = call["dim"] or 0
    bounds, start = [], 0
    for info in call.results:
        bounds.append((start, start + info.shape[axis]))
        start = bounds[-1][1]
    return [_cut(call, axis, *bound) for bound in bounds]


def _unbind(call: Call) -> list[Value]:
    axis = call["dim"] or 0
    return [call.emit(ops.Reshape(), [_cut(call, axis, i, i + 1)], info) for i, info in enumerate(call.results)]


def _getitem(call: Call) -> Value:
    return call["self"][call["index"]]


def _concat(call: Call) -> Value:
    return call.emit(ops.Concat(_axis(call["dim"] or 0, len(call.results[0].shape))), call["tensors"])


def _stack(call: Call) -> Value:
    info = call.results[0]
    axis = _axis(call["dim"] or 0, len(info.shape))
    batch_axis = info.batch_axis
    part = TensorInfo((*info.shape[:axis], 1, *info.shape[axis + 1 :]), batch_axis)
    parts = [call.emit(ops.Reshape(), [item], part) for item in call["tensors"]]
    return call.emit(ops.Concat(axis), parts)


def _expand(call: Call) -> Value:
    source = call.value(call["self"])
    return source if source.info == call.results[0] else call.emit(ops.Expand(), [source])


def _pad(call: Call) -> Value:
    amounts = list(call["pad"]) + [0] * (4 - len(call["pad"]))
    if len(amounts) > 4 or min(amounts) < 0 or call["mode"] not in (None, "constant") or call["value"] not in (None, 0):
        raise Refused("only zero padding of height and width is supported")
    left, right, top, bottom = amounts
    return call.emit(ops.Pad((top, bottom, left, right)), [call["self"]])


def _dropout(call: Call) -> Value:
    source = call["input"] or call["self"]
    if call["p"] == 1:
        raise Refused("dropout with p = 1 lets nothing through; remove what is in front of it")
    return source if call["p"] == 0 else call.emit(ops.Dropout(float(call["p"])), [source])


def _layer_norm(call: Call) -> Value:
    weight, bias = (_parameter(call[key], key) for key in ("weight", "bias"))
    return call.emit(ops.LayerNorm(len(call["normalized_shape"]), weight, bias, call["eps"]), [call["input"]])


def _softmax(call: Call) -> Value:
    return call.emit(ops.Softmax(_axis(call["dim"], len(call.results[0].shape))), [call["self"]])


def _matmul(call: Call) -> Value:
    other = call["other"] if "other" in call.arguments else call["mat2"]
    if isinstance(other, ParameterRef):
        raise Refused("a matrix product with a parameter; use nn.Linear")
    return call.emit(ops.MatMul(False, 1.0), [call["self"], other])


def _attention(call: Call) -> Value:
    if call["attn_mask"] is not None or call["is_causal"] or call["dropout_p"] or call["enable_gqa"]:
        raise Refused("attention with a mask or dropout; use plain attention")
    query, key, value = call.value(call["query"]).info, call.value(call["key"]).info, call["value"]
    scale = query.shape[-1] ** -0.5 if call["scale"] is None else call["scale"]
    scores = TensorInfo((*query.shape[:-1], key.shape[-2]), query.batch_axis)
    product = call.emit(ops.MatMul(True, scale), [call["query"], call["key"]], scores)
    weights = call.emit(ops.Softmax(len(scores.shape) - 1), [product], scores)
    return call.emit(ops.MatMul(False, 1.0), [weights, value])


LOWERINGS: dict[str, Callable[[Call], Any]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    **{name: _activation(name) for name in ("relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh")},
    "leaky_relu": _leaky_relu,
    "gelu": _gelu,
    "hardtanh": _clamp,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "add": _add(1.0),
    "sub": _add(-1.0),
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "neg": lambda call: call.emit(ops.Affine(-1.0, 0.0), [call["self"]]),
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive_avg_pool,
    "mean": _mean,
    **dict.fromkeys(("reshape", "view", "flatten", "unflatten", "unsqueeze", "squeeze", "_unsafe_view"), _reshape),
    **dict.fromkeys(("contiguous", "clone", "alias", "to", "_to_copy", "detach", "dropout_none"), _same),
    "permute": _permute,
    **dict.fromkeys(("transpose", "t", "swapaxes"), _transpose),
    "slice": _slice,
    "select": _select,
    **dict.fromkeys(("chunk", "split", "split_with_sizes"), _pieces),
    "unbind": _unbind,
    "getitem": _getitem,
    "cat": _concat,
    "concat": _concat,
    "stack": _stack,
    **dict.fromkeys(("expand", "expand_as"), _expand),
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    "dropout": _dropout,
    "layer_norm": _layer_norm,
    **dict.fromkeys(("softmax", "_softmax"), _softmax),
    **dict.fromkeys(("matmul", "bmm"), _matmul),
    "scaled_dot_product_attention": _attention,
}

# The nearest supported rewrite of operations that users of this field bring along.
REWRITES = {
    **dict.fromkeys(("lift_fresh", "lift_fresh_copy", "ones", "zeros", "full", "arange", "linspace", "eye"), _CONSTANT),
    **dict.fromkeys(("ones_like", "zeros_like", "full_like"), _CONSTANT),
    "group_norm": "use batch norm, which folds into the convolution",
    "instance_norm": "use batch norm, which folds into the convolution",
    "native_group_norm": "use batch norm, which folds into the convolution",
    "conv1d": "use a conv2d with kernel (1, k) on an input (n, c, 1, w)",
    "conv3d": "use conv2d on two of the axes",
    "conv_transpose2d": "classification backbones have none; use upsampling outside the trained network",
    "elu": "use SiLU or ReLU6",
    "prelu": "use leaky ReLU with a fixed slope",
    "softplus": "use SiLU",
    "mish": "use SiLU",
    "adaptive_max_pool2d": "use max_pool2d with a fixed window",
    "feature_dropout": "use nn.Dropout, or remove it for fine-tuning",
    "lstm": "recurrent layers are not supported; use a convolutional or attention encoder",
    "gru": "recurrent layers are not supported; use a convolutional or attention encoder",
    "embedding": "embed the tokens before the network and pass the vectors as its input",
    "pow": "multiply the value by itself",
    "exp": "use softmax or sigmoid",
    "max": "use max_pool2d",
    "sum": "use mean, scaled by a number",
    "einsum": "use matmul",
    "pixel_shuffle": "use reshape and permute",
    "upsample_nearest2d": "classification backbones have none; resize the input instead",
}
