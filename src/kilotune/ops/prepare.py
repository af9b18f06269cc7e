"""A captured network and a plan as a trainable module: small live parameters, nothing else kept or computed."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kilotune.errors import PlanError, ShapeError
from kilotune.graph import node as ops
from kilotune.graph.backward import StepGraph, check_plan, whole_classifier
from kilotune.graph.capture import capture
from kilotune.graph.keeping import modes_of, ways_of
from kilotune.graph.node import Graph
from kilotune.graph.way import Way
from kilotune.ops.constants import constants
from kilotune.ops.forward import Weights
from kilotune.ops.place import Memory
from kilotune.ops.program import Program, StepFunction
from kilotune.ops.replan import move_optimizer
from kilotune.ops.slices import LiveBias, LiveWeight, Slice, bias_name, bias_offset, folded, norm_scale, norm_shift
from kilotune.update_plan import ChannelSet, UpdatePlan


def prepare(
    model: nn.Module,
    example: Tensor,
    plan: UpdatePlan,
    graph: Graph | None = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> "Step":
    """A module that computes what ``model`` computes, trains what ``plan`` names, and keeps nothing else for backward.

    example: (n, c, h, w); graph: the captured model, if it was captured before; dtype: of activations and running
    weights (live parameters stay in the model's own); channels_last: memory layout of activations.
    The model's weights are shared, and its batch-norm statistics stay as they are.
    Raises UnsupportedError, ShapeError or PlanError.
    """
    return Step(model, graph or capture(model, example), plan, dtype, channels_last)


class Step(nn.Module):
    """The trainable module made by ``prepare``. Its parameters are the live ones only: slices, biases, classifier."""

    def __init__(self, model: nn.Module, graph: Graph, plan: UpdatePlan, dtype: torch.dtype, channels_last: bool):
        super().__init__()
        self._model = (model,)  # in a tuple, so that its parameters are not taken for ours
        self.graph = graph
        self.plan = plan
        self._dtype = dtype
        self._logits = torch.promote_types(dtype, torch.float32)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._tensors = {name: t.detach() for name, t in [*model.named_parameters(), *model.named_buffers()]}
        absent = [name for layer in graph.layers if (name := graph.weighted(layer.name).weight) not in self._tensors]
        if absent:
            raise PlanError(f"the graph was captured from another model: this one has no {absent[0]}; capture it again")
        self.memories: dict[str, Memory] = {}
        self._run_what_the_model_has()

    @property
    def model(self) -> nn.Module:
        """The user's module, whose weights are shared."""
        return self._model[0]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of a batch (n, ...)."""
        self._check(x)
        with torch.no_grad():
            self.program.refresh()
        with torch.autocast(x.device.type, enabled=False):
            if not torch.is_grad_enabled() or not self.live:
                with torch.no_grad():
                    return self.program.forward(x).to(self._logits)
            return StepFunction.apply(self.program, x, *self.live.values()).to(self._logits)

    def _check(self, x: Tensor) -> None:
        expected = self.graph.input.shape[1:]
        if x.is_floating_point() and not self.graph.input.is_float:
            raise ShapeError(f"{self.graph.model} was captured for integer token ids, got {x.dtype}; give ids")
        if tuple(x.shape[1:]) != expected:
            shape = "x".join(map(str, expected))
            raise ShapeError(
                f"{self.graph.model} was captured for inputs (n, {shape}), got {tuple(x.shape)}; resize or capture again"
            )

    def train(self, mode: bool = True) -> "Step":
        """Turn dropout on or off; batch norm is frozen either way."""
        super().train(mode)
        for weights in self._weights.values():
            weights.training = mode
        return self

    def replan(
        self,
        plan: UpdatePlan,
        optimizer: torch.optim.Optimizer | None = None,
        state: Literal["reset", "keep"] = "reset",
    ) -> None:
        """Commit what was trained, then train what ``plan`` names.

        optimizer: its parameters are exchanged for the new ones. state: "reset" drops the optimiser state of re-drawn
        slices, "keep" carries it over for every channel that is trained before and after. Biases and classifier keep
        theirs. Raises PlanError and changes nothing if the plan does not fit the network.
        """
        old, old_sets = dict(self.live), {name: w.slice.chosen for name, w in self._live_weights.items()}
        check_plan(self.graph, plan)
        self.sync()
        self._build(plan)
        if optimizer is not None:
            new_sets = {name: w.slice.chosen for name, w in self._live_weights.items()}
            move_optimizer(optimizer, old, self.live, old_sets, new_sets, keep=state == "keep")

    @torch.no_grad()
    def sync(self) -> nn.Module:
        """Write the live parameters into the user's module and return it."""
        self.program.refresh()
        for live in self.program.live:
            live.commit()
        return self.model

    def restore(self) -> nn.Module:
        """Give the user's module back: bit for bit as it was, apart from the trained entries."""
        model = self.sync()
        self._build(UpdatePlan(classifier=False))
        return model

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """The state is that of the user's module under its own names, with what was trained so far."""
        state = self.sync().state_dict(keep_vars=keep_vars)
        destination.update({f"{prefix}{name}": tensor for name, tensor in state.items()})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Into the user's module; the live parameters are made anew, so no optimiser may hold the old ones yet."""
        _, _, missing_keys, unexpected_keys, _ = rest
        own = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
        found = self.model.load_state_dict(own, strict=False)
        missing_keys += [f"{prefix}{name}" for name in found.missing_keys]
        unexpected_keys += [f"{prefix}{name}" for name in found.unexpected_keys]
        self._run_what_the_model_has()

    def _run_what_the_model_has(self) -> None:
        self._weights = {node.name: self._running_weights(node.op) for node in self.graph.nodes}
        for name, value in constants(self.graph, self._tensors).items():
            self._weights[name].weight = self._cast(value)
        self.live: dict[str, nn.Parameter] = {}
        self._live_weights: dict[str, LiveWeight] = {}
        self._build(self.plan)
        self.train(self.training)

    def beside(self, plan: UpdatePlan) -> "Step":
        """Another trainable module on the same model in its present state, in the same arithmetic."""
        return Step(self.sync(), self.graph, plan, self._dtype, self._layout is torch.channels_last)

    @torch.no_grad()
    def look_at_inputs(self, x: Tensor, layers: Sequence[str], look: Callable[[str, Tensor], None]) -> None:
        """Run a batch forward and show ``look`` the name and the whole input of each of ``layers``."""
        nodes = {self.graph.find_layer(name).node: name for name in layers}
        self._check(x)
        self.program.refresh()
        self.program.forward(x, lambda node, value: look(nodes[node.name], value) if node.name in nodes else None)

    def channel_norms(self) -> dict[str, Tensor]:
        """L2 norm of each trained channel's gradient, (k,) by layer: n_c of TraDy Eq. 6, from the live gradients."""
        return {name: gradient.flatten(1).norm(dim=1) for name, gradient in self.gradients().items()}

    def gradients(self) -> dict[str, Tensor]:
        """The live gradients of trained slices, channel-major (k, ...), by layer, the classifier's not among them."""
        return {
            name: weight.parameter.grad
            for name, weight in self._live_weights.items()
            if weight.parameter.grad is not None and name != self.graph.classifier
        }

    def _running_weights(self, op: ops.Op) -> Weights:
        weight = bias = None
        if isinstance(op, ops.Conv2d | ops.Linear):
            weight, bias = folded(op, self._tensors)
        elif isinstance(op, ops.BatchNorm):
            weight, bias = norm_scale(op.norm, self._tensors), norm_shift(op.norm, self._tensors)
        elif isinstance(op, ops.LayerNorm):
            weight, bias = (None if name is None else self._tensors[name] for name in (op.weight, op.bias))
        return Weights(self._cast(weight), self._cast(bias), False, self._layout, dtype=self._dtype)

    def _cast(self, tensor: Tensor | None) -> Tensor | None:
        return tensor if tensor is None or not tensor.is_floating_point() else self._converted(tensor)

    def _converted(self, tensor: Tensor) -> Tensor:
        """In the number format and memory layout that the program runs in."""
        layout = self._layout if tensor.dim() == 4 else torch.contiguous_format
        return tensor.to(self._dtype).contiguous(memory_format=layout)

    def _build(self, plan: UpdatePlan) -> None:
        step_graph = StepGraph.of(self.graph, plan)
        self.plan = plan
        chosen = {one.layer: one for one in plan.channels}
        biases = {step.node.layer for step in step_graph.steps if step.bias}
        classifier = whole_classifier(self.graph, plan)
        if classifier is not None:
            chosen[classifier.layer] = classifier
        self._own_what_is_trained(set(chosen), biases)
        old_live, old_weights = self.live, self._live_weights
        self.live = {}
        self._live_weights = {
            layer.name: self._live_weight(layer.name, chosen[layer.name], old_weights)
            for layer in self.graph.layers
            if layer.name in chosen
        }
        live_biases = {
            layer.name: self._live_bias(layer.name, old_live) for layer in self.graph.layers if layer.name in biases
        }
        self._register()
        self.memories = {name: self._memory(name, way) for name, way in ways_of(plan.keeps).items()}
        self._forget_channels(old_weights)
        places = {name: place for place, name in enumerate(self.live)}
        self.program = Program(
            step_graph, self._weights, self._live_weights, live_biases, places, self.memories, self._converted
        )

    def _memory(self, layer: str, way: Way) -> Memory:
        """What the layer's way of keeping remembers, unless it is kept another way from now on."""
        memory = self.memories.get(layer)
        return memory if memory and memory.way == way else Memory(way)

    def _forget_channels(self, before: dict[str, LiveWeight]) -> None:
        """Layers that train other channels than before have factors of other channels."""
        for name, memory in self.memories.items():
            old, new = before.get(name), self._live_weights.get(name)
            if (old and old.slice.chosen) != (new and new.slice.chosen):
                memory.redrawn(modes_of(self.graph, self.graph.layer[name]).channel_axis)

    def _own_what_is_trained(self, weights: set[str], biases: set[str]) -> None:
        """Trained slices are written into copies that run, never into the user's tensors; the others need no copy."""
        for layer in self.graph.layers:
            op, running = self.graph.weighted(layer.name), self._weights[layer.node]
            if op.norm is None:
                running.weight = self._owned(self._tensors[op.weight], running.weight, layer.name in weights)
            if op.norm is None and op.bias is not None:
                running.bias = self._owned(self._tensors[op.bias], running.bias, layer.name in biases)

    def _owned(self, base: Tensor, running: Tensor | None, trained: bool) -> Tensor:
        assert running is not None  # A layer has the tensors that its operation names.
        shared = running.data_ptr() == base.data_ptr()
        if trained:
            return running.clone() if shared else running
        layout = self._layout if base.dim() == 4 else torch.contiguous_format
        as_it_is = base.dtype == self._dtype and base.is_contiguous(memory_format=layout)
        return base if as_it_is else running

    def _live_weight(self, name: str, chosen: ChannelSet, old: dict[str, LiveWeight]) -> LiveWeight:
        if name in old and old[name].slice.chosen == chosen:
            self.live[f"{name}.weight"] = old[name].parameter
            return old[name]
        op, running = self.graph.weighted(name), self._weights[self.graph.layer[name].node].weight
        assert running is not None  # a layer has a weight
        base = self._tensors[op.weight]
        piece = Slice.of(op, chosen, self._tensors)
        scale = None if op.norm is None else piece.scale(norm_scale(op.norm, self._tensors), base)
        parameter = nn.Parameter(piece.cut(base))
        self.live[f"{name}.weight"] = parameter
        return LiveWeight(piece, parameter, base, running, scale)

    def _live_bias(self, name: str, old: dict[str, nn.Parameter]) -> LiveBias:
        op, running = self.graph.weighted(name), self._weights[self.graph.layer[name].node].bias
        trained = bias_name(op)
        assert running is not None  # check_plan has seen that there is a bias
        assert trained is not None
        base = self._tensors[trained]
        parameter = old.get(f"{name}.bias")
        if parameter is None:
            parameter = nn.Parameter(base.clone())
        self.live[f"{name}.bias"] = parameter
        if op.norm is None:
            return LiveBias(parameter, base, running, None, None)
        if op.norm.bias is None:
            shift, scale = norm_shift(op.norm, self._tensors), norm_scale(op.norm, self._tensors)
            return LiveBias(parameter, base, running, shift, scale)
        return LiveBias(parameter, base, running, bias_offset(op, self._tensors), None)

    def _register(self) -> None:
        """Make the live parameters, and only them, this module's parameters."""
        self._parameters.clear()
        for name, parameter in self.live.items():
            self.register_parameter(name.replace(".", "/"), parameter)
