import pytest

from kilotune.errors import RunError
from kilotune.train.recipe import Recipe


def test_json_round_trip():
    recipe = Recipe.of(
        model="resnet18", input=[3, 32, 32], budget="64KiB", redraw=50, options={"k": 3}, mean=[0.1, 0.2, 0.3]
    )
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_defaults_are_the_papers_but_for_the_rate():
    recipe = Recipe.of()
    assert (recipe.lr, recipe.batch_size, recipe.optimizer, recipe.momentum, recipe.weight_decay) == (
        0.02,
        32,
        "sgd",
        0,
        0,
    )


def test_but_changes_only_what_is_named():
    recipe = Recipe.of(epochs=3, seed=7)
    assert recipe.but(epochs=4) == Recipe.of(epochs=4, seed=7)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("lr", 0.0),
        ("lr", -1.0),
        ("batch_size", 0),
        ("accumulate", 0),
        ("momentum", 1.0),
        ("weight_decay", -0.1),
        ("redraw", 0),
        ("redraw", "sometimes"),
        ("schedule", "step"),
        ("precision", "int8"),
        ("input", [3, 32]),
        ("ledger", "all"),
        ("learning_rate", 0.1),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(RunError, match=field):
        Recipe.of(**{field: value})
    with pytest.raises(RunError, match=field):
        Recipe.of().but(**{field: value})


def test_text_that_is_no_recipe():
    with pytest.raises(RunError, match="not a recipe"):
        Recipe.from_json("[]")
    with pytest.raises(RunError, match="sed"):
        Recipe.from_json('{"sed": 3}')
