"""What each traced operation becomes: a table from operation name to the nodes that compute it. No torch here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, prod
from typing import Any

from kilotune.graph import node as ops
from kilotune.graph.node import Node, Op, TensorInfo

_NO_VALUE = "a tensor that is not known before the input comes; register it as a buffer of the module"


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


@dataclass(frozen=True)
class Known:
    """A tensor whose values are known: ``data`` for one example, which ``info`` repeats where it has a batch axis.

    numbers_examples: not the same for every example, but 0, 1, 2 ... n-1 along the batch.
    """

    shape: tuple[int, ...]
    dtype: str
    data: bytes = field(repr=False)
    info: TensorInfo
    numbers_examples: bool = False

    @property
    def items(self) -> tuple[bytes, ...]:
        """The elements."""
        size = len(self.data) // max(prod(self.shape), 1)
        return tuple(self.data[place : place + size] for place in range(0, len(self.data), max(size, 1)))


@dataclass(frozen=True)
class Repeated:
    """A value that is the same for every example, and what it is when written out for all of them."""

    value: Value
    info: TensorInfo


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
        name = self._next_name()
        info = info or self.results[0]
        self.nodes.append(
            Node(name, op, names, info, self.module or self.name if layer is None else layer, self.source)
        )
        return Value(name, info)

    def value(self, item: Any) -> Value:
        """``item`` as a value; a parameter or known tensor used as one becomes a node of its own."""
        if isinstance(item, Known):
            item = self._constant(item)
        if isinstance(item, Repeated):
            return self.emit(ops.Expand(), [item.value], item.info)
        if isinstance(item, Value):
            return item
        if isinstance(item, ParameterRef):
            info = TensorInfo(item.shape, None)
            name = self._next_name()
            self.nodes.append(Node(name, ops.Parameter(item.tensor), (), info, item.tensor, self.source))
            return Value(name, info)
        raise Refused(_NO_VALUE)

    def broadcast(self, item: Any) -> Value:
        """``item`` as a value for an operation that broadcasts: what is the same for every example is not repeated."""
        if isinstance(item, Known):
            item = self._constant(item)
        return item.value if isinstance(item, Repeated) else self.value(item)

    def _constant(self, known: Known) -> Value | Repeated:
        if known.numbers_examples:
            raise Refused("the numbers of the examples in the batch; treat every example alike")
        info = TensorInfo(known.shape, None, known.info.dtype)
        name = self._next_name()
        self.nodes.append(Node(name, ops.Constant(known.dtype, known.data), (), info, "", self.source))
        value, axis = Value(name, info), known.info.batch_axis
        if axis is None:
            return value
        if known.shape[axis] == 1:
            return Repeated(value, known.info)
        shape = (*known.shape[:axis], 1, *known.shape[axis:])
        once = self.emit(ops.Reshape(), [value], TensorInfo(shape, None, info.dtype))
        written = self.emit(ops.Expand(), [once], TensorInfo(shape, axis, info.dtype))
        return self.emit(ops.Reshape(), [written], known.info)

    def _next_name(self) -> str:
        return f"{self.name}.{len(self.nodes)}" if self.nodes else self.name


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


def _integer(function: str) -> Callable[[Call], Value]:
    """Arithmetic on token ids and masks: of two of them, or of one and a number."""

    def lower(call: Call) -> Value:
        first, second = call.broadcast(call["self"]), call["other"]
        if first.info.is_float:
            raise Refused(
                "comparing or combining computed numbers as integers; only token ids and masks are integers here"
            )
        if _is_number(second):
            return call.emit(ops.Integer(function, int(second)), [first])
        return call.emit(ops.Integer(function), [first, call.broadcast(second)])

    return lower


def _convert(call: Call) -> Value:
    source = call["self"] if "self" in call.arguments else call["input"]
    if not isinstance(source, Value) or source.info.dtype == call.results[0].dtype or source.info.is_float:
        return _same(call)
    return call.emit(ops.Integer("to_float" if call.results[0].is_float else "to_integer"), [source])


def _cumsum(call: Call) -> Value:
    source = call.value(call["self"])
    if source.info.is_float:
        raise Refused("a running sum of computed numbers; write it as a product with a triangular matrix")
    return call.emit(ops.Integer("running_sum", _axis(call["dim"], len(source.info.shape))), [source])


def _gather(call: Call) -> Any:
    """A table whose entries are all equal (token types that are all 0) gives that entry, whatever the index."""
    table, info = call["self"], call.results[0]
    if isinstance(table, Known) and len(set(table.items)) == 1:
        return Known(info.shape, table.dtype, table.items[0] * info.elements, info)
    source = call.value(table)
    if source.info.is_float:
        raise Refused("gathering computed numbers; use slices, or an embedding")
    return call.emit(ops.Integer("gather", _axis(call["dim"], len(info.shape))), [source, call["index"]])


def _embedding(call: Call) -> Value | Repeated:
    return _look_up(call, call["weight"], call["indices"])


def _index(call: Call) -> Any:
    table, indices = call["self"], call["indices"]
    if isinstance(table, ParameterRef) and len(indices) == 1 and isinstance(indices[0], Known):
        return _look_up(call, table, indices[0])
    if isinstance(table, Value) and len(indices) == 2 and all(isinstance(index, Known) for index in indices):
        examples, columns = indices
        everything = tuple(column.to_bytes(8, "little") for column in range(table.info.shape[-1]))
        if examples.numbers_examples and len(table.info.shape) == 2 and columns.items == everything:
            return call.emit(ops.Reshape(), [table])
    raise Refused("indexing by a tensor, other than rows of a parameter by a buffer; use slices, or an embedding")


def _look_up(call: Call, table: Any, ids: Any) -> Value | Repeated:
    """Rows of a frozen table; the same rows for every example are looked up once."""
    table, ids = _required(table, "table"), call.broadcast(ids)
    if ids.info.batch_axis is not None:
        return call.emit(ops.Lookup(), [table, ids])
    found = call.emit(ops.Lookup(), [table, ids], TensorInfo((*ids.info.shape, *table.shape[1:]), None))
    return found if call.results[0].batch_axis is None else Repeated(found, call.results[0])


def _masked_fill(call: Call) -> Value:
    mask = call["mask"]
    if not isinstance(mask, Known) or not _is_number(call["value"]):
        raise Refused("filling by a mask that depends on the input; give attn_mask to scaled_dot_product_attention")
    kept = Known(mask.shape, mask.dtype, bytes(1 - filled for filled in mask.data), mask.info)
    return call.emit(ops.Masked(float(call["value"])), [call["self"], call.broadcast(kept)])


def _roll(call: Call) -> Value:
    rank = len(call.results[0].shape)
    axes = tuple(_axis(axis, rank) for axis in call["dims"] or ())
    if not axes or call.results[0].batch_axis in axes:
        raise Refused("rolling the batch, or all axes as one; name the axes of an example")
    return call.emit(ops.Roll(tuple(call["shifts"]), axes), [call["self"]])


def _add(sign: float) -> Callable[[Call], Value]:
    def lower(call: Call) -> Value:
        if not call.results[0].is_float:
            return _integer("add" if sign > 0 else "subtract")(call)
        scale = sign * (1 if call["alpha"] is None else call["alpha"])
        if _is_number(call["other"]):
            return call.emit(ops.Affine(1.0, scale * call["other"]), [call["self"]])
        other = call.broadcast(call["other"])
        if scale != 1:
            other = call.emit(ops.Affine(float(scale), 0.0), [other], other.info)
        return call.emit(ops.Add(), [call.broadcast(call["self"]), other])

    return lower


def _rsub(call: Call) -> Value:
    if not _is_number(call["other"]) or call["alpha"] not in (None, 1):
        raise Refused("write a - b as a + (-1) * b")
    return call.emit(ops.Affine(-1.0, float(call["other"])), [call["self"]])


def _mul(call: Call) -> Value:
    if not call.results[0].is_float:
        return _integer("multiply")(call)
    if _is_number(call["other"]):
        return call.emit(ops.Affine(float(call["other"]), 0.0), [call["self"]])
    return call.emit(ops.Mul(), [call.broadcast(call["self"]), call.broadcast(call["other"])])


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


def _adaptive_avg_pool_of_tokens(call: Call) -> Value:
    if call.results[0].shape[-1] != 1:
        raise Refused("adaptive pooling of tokens to more than one; use mean")
    return call.emit(ops.Mean((len(call.results[0].shape) - 1,), True), [call["self"]])


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
    if not any(amounts):
        return call.value(call["self"])
    behind = next(place for place, amount in enumerate(amounts) if amount) // 2 if len(amounts) > 4 else 0
    around, rest = amounts[2 * behind : 2 * behind + 4], amounts[2 * behind + 4 :]
    is_zero = call["mode"] in (None, "constant") and call["value"] in (None, 0)
    if any(rest) or min(amounts) < 0 or not is_zero:
        raise Refused("only zero padding of height and width is supported")
    left, right, top, bottom = around + [0] * (4 - len(around))
    return call.emit(ops.Pad((top, bottom, left, right), behind), [call["self"]])


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
    if call["is_causal"] or call["dropout_p"] or call["enable_gqa"]:
        raise Refused("attention that is causal or drops out; use plain attention, a causal mask as attn_mask")
    query, key, value = call.value(call["query"]).info, call.value(call["key"]).info, call["value"]
    scale = query.shape[-1] ** -0.5 if call["scale"] is None else call["scale"]
    scores = TensorInfo((*query.shape[:-1], key.shape[-2]), query.batch_axis)
    product = call.emit(ops.MatMul(True, scale), [call["query"], call["key"]], scores)
    product = _mask(call, product, call["attn_mask"])
    weights = call.emit(ops.Softmax(len(scores.shape) - 1), [product], scores)
    return call.emit(ops.MatMul(False, 1.0), [weights, value])


def _mask(call: Call, scores: Value, mask: Any) -> Value:
    """Scores under an attention mask: true where a key is seen, or numbers to add; a mask that hides nothing is none."""
    if mask is None or (isinstance(mask, Known) and mask.dtype == "bool" and all(mask.data)):
        return scores
    seen = call.broadcast(mask)
    op = ops.Add() if seen.info.is_float else ops.Masked(-inf)
    return call.emit(op, [scores, seen], scores.info)


LOWERINGS: dict[str, Callable[[Call], Any]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "embedding": _embedding,
    "index": _index,
    "gather": _gather,
    "cumsum": _cumsum,
    "ne": _integer("not_equal"),
    "eq": _integer("equal"),
    **dict.fromkeys(("__and__", "bitwise_and", "logical_and"), _integer("and")),
    "masked_fill": _masked_fill,
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
    "adaptive_avg_pool1d": _adaptive_avg_pool_of_tokens,
    "mean": _mean,
    **dict.fromkeys(("reshape", "view", "flatten", "unflatten", "unsqueeze", "squeeze", "_unsafe_view"), _reshape),
    **dict.fromkeys(("contiguous", "clone", "alias", "detach", "dropout_none"), _same),
    **dict.fromkeys(("to", "_to_copy", "type_as"), _convert),
    "permute": _permute,
    "roll": _roll,
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
    "pow": "multiply the value by itself",
    "exp": "use softmax or sigmoid",
    "max": "use max_pool2d",
    "sum": "use mean, scaled by a number",
    "einsum": "use matmul",
    "pixel_shuffle": "use reshape and permute",
    "upsample_nearest2d": "classification backbones have none; resize the input instead",
}
