"""``kilotune inspect``: what a network consists of."""

from typing import Any

import typer

from kilotune.cli import options
from kilotune.cli.output import emit

# Attribute of a layer, which is also its key in JSON -> heading.
COLUMNS = {
    "name": "layer",
    "kind": "kind",
    "in_channels": "in",
    "out_channels": "out",
    "kernel": "kernel",
    "stride": "stride",
    "groups": "groups",
    "input_hw": "input",
    "output_hw": "output",
    "weight_elements": "weights",
    "input_elements": "inputs",
    "channel_cost_elements": "per channel",
    "macs": "MACs",
}


def inspect(
    model: options.Model,
    weights: options.Weights = None,
    input: options.Input = None,
    classes: options.Classes = None,
    as_json: options.AsJson = False,
) -> None:
    """Layers of a network, their shapes, elements and MACs, and what is unsupported.

    "weights" and "inputs" are elements at batch 1, "per channel" is what training one input channel adds to the
    selection ledger (C_W + C_A). A network with unsupported operations is listed with exit code 1.
    """
    from kilotune.cli.network import Network
    from kilotune.errors import UnsupportedError

    network = Network.load(model, weights, classes)
    shape = input or (3, network.side, network.side)
    facts: dict[str, Any] = {"model": model, "input": shape}
    try:
        graph = network.capture(shape)
    except UnsupportedError as error:
        problems = [line.strip() for line in str(error).splitlines()[1:]]
        nothing = {"layers": [], "selection_total_elements": None, "macs": None, "unsupported": problems}
        if as_json:
            emit(facts | nothing, as_json, str)
            raise typer.Exit(1) from error
        raise
    layers = [{column: getattr(layer, column) for column in COLUMNS} for layer in graph.layers]
    totals = {
        "classifier": graph.classifier,
        "weight_elements": sum(layer.weight_elements for layer in graph.layers),
        "input_elements": sum(layer.input_elements for layer in graph.layers),
        "selection_total_elements": graph.selection_total_elements,
        "macs": graph.macs,
    }
    result = facts | {"layers": layers} | totals | {"unsupported": []}
    emit(result, as_json, lambda: _text(result))


def _text(result: dict[str, Any]) -> str:
    from kilotune.cli.network import shape_text
    from kilotune.report.table import text_table
    from kilotune.units import DTYPE_BYTES, format_bytes

    rows = [
        [shape_text(value) if isinstance(value, tuple) else value for value in layer.values()]
        for layer in result["layers"]
    ]
    nbytes = DTYPE_BYTES["float32"]
    totals = [
        ("weights", result["weight_elements"]),
        ("inputs of all layers", result["input_elements"]),
        ("selection ledger of everything but the classifier", result["selection_total_elements"]),
    ]
    lines = [f"{what}: {n:,} elements, {format_bytes(n * nbytes)}" for what, n in totals]
    title = f"{result['model']} at {shape_text(result['input'])}, {len(rows)} layers, {result['macs']:,} MACs"
    return "\n".join(
        [title, "", text_table(list(COLUMNS.values()), rows, n_left=2), "", *lines, "unsupported operations: none"]
    )
