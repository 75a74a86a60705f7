"""Protocol files: those of the paper fit the methods, metrics and datasets there are; faulty ones are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import SMALL_TWIN

from mil_bench import registry
from mil_bench.datasets.catalogue import find_dataset
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.papers.items import find_item, item_names, read_item
from mil_bench.planning.make import make_plan
from mil_bench.planning.request import RunRequest

if TYPE_CHECKING:
    from mil_bench.bags.store import BagStore

GOOD = """
title = "T"
datasets = ["bracs"]
protocol = "paper"
level = "fine"
metrics = ["accuracy", "macro_auc"]
seeds = [0]

[[rows]]
method = "hmil"

[[rows]]
label = "flat"
method = "hmil"
settings = { coarse_branch = false }

[[published]]
row = "hmil"
dataset = "bracs"
standing = "second-hand"
source = "a note"
values = { accuracy = 55.6 }

[[questions]]
text = "Does it help?"
better = "hmil"
than = "flat"
"""


def test_every_table_of_the_paper_has_a_file() -> None:
    assert {f"table{n}" for n in range(1, 7)} | {"figure4", "twin"} == set(item_names())


@pytest.mark.parametrize("name", item_names())
def test_every_file_can_be_planned_with_methods_settings_and_metrics_that_exist(
    name: str, small_store: BagStore
) -> None:
    item = find_item(name)
    plan = make_plan(
        RunRequest(SMALL_TWIN, item.rows, item.protocol, folds=2, seeds=item.seeds),
        find_dataset(SMALL_TWIN),
        small_store,
    )
    assert plan.methods == [*(row.label for row in item.rows), "lookup"]
    keys = [job.key for job in plan.jobs]
    assert len(set(keys)) == len(keys), "two rows are the same training"
    for row, job in zip(item.rows, plan.jobs, strict=False):
        assert all(job.params[setting] == value for setting, value in row.settings.items())


def test_the_main_tables_hold_every_method_and_figure_4_the_same_rows() -> None:
    for name in ("table1", "table2", "table3", "figure4"):
        assert sorted(row.method for row in find_item(name).rows) == registry.methods.names()
        assert find_item(name).rows == find_item("table1").rows


def test_published_figures_are_those_that_we_have_a_source_for() -> None:
    published = {name: find_item(name).published for name in item_names()}
    assert {name for name, figures in published.items() if figures} == {
        "table1",
        "table2",
        "table3",
    }
    for figures in published.values():
        for each in figures:
            assert (each.row, each.standing) == ("hmil", "second-hand")
            assert set(each.values) == {"accuracy", "macro_auc", "balanced_accuracy", "macro_f1"}


def test_table_4_and_the_twin_ask_about_the_same_parts() -> None:
    assert find_item("table4").rows == find_item("twin").rows
    assert find_item("table4").questions == find_item("twin").questions


def test_a_good_file_is_read() -> None:
    item = read_item("x", GOOD)
    assert [row.label for row in item.rows] == ["hmil", "flat"]
    assert item.table == "fine"
    assert item.published[0].values == {"accuracy": 55.6}
    assert read_item(
        "x", GOOD.replace('["accuracy", "macro_auc"]', '["auc"]').split("[[pub")[0]
    ).table == ("classwise_auc")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title =", "titel =", "There is no key 'titel'. Did you mean title?"),
        ('title = "T"', "", "title is missing"),
        ('title = "T"', 'title = ""', "title is empty"),
        ("seeds = [0]", "seeds = [true]", "seeds: True is not of type int"),
        ("seeds = [0]", "seeds = []", "seeds is empty"),
        (
            'label = "flat"',
            'lable = "flat"',
            "rows 2: There is no key 'lable'. Did you mean label?",
        ),
        ('label = "flat"', 'label = "hmil"', "two rows are called hmil"),
        (
            'method = "hmil"\n\n',
            'method = "hmll"\n\n',
            "There is no method 'hmll'. Did you mean hmil",
        ),
        ('"macro_auc"', '"macroauc"', "There is no metric 'macroauc'. Did you mean macro_auc"),
        ('"fine"', '"fin"', "There is no level 'fin'. Did you mean fine?"),
        ('["bracs"]', '["brac"]', "There is no dataset 'brac'. Did you mean bracs"),
        (
            '["bracs"]',
            '["bracs-sim:row=3"]',
            "There is no setting of bracs-sim 'row'. Did you mean rows?",
        ),
        ('"paper"', '"papers"', "bracs: There is no protocol 'papers'. Did you mean paper?"),
        (
            'dataset = "bracs"',
            'dataset = "panda"',
            "published 1: There is no dataset of this item 'panda'",
        ),
        ('"second-hand"', '"heard"', "published 1: There is no standing 'heard'"),
        (
            "accuracy = 55.6",
            "acuracy = 55.6",
            "There is no metric of this item 'acuracy'. Did you mean accuracy",
        ),
        ("accuracy = 55.6", 'accuracy = "55.6"', "published 1: accuracy is '55.6', not a number"),
        ('than = "flat"', 'than = "flt"', "questions 1: There is no row 'flt'. Did you mean flat?"),
        ("[[rows]]", "[[rows", "it is no TOML"),
    ],
)
def test_a_faulty_file_is_refused_with_near_matches(old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        read_item("x", GOOD.replace(old, new, 1))
    assert said in str(caught.value)
    assert str(caught.value).startswith("protocol file x: ")


def test_all_problems_of_a_file_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        read_item(
            "x",
            GOOD.replace("title", "titel")
            .replace("seeds = [0]", "seeds = 0")
            .replace("text =", "txt ="),
        )
    assert len(caught.value.problems) == 5


def test_an_unknown_item_suggests_a_near_one() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no item to reproduce 'tabel1'. Did you mean table1"
    ):
        find_item("tabel1")
