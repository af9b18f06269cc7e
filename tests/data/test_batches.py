import pytest
import torch

from kilotune.data.augment import Augment
from kilotune.data.batches import Batches
from kilotune.data.images import Split
from kilotune.errors import DataError


def numbered(n):
    """Image i is the grey value i, its label i % 3."""
    images = torch.arange(n, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
    return Split(images, torch.arange(n) % 3)


IDENTITY = Augment(4, "none", mean=(0.0,), std=(1.0,))


def numbers(epoch):
    return [(pixels[:, 0, 0, 0] * 255).round().long().tolist() for pixels, _ in epoch]


def equal(first, second):
    pairs = list(zip(first, second, strict=True))
    return bool(pairs) and all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)


def test_training_epoch_is_a_shuffle_without_the_incomplete_batch():
    batches = Batches(numbered(23), 5, IDENTITY)
    drawn = numbers(batches.epoch(0))
    assert len(batches) == len(drawn) == 4
    flat = [number for batch in drawn for number in batch]
    assert len(set(flat)) == 20
    assert flat != sorted(flat)


def test_labels_belong_to_their_images():
    for pixels, labels in Batches(numbered(23), 5, IDENTITY).epoch(2):
        assert torch.equal((pixels[:, 0, 0, 0] * 255).round().long() % 3, labels)


def test_texts_come_as_they_are():
    split = Split(torch.arange(23 * 4).view(23, 4), torch.arange(23))
    for ids, labels in Batches(split, 5, None).epoch(1):
        assert ids.dtype == torch.int64
        assert torch.equal(ids[:, 0], 4 * labels)
    assert len(list(Batches(split, 5, None, shuffle=False))) == 5


def test_evaluation_visits_every_image_once_in_order():
    batches = Batches(numbered(23), 5, Augment(4, mean=(0.0,), std=(1.0,)), shuffle=False)
    assert len(batches) == 5
    assert [number for batch in numbers(batches.epoch(0)) for number in batch] == list(range(23))
    assert equal(batches.epoch(0), batches.epoch(1))


@pytest.mark.parametrize("kind", ["crop", "shift"])
def test_an_epoch_depends_on_seed_and_number_alone(kind):
    augment = Augment(6, kind)
    batches = Batches(numbered(40), 8, augment, seed=3)
    for _ in range(3):
        list(batches)
    resumed = Batches(numbered(40), 8, augment, seed=3)
    resumed.next_epoch = 3
    assert equal(batches, resumed)
    assert equal(batches.epoch(7), resumed.epoch(7))
    assert not equal(batches.epoch(7), batches.epoch(8))
    assert not equal(batches.epoch(7), Batches(numbered(40), 8, augment, seed=4).epoch(7))


def test_iterating_goes_on_with_the_next_epoch():
    batches = Batches(numbered(40), 8, IDENTITY)
    assert [numbers(batches) for _ in range(3)] == [numbers(batches.epoch(number)) for number in range(3)]


def test_fewer_images_than_a_batch_are_one_batch():
    batches = Batches(numbered(5), 32, IDENTITY)
    assert len(batches) == 1
    assert sorted(numbers(batches)[0]) == [0, 1, 2, 3, 4]


def test_batch_size_below_one():
    with pytest.raises(DataError, match="batch size 0 is impossible"):
        Batches(numbered(5), 0, IDENTITY)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["crop", "shift", "none"])
def test_gpu_gets_the_batches_of_the_cpu(kind):
    augment = Augment(6, kind)
    on_gpu, on_cpu = (Batches(numbered(40), 8, augment, device, seed=3) for device in ("cuda", "cpu"))
    for (pixels, labels), (expected, expected_labels) in zip(on_gpu.epoch(1), on_cpu.epoch(1), strict=True):
        assert pixels.is_cuda
        # another order of summation in the two products
        torch.testing.assert_close(pixels.cpu(), expected, rtol=0, atol=1e-5)
        assert torch.equal(labels.cpu(), expected_labels)
