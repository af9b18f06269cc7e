"""Trained slices of weights: cut out, written back, and folded through a frozen batch norm."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from kilotune.graph.node import Conv2d, FoldedNorm, Linear
from kilotune.graph.patterns import patterns
from kilotune.update_plan import ChannelSet

Tensors = dict[str, Tensor]


def norm_scale(norm: FoldedNorm, tensors: Tensors) -> Tensor:
    """gamma / sqrt(variance + epsilon), (o,)."""
    scale = (tensors[norm.variance] + norm.epsilon).rsqrt()
    return scale if norm.weight is None else scale * tensors[norm.weight]


def norm_shift(norm: FoldedNorm, tensors: Tensors) -> Tensor:
    """beta - mean * scale, (o,)."""
    shift = -tensors[norm.mean] * norm_scale(norm, tensors)
    return shift if norm.bias is None else shift + tensors[norm.bias]


def bias_offset(op: Conv2d | Linear, tensors: Tensors) -> Tensor:
    """The folded bias without the norm's own shift, (o,): scale * bias - mean * scale.

    The shift is always added last, so that a trained shift gives the same bits whether it was trained in this step or read
    back from the model.
    """
    assert op.norm is not None
    scale = norm_scale(op.norm, tensors)
    offset = -tensors[op.norm.mean] * scale
    return offset if op.bias is None else tensors[op.bias] * scale + offset


def folded(op: Conv2d | Linear, tensors: Tensors) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the layer with its frozen batch norm folded in; without one, the model's own tensors."""
    weight, bias = tensors[op.weight], None if op.bias is None else tensors[op.bias]
    if op.norm is None:
        return weight, bias
    offset = bias_offset(op, tensors)
    shifted = offset if op.norm.bias is None else tensors[op.norm.bias] + offset
    return weight * _per_row(norm_scale(op.norm, tensors), weight), shifted


def _per_row(vector: Tensor, weight: Tensor) -> Tensor:
    return vector.view(-1, *[1] * (weight.dim() - 1))


def bias_name(op: Conv2d | Linear) -> str | None:
    """The tensor that is trained as the layer's bias: the norm's shift where there is one, else the layer's own bias."""
    if op.norm is not None and op.norm.bias is not None:
        return op.norm.bias
    return op.bias


@dataclass(frozen=True)
class Slice:
    """Where a channel set lies in a weight: (o, c/groups, kh, kw) or (o, c).

    Slices are channel-major: (k, o/groups, kh, kw) or (k, o) on axis "in", (k, c/groups, kh, kw) or (k, c) on axis "out".
    taps: of kernels with patterns only the taps t of these, (k, o/groups, t) or (k, c/groups, t), as places in the kernel.
    """

    chosen: ChannelSet
    groups: int
    index: Tensor
    taps: Tensor | None = None

    @classmethod
    def of(cls, op: Conv2d | Linear, chosen: ChannelSet, tensors: Tensors) -> "Slice":
        """The slice of ``op``'s weight that ``chosen`` names."""
        device = tensors[op.weight].device
        whole = cls(chosen, op.groups, torch.tensor(chosen.indices, device=device))
        if not isinstance(op, Conv2d) or op.pattern is None:
            return whole
        numbers = whole._cut(tensors[op.pattern][..., None, None]).flatten(1)
        table = torch.tensor(patterns(op.weight_shape[2]), device=device)
        return replace(whole, taps=table[numbers.long()])

    def cut(self, weight: Tensor) -> Tensor:
        """A copy of the slice."""
        return self.pick(self._cut(weight))

    def pick(self, kernels: Tensor) -> Tensor:
        """Of whole kernels (k, ..., kh, kw) the taps that there are."""
        return kernels if self.taps is None else kernels.flatten(2).gather(2, self.taps)

    def write(self, weight: Tensor, piece: Tensor) -> None:
        """Put the slice back in place."""
        if self.taps is not None:
            kernel = weight.shape[2:]
            zeros = piece.new_zeros(*piece.shape[:2], kernel.numel())
            piece = zeros.scatter(2, self.taps, piece).unflatten(2, kernel)
        self._write(weight, piece)

    def _cut(self, weight: Tensor) -> Tensor:
        if self.chosen.axis == "out":
            return weight.index_select(0, self.index)
        if self.groups == 1:
            return weight.index_select(1, self.index).transpose(0, 1).contiguous()
        return self._grouped(weight)[self._place(weight)].contiguous()

    def _write(self, weight: Tensor, piece: Tensor) -> None:
        if self.chosen.axis == "out":
            weight.index_copy_(0, self.index, piece)
        elif self.groups == 1:
            weight.index_copy_(1, self.index, piece.transpose(0, 1))
        else:
            self._grouped(weight)[self._place(weight)] = piece

    def scale(self, scale: Tensor, weight: Tensor) -> Tensor:
        """(o,) as a tensor that broadcasts over the slice: the derivative of the folded by the unfolded weight."""
        tail = [1] * (weight.dim() - 2) if self.taps is None else [1]
        if self.chosen.axis == "out":
            return scale[self.index].view(-1, 1, *tail)
        rows = scale.view(self.groups, -1)
        rows = rows if self.groups == 1 else rows[self.index // weight.shape[1]]
        return rows.view(*rows.shape, *tail)

    def _grouped(self, weight: Tensor) -> Tensor:
        return weight.view(self.groups, -1, *weight.shape[1:])

    def _place(self, weight: Tensor) -> tuple:
        per_group = weight.shape[1]
        return (self.index // per_group, slice(None), self.index % per_group)


@dataclass(frozen=True)
class LiveWeight:
    """A trained slice of one layer: the small parameter, the model's weight it belongs to, and the folded copy that runs."""

    slice: Slice
    parameter: nn.Parameter
    base: Tensor
    running: Tensor
    scale: Tensor | None

    def fold(self, out: Tensor | None = None) -> Tensor:
        """The slice with the batch norm folded in, in the parameter's shape; in ``out`` if that is given."""
        piece = self.parameter.detach()
        if self.scale is not None:
            return torch.mul(piece, self.scale, out=out)
        return piece if out is None else out.copy_(piece)

    def unfold(self, piece: Tensor) -> None:
        """Change the parameter as the slice ``piece``, which ``fold`` made, was changed since then."""
        _follow(self.parameter, piece - self.fold().to(piece.dtype), self.scale)

    def refresh(self) -> None:
        """Write the parameter into the folded weight that the forward pass reads."""
        self.slice.write(self.running, self.fold().to(self.running.dtype))

    def commit(self) -> None:
        """Write the parameter into the model's own weight."""
        self.slice.write(self.base, self.parameter.detach())


@dataclass(frozen=True)
class LiveBias:
    """A trained bias: the parameter, the model's tensor it belongs to, and the folded bias that runs.

    The folded bias is ``offset + scale * parameter``.
    """

    parameter: nn.Parameter
    base: Tensor
    running: Tensor
    offset: Tensor | None
    scale: Tensor | None

    def fold(self, out: Tensor | None = None) -> Tensor:
        """The bias with the batch norm folded in, (o,); in ``out`` if that is given."""
        value = self.parameter.detach()
        value = value if self.scale is None else value * self.scale
        if self.offset is not None:
            return torch.add(value, self.offset, out=out)
        return value if out is None else out.copy_(value)

    def unfold(self, value: Tensor) -> None:
        """Change the parameter as the bias ``value``, which ``fold`` made, was changed since then."""
        _follow(self.parameter, value - self.fold().to(value.dtype), self.scale)

    def refresh(self) -> None:
        """Write the parameter into the folded bias that the forward pass reads."""
        self.running.copy_(self.fold())

    def commit(self) -> None:
        """Write the parameter into the model's own tensor."""
        self.base.copy_(self.parameter.detach())


def _follow(parameter: nn.Parameter, moved: Tensor, scale: Tensor | None) -> None:
    """Add to a parameter what moved the folded one; where nothing did, a scale of 0 among it, its bits stay."""
    step = moved if scale is None else torch.where(moved == 0, moved, moved / scale)
    parameter.detach().add_(step)
