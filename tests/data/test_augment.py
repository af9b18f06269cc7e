import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kilotune.data.augment import AUGMENTATIONS, Augment, crop_boxes, resample
from kilotune.data.images import generator
from kilotune.errors import DataError

# Values of 0..255 through two float32 products with weights that sum to 1: a few units in the last place of 255.
CLOSE = {"rtol": 0, "atol": 255 * 2**-20}
NORMALISED_CLOSE = {"rtol": 0, "atol": 2 * 2**-20}


def images_of(n, h, w, c=3, seed=0):
    return torch.randint(0, 256, (n, c, h, w), dtype=torch.uint8, generator=generator(seed, 0))


@st.composite
def boxed_images(draw):
    h, w = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    boxes = []
    for _ in range(draw(st.integers(1, 3))):
        height, width = draw(st.integers(1, h)), draw(st.integers(1, w))
        boxes.append([draw(st.integers(0, h - height)), draw(st.integers(0, w - width)), height, width])
    flipped = draw(st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes)))
    return images_of(len(boxes), h, w, draw(st.sampled_from([1, 3]))), torch.tensor(boxes), torch.tensor(flipped)


@given(boxed_images(), st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=80, deadline=None)
def test_resample_equals_one_image_at_a_time(drawn, out_h, out_w):
    images, boxes, flipped = drawn
    found = resample(images, boxes, flipped, (out_h, out_w))
    for image, (top, left, height, width), flip, result in zip(images, boxes.tolist(), flipped, found, strict=True):
        for channel, plane in zip(image.float(), result, strict=True):
            cut = Image.fromarray(channel.numpy()).crop((left, top, left + width, top + height))
            expected = torch.tensor(np.asarray(cut.resize((out_w, out_h), Image.Resampling.BILINEAR)))
            torch.testing.assert_close(plane, expected.flip(1) if flip else expected, **CLOSE)


@pytest.mark.parametrize("size", [20, 32, 77, (24, 40)])
def test_evaluate_equals_the_resize_of_torch(size):
    images = images_of(3, 32, 48)
    augment = Augment(size, mean=(0.0,), std=(1 / 255,))
    expected = F.interpolate(images.float(), augment.hw, mode="bilinear", antialias=True)
    torch.testing.assert_close(augment.evaluate(images), expected, **CLOSE)


@pytest.mark.parametrize("size", [20, 32, 45, (24, 40)])
def test_crop_of_everything_is_the_plain_resize(size):
    images = images_of(5, 32, 32)
    augment = Augment(size, crop_scale=(1, 1), ratio=(1, 1), flip=0)
    torch.testing.assert_close(augment.train(images, generator(0, 0)), augment.evaluate(images), **NORMALISED_CLOSE)


def test_certain_flip_mirrors_every_image():
    images = images_of(5, 32, 32)
    augment = Augment(32, crop_scale=(1, 1), ratio=(1, 1), flip=1)
    mirrored = augment.evaluate(images.flip(3))
    torch.testing.assert_close(augment.train(images, generator(0, 0)), mirrored, **NORMALISED_CLOSE)


def test_flips_come_with_the_probability_asked_for():
    images = torch.zeros(2000, 1, 1, 2, dtype=torch.uint8)
    images[..., 1] = 255
    augment = Augment((1, 2), "shift", padding=0, flip=0.3)
    share = (augment.train(images, generator(0, 0))[:, 0, 0, 0] > 0).float().mean()
    # 4 standard errors of a share of 0.3 among 2000
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 2000) ** 0.5


@pytest.mark.parametrize("kind", list(AUGMENTATIONS))
@pytest.mark.parametrize("size", [24, 48])
def test_output_is_decided_by_the_generator_and_stays_in_range(kind, size):
    images = images_of(16, 32, 32)
    before = images.clone()
    augment = Augment(size, kind)
    first, again, other = (augment.train(images, generator(seed, 0)) for seed in (1, 1, 2))
    assert first.shape == (16, 3, size, size)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (kind == "none")
    assert first.abs().max() <= 1 + 1e-5
    assert torch.equal(images, before)


def test_shift_moves_whole_pixels_and_fills_with_black():
    n, side, pad = 40, 16, 2
    images = images_of(n, side, side).clamp(min=1)
    found = Augment(side, "shift", mean=(0.0,), std=(1.0,)).train(images, generator(3, 0)) * 255
    padded = F.pad(images, (pad,) * 4).float()
    seen = set()
    for image, result in zip(padded, found, strict=True):
        matches = [
            (top, left, flip)
            for top in range(2 * pad + 1)
            for left in range(2 * pad + 1)
            for flip in (False, True)
            if torch.allclose(shifted(image, top, left, side, flip), result, rtol=0, atol=1e-3)
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert {flip for _, _, flip in seen} == {False, True}
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(2 * pad + 1))


def shifted(padded, top, left, side, flip):
    cut = padded[:, top : top + side, left : left + side]
    return cut.flip(2) if flip else cut


def test_evaluate_of_the_right_size_only_normalises():
    images = images_of(2, 8, 8)
    augment = Augment(8, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616))
    mean, std = torch.tensor(augment.mean).view(3, 1, 1), torch.tensor(augment.std).view(3, 1, 1)
    assert torch.equal(augment.evaluate(images), (images.float() / 255 - mean) / std)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([(0.08, 1.0), (0.5, 0.6), (1.0, 1.0)]),
    st.sampled_from([(3 / 4, 4 / 3), (1.0, 1.0), (2.0, 3.0)]),
    st.integers(0, 1000),
)
@settings(deadline=None)
def test_crop_boxes_lie_inside(h, w, crop_scale, ratio, seed):
    boxes = crop_boxes(50, torch.Size((h, w)), crop_scale, ratio, generator(seed, 0))
    top, left, height, width = boxes.unbind(1)
    assert (boxes >= 0).all()
    assert (height >= 1).all()
    assert (width >= 1).all()
    assert (top + height <= h).all()
    assert (left + width <= w).all()


def test_crop_boxes_have_the_distribution_asked_for():
    boxes = crop_boxes(20000, torch.Size((1000, 1000)), (0.08, 0.5), (3 / 4, 4 / 3), generator(0, 0)).double()
    top, left, height, width = boxes.unbind(1)
    area, log_aspect = height * width / 1e6, (width / height).log()
    # All of these fit at the first attempt, so area and log aspect are uniform; 4 standard errors of a mean of 20000.
    assert abs(area.mean() - 0.29) < 4 * 0.42 / 12**0.5 / 20000**0.5
    assert abs(log_aspect.mean()) < 4 * 2 * np.log(4 / 3) / 12**0.5 / 20000**0.5
    assert 0.0795 < area.min() < 0.082
    assert 0.498 < area.max() < 0.5005
    for place, room in ((top, 1000 - height), (left, 1000 - width)):
        assert abs((place / room).mean() - 0.5) < 4 / 12**0.5 / 20000**0.5


def test_no_attempt_fits_then_the_central_box_is_taken():
    boxes = crop_boxes(3, torch.Size((10, 100)), (1.0, 1.0), (3 / 4, 4 / 3), generator(0, 0))
    assert boxes.tolist() == [[0, 43, 10, 13]] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "mixup"}, "'mixup' is unknown; choose crop, shift, none"),
        ({"size": 0}, "size and std must be positive"),
        ({"std": (0.5, 0.0, 0.5)}, "size and std must be positive"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale"),
        ({"ratio": (2.0, 1.0)}, "ratio"),
        ({"padding": 1.0}, "padding"),
        ({"flip": 1.1}, "flip"),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        Augment(**({"size": 32} | arguments))


def test_float_images_are_refused():
    with pytest.raises(DataError, match=r"must be uint8.*float32"):
        Augment(8).evaluate(torch.zeros(1, 3, 8, 8))
    with pytest.raises(DataError, match=r"must be uint8.*float32"):
        Augment(8).train(torch.zeros(1, 3, 8, 8), generator(0, 0))
