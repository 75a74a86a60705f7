"""Protocol files: the paper's can be planned; files with errors are refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import SMALL_TWIN

from mil_bench import registry
from mil_bench.datasets.catalogue import find_dataset
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.papers.items import FORMER_NAMES, find_item, item_names, read_item
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

[named]
rows = ["flat"]
not_built_in = ["other"]
standing = "second-hand"
source = "a note"

[[questions]]
text = "Does it help?"
better = "hmil"
than = "flat"
"""


def test_every_table_of_the_paper_has_a_file() -> None:
    assert {f"table{n}" for n in range(1, 7)} | {"figure4", "simulated"} == set(item_names())


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


def test_the_main_tables_and_figure_4_have_every_built_in_method() -> None:
    for name in ("table1", "table2", "table3", "figure4"):
        rows = find_item(name).rows
        assert [row.method for row in rows] == registry.methods.built_in()
        assert all(row.label == row.method and not row.settings for row in rows)
    assert {"hmil", "abmil", "transmil"} < set(registry.methods.built_in())


def test_all_rows_are_those_of_mil_bench_without_other_methods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from_file = registry.FromFile(None, Path("my_method.py"), "")
    monkeypatch.setitem(registry.methods._files, "my-method", from_file)
    text = 'rows = "all"\n' + GOOD.partition("[[rows]]")[0]
    assert "my-method" in registry.methods.names()
    assert [row.method for row in read_item("x", text).rows] == registry.methods.built_in()
    assert "my-method" not in registry.methods.built_in()


def test_published_values_are_those_that_we_have_a_source_for() -> None:
    published = {name: find_item(name).published for name in item_names()}
    assert {name for name, sources in published.items() if sources} == {
        "table1",
        "table2",
        "table3",
    }
    for sources in published.values():
        for source in sources:
            assert (source.row, source.standing) == ("hmil", "second-hand")
            assert set(source.values) == {"accuracy", "macro_auc", "balanced_accuracy", "macro_f1"}


def test_methods_that_are_named_without_values_are_in_the_main_tables() -> None:
    for name in ("table1", "table2", "table3"):
        named = find_item(name).named
        assert named is not None
        assert (named.methods, named.standing) == (["abmil", "dsmil", "hipt"], "second-hand")
        assert named.not_built_in == ["hipt"]
        assert not {*named.methods} & {source.row for source in find_item(name).published}
    assert "hipt" not in registry.methods.names()


def test_table_4_and_simulated_ask_about_the_same_parts() -> None:
    assert find_item("table4").rows == find_item("simulated").rows
    assert find_item("table4").questions == find_item("simulated").questions


def test_former_names_lead_to_items() -> None:
    assert set(FORMER_NAMES.values()) <= set(item_names())
    assert not set(FORMER_NAMES) & set(item_names())


def test_a_good_file_is_read() -> None:
    item = read_item("x", GOOD)
    assert [row.label for row in item.rows] == ["hmil", "flat"]
    assert item.table == "fine"
    assert item.published[0].values == {"accuracy": 55.6}
    assert read_item(
        "x", GOOD.replace('["accuracy", "macro_auc"]', '["auc"]').split("[[pub")[0]
    ).table == ("classwise_auc")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("title =", "titel =", "unknown key 'titel'; did you mean title?"),
        ('title = "T"', "", "title: it is missing"),
        ('title = "T"', 'title = ""', "title: String should have at least 1 character"),
        ("seeds = [0]", "seeds = [true]", "seeds: True is not a whole number"),
        ("seeds = [0]", "seeds = []", "seeds: it is empty"),
        ("seeds = [0]", "seeds = 0", "seeds: 0 is not a list"),
        (
            'label = "flat"',
            'lable = "flat"',
            "unknown key 'rows[1].lable'; did you mean label?",
        ),
        ('label = "flat"', 'label = "hmil"', "rows: two rows are called hmil"),
        (
            'method = "hmil"\n\n',
            'method = "hmll"\n\n',
            "rows[0].method: there is no method 'hmll'; did you mean hmil",
        ),
        ('"macro_auc"', '"macroauc"', "there is no metric 'macroauc'; did you mean macro_auc"),
        ('"fine"', '"fin"', "level: 'fin' is not 'fine' or 'coarse'"),
        ('["bracs"]', '["brac"]', "datasets: There is no dataset 'brac'. Did you mean bracs"),
        (
            '["bracs"]',
            '["bracs-sim:row=3"]',
            "There is no setting of bracs-sim 'row'. Did you mean rows?",
        ),
        (
            '"paper"',
            '"papers"',
            "protocol: bracs: there is no protocol 'papers'; did you mean paper?",
        ),
        (
            'dataset = "bracs"',
            'dataset = "panda"',
            "published: hmil on panda: there is no dataset of this item 'panda'",
        ),
        (
            '"second-hand"',
            '"heard"',
            "published[0].standing: 'heard' is not 'read' or 'second-hand'",
        ),
        (
            "accuracy = 55.6",
            "acuracy = 55.6",
            "there is no metric of this item 'acuracy'; did you mean accuracy",
        ),
        (
            "accuracy = 55.6",
            'accuracy = "55.6"',
            "published[0].values.accuracy: '55.6' is not a number",
        ),
        (
            'than = "flat"',
            'than = "flt"',
            "questions: 'Does it help?': there is no row 'flt'; did you mean flat?",
        ),
        ('["flat"]', '["flt"]', "named: there is no row 'flt'; did you mean flat?"),
        ('["other"]', '["hmil"]', "named: not_built_in: hmil is a row"),
        ("[[rows]]", "[[rows", "it is not TOML"),
    ],
)
def test_a_file_with_an_error_is_refused_with_near_matches(
    old: str, new: str, problem: str
) -> None:
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        read_item("x", GOOD.replace(old, new, 1))
    assert problem in str(caught.value)
    assert str(caught.value).startswith("protocol file x.toml: ")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ('rows = "al"', "rows: 'al' is neither \"all\" nor [[rows]]"),
        ("rows = []", "rows: it is empty"),
        ('rows = ["hmil"]', "rows: 'hmil' is not a table of keys and values"),
        ("", "rows: it is missing"),
    ],
)
def test_rows_are_all_or_tables(rows: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read_item("x", f"{rows}\n{GOOD.partition('[[rows]]')[0]}")
    assert caught.value.problems == (problem,)


def test_all_problems_of_a_file_are_listed_at_once() -> None:
    with pytest.raises(InputError) as caught:
        read_item(
            "x",
            GOOD.replace("title", "titel")
            .replace("seeds = [0]", "seeds = 0")
            .replace("text =", "txt =")
            .replace('row = "hmil"', 'row = "hmll"'),
        )
    assert len(caught.value.problems) == 6


def test_an_unknown_item_suggests_a_near_one() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no item to reproduce 'tabel1'. Did you mean table1"
    ):
        find_item("tabel1")
