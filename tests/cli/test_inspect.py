import pytest

from kilotune.graph.capture import capture
from kilotune.models import create

KEYS = {"model", "input", "layers", "selection_total_elements", "macs", "unsupported"}
LAYER_KEYS = {
    "name", "kind", "in_channels", "out_channels", "kernel", "stride", "groups", "input_hw", "output_hw",
    "weight_elements", "input_elements", "channel_cost_elements",
}  # fmt: skip


def test_json_has_the_attributes_of_the_layers(kilotune, folder):
    import torch

    result = kilotune("inspect", "cli_network:make", "--input", "1x8x8", "--classes", "5", "--json").json
    assert result.keys() >= KEYS
    graph = capture(create("cli_network:make", 5), torch.zeros(1, 1, 8, 8))
    assert (result["model"], result["input"], result["unsupported"]) == ("cli_network:make", [1, 8, 8], [])
    assert result["selection_total_elements"] == graph.selection_total_elements
    assert result["macs"] == graph.macs
    for shown, layer in zip(result["layers"], graph.layers, strict=True):
        assert shown.keys() >= LAYER_KEYS
        for key, value in shown.items():
            attribute = getattr(layer, key)
            assert value == (list(attribute) if isinstance(attribute, tuple) else attribute)


def test_text_has_a_row_for_each_layer_and_the_totals_in_both_units(kilotune, folder):
    text = kilotune("inspect", "cli_network:make", "--input", "1x8x8").stdout
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line[:1].isdigit()}
    assert rows.keys() == {"0", "3", "7"}
    assert rows["3"][1:9] == ["conv2d", "6", "12", "3x3", "2x2", "1", "8x8", "3x3"]
    # Weights 6*9 + 6*12*9 = 702 and inputs 64 + 6*64 = 448 of the two convolutions.
    assert "1,150 elements, 4,600 B (4.5 KiB)" in text


@pytest.mark.parametrize("as_json", [True, False])
def test_everything_unsupported_is_listed_at_once(kilotune, folder, as_json):
    called = kilotune("inspect", "cli_network:Odd", "--input", "1x8x8", *["--json"] * as_json)
    assert called.code == 1
    told = "\n".join(called.json["unsupported"]) if as_json else called.stderr
    assert "erfinv" in told
    assert "cli_network.py:" in told
    if as_json:
        assert called.json.keys() >= KEYS
    else:
        assert called.stdout == ""


def test_mcunet_reproduces_the_published_total(kilotune):
    # papers_compression_selection.md, section 2.5: 1,309,808 elements for MCUNet-in1 at 128x128.
    result = kilotune("inspect", "mcunet_in1", "--input", "3x128x128", "--json").json
    assert result["selection_total_elements"] == 1_309_808
