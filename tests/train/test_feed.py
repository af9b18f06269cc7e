import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from kilotune.data.batches import Batches
from kilotune.data.images import Dataset, Split
from kilotune.errors import DataError
from kilotune.train.feed import Feed
from kilotune.train.recipe import Recipe

CPU = torch.device("cpu")
RECIPE = Recipe.of(input=[1, 4, 4], batch_size=4, accumulate=3, augment="none")


def make_split(n: int) -> Split:
    return Split((torch.arange(n * 16) % 251).to(torch.uint8).reshape(n, 1, 4, 4), torch.arange(n) % 2)


def test_every_image_of_a_split_once_per_epoch():
    split = make_split(40)
    feed = Feed.training(split, RECIPE, CPU)
    steps = list(feed.steps(0))
    assert feed.steps_per_epoch == len(steps) == 4
    assert [len(step) for step in steps] == [3, 3, 3, 1]
    seen = torch.cat([x for step in steps for x, _ in step])
    wanted = split.images.float() / 255 * 2 - 1
    seen, wanted = (torch.tensor(sorted(images.flatten(1).tolist())) for images in (seen, wanted))
    torch.testing.assert_close(seen, wanted)


def test_epochs_differ_and_repeat_by_number():
    feed = Feed.training(make_split(40), RECIPE, CPU)
    first, second, again = (torch.cat([x for x, _ in feed.batches(epoch)]) for epoch in (0, 1, 0))
    assert first.equal(again)
    assert not first.equal(second)


def test_limits():
    recipe = RECIPE.but(train_limit=8, eval_limit=6, accumulate=1)
    dataset = Dataset("d", make_split(40), make_split(20), ("a", "b"))
    assert Feed.training(dataset, recipe, CPU).steps_per_epoch == 2
    assert sum(len(y) for _, y in Feed.evaluation(dataset, recipe, CPU).batches(0)) == 6


def test_uint8_batches_are_normalised_and_float_ones_are_not():
    images = torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)
    labels = torch.tensor([0, 1], dtype=torch.int32)
    (x, y), (z, _) = Feed.evaluation([(images.numpy(), labels.numpy()), (images.float(), labels)], RECIPE, CPU).batches(
        0
    )
    assert x.unique().tolist() == [1.0]
    assert z.unique().tolist() == [255.0]
    assert y.dtype == torch.int64


def test_a_dataloader_and_batches_will_do():
    loader = DataLoader(TensorDataset(torch.zeros(10, 1, 4, 4), torch.zeros(10, dtype=torch.long)), batch_size=4)
    assert [len(step) for step in Feed.training(loader, RECIPE, CPU).steps(0)] == [3]
    batches = Batches(make_split(10), 5, Feed.training([], RECIPE, CPU)._augment)
    first, again = (torch.cat([x for x, _ in Feed.training(batches, RECIPE, CPU).batches(3)]) for _ in range(2))
    assert first.equal(again)


def test_a_generator_is_refused():
    with pytest.raises(DataError, match=r"generator.*number of batches"):
        _ = Feed.training((batch for batch in []), RECIPE, CPU).steps_per_epoch


class OnceOnly:
    """Claims two batches, and gives none."""

    def __len__(self):
        return 2

    def __iter__(self):
        return iter([])


def test_a_source_that_ran_dry_is_named():
    with pytest.raises(DataError, match=r"epoch 2 .* ended after 0 of 1 steps"):
        list(Feed.training(OnceOnly(), RECIPE, CPU).steps(1))


def test_no_batches():
    with pytest.raises(DataError, match="no batch"):
        _ = Feed.training([], RECIPE, CPU).steps_per_epoch
