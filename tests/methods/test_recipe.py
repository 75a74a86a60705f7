"""Recipes refuse what no trainer could follow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mil_bench.errors import InputError, UnknownNameError
from mil_bench.methods import Recipe
from mil_bench.methods.recipe import OPTIMIZERS
from mil_bench.training.optim import MAKERS


def test_an_optimizer_that_does_not_exist_is_refused_with_a_suggestion() -> None:
    with pytest.raises(
        UnknownNameError, match=r"There is no optimizer 'adamww'\. Did you mean adamw"
    ):
        Recipe(learning_rate=1e-4, epochs=1, optimizer="adamww")


def test_a_schedule_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="There is no schedule 'steps'"):
        Recipe(learning_rate=1e-4, epochs=1, schedule="steps")


def test_every_optimizer_a_recipe_may_name_can_be_made() -> None:
    assert set(OPTIMIZERS) == set(MAKERS)


def test_a_recipe_without_newer_fields_is_stored_as_before() -> None:
    plain = Recipe(learning_rate=1e-4, epochs=3)
    assert list(plain.to_json()) == [
        "learning_rate",
        "epochs",
        "batch_size",
        "optimizer",
        "weight_decay",
        "betas",
        "schedule",
        "final_learning_rate",
        "patience",
    ]
    more = Recipe(1e-4, 3, clip_norm=5.0, clip_modules=("head", "gate"))
    assert more.to_json() == plain.to_json() | {"clip_norm": 5.0, "clip_modules": ["head", "gate"]}
    rated = Recipe(1e-4, 3, rates={"head": 0.1})
    assert rated.to_json() == plain.to_json() | {"rates": {"head": 0.1}}
    for recipe in (plain, more, rated):
        assert Recipe.from_json(recipe.to_json()) == recipe


def test_newer_fields_are_stored_only_where_they_are_used() -> None:
    plain = Recipe(1e-4, 3)
    newer = {
        "sampler": "balanced",
        "momentum": 0.9,
        "rates": {"head": 0.1},
        "plateau_patience": 3,
        "ema": 0.99,
        "accumulate": 4,
    }
    assert not newer.keys() & plain.to_json().keys()
    for name, value in newer.items():
        recipe = Recipe(1e-4, 3, **{name: value})
        assert recipe.to_json() == plain.to_json() | {name: value}
        assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize(
    "fields",
    [
        {"momentum": 1.0},
        {"ema": 1.0},
        {"ema": -0.1},
        {"accumulate": 0},
        {"accumulate": 1.5},
        {"plateau_patience": -1},
        {"rates": {"head": 0.0}},
        {"rates": {"": 1.0}},
        {"rates": ("head", 1.0)},
    ],
)
def test_newer_fields_without_sense_are_refused(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(InputError, match=f"{name} is "):
        Recipe(1e-4, 3, **fields)
