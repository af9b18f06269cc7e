"""What kernels are given: places of values, constants of a node, geometry. Grows the list of constants as it is asked."""

from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np

from kilotune.codegen.drawing import Drawing
from kilotune.codegen.numbers import SUFFIX, Folded, Stored, WeightsDtype, at_places, store
from kilotune.codegen.program import Address, Argument, Constant, Name, Place, Struct
from kilotune.codegen.region import Region
from kilotune.graph import node as ops
from kilotune.graph.node import Layer, Node
from kilotune.graph.patterns import n_taps, patterns
from kilotune.graph.way import Way

NOTHING = Name("NULL")


@dataclass(eq=False)
class Values:
    """Everything that is known about a network when its calls are written.

    folded: weights by node; tensors: parameters used as values, by node. drawing: of a policy that draws on the device.
    pixels: (c or 1, 256) the number that a byte of the image stands for, where the image is bytes.
    seed: of what rounds at random. given: whether weights come from outside; deltas of layers that are trained whole are then all
    there is of theirs.
    """

    region: Region
    folded: dict[str, Folded]
    tensors: dict[str, np.ndarray]
    dtype: WeightsDtype
    drawing: Drawing | None = None
    pixels: np.ndarray = field(default_factory=lambda: np.arange(256, dtype=np.float32)[None])
    seed: int = 0
    given: bool = False
    constants: dict[str, Constant] = field(default_factory=dict)
    structs: dict[str, Struct] = field(default_factory=dict)

    @cached_property
    def graph(self) -> ops.Graph:
        """The network."""
        return self.region.layout.graph

    @cached_property
    def number(self) -> dict[str, int]:
        """Nodes by position."""
        return {node.name: place for place, node in enumerate(self.graph.nodes)}

    @cached_property
    def layer_of(self) -> dict[str, Layer]:
        """Layers by node."""
        return {layer.node: layer for layer in self.graph.layers}

    @cached_property
    def root(self) -> dict[str, str]:
        """For every value the one whose memory it is."""
        return self.graph.root

    def format(self, node: Node) -> str:
        """How kernels for the number format of the node's weight end; committed weights are float32."""
        return SUFFIX["float32" if node.name in self.committed else self.dtype]

    def suffix(self, node: Node) -> str:
        """The same of kernels that are given ``weight``."""
        return f"taps_{self.format(node)}" if self.patterns(node) else self.format(node)

    @cached_property
    def committed(self) -> dict[str, int]:
        """Where the weights of the layers that draws may train start in the store, elements; none where nothing is drawn."""
        pool = self.region.pool if self.drawing else ()
        ends = np.cumsum([layer.weight_elements for layer in pool]).tolist()
        return {layer.node: end - layer.weight_elements for layer, end in zip(pool, ends, strict=True)}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value without its batch axis of 1, or of a constant as it is."""
        info = self.graph.node[name].output
        return (
            info.shape
            if info.batch_axis is None
            else (*info.shape[: info.batch_axis], *info.shape[info.batch_axis + 1 :])
        )

    def full(self, name: str) -> tuple[int, ...]:
        """Shape of a value with all its axes, for one sample."""
        return self.graph.node[name].output.shape

    def elements(self, name: str) -> int:
        """Elements of a value."""
        return prod(self.full(name))

    def plane(self, name: str) -> int:
        """Elements of one channel of a value (c, h, w)."""
        return prod(self.shape(name)[1:])

    def norms(self, number: int) -> Place | None:
        """Where the policy keeps the norms of a layer's channels, by row of the table of slices; None where it keeps none."""
        pool = self.region.pool
        if self.drawing is None or self.drawing.function != "medyate" or number >= len(pool):
            return None
        return Place(self.region.state.offset + 4 * sum(layer.in_channels for layer in pool[:number]))

    def value(self, name: str) -> Argument:
        """Where a value lies; parameters are constants."""
        root = self.root[name]
        if root in self.tensors:
            return self.constant(f"value{self.number[root]}", self.tensors[root])
        return self.region.buffer(self.region.layout.timeline.place[root])

    def constant(self, name: str, values: np.ndarray) -> Name:
        """A constant array under ``name``."""
        self.constants.setdefault(name, Constant(name, np.ascontiguousarray(values)))
        return Name(name)

    def struct(self, kind: str, name: str, *fields: Argument | str) -> Address:
        """A constant struct under ``name``."""
        self.structs.setdefault(name, Struct(kind, name, (fields,)))
        return Address(name)

    def stored(self, node: Node) -> Stored:
        """The weight of a node as it lies in flash."""
        return store(self.folded[node.name].weight, self.dtype)

    def weight(self, node: Node) -> tuple[Argument, ...]:
        """The weight as it was exported or committed, its scale, and the patterns if kernels have some."""
        patterns = self.patterns(node)
        if node.name in self.committed:
            return Name(f"committed + {self.committed[node.name]}"), NOTHING, *patterns
        return *self.exported_weight(node), *patterns

    def patterns(self, node: Node) -> tuple[Argument, ...]:
        """Where the taps of the node's kernels are, as ``kt_patterns``; nothing where they are everywhere."""
        folded, number = self.folded[node.name], self.number[node.name]
        if folded.pattern is None:
            return ()
        side = folded.weight.shape[2]
        pattern = self.constant(f"pattern{number}", folded.pattern)
        places = self.constant(f"places{side}", np.array(patterns(side), np.uint8))
        return (self.struct("kt_patterns", f"patterns{number}", pattern, places, n_taps(side)),)

    def exported_weight(self, node: Node) -> tuple[Argument, Argument]:
        """The weight in flash, of kernels with patterns the taps; and its scale."""
        number, stored = self.number[node.name], self.stored(node)
        weight = self.constant(f"weight{number}", at_places(stored.values, self.folded[node.name].places))
        return weight, NOTHING if stored.scale is None else self.constant(f"scale{number}", stored.scale)

    def initial_bias(self, node: Node) -> Name:
        """The bias that training starts from."""
        return self.constant(f"bias{self.number[node.name]}", self.folded[node.name].bias.astype(np.float32))

    def bias(self, node: Node) -> Argument:
        """The bias, in RAM where it is trained."""
        trained = self.region.trained.get(f"{node.layer}.bias") if node.name in self.layer_of else None
        return trained.value if trained else self.initial_bias(node)

    def weight_scale(self, node: Node) -> Argument:
        """Derivative of the folded by the unfolded weight (o), or nothing where that is 1."""
        scale = self.folded[node.name].scale
        return NOTHING if scale is None else self.constant(f"norm{self.number[node.name]}", scale)

    def bias_scale(self, node: Node) -> Argument:
        """The same for the bias."""
        scale = self.folded[node.name].bias_scale
        return NOTHING if scale is None else self.constant(f"norm{self.number[node.name]}", scale)

    def convolution(self, node: Node) -> Address:
        """Geometry of a convolution, as ``kt_conv``."""
        op = node.op
        assert isinstance(op, ops.Conv2d)
        (c, h, w), (o, oh, ow) = self.shape(node.inputs[0]), self.shape(node.name)
        top, _, left, _ = op.padding
        sizes = (c, h, w, o, oh, ow, op.groups, *op.weight_shape[2:], *op.stride, *op.dilation, top, left)
        return self.struct("kt_conv", f"conv{self.number[node.name]}", *sizes)

    def pooling(self, node: Node) -> Address:
        """Geometry of a pooling window, as ``kt_pool``."""
        op = node.op
        (c, h, w), (_, oh, ow) = self.shape(node.inputs[0]), self.shape(node.name)
        if isinstance(op, ops.AdaptiveAvgPool):
            window: tuple[int, ...] = (1, 1, 1, 1, 1, 1, 0, 0)
        else:
            assert isinstance(op, ops.MaxPool | ops.AvgPool)
            window = (*op.kernel, *op.stride, *(op.dilation if isinstance(op, ops.MaxPool) else (1, 1)), *op.padding)
        return self.struct("kt_pool", f"pool{self.number[node.name]}", c, h, w, oh, ow, *window)

    def slice_number(self, node: Node) -> int | None:
        """Row of the layer in the tables of slices; what is trained whole comes behind the pool."""
        names = [layer.node for layer in (*self.region.pool, *self.region.whole)]
        return names.index(node.name) if node.name in names else None

    def is_whole(self, node: Node) -> bool:
        """Whether every draw trains the whole weight, as of the classifier."""
        return node.name in [layer.node for layer in self.region.whole]

    def slice(self, node: Node) -> Argument | None:
        """The trained input channels of a layer, None where none of its weight is ever trained."""
        return None if node.layer in self.region.neurons else self._row(node)

    def neurons(self, node: Node) -> Argument | None:
        """The trained output neurons of a layer, None where it has none."""
        return self._row(node) if node.layer in self.region.neurons else None

    def _row(self, node: Node) -> Argument | None:
        number = self.slice_number(node)
        return None if number is None else Address(f"kt_slices[{number}]")

    def keeps_input(self, node: Node) -> bool:
        """Whether the forward pass hands what a trained layer reads to the backward pass, as a copy."""
        return self.way(node) is not None or not (self.is_whole(node) or node.name in self.made_again)

    def way(self, node: Node) -> Way | None:
        """How a layer keeps its input compressed, None where it does not."""
        return self.region.layout.ways.get(node.layer) if node.name in self.layer_of else None

    @cached_property
    def made_again(self) -> set[str]:
        """Nodes of trained layers whose input is made again in the backward pass."""
        return self.region.made_again

    def scratch(self, name: str) -> Argument:
        """A ring, or nothing where none is needed."""
        return self.region.buffer(name) if self.region.has(name) else NOTHING

    def mask(self, name: str) -> Place | None:
        """Where a mask or window positions are kept, None where nobody needs them."""
        return self.region.buffer(name) if self.region.has(name) else None
