"""What is run for an item, on which data, and what its page shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL_TWIN

from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.layout import StoreHeader
from mil_bench.bags.store import BagStore, create_store
from mil_bench.cli import main
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.papers import reproduce
from mil_bench.papers.reproduce import QUICK_EPOCHS, QUICK_SIMULATED, parts_of
from mil_bench.papers.request import ReproduceRequest
from mil_bench.running.result_store import ResultStore
from mil_bench.split_files.formats.own import SplitFile
from mil_bench.splits.plan import Fold

QUICK = ",".join(f"{name}={value}" for name, value in QUICK_SIMULATED.items())


def runs(*items: str, **options: object) -> list[tuple[str, str]]:
    return [(p.item.name, p.request.dataset) for p in parts_of(ReproduceRequest(items, **options))]


def test_without_a_dataset_an_item_is_about_its_own() -> None:
    assert runs("table1", "figure4") == [
        ("table1", "bracs"),
        *(("figure4", d) for d in ("bracs", "panda", "ccc")),
    ]


def test_all_leaves_simulated_data_out_unless_they_are_named() -> None:
    assert {dataset for _, dataset in runs("all")} == {"bracs", "panda", "ccc"}
    named = runs("all", datasets=("bracs-sim",))
    assert ("simulated", "bracs-sim:hierarchy=0") in named
    assert {dataset.partition(":")[0] for _, dataset in named} == {"bracs-sim"}
    assert "table2" not in [name for name, _ in named]


def test_quick_simulated_data_are_small_but_settings_that_are_given_stay() -> None:
    assert runs("table1", datasets=("bracs-sim",), preset="quick") == [
        ("table1", f"bracs-sim:{QUICK}")
    ]
    assert runs("table1", datasets=("bracs-sim:rows=9",), preset="quick") == [
        ("table1", "bracs-sim:slides=120,rows=9")
    ]
    assert runs("simulated", datasets=("bracs-sim:seed=1",)) == [
        ("simulated", "bracs-sim:seed=1"),
        ("simulated", "bracs-sim:seed=1,hierarchy=0"),
    ]


def test_the_quick_budget_is_one_for_all_and_only_for_simulated_data() -> None:
    real, simulated = parts_of(ReproduceRequest(("table1",), ("bracs", "bracs-sim"), "quick"))
    assert (real.request.epochs, simulated.request.epochs) == (None, QUICK_EPOCHS)
    assert (
        parts_of(ReproduceRequest(("table1",), ("bracs-sim",), "quick", epochs=3))[0].request.epochs
        == 3
    )


@pytest.mark.parametrize(
    ("items", "options", "said"),
    [
        (
            ("table2",),
            {"datasets": ("bracs-sim",)},
            "table2 is about panda, or simulated data like it",
        ),
        (("table2",), {"datasets": ("digits",)}, "no requested item is about digits"),
        (("tabel2",), {}, "There is no item to reproduce 'tabel2'. Did you mean table2"),
        (
            ("table2",),
            {"datasets": ("pandas",)},
            "There is no dataset 'pandas'. Did you mean panda",
        ),
        (("table2",), {"preset": "fast"}, "There is no preset 'fast'"),
        (("table2",), {"splits": (Path("no.json"),)}, "split file no.json"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    items: tuple[str, ...], options: dict, said: str
) -> None:
    with pytest.raises((InputError, UnknownNameError)) as caught:
        parts_of(ReproduceRequest(items, **options))
    assert said in str(caught.value)


def split_file(path: Path, dataset: str) -> Path:
    SplitFile(dataset, "imported", "a test", (Fold(("a",), ("b",), ("c",)),)).write(path)
    return path


def test_a_split_file_is_followed_for_its_dataset_alone(tmp_path: Path) -> None:
    file = split_file(tmp_path / "bracs.json", "bracs")
    by_name = {
        p.spec.name: p.request for p in parts_of(ReproduceRequest(("figure4",), splits=(file,)))
    }
    assert (by_name["bracs"].splits, by_name["bracs"].protocol) == (file, None)
    assert (by_name["panda"].splits, by_name["panda"].protocol) == (None, "paper")
    with pytest.raises(
        InputError, match="it is a split of bracs, which no requested item is about"
    ):
        parts_of(ReproduceRequest(("table2",), splits=(file,)))
    again = split_file(tmp_path / "again.json", "bracs")
    with pytest.raises(InputError, match="are both splits of bracs"):
        parts_of(ReproduceRequest(("table1",), splits=(file, again)))


def call(folder: Path, *words: str) -> int:
    quiet = ["--no-tracking", "--on", "inline", "--epochs", "1", "--preset", "quick"]
    return main(
        [
            "reproduce",
            *words,
            *quiet,
            "--results",
            str(folder / "results"),
            "--data",
            str(folder / "data"),
        ]
    )


@pytest.mark.slow
def test_items_share_their_trainings_and_an_overview_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert call(tmp_path, "table5", "--dataset", SMALL_TWIN) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Is HMIL better than DSMIL?" in shown
    assert "not comparable with simulated data" in shown
    trained = []
    monkeypatch.setattr(reproduce, "execute", _counting(trained, reproduce.execute))
    assert call(tmp_path, "table4", "table5", "--dataset", SMALL_TWIN) == 0
    assert trained == [
        4 * 3,
        0,
    ]  # four rows of HMIL; table 5 has trained HMIL itself and the lookup
    overview = (tmp_path / "results" / "reports" / "reproduce-quick" / "overview.md").read_text()
    for part in (
        "table4 on",
        "table5 on",
        "18 of 18",
        "12 of 12",
        "](table5/report.md)",
        "mil-bench reproduce table4",
    ):
        assert part in overview


def _counting(trained: list[int], execute: object) -> object:
    def counting(prepared: object, setup: object, asked: object) -> object:
        store = ResultStore(setup.folder.runs)
        stored = sum(len(store.done(job)) for job in prepared.plan.jobs)
        trained.append(len(prepared.plan.jobs) * len(prepared.plan.splits.folds) - stored)
        return execute(prepared, setup, asked)

    return counting


def packed(store: BagStore, path: Path) -> None:
    """Simulated bags under the real dataset's name, as if packed; without instance labels."""
    header = StoreHeader(
        "bracs",
        store.hierarchy,
        store.rows,
        store.width,
        "float32",
        "a test",
        "patient",
    )
    with create_store(path, header) as writer:
        for b, slide in enumerate(store.slides.itertuples()):
            rows = np.array(store.features[store.rows_of(b)])
            writer.add(Bag(Slide(slide.slide, int(slide.label), slide.group), rows))


@pytest.mark.slow
def test_on_packed_features_published_values_are_next_to_ours(
    tmp_path: Path,
    small_store: BagStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    packed(small_store, tmp_path / "data" / "bracs.h5")
    find = reproduce.find_item
    monkeypatch.setattr(
        reproduce,
        "find_item",
        lambda name: only(find(name), "hmil", "mean-pool", "abmil", "detector"),
    )
    assert call(tmp_path, "table1") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "detector was left out: it learns from instance labels, and bracs has none" in shown
    folder = tmp_path / "results" / "reports" / "reproduce-quick" / "table1"
    for part in (
        "55.6 second-hand (ours ",
        "named second-hand, no value",
        "not available",
        "not built in",
        "Accuracy, published",
        "not verified",
    ):
        assert part in (folder / "report.md").read_text()
    table = pd.read_csv(next(folder.glob("*.csv")), comment="#", index_col=0)
    assert table.loc["hmil", "Accuracy, published"] == 55.6
    assert table.loc[["mean-pool", "abmil", "hipt"], "Accuracy, published"].isna().all()
    values = tmp_path / "values.csv"  # made up, like all values of this file
    values.write_text("table,page,method,metric,mean,std\n1,7,HIPT,Specificity,12.5,3\n")
    assert call(tmp_path, "table1", "--published", str(values)) == 0
    page = (folder / "report.md").read_text()
    for part in ("12.5 ± 3 read", "55.6 second-hand", "read, page 7 of the paper, as typed in"):
        assert part in page


def only(item: object, *labels: str) -> object:
    return replace(item, rows=tuple(row for row in item.rows if row.label in labels))


@pytest.mark.slow
def test_what_is_not_there_is_named_and_the_rest_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert call(tmp_path, "table5", "table3", "--dataset", SMALL_TWIN, "ccc") == 1
    shown = capsys.readouterr().out
    assert "! Not done: table3\nccc: no features are packed" in shown
    assert "private to HMIL's authors" in shown
    assert "Table 5: instance annotations and detection" in shown
    reports = tmp_path / "results" / "reports" / "reproduce-quick"
    assert "could not be run" in (reports / "overview.md").read_text()
    assert (
        "Could not be run: ccc: no features are packed"
        in (reports / "table3" / "report.md").read_text()
    )


def test_bad_input_trains_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert call(tmp_path, "table2", "--dataset", SMALL_TWIN) == 2
    assert "mil-bench: what is to be reproduced: 2 problems" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_former_name_of_an_item_is_translated_and_its_present_name_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert call(tmp_path, "twin", "--dataset", "panda-sim") == 2
    message = capsys.readouterr().err
    assert message.startswith("mil-bench: 'reproduce twin' is now called 'reproduce simulated'\n")
    assert "simulated is about bracs-sim, bracs-sim:hierarchy=0" in message
