"""What would decide the undecided pairs: the sentence and the table, in a run and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from made_runs import run_result, trained_folds

from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.power.pairs import Outlook, PairPower
from mil_bench.evaluation.power.spread import Design
from mil_bench.planning.asked import Asked
from mil_bench.report.power_tables import power_sentences, power_tables

if TYPE_CHECKING:
    from pathlib import Path

AUC, NLL = Measure("fine", "macro_auc"), Measure("fine", "nll")
NAN, INF = float("nan"), float("inf")
REACHED = PairPower("a", "b", 0.021, 0.008, folds=INF, repeats=12, seeds=NAN)
BEYOND = PairPower("a", "c", 0.034, 0.025, folds=INF, repeats=INF, seeds=NAN, patients=2345)


def outlook(*powers: PairPower, bound: bool = False, measure: Measure = AUC) -> Outlook:
    return Outlook(powers, Design(3, 1, 2, 60), measure, "patient", 0.01, bound)


def sentence(*powers: PairPower, bound: bool = False, measure: Measure = AUC) -> str:
    (found,) = power_sentences(outlook(*powers, bound=bound, measure=measure))
    return found


def test_one_pair_that_repeats_would_decide() -> None:
    assert sentence(REACHED) == (
        "a and b are undecided: a run of this size finds a true difference of 2.1 points with a "
        "probability of about 80 %. To find a difference of 1 point as reliably, 12 repeats are "
        "needed."
    )


def test_pairs_of_which_some_need_more_patients() -> None:
    assert sentence(REACHED, BEYOND) == (
        "2 pairs are undecided: a run of this size finds a true difference of 2.8 points (median "
        "of the pairs; 2.1 to 3.4) with a probability of about 80 %. To find a difference of 1 "
        "point as reliably for one of the pairs, 12 repeats are needed. More folds, repeats and "
        "seeds are not enough to find a difference of 1 point for the other pair: about 2,300 "
        "patients instead of 60 are needed."
    )


def test_a_difference_that_no_metric_can_have_gets_no_number() -> None:
    too_few = PairPower("a", "d", 3.06, 2.5, folds=NAN, repeats=NAN, seeds=NAN)
    assert "of more than 100 points (median of the pairs; 2.1 to more than 100)" in sentence(
        too_few, too_few, REACHED
    )
    assert "3.060" in sentence(replace(too_few, smallest=3.06), measure=NLL)


def test_one_training_per_fold_is_said_to_be_no_proof() -> None:
    assert sentence(BEYOND, bound=True).endswith(
        " Whether more repeats or seeds would help is not known, because each fold was trained "
        "once; a run with two seeds (--seeds 0 1) would tell. If they do not help, about 2,300 "
        "patients instead of 60 are needed to find a difference of 1 point as reliably."
    )


def test_without_a_margin_or_patients_only_the_smallest_difference_is_said() -> None:
    alone = PairPower("a", "b", 0.021)
    start = "a and b are undecided: a run of this size finds a true difference of "
    assert sentence(alone) == f"{start}2.1 points with a probability of about 80 %."
    assert sentence(alone, measure=NLL) == f"{start}0.021 with a probability of about 80 %."
    assert "no realistic number" in sentence(replace(BEYOND, patients=INF))
    assert power_sentences(outlook()) == []


def test_the_table_has_a_row_per_undecided_pair() -> None:
    (table,) = power_tables(outlook(REACHED, BEYOND), "caption")
    assert table.columns == [
        "Smallest difference",
        "At best",
        "Folds for 1 point",
        "Repeats for 1 point",
        "Seeds for 1 point",
        "Patients for 1 point",
    ]
    texts = [
        [cell if isinstance(cell, str) else cell.text() for cell in row.values()]
        for row in table.cells.values()
    ]
    assert texts == [
        ["2.1", "0.8", "none", "12", "–", "–"],
        ["3.4", "2.5", "none", "none", "–", "2,345"],
    ]
    assert table.values("Repeats for 1 point")["value"] == [12, INF]
    assert "3 folds, 1 repeat, 2 seeds, 60 patients" in table.note
    assert "≤" not in table.note
    (bound,) = power_tables(outlook(BEYOND, bound=True), "")
    assert "≤" in bound.note
    (row,) = bound.cells.values()
    assert [cell if isinstance(cell, str) else cell.text() for cell in row.values()] == [
        *("3.4", "≤ 2.5", "none", "unknown", "–", "≤ 2,345")
    ]
    (plain,) = power_tables(outlook(REACHED, measure=NLL), "")
    assert plain.columns[2] == "Folds for 0.01"
    assert power_tables(outlook(), "") == []


@pytest.fixture(scope="module")
def close() -> dict[str, tuple]:
    """Two methods that are equally good and err on other slides."""
    fair = trained_folds(1.0)
    good = []
    for fold in fair:
        known = fold.predictions
        noise = np.random.default_rng((9, fold.fold)).standard_normal(known.fine.shape)
        odds = np.exp(np.eye(4)[known.labels] + noise)
        fine = odds / odds.sum(1, keepdims=True)
        good.append(replace(fold, predictions=replace(known, fine=fine)))
    return {"fair": fair, "good": tuple(good)}


def test_a_run_says_it_in_its_summary_its_table_and_its_page(close: dict, tmp_path: Path) -> None:
    result = run_result(close)
    assert [v.answer for v in result.verdicts] == ["undecided"]
    assert "are undecided: a run of this size finds a true difference of" in result.summary[-1]
    frame = result.tables["deciding"]
    assert frame["Smallest difference", "value"].iloc[0] == pytest.approx(
        100 * result.outlook.pairs[0].smallest
    )
    page = result.write(tmp_path).read_text()
    assert 'id="table-deciding"' in page
    assert (tmp_path / "deciding.csv").exists()
    wide = run_result(close, asked=Asked(margin=30.0))
    assert [v.answer for v in wide.verdicts] == ["equivalent"]
    assert "deciding" not in wide.tables
    wide.write_tables(tmp_path)
    assert not (tmp_path / "deciding.csv").exists()
    assert not np.isnan(result.outlook.pairs[0].smallest)
