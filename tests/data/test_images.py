import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kilotune.data.images import Dataset, Split, balanced, generator, split_by_seed
from kilotune.errors import DataError

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(torch.tensor)


def split_of(labels, side=2):
    images = torch.arange(len(labels)).remainder(256).to(torch.uint8).view(-1, 1, 1, 1)
    return Split(images.expand(-1, 3, side, side).contiguous(), torch.as_tensor(labels))


@given(LABELS, st.integers(1, 70), st.integers(0, 2**40))
def test_balanced_takes_from_every_class_in_turn(labels, n, seed):
    chosen = balanced(labels, n, seed)
    assert len(set(chosen.tolist())) == len(chosen) == min(n, len(labels))
    available = labels.bincount(minlength=5)
    taken = labels[chosen].bincount(minlength=5)
    for c in range(5):
        assert taken[c] == available[c] or taken[c] >= taken.max() - 1
    assert torch.equal(chosen, balanced(labels, n, seed))


def test_every_prefix_of_a_subset_is_balanced():
    labels = torch.arange(1000) % 10
    assert labels[balanced(labels, 500, 3)[:70]].bincount().tolist() == [7] * 10


def test_balanced_takes_others_for_another_seed():
    labels = torch.arange(1000) % 10
    assert not torch.equal(balanced(labels, 100, 0), balanced(labels, 100, 1))


@given(st.lists(st.integers(2, 30), min_size=2, max_size=5), st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 99))
def test_split_by_seed_partitions_every_class(counts, share, seed):
    labels = torch.tensor([c for c, n in enumerate(counts) for _ in range(n)])
    train, test = split_by_seed(labels, share, seed)
    assert sorted(train.tolist() + test.tolist()) == list(range(len(labels)))
    for c, n in enumerate(counts):
        assert (labels[test] == c).sum() == max(1, round(n * share))
    assert torch.equal(test, split_by_seed(labels, share, seed)[1])


def test_take_keeps_image_and_label_together():
    labels = torch.arange(200) % 7
    taken = split_of(labels).take(50, seed=1)
    assert len(taken) == 50
    assert torch.equal(taken.images[:, 0, 0, 0].long() % 7, taken.labels)


@pytest.mark.parametrize("n", [0, -3])
def test_take_nothing_is_an_error(n):
    with pytest.raises(DataError, match=f"asked for {n} images"):
        split_of([0, 1]).take(n, seed=0)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(0, 3, 4, 4, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2)),
    ],
)
def test_split_refuses_what_it_cannot_hold(images, labels):
    with pytest.raises(DataError, match="must be"):
        Split(images, labels)


def test_dataset_refuses_labels_without_class():
    with pytest.raises(DataError, match=r"test labels run from 0 to 2.*there are 2 classes"):
        Dataset("toy", split_of([0, 1]), split_of([0, 2]), ("a", "b"))


def test_dataset_refuses_splits_of_different_shape():
    with pytest.raises(DataError, match=r"val images are \(3, 5, 5\)"):
        Dataset("toy", split_of([0, 1]), split_of([0, 1]), ("a", "b"), val=split_of([0], side=5))


def test_generators_of_near_seeds_and_streams_differ():
    draws = {torch.rand(4, generator=generator(seed, stream)) for seed in range(8) for stream in range(8)}
    assert len({tuple(draw.tolist()) for draw in draws}) == 64
    assert torch.equal(torch.rand(9, generator=generator(5, 7)), torch.rand(9, generator=generator(5, 7)))
