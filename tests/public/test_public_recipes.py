"""The recipes that come with mil-bench, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mil_bench.cli import main
from mil_bench.datasets.card import GroupProfile
from mil_bench.datasets.card_file import read_card
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.public.beside import write_card
from mil_bench.public.recipe import find_recipe, read_recipe, recipe_names

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """
title = "a"
repository = "a/b"
layout = "table"
encoder = "e"
own_slides = true
licence = "l"
open = true
citation = "c"
card = "digits"
classes = ["x"]
[[files]]
path = "x.csv"
"""


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_read_and_has_a_card(name: str) -> None:
    recipe = find_recipe(name)
    spec = recipe.spec()
    assert spec.name == (recipe.card if recipe.is_of_dataset else name)
    assert recipe.is_of_dataset or spec.source == recipe.page
    assert set(recipe.classes) <= set(spec.hierarchy.fine)
    assert recipe.encoder or recipe.own_card
    assert recipe.tried == ""  # until somebody has fetched it from the real hub


@pytest.mark.parametrize("name", ["camelyon16-phikon", "musk1"])
def test_the_card_beside_a_store_says_what_the_recipe_says(name: str, tmp_path: Path) -> None:
    spec = find_recipe(name).spec()
    path = tmp_path / f"{name}.toml"
    write_card(path, spec)
    assert read_card(path) == replace(spec, bags=None, groups=GroupProfile(spec.groups.name))


def test_the_list_shows_size_licence_and_gate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "get", "--list"]) == 0
    said = capsys.readouterr().out
    for name in recipe_names():
        assert name in said
    assert "1.21 GB" in said
    assert "not tried" in said
    assert "--accept-licence" in said


def test_an_unknown_name_is_answered_with_similar_ones() -> None:
    with pytest.raises(UnknownNameError, match="camelyon16-phikon"):
        find_recipe("camelyon-phikon")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("open = true", "open = 1", "open: 1 is not true or false"),
        ("a/b", "a", "repository"),
        ("x.csv", "../x.csv", "not a path inside the repository"),
        ('card = "digits"', 'card = "digitz"', "digits"),
        ('card = "digits"', "", "either card or own_card"),
        ("classes", "klasses", "classes"),
        ('classes = ["x"]', "", "either classes or needs_labels"),
        ('path = "x.csv"', 'path = "x.csv"\nholds = "labels"', "no files hold bags"),
        ('"e"\nown_slides = true', '""', "needs the name of its encoder"),
        ("encoder", "revision = 'main'\nencoder", "not a commit"),
    ],
)
def test_errors_of_a_recipe_are_named(old: str, new: str, words: str) -> None:
    read_recipe("fine", RECIPE)
    with pytest.raises(InputError) as error:
        read_recipe("faulty", RECIPE.replace(old, new, 1))
    assert words in str(error.value)
