import pytest
import torch

from kilotune.data.augment import Augment
from kilotune.data.digits import SIDE, read_digits, read_digits_shifted
from kilotune.models.digitnet import ARCHITECTURE, CHECKPOINT, checkpoint_facts, digitnet, pretrained_digitnet

MAX_PARAMETERS, MAX_CHECKPOINT_BYTES = 60_000, 300_000
# Accuracy is counted in whole images of 399; another processor may round one or two of them to the other side.
ACCURACY_TOLERANCE = 2 / 399


def _accuracy(split):
    with torch.no_grad():
        logits = pretrained_digitnet()(Augment(SIDE, "none").evaluate(split.images))
    return (logits.argmax(1) == split.labels).float().mean().item()


def test_it_is_small():
    assert sum(parameter.numel() for parameter in digitnet().parameters()) <= MAX_PARAMETERS
    assert len(CHECKPOINT.read_bytes()) <= MAX_CHECKPOINT_BYTES


def test_another_number_of_classes():
    model = digitnet(3)
    assert model.architecture == ARCHITECTURE
    assert model(torch.zeros(2, 3, SIDE, SIDE)).shape == (2, 3)


def test_the_checkpoint_is_as_accurate_as_it_says():
    pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra 'demo'")
    stated = float(checkpoint_facts()["accuracy_test"])
    assert stated > 0.97
    assert _accuracy(read_digits().test) == pytest.approx(stated, abs=ACCURACY_TOLERANCE)


def test_the_shift_hurts_but_leaves_something_to_build_on():
    pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra 'demo'")
    assert 0.3 < _accuracy(read_digits_shifted().test) < 0.6


def test_the_weights_are_in_evaluation_mode_and_finite():
    model = pretrained_digitnet()
    assert not model.training
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
