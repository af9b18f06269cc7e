from itertools import pairwise

import numpy as np
import pytest
import torch

from kilotune.errors import WeightsError
from kilotune.models import create
from kilotune.models.entry import read_entries, to_state_dict
from kilotune.models.inverted import Block


def test_derived_expansions_and_shortcuts_are_those_of_the_file(data_root):
    """Our tables leave out what follows from the channels; the file says it explicitly."""
    for entry in read_entries(data_root / "weights" / "models.json").values():
        channels = [entry.stem.out, *(block.out for block in entry.blocks)]
        for (c, _), block in zip(pairwise(channels), entry.blocks, strict=True):
            ours = Block(block.k, block.s, block.mid, block.out)
            assert (ours.expands(c), ours.is_residual(c)) == (block.expand, block.residual)
        assert (entry.stem.k, entry.stem.s) == (3, 2)


def test_dequantisation_is_exact_integer_arithmetic(data_root):
    entry = read_entries(data_root / "weights" / "models.json")["mcunet_5fps_int8"]
    generator = torch.Generator().manual_seed(0)
    tensors = _random_int8_tensors(entry, generator)
    state = to_state_dict(entry, tensors, create("mcunet_in1", folded=True))
    name, ours = "blocks.3.dw", "blocks.3.mobile_inverted_conv.depth_conv.conv"
    scale = tensors[f"{name}.weight_scale"].numpy()
    weight = tensors[f"{name}.weight"].numpy() * scale.reshape(-1, 1, 1, 1)
    bias = tensors[f"{name}.bias"].numpy() * (scale.astype(np.float64) * entry.quant[name].x[0])
    assert np.array_equal(state[f"{ours}.weight"].numpy(), weight)
    assert np.array_equal(state[f"{ours}.bias"].numpy(), bias.astype(np.float32))
    assert state["classifier.linear.weight"].shape == (1000, 160)


def test_a_missing_tensor_is_named(data_root):
    entry = read_entries(data_root / "weights" / "models.json")["mcunet_in2"]
    with pytest.raises(WeightsError, match=r"mcunet_in2\.safetensors lacks 'stem\.conv\.weight'"):
        to_state_dict(entry, {}, create("mcunet_in2"))


@pytest.mark.parametrize("text", ["[]", "{", '{"a": {"file": "x"}}', '{"a": 1}'])
def test_a_foreign_models_json_is_refused(tmp_path, text):
    path = tmp_path / "models.json"
    path.write_text(text)
    with pytest.raises(WeightsError, match="does not describe pretrained networks"):
        read_entries(path)


def _random_int8_tensors(entry, generator):
    tensors = {}
    shapes = [(entry.stem.out, 3, 3, 3)]
    c = entry.stem.out
    for block in entry.blocks:
        shapes += [(block.mid, c, 1, 1)] * block.expand
        shapes += [(block.mid, 1, block.k, block.k), (block.out, block.mid, 1, 1)]
        c = block.out
    for name, shape in zip([*entry.convolutions, "classifier"], [*shapes, (entry.classes, c, 1, 1)], strict=True):
        tensors[f"{name}.weight"] = torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8)
        tensors[f"{name}.weight_scale"] = torch.rand(shape[0], generator=generator)
        tensors[f"{name}.bias"] = torch.randint(-(2**30), 2**30, shape[:1], generator=generator, dtype=torch.int32)
    return tensors
