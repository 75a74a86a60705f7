"""A plan's numbers: from the stored run that says most, or from an assumption that is printed."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import SMALL_TWIN

import mil_bench
from mil_bench import cli
from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.power.ahead import ASSUMED, Basis, tail_of
from mil_bench.evaluation.power.spread import Design
from mil_bench.results import Results
from mil_bench.running.result_store import ResultStore
from mil_bench.runs.basis import basis_in, seconds_in

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.runs.result import RunResult

AUC = Measure("fine", "macro_auc")
DATASET = "bracs-sim-twin"


def small_run(folder: Path, *methods: str, **changed: object) -> RunResult:
    about = {"folds": 3, "epochs": 1, "tracking": False, "progress": False, "on": "inline"}
    places = {"results": folder / "results", "data": folder / "data"}
    return mil_bench.run(list(methods), SMALL_TWIN, **(about | places | changed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a run with two seeds, and of a newer one with a single seed."""
    folder = tmp_path_factory.mktemp("plan")
    small_run(folder, "mean-pool", "max-pool", seeds=(0, 1))
    small_run(folder, "mean-pool", "max-pool")
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> ResultStore:
    return ResultStore(Results(folder / "results").runs)


def planned(folder: Path, *words: str) -> int:
    places = ["--results", str(folder / "results"), "--data", str(folder / "data")]
    return cli.main(["plan", "--dataset", SMALL_TWIN, "--folds", "3", *words, *places])


def test_the_run_with_more_seeds_is_taken_and_has_the_variance_of_its_verdicts(
    folder: Path, store: ResultStore
) -> None:
    result = small_run(folder, "mean-pool", "max-pool", seeds=(0, 1))
    basis = basis_in(store, DATASET, "patient-kfold", ["max-pool", "mean-pool"])
    assert basis is not None
    assert basis.run == result.run_id
    assert list(basis.spreads) == [("mean-pool", "max-pool")]
    pairs = {frozenset((v.first, v.second)): v for v in result.verdicts}
    verdict = pairs[frozenset(("mean-pool", "max-pool"))]
    (spread,) = basis.spreads.values()
    assert spread.design == basis.design == Design(3, 1, 2, result.evidence.bootstrap.units)
    # 1,000 draws in place of 10,000: a variance has a relative standard error of 4.5 %.
    assert spread.variance(spread.design) == pytest.approx(verdict.error**2, rel=0.15)


def test_without_a_suitable_run_there_is_no_basis(store: ResultStore) -> None:
    assert basis_in(store, "bracs", "patient-kfold", []) is None
    assert basis_in(store, DATASET, "paper", []) is None
    assert seconds_in(store, "bracs") == {}


def test_a_broken_run_does_not_hide_the_others(folder: Path, store: ResultStore) -> None:
    broken = folder / "results" / "runs" / DATASET / f"{DATASET}_patient-kfold_00000000.json"
    broken.write_text("{")
    try:
        assert basis_in(store, DATASET, "patient-kfold", []) is not None
    finally:
        broken.unlink()


def among(methods: int) -> list[tuple[int, int]]:
    """All pairs of so many methods."""
    return list(itertools.combinations(range(methods), 2))


def test_fewer_pairs_need_less() -> None:
    with_one = tail_of([(0, other) for other in range(1, 6)])
    assert tail_of(among(6)) < with_one < tail_of(among(2))


def test_all_pairs_need_more_than_one_and_less_than_bonferroni() -> None:
    assert tail_of(among(2)) == pytest.approx(0.025, rel=0.01)
    tails = [tail_of(among(methods)) for methods in (2, 3, 6, 11)]
    assert tails == sorted(tails, reverse=True)
    for methods, tail in zip((3, 6, 11), tails[1:], strict=True):
        assert 0.025 / (methods * (methods - 1) / 2) < tail < 0.025


def test_the_assumed_spread_is_that_of_one_repeat_and_falls_with_repeats() -> None:
    design = Design(10, 1, 1, 189)
    basis = Basis.assumed(design, "patient", AUC, 40)
    (spread,) = basis.spreads.values()
    assert spread.overlap == pytest.approx(0.1 / 0.8)  # ten folds: 80/10/10
    assert spread.over_patients(design) == pytest.approx(ASSUMED**2 / 189)
    one, five = (basis.outlook(Design(10, r, 1, 189), among(5), 0.01).pairs[0] for r in (1, 5))
    assert five.smallest < one.smallest
    assert five.at_best == pytest.approx(one.at_best)
    more = basis.outlook(design, among(20), 0.01).pairs[0]
    assert more.smallest > one.smallest
    split = Basis.assumed(Design(1, 1, 1, 60), "patient", AUC, 0)
    assert np.isnan(split.outlook(Design(1, 1, 1, 60), among(2), 0.01).pairs[0].repeats)


def test_the_command_names_its_basis_and_hours(folder: Path, capsys: pytest.CaptureFixture) -> None:
    names = ["--methods", "mean-pool", "max-pool", "abmil"]
    assert planned(folder, *names, "--repeats", "2", "--seeds", "0", "1") == 0
    said = capsys.readouterr().out
    assert "3 methods and 1 yardstick (6 pairs compared at once), 3 folds, 2 repeats, 2 " in said
    assert "36 trainings." in said
    assert f"This rests on 1 pair of methods in the stored run {DATASET}_patient-kfold_" in said
    assert "with a probability of" in said
    assert "those of mean-pool, max-pool that are stored took" in said
    assert "with at most 1 epochs, and 20 epochs are planned" in said
    assert "for abmil their mean was taken" in said
    assert "3 folds, 2 repeats, 2 seeds (planned)" in said
    assert "3 folds, 2 repeats, 5 seeds" in said
    assert planned(folder, "--methods", "5") == 0
    assert "5 methods and 1 yardstick (15 pairs" in capsys.readouterr().out
    assert planned(folder, *names, "--reference", "abmil", "--metric", "accuracy") == 0
    said = capsys.readouterr().out
    assert "(3 pairs compared at once)" in said
    assert "The smallest true difference in accuracy" in said


def test_without_a_stored_run_the_assumption_is_printed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    nothing = ["--results", str(tmp_path), "--data", str(folder / "data")]
    assert cli.main(["plan", "--dataset", SMALL_TWIN, "--methods", "4", *nothing]) == 0
    said = capsys.readouterr().out
    assert "this rests on an assumption: with one training per fold" in said
    assert "hours cannot be estimated" in said
    metric = ["plan", "--dataset", SMALL_TWIN, "--methods", "4", "--metric", "accuracy"]
    assert cli.main([*metric, *nothing]) == 2
    assert "no suitable run with accuracy is stored" in capsys.readouterr().err
    # A card says how many patients a dataset has whose features are not packed.
    assert cli.main(["plan", "--dataset", "bracs", "--methods", "4", *nothing]) == 0
    assert "10 folds, 1 repeat, 1 seed, 189 patients; 40 trainings." in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--methods", "1"], "1 methods cannot be planned"),
        (["--methods", "0"], "0 methods cannot be planned"),
        (["--methods", "abmill", "hmil"], "Did you mean abmil"),
        (["--methods", "4", "--protocol", "paper", "--repeats", "2"], "cannot be repeated"),
        (["--methods", "4", "--repeats", "0"], "repeats must be a whole number from 1 on"),
        (["--methods", "4", "--margin", "0"], "margin must be more than 0"),
        (["--methods", "4", "--protocol", "kfold"], "Did you mean patient-kfold"),
        (["--methods", "4", "--reference", "hmil"], "of which only the number is given"),
        (["--methods", "abmil", "hmil", "--reference", "clam-sb"], "has no method 'clam-sb'"),
        (["--methods", "4", "--metric", "ece"], "cannot be compared on"),
        (["--methods", "abmil:epochs=many", "hmil"], "epochs"),
        (["--methods", "abmil:epocs=3", "hmil"], "Did you mean epochs"),
    ],
)
def test_bad_requests_are_refused(
    folder: Path, capsys: pytest.CaptureFixture, words: list[str], problem: str
) -> None:
    assert planned(folder, *words) == 2
    assert problem in capsys.readouterr().err
