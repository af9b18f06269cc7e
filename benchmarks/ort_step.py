"""A training step of ONNX Runtime, for ``c_step.py``: the network with batch norm folded, as an ONNX model with a gradient."""

import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from kilotune.codegen.values import Values
from kilotune.graph import node as ops
from kilotune.graph.node import Node

OPSET = 17


def missing() -> str | None:
    """Why ONNX Runtime cannot be measured, None if it can."""
    names = ("onnx", "onnxruntime")
    absent = [name for name in names if find_spec(name) is None]
    if absent:
        return (
            f"no {' and no '.join(absent)}; measured where onnxruntime-training==1.19.2 and onnx==1.16.2 are importable"
        )
    return None


def steps(
    values: Values, trained: set[str], x: np.ndarray, rate: float, threads: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """A training step with the weights and biases of the nodes ``trained``, and a forward pass."""
    import onnxruntime
    from onnxruntime.training import artifacts
    from onnxruntime.training.api import CheckpointState, Module, Optimizer

    model = as_onnx(values, x.shape)
    names = [item.name for item in model.graph.initializer]
    learned = [name for name in names if name.rpartition(".")[0] in trained]
    with tempfile.TemporaryDirectory() as folder:
        artifacts.generate_artifacts(
            model,
            requires_grad=learned,
            frozen_params=[name for name in names if name not in learned],
            loss=artifacts.LossType.CrossEntropyLoss,
            optimizer=artifacts.OptimType.SGD,
            artifact_directory=folder,
        )
        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        at = Path(folder)
        state = CheckpointState.load_checkpoint(at / "checkpoint")
        module = Module(at / "training_model.onnx", state, at / "eval_model.onnx", session_options=options)
        optimizer = Optimizer(at / "optimizer_model.onnx", module)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    optimizer.set_learning_rate(rate)
    label = np.array([1], np.int64)
    module.train()

    def step() -> None:
        module(x, label)
        optimizer.step()
        module.lazy_reset_grad()

    return step, lambda: session.run(None, {"input": x})


def as_onnx(values: Values, shape: tuple[int, ...]) -> Any:
    """The network as an ONNX model; initializers are called NODE.weight and NODE.bias."""
    from onnx import TensorProto, helper, numpy_helper

    graph = values.graph
    arrays = {
        f"{name}.{kind}": array
        for name, folded in values.folded.items()
        for kind, array in (("weight", folded.weight), ("bias", folded.bias))
    }
    arrays |= {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    nodes = [made for node in graph.nodes for made in _translated(node)]
    output = helper.make_tensor_value_info(graph.output, TensorProto.FLOAT, [1, values.elements(graph.output)])
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, list(shape))
    first = helper.make_node("Identity", ["input"], [graph.nodes[0].name])
    made = helper.make_graph(
        [first, *nodes], "net", [source], [output], [numpy_helper.from_array(a, name) for name, a in arrays.items()]
    )
    return helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", OPSET)])


def _translated(node: Node) -> Iterator[Any]:
    from onnx import helper

    op, inputs = node.op, list(node.inputs)
    weights = [f"{node.name}.weight", f"{node.name}.bias"]
    if isinstance(op, ops.Conv2d):
        top, bottom, left, right = op.padding
        attributes = {"strides": op.stride, "pads": (top, left, bottom, right), "group": op.groups}
        yield helper.make_node("Conv", inputs + weights, [node.name], kernel_shape=op.weight_shape[2:], **attributes)
    elif isinstance(op, ops.Linear):
        yield helper.make_node("Gemm", inputs + weights, [node.name], transB=1)
    elif isinstance(op, ops.Activation):
        assert op.function == "relu6"
        yield helper.make_node("Clip", [*inputs, "zero", "six"], [node.name])
    elif isinstance(op, ops.Add):
        yield helper.make_node("Add", inputs, [node.name])
    elif isinstance(op, ops.Reshape):
        yield helper.make_node("Flatten", inputs, [node.name])
    elif isinstance(op, ops.Mean):
        yield helper.make_node("ReduceMean", inputs, [node.name], axes=[2, 3], keepdims=int(op.keep))
    elif isinstance(op, ops.AdaptiveAvgPool):
        yield helper.make_node("GlobalAveragePool", inputs, [node.name])
    else:
        assert isinstance(op, ops.Input), node
