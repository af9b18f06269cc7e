"""The network as data: frozen records, no torch objects. Shapes are those at batch 1, `n c h w`."""

from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import ClassVar
from zlib import crc32

from kilotune.errors import PlanError
from kilotune.update_plan import Axis, ChannelSet


@dataclass(frozen=True)
class TensorInfo:
    """A value of the network: its shape at batch 1 and the axis that grows with the batch (None: a constant).

    dtype: "float32" is the number format of the step, whatever that is; other values are token ids and masks.
    """

    shape: tuple[int, ...]
    batch_axis: int | None = 0
    dtype: str = "float32"

    @property
    def is_float(self) -> bool:
        """Whether it is a number that gradients may reach."""
        return self.dtype == "float32"

    @property
    def elements(self) -> int:
        """Number of elements at batch 1."""
        return prod(self.shape)

    def at(self, batch: int) -> tuple[int, ...]:
        """The shape at batch ``batch``."""
        return tuple(size * batch if axis == self.batch_axis else size for axis, size in enumerate(self.shape))


@dataclass(frozen=True)
class FoldedNorm:
    """A frozen batch norm folded into the layer before it; the names are those of its tensors in the model."""

    weight: str | None
    bias: str | None
    mean: str
    variance: str
    epsilon: float


@dataclass(frozen=True)
class Op:
    """What a node computes; one subclass per kind."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class Input(Op):
    """The example the model is called with: an image, or token ids."""

    kind = "input"


@dataclass(frozen=True)
class Parameter(Op):
    """A frozen tensor of the model used as a value (position embedding, class token, layer scale)."""

    kind = "parameter"
    tensor: str


@dataclass(frozen=True)
class Constant(Op):
    """A tensor made from numbers alone (attention mask, position numbers): its values are known when it is captured."""

    kind = "constant"
    dtype: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Lookup(Op):
    """Rows ``table[ids]`` of a frozen table: (v, ...) and (...) -> (..., ...). Token embedding, relative position bias."""

    kind = "lookup"


@dataclass(frozen=True)
class Integer(Op):
    """Arithmetic on token ids, through which no gradient passes; ``function`` is a key of ``ops.integers.FUNCTIONS``."""

    kind = "integer"
    function: str
    number: int = 0


@dataclass(frozen=True)
class Weighted(Op):
    """A layer with a weight that can be trained, and with the frozen batch norm behind it folded in."""

    weight: str
    weight_shape: tuple[int, ...]
    bias: str | None
    norm: FoldedNorm | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Conv2d(Weighted):
    """Convolution ``(n,c,h,w) -> (n,o,h',w')``, weight (o, c/groups, kh, kw); padding is (top, bottom, left, right), zeros.

    pattern: name of the tensor (o, c/groups) with the number of each kernel's pattern (``graph.patterns``), if it has them.
    """

    kind = "conv2d"
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    pattern: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Linear(Weighted):
    """``x W^T + b`` over the last axis; weight (o, c)."""

    kind = "linear"
    groups: int = field(default=1, init=False)


@dataclass(frozen=True)
class BatchNorm(Op):
    """A frozen batch norm that has no convolution or linear layer to be folded into; a per-channel affine map on axis 1."""

    kind = "batch_norm"
    norm: FoldedNorm


@dataclass(frozen=True)
class Activation(Op):
    """An element-wise function; ``function`` is a key of ``ACTIVATION_KEEPS``."""

    kind = "activation"
    function: str
    slope: float = 0.0


@dataclass(frozen=True)
class Add(Op):
    """Sum of two values, broadcast allowed."""

    kind = "add"


@dataclass(frozen=True)
class Mul(Op):
    """Product of two values, broadcast allowed (squeeze-excite)."""

    kind = "mul"


@dataclass(frozen=True)
class Affine(Op):
    """``scale * x + shift`` with two numbers."""

    kind = "affine"
    scale: float
    shift: float


@dataclass(frozen=True)
class MaxPool(Op):
    """Maximum over windows; padding is the same on both sides."""

    kind = "max_pool"
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    ceil_mode: bool


@dataclass(frozen=True)
class AvgPool(Op):
    """Mean over windows; padding is the same on both sides."""

    kind = "avg_pool"
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil_mode: bool
    count_include_pad: bool


@dataclass(frozen=True)
class AdaptiveAvgPool(Op):
    """Mean over a grid of ``output_size`` windows."""

    kind = "adaptive_avg_pool"
    output_size: tuple[int, int]


@dataclass(frozen=True)
class Mean(Op):
    """Mean over axes."""

    kind = "mean"
    axes: tuple[int, ...]
    keep: bool


@dataclass(frozen=True)
class Reshape(Op):
    """The same elements under another shape; costs nothing (the output aliases the input)."""

    kind = "reshape"


@dataclass(frozen=True)
class Permute(Op):
    """Axes in another order, written out."""

    kind = "permute"
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Slice(Op):
    """``x[start:stop:step]`` along an axis, written out."""

    kind = "slice"
    axis: int
    start: int
    stop: int
    step: int


@dataclass(frozen=True)
class Expand(Op):
    """Broadcast to the output shape, written out."""

    kind = "expand"


@dataclass(frozen=True)
class Concat(Op):
    """Values one after another along an axis."""

    kind = "concat"
    axis: int


@dataclass(frozen=True)
class Pad(Op):
    """Zeros around two neighbouring axes: (top, bottom, left, right); ``behind`` more axes follow them (n h w c: 1)."""

    kind = "pad"
    padding: tuple[int, int, int, int]
    behind: int = 0


@dataclass(frozen=True)
class Roll(Op):
    """Cyclic shift along axes (shifted windows), written out."""

    kind = "roll"
    shifts: tuple[int, ...]
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Dropout(Op):
    """Zeroes elements with probability ``p`` while training."""

    kind = "dropout"
    p: float


@dataclass(frozen=True)
class LayerNorm(Op):
    """Normalisation over the last ``axes`` axes with frozen scale and shift."""

    kind = "layer_norm"
    axes: int
    weight: str | None
    bias: str | None
    epsilon: float


@dataclass(frozen=True)
class Softmax(Op):
    """Softmax along an axis."""

    kind = "softmax"
    axis: int


@dataclass(frozen=True)
class Masked(Op):
    """A value where its mask is true, ``fill`` elsewhere. Where the mask depends on the input, a softmax is behind it, which
    lets no gradient through where the scores are minus infinity; so that mask need not be kept."""

    kind = "masked"
    fill: float


@dataclass(frozen=True)
class MatMul(Op):
    """``scale * a @ b`` over the last two axes, ``b`` transposed first if asked (attention)."""

    kind = "matmul"
    transpose_b: bool
    scale: float


# What an activation function keeps for its derivative: one bit per element, its input, or its output.
ACTIVATION_KEEPS = {
    "relu": "mask",
    "relu6": "mask",
    "leaky_relu": "mask",
    "hardsigmoid": "mask",
    "hardswish": "input",
    "silu": "input",
    "gelu": "input",
    "gelu_tanh": "input",
    "sigmoid": "output",
    "tanh": "output",
}


@dataclass(frozen=True)
class Node:
    """One operation: ``output`` is the value called ``name``; ``inputs`` are names of earlier nodes."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    output: TensorInfo
    layer: str = ""
    source: str = ""


@dataclass(frozen=True)
class Layer:
    """A trainable layer: a convolution or a linear layer, seen as the papers see it.

    Linear layers: input feature = channel, ``input_hw`` = (tokens, 1). All counts are at batch 1.
    """

    name: str
    node: str
    kind: str
    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, int]
    groups: int
    input_hw: tuple[int, ...]
    output_hw: tuple[int, ...]
    has_bias: bool
    input_norms: tuple[float, ...] = field(default=(), repr=False, compare=False)
    """L2 norm of the weights that read each input channel, at capture."""
    taps: int | None = None
    """Taps of each kernel that are not zero for good, where kernels have patterns."""

    @property
    def kernel_elements(self) -> int:
        """D^2, weights of one kernel; only the taps of its pattern, where it has one."""
        return prod(self.kernel) if self.taps is None else self.taps

    def whole(self, axis: Axis = "in") -> ChannelSet:
        """All input channels, or all output neurons."""
        return ChannelSet(self.name, axis, tuple(range(self.in_channels if axis == "in" else self.out_channels)))

    def keeps_channels(self, axis: str) -> bool:
        """Whether training some channels along ``axis`` needs only those channels of the input.

        Output neurons read the whole input, except where each reads a channel of its own (depthwise, multiplier 1).
        """
        return axis == "in" or (self.groups == self.in_channels == self.out_channels)

    @property
    def channel_weight_elements(self) -> int:
        """C_W, weights that read one input channel: C' D^2 / groups (TraDy, section 3.1, with the groups term)."""
        return self.out_channels // self.groups * self.kernel_elements

    @property
    def channel_input_elements(self) -> int:
        """C_A, elements of one input channel: H W."""
        return prod(self.input_hw)

    @property
    def channel_cost_elements(self) -> int:
        """C_W + C_A, the cost of training one input channel in the ``selection`` ledger."""
        return self.channel_weight_elements + self.channel_input_elements

    @property
    def neuron_weight_elements(self) -> int:
        """Weights of one output neuron: C D^2 / groups."""
        return self.in_channels // self.groups * self.kernel_elements

    @property
    def weight_elements(self) -> int:
        """Elements of the whole weight."""
        return self.in_channels * self.channel_weight_elements

    @property
    def input_elements(self) -> int:
        """Elements of the whole input activation."""
        return self.in_channels * self.channel_input_elements

    @property
    def output_elements(self) -> int:
        """Elements of the whole output activation."""
        return self.out_channels * prod(self.output_hw)

    @property
    def macs(self) -> int:
        """Multiply-adds of the forward pass, zeros of patterned kernels included; one multiply-add counts as one."""
        return self.in_channels * self.out_channels // self.groups * prod(self.kernel) * prod(self.output_hw)


@dataclass(frozen=True)
class Graph:
    """The network in execution order. The first node is the input; ``output`` is the name of the last value.

    layers: every trainable layer in forward order, the classifier included.
    classifier: name of the layer that makes the logits, or None.
    """

    model: str
    nodes: tuple[Node, ...]
    output: str
    layers: tuple[Layer, ...]
    classifier: str | None

    @property
    def input(self) -> TensorInfo:
        """Shape of the example at batch 1."""
        return self.nodes[0].output

    @cached_property
    def node(self) -> dict[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def layer(self) -> dict[str, Layer]:
        """Layers by name."""
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def fingerprint(self) -> str:
        """What networks with another body do not share: names, kernels and channels of its layers; not weights, nor sizes."""
        facts = [(one.name, one.kind, one.in_channels, one.out_channels, one.kernel, one.groups) for one in self.body]
        return f"{crc32(repr(facts).encode()):08x}"

    @cached_property
    def body(self) -> tuple[Layer, ...]:
        """The layers a policy chooses from: all but the classifier."""
        return tuple(layer for layer in self.layers if layer.name != self.classifier)

    @cached_property
    def root(self) -> dict[str, str]:
        """For every value the one whose memory it is: reshapes alias their input."""
        root: dict[str, str] = {}
        for node in self.nodes:
            root[node.name] = root[node.inputs[0]] if isinstance(node.op, Reshape) else node.name
        return root

    @cached_property
    def constants(self) -> frozenset[str]:
        """Values that do not depend on the input: made once, they lie beside the frozen weights and no step makes them."""
        found: set[str] = set()
        for node in self.nodes:
            depends = isinstance(node.op, Input | Weighted) or node.output.batch_axis is not None
            if not depends and found.issuperset(node.inputs):
                found.add(node.name)
        return frozenset(found)

    @property
    def vocabulary(self) -> int | None:
        """Number of token ids that the embeddings of the input know; None where the input is looked up nowhere."""
        ids = self.nodes[0].name
        tables = [node.inputs[0] for node in self.nodes if isinstance(node.op, Lookup) and node.inputs[1] == ids]
        return min((self.node[table].output.shape[0] for table in tables), default=None)

    @property
    def macs(self) -> int:
        """Multiply-adds of all layers' forward pass at batch 1."""
        return sum(layer.macs for layer in self.layers)

    @property
    def selection_total_elements(self) -> int:
        """Weights plus inputs of every layer but the classifier: the papers' budget of dense training."""
        return sum(layer.weight_elements + layer.input_elements for layer in self.body)

    def weighted(self, layer: str) -> Conv2d | Linear:
        """The operation of the layer called ``layer``."""
        op = self.node[self.layer[layer].node].op
        assert isinstance(op, Conv2d | Linear)
        return op

    def find_layer(self, name: str) -> Layer:
        """The layer called ``name``. Raises PlanError, naming the layers there are."""
        if name not in self.layer:
            raise PlanError(f"{self.model} has no layer {name!r}; its layers are {', '.join(self.layer)}")
        return self.layer[name]
