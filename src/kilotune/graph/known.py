"""Tensors of a traced network that no input changes: made from numbers, integer buffers and the size of the batch."""

from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from kilotune.graph.lowering import Known, Refused
from kilotune.graph.node import TensorInfo

_FACTORIES = {"ones", "zeros", "full", "arange", "linspace", "eye", "scalar_tensor"}
# These read the shape and the number format of their first argument, not its values.
_LIKE = {"new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like"}

# Enough to see whether a tensor is the same for every example.
_N_EXAMPLES = 2


class KnownTensors:
    """Computes them while the graph is walked, by running the traced operations themselves, for two examples.

    So a mask that forward() fills window by window is there with its values, whatever wrote to it. Float parameters and
    buffers are not among them: the graph refers to those by name.
    """

    def __init__(self, program: ExportedProgram):
        signature = program.graph_signature
        stored = {**program.state_dict, **program.constants}
        named = {**signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
        self._stored = {name: stored[target] for name, target in named.items() if target in stored}
        self._lifted = signature.inputs_to_lifted_tensor_constants
        self._tensors: dict[torch.fx.Node, Tensor] = {}

    def placeholder(self, fx_node: torch.fx.Node) -> bool:
        """Whether the placeholder is an integer buffer or a tensor written in forward(), whose values are then known."""
        tensor = self._stored.get(fx_node.name)
        if tensor is None or (tensor.is_floating_point() and fx_node.name not in self._lifted):
            return False
        self._tensors[fx_node] = tensor.detach().cpu().clone()
        return True

    def compute(self, fx_node: torch.fx.Node, name: str, mutates: bool) -> bool:
        """Whether the operation ``name`` reads known tensors only; its result is then known too.

        Raises Refused where it writes a computed value into a known tensor.
        """
        sources = [node for node in fx_node.all_input_nodes if not _is_size(node)]
        like = sources[:1] if name in _LIKE and sources and sources[0] not in self._tensors else []
        unknown = [node for node in sources if node not in self._tensors and node not in like]
        if unknown and mutates and fx_node.args[0] in self._tensors:
            raise Refused("a computed value is written into a tensor made in forward(); join values with torch.cat")
        if unknown or not (sources or name in _FACTORIES) or torch.Tag.nondeterministic_seeded in _tags(fx_node):
            return False
        target: Any = fx_node.target
        self._tensors[fx_node] = target(*map(self._argument, fx_node.args), **self._keywords(fx_node))
        return True

    def value(self, fx_node: torch.fx.Node, info: TensorInfo) -> Known | None:
        """The tensor as it is now, for a lowering; None where it is not known. Raises Refused where examples differ."""
        tensor = self._tensors.get(fx_node)
        if tensor is None:
            return None
        numbers_examples = False
        if info.batch_axis is not None:
            tensor, second = tensor.chunk(_N_EXAMPLES, info.batch_axis)
            numbers_examples = (tensor.flatten().tolist(), second.flatten().tolist()) == ([0], [1])
            if not numbers_examples and not torch.equal(tensor, second):
                raise Refused("a tensor made in forward() that differs between examples; treat every example alike")
        dtype = str(tensor.dtype).removeprefix("torch.")
        data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return Known(tuple(tensor.shape), dtype, data, info, numbers_examples)

    def _keywords(self, fx_node: torch.fx.Node) -> dict[str, Any]:
        given = {key: self._argument(value) for key, value in fx_node.kwargs.items()}
        return given | ({"device": torch.device("cpu")} if given.get("device") is not None else {})

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, list | tuple):
            return [self._argument(item) for item in argument]
        if not isinstance(argument, torch.fx.Node):
            return argument
        if argument in self._tensors:
            return self._tensors[argument]
        found = argument.meta["val"]
        if isinstance(found, Tensor):
            return torch.empty([size_at(size, _N_EXAMPLES) for size in found.shape], dtype=found.dtype)
        return size_at(found, _N_EXAMPLES)


def size_at(size: Any, batch: int) -> int:
    """A size that may grow with the batch, at a batch."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, batch)))


def _is_size(fx_node: torch.fx.Node) -> bool:
    return not isinstance(fx_node.meta.get("val"), Tensor | list | tuple)


def _tags(fx_node: torch.fx.Node) -> list[torch.Tag]:
    return getattr(fx_node.target, "tags", [])
