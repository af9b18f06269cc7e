"""From any ``nn.Module`` and an example to a Graph, through ``torch.export``; the only file that knows the tracer."""

import logging
import operator
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from kilotune.errors import ShapeError, UnsupportedError
from kilotune.graph.fold import fold
from kilotune.graph.known import KnownTensors, size_at
from kilotune.graph.layers import build_layers, find_classifier
from kilotune.graph.lowering import LOWERINGS, REWRITES, Call, Known, ParameterRef, Refused, Value
from kilotune.graph.node import Conv2d, Graph, Input, Linear, Node, TensorInfo
from kilotune.graph.patterns import mark_patterns

_TRACER = "torch._subclasses.fake_tensor"


def capture(model: nn.Module, example: torch.Tensor, name: str | None = None) -> Graph:
    """The network as a Graph, traced in eval mode with a dynamic batch; the model itself is left as it was.

    example: images (n, c, h, w), token ids (n, t), or any shape whose first axis is the batch; its values do not matter.
    name: what messages call it, None for that of its class.
    Raises UnsupportedError listing every operation that cannot be trained here, ShapeError if the model does not
    accept the example.
    """
    if not isinstance(example, torch.Tensor) or example.dim() < 2 or example.shape[0] < 1:
        raise ShapeError(f"the example must be a tensor (n, ...) with n >= 1, got {getattr(example, 'shape', example)}")
    name = name or type(model).__name__
    lowered, output = _lower(_trace(model, example, name), name)
    nodes = mark_patterns(fold(lowered, output), dict(model.named_buffers()))
    weights = dict(model.named_parameters())
    layers = build_layers(nodes, lambda op: _input_norms(weights[op.weight], op))
    return Graph(name, nodes, output, layers, find_classifier(nodes, output, layers))


def example_of(shape: tuple[int, ...], n: int = 1) -> torch.Tensor:
    """``n`` examples of zeros: images (c, h, w), or where the shape is (t,), as many token ids."""
    return torch.zeros(n, *shape, dtype=torch.int64 if len(shape) == 1 else torch.float32)


@contextmanager
def _for_tracing(model: nn.Module) -> Iterator[None]:
    """In eval mode, without what the tracer warns of and logs; what stops it is raised besides."""
    training, tracer = [module for module in model.modules() if module.training], logging.getLogger(_TRACER)
    was_disabled, tracer.disabled = tracer.disabled, True
    model.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        tracer.disabled = was_disabled
        for module in training:
            module.training = True


def _trace(model: nn.Module, example: torch.Tensor, name: str) -> ExportedProgram:
    pair = example[:1].detach().repeat(2, *[1] * (example.dim() - 1))
    try:
        with _for_tracing(model):
            return export(model, (pair,), dynamic_shapes=({0: Dim.DYNAMIC},))
    except Exception as error:
        shape = "x".join(map(str, example.shape[1:]))
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ShapeError(
            f"{name} cannot be traced on a batch of {shape} examples: {reason}; check the input size, and that "
            "forward() takes one tensor, works for any batch size and does not branch on values"
        ) from error


def _input_norms(weight: torch.Tensor, op: Conv2d | Linear) -> tuple[float, ...]:
    groups = op.groups if isinstance(op, Conv2d) else 1
    grouped = weight.detach().double().reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return tuple(grouped.square().sum((1, 3)).sqrt().flatten().tolist())


def _lower(program: ExportedProgram, model: str) -> tuple[list[Node], str]:
    lowering = _Lowering(program)
    for fx_node in program.graph.nodes:
        lowering.visit(fx_node)
    if lowering.problems:
        listing = "\n".join(f"  {problem}" for problem in lowering.problems)
        raise UnsupportedError(
            f"{model} has {len(lowering.problems)} operations that cannot be trained here:\n{listing}"
        )
    return lowering.nodes, lowering.output


@dataclass(frozen=True)
class Problem:
    """One operation that is not supported: which, where in the user's source, what to write instead."""

    operation: str
    module: str
    source: str
    shape: str
    rewrite: str

    def __str__(self) -> str:
        return f"{self.operation} -> {self.shape} in {self.module or 'the model'} at {self.source}: {self.rewrite}"


class _Lowering:
    """Walks the traced graph once, turning each operation into nodes by the table ``LOWERINGS``."""

    def __init__(self, program: ExportedProgram):
        signature = program.graph_signature
        self.tensors = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.known = KnownTensors(program)
        self.environment: dict[Any, Any] = {}
        self.nodes: list[Node] = []
        self.problems: list[Problem] = []
        self.output = ""

    def visit(self, fx_node: torch.fx.Node) -> None:
        if fx_node.op == "placeholder":
            if not self.known.placeholder(fx_node):
                self.environment[fx_node] = self._placeholder(fx_node)
        elif fx_node.op == "output":
            self._finish(fx_node)
        elif not isinstance(fx_node.meta.get("val"), torch.Tensor | list | tuple):
            self.environment[fx_node] = None
        elif self._is_known(fx_node):
            self._operation(fx_node)

    def _placeholder(self, fx_node: torch.fx.Node) -> Any:
        if fx_node.name in self.tensors:
            return ParameterRef(self.tensors[fx_node.name], tuple(fx_node.meta["val"].shape))
        info = _tensor_info(fx_node.meta["val"])
        self.nodes.append(Node(fx_node.name, Input(), (), info, "input"))
        return Value(fx_node.name, info)

    def _finish(self, fx_node: torch.fx.Node) -> None:
        results: Any = fx_node.args[0]
        value = self.environment.get(results[0]) if len(results) == 1 else None
        if isinstance(value, Value):
            self.output = value.name
        elif not self.problems:
            self.problems.append(
                Problem("output", "", "forward()", f"{len(results)} results", "return one tensor of logits")
            )

    def _is_known(self, fx_node: torch.fx.Node) -> bool:
        """Whether every input has a known shape; what follows from one that has none is not reported again."""
        poisoned = any(self.environment.get(source, 0) == "unsupported" for source in fx_node.all_input_nodes)
        if poisoned:
            self.environment[fx_node] = "unsupported"
        return not poisoned

    def _operation(self, fx_node: torch.fx.Node) -> None:
        name = _operation_name(fx_node)
        try:
            if self.known.compute(fx_node, name, _mutates(fx_node)):
                return
            if _mutates(fx_node) and _is_read_elsewhere(fx_node):
                raise Refused(
                    "values are overwritten that are read under another name later; join the parts with torch.cat"
                )
            if name not in LOWERINGS:
                raise Refused(REWRITES.get(name, "rewrite it with the supported operations (docs/guides/supported.md)"))
            call = Call(
                fx_node.name, self._arguments(fx_node), _results(fx_node), _module_path(fx_node), _source(fx_node)
            )
            self.environment[fx_node] = LOWERINGS[name](call)
            self.nodes.extend(call.nodes)
        except Refused as refused:
            self.environment[fx_node] = _stand_in(fx_node)
            self.problems.append(Problem(name, _module_path(fx_node), _source(fx_node), _shape(fx_node), str(refused)))
        if _mutates(fx_node):  # whoever reads the argument from here on reads the result
            self.environment[fx_node.args[0]] = self.environment[fx_node]

    def _arguments(self, fx_node: torch.fx.Node) -> dict[str, Any]:
        if fx_node.target is operator.getitem:
            names = ["self", "index"]
            return dict(zip(names, map(self._resolve, fx_node.args), strict=True))
        target: Any = fx_node.target
        schema = target._schema.arguments
        given = {a.name: a.default_value for a in schema if a.has_default_value()}
        given.update(zip((a.name for a in schema), fx_node.args, strict=False))
        given.update(fx_node.kwargs)
        return {name: self._resolve(value) for name, value in given.items()}

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, torch.fx.Node):
            return self.environment[value] if value in self.environment else self._known(value)
        if isinstance(value, list | tuple):
            return [self._resolve(item) for item in value]
        return value

    def _known(self, fx_node: torch.fx.Node) -> Known | None:
        return self.known.value(fx_node, _tensor_info(fx_node.meta["val"]))


def _full_name(fx_node: torch.fx.Node) -> str:
    target: Any = fx_node.target
    return (
        target._schema.name if isinstance(target, torch._ops.OpOverload) else getattr(target, "__name__", str(target))
    )


def _operation_name(fx_node: torch.fx.Node) -> str:
    """``aten.relu_.default`` -> ``relu``: overloads and in-place forms share a lowering."""
    name = _full_name(fx_node)
    return name.removeprefix("aten::").rstrip("_" if _mutates(fx_node) else "") if name.startswith("aten::") else name


def _mutates(fx_node: torch.fx.Node) -> bool:
    name = _full_name(fx_node)
    return name.startswith("aten::") and name.endswith("_") and not name.endswith("__")


def _is_read_elsewhere(fx_node: torch.fx.Node) -> bool:
    """Whether a view of what an operation in place writes to, or what that is a view of, is read after it."""
    written = fx_node.args[0]
    assert isinstance(written, torch.fx.Node)
    base = written
    while _is_view(base):
        base = base.args[0]  # type: ignore[assignment]
    aliases, found = [base], set()
    while aliases:
        alias = aliases.pop()
        found.add(alias)
        aliases += [user for user in alias.users if _is_view(user) and user.args[0] is alias]
    return any(user > fx_node for alias in found - {written} for user in alias.users if alias < fx_node)


def _is_view(fx_node: torch.fx.Node) -> bool:
    target: Any = fx_node.target
    if not isinstance(target, torch._ops.OpOverload) or not fx_node.args:
        return False
    returned = target._schema.returns
    return len(returned) == 1 and returned[0].alias_info is not None and not _mutates(fx_node)


def _results(fx_node: torch.fx.Node) -> list[TensorInfo]:
    value = fx_node.meta["val"]
    return [_tensor_info(tensor) for tensor in ([value] if isinstance(value, torch.Tensor) else value)]


def _tensor_info(tensor: torch.Tensor) -> TensorInfo:
    """Shape at batch 1 and the axis that grows, from the symbolic shape ``(k * n, ...)``."""
    shape, batch_axis = [], None
    for axis, size in enumerate(tensor.shape):
        if isinstance(size, int):
            shape.append(size)
            continue
        expression = size.node.expr
        symbols = expression.free_symbols
        at_one = size_at(size, 1)
        if len(symbols) != 1 or batch_axis is not None or expression != at_one * next(iter(symbols)):
            raise Refused(f"a shape that grows as {tuple(tensor.shape)} with the batch; keep the batch in one axis")
        shape.append(at_one)
        batch_axis = axis
    dtype = "float32" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")
    return TensorInfo(tuple(shape), batch_axis, dtype)


def _stand_in(fx_node: torch.fx.Node) -> Any:
    """What follows an unsupported operation reads this, so that all of a model's problems are found at once."""
    try:
        values = [Value(fx_node.name, info) for info in _results(fx_node)]
    except Refused:
        return "unsupported"
    return values[0] if isinstance(fx_node.meta["val"], torch.Tensor) else values


def _shape(fx_node: torch.fx.Node) -> str:
    """``(n, 3, 8, 8)``: the shape of a result, whatever the tracer calls the batch."""
    value = fx_node.meta["val"]
    first = value if isinstance(value, torch.Tensor) else next(iter(value), None)
    sizes = getattr(first, "shape", ())
    return (
        f"({', '.join(str(size) if isinstance(size, int) else re.sub(r's[0-9]+', 'n', str(size)) for size in sizes)})"
    )


def _module_path(fx_node: torch.fx.Node) -> str:
    stack = fx_node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return re.sub(r"@\d+$", "", paths[-1]) if paths else ""


def _source(fx_node: torch.fx.Node) -> str:
    """``file.py:12`` of the innermost frame outside torch."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', fx_node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if "/torch/" not in frame[0]] or frames
    return f"{own[-1][0]}:{own[-1][1]}" if own else "an unknown line"
