"""ROC and precision-recall curves against scikit-learn, and their bands against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from made_runs import evidence, predictions, trained_folds
from sklearn.metrics import precision_recall_curve, roc_curve

from mil_bench.evaluation.bootstrap import draws, units_of
from mil_bench.evaluation.curves.bands import DRAWS, CurveBands
from mil_bench.evaluation.curves.heights import GRID, Curve, precision, sensitivity

CURVES = pytest.mark.parametrize("curve", [sensitivity, precision])


def by_sklearn(curve: Curve, positive: np.ndarray, score: np.ndarray, weight: np.ndarray) -> list:
    """Heights at the grid; drawn slides are repeated."""
    positive, score = np.repeat(positive, weight), np.repeat(score, weight)
    if curve is sensitivity:
        x, y, _ = roc_curve(positive, score, drop_intermediate=False)
        heights = np.interp(GRID, x, y)
        heights[0] = 0
        return heights.tolist()
    y, x, _ = precision_recall_curve(positive, score)
    x, y = x[::-1], y[::-1]
    # A grid point and a recall that are equal but for rounding are equal.
    return y[np.searchsorted(x + 1e-9, GRID, side="left")].tolist()


@CURVES
@pytest.mark.parametrize("levels", [4, 1000])
def test_curves_are_those_of_scikit_learn_also_with_ties_and_weights(
    curve: Curve, levels: int
) -> None:
    rng = np.random.default_rng(levels)
    for _ in range(20):
        n = int(rng.integers(5, 60))
        positive = rng.random(n) < 0.4
        positive[:2] = True, False
        score = rng.integers(0, levels, n) / levels + 0.2 * positive
        weight = rng.integers(0, 4, n)
        weight[:2] = 1
        order = np.argsort(-score, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
        right, wrong = (np.cumsum((weight * of)[order])[ends][None] for of in (positive, ~positive))
        expected = by_sklearn(curve, positive, score, weight)
        np.testing.assert_allclose(curve(right, wrong)[0], expected, atol=1e-12)


@CURVES
def test_a_band_is_the_middle_of_the_mean_curves_of_drawn_patients(curve: Curve) -> None:
    found = evidence({"m": trained_folds(1.0)})
    banded = CurveBands(found).of(curve)["m"][2]
    folds = [t.predictions for t in found.trained["m"]]
    unit_of = units_of({"m": folds}, grouped=True)
    weights = np.concatenate(draws(len(set(unit_of.values())), DRAWS))
    means = []
    for row in weights[:40]:
        of_folds = [
            by_sklearn(curve, p.labels == 2, p.fine[:, 2], row[[unit_of[s] for s in p.slides]])
            for p in folds
        ]
        means.append(np.mean(of_folds, axis=0))
    np.testing.assert_allclose(banded.heights, means[0], atol=1e-12)
    low, high = banded.band
    inside = (low - 1e-12 <= np.array(means[1:])) & (np.array(means[1:]) <= high + 1e-12)
    # 39 of the 500 draws whose quantiles the band holds.
    assert 0.9 < inside.mean() <= 1
    assert (low <= high).all()


def test_a_class_of_few_patients_has_a_curve_and_no_band() -> None:
    labels = np.where(np.arange(40) < 4, 3, np.arange(40) % 3)
    changed = {f"fold{k}": labels for k in range(3)}
    bands = CurveBands(evidence({"m": trained_folds(1.0, **changed)}))
    curves = bands.of(sensitivity)["m"]
    assert dict(bands.without) == {"r1": 6}  # two patients in each of three folds
    assert curves[3].band is None
    assert curves[0].band is not None


def test_a_class_that_no_fold_tests_has_no_curve() -> None:
    changed = {f"fold{k}": np.arange(39) % 3 for k in range(3)}
    bands = CurveBands(evidence({"m": trained_folds(1.0, **changed), "none": ()}))
    found = bands.of(precision)
    assert found["m"][3] is None
    assert found["none"] == [None] * 4
    nothing = CurveBands(evidence({"none": ()}))
    assert nothing.of(sensitivity) == {"none": [None] * 4}


def test_few_patients_give_no_band_at_all() -> None:
    few = trained_folds(1.0, folds=1, fold0=np.arange(12) % 4)
    bands = CurveBands(evidence({"m": few}, 1))
    assert all(curve.band is None for curve in bands.of(sensitivity)["m"])
    assert len(bands.without) == 4


def test_a_part_of_predictions_keeps_every_array() -> None:
    whole = predictions(0, 1.0, head=True)
    part = whole.part(whole.labels == 1)
    assert (part.labels == 1).all()
    assert len(part.slides) == len(part.fine) == len(part.coarse_head) == len(part.groups) == 10
    assert part.attention_auc is None


def test_of_many_methods_the_best_two_have_bands() -> None:
    skills = {"a": 0.1, "b": 2.0, "c": 0.2, "d": 1.0, "e": 0.3}
    made = {name: trained_folds(skill) for name, skill in skills.items()}
    bands = CurveBands(evidence(made | {"part": trained_folds(5.0, folds=2)}))
    assert bands.banded == ["b", "d"]
    found = bands.of(sensitivity)
    assert {m for m, curves in found.items() if curves[0].band is not None} == {"b", "d"}
    assert CurveBands(evidence({"a": made["a"], "b": made["b"]})).banded == ["a", "b"]
