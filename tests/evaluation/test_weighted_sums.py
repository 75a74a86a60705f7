"""Weighted sums: what a weight means, for every metric and any predictions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mil_bench.evaluation.metrics import Measure, ModelScorer, measure, total, values_of
from mil_bench.evaluation.predictions import Predictions
from mil_bench.hierarchy import LabelHierarchy

quickly = settings(max_examples=50, deadline=None, database=None, derandomize=True)
HIERARCHY = LabelHierarchy.from_groups({"left": ["a", "b"], "right": ["c", "d"]})


@st.composite
def some_predictions(draw: st.DrawFn) -> Predictions:
    """1 to 12 slides; classes may be absent, and coarse probabilities have many ties."""
    slides = draw(st.integers(1, 12))
    odds = arrays(float, (slides, 4), elements=st.integers(1, 5).map(float))
    fine, head = draw(odds), draw(odds)[:, :2]
    labels = draw(arrays(np.int64, slides, elements=st.integers(0, 3)))
    attention = draw(arrays(float, slides, elements=st.sampled_from([0.0, 0.5, 0.75, np.nan])))
    names = np.arange(slides).astype(str)
    return Predictions(
        names,
        labels,
        fine / fine.sum(1, keepdims=True),
        names,
        head / head.sum(1, keepdims=True),
        attention,
    )


def repeated(predictions: Predictions, times: np.ndarray) -> Predictions:
    """Every slide as often as its weight says."""
    rows = np.repeat(np.arange(len(times)), times)
    fields = {
        field.name: getattr(predictions, field.name)[rows]
        for field in dataclasses.fields(predictions)
    }
    return Predictions(**fields)


def weighted_values(predictions: Predictions, weight: np.ndarray) -> dict[Measure, np.ndarray]:
    scorer = ModelScorer(predictions, HIERARCHY, ordered=True)
    return values_of(scorer.sums(weight), HIERARCHY)


def resampled_values(predictions: Predictions) -> dict[Measure, float]:
    """The plain metrics, of those that can be resampled."""
    values = measure(predictions, HIERARCHY, ordered=True).values
    return {name: value for name, value in values.items() if name.metric.resampled}


@quickly
@given(some_predictions())
def test_weights_of_one_give_the_plain_metrics(predictions: Predictions) -> None:
    weighted = weighted_values(predictions, np.ones((1, len(predictions.labels))))
    plain = resampled_values(predictions)
    assert weighted.keys() == plain.keys()
    for name, value in plain.items():
        assert weighted[name][0] == pytest.approx(value, abs=0, rel=0, nan_ok=True), name


@quickly
@given(some_predictions(), st.data())
def test_a_whole_weight_is_as_many_copies_of_the_slide(
    predictions: Predictions, data: st.DataObject
) -> None:
    slides = len(predictions.labels)
    times = data.draw(arrays(np.int64, slides, elements=st.integers(0, 3)))
    times[data.draw(st.integers(0, slides - 1))] += 1  # not all of them 0
    weighted = weighted_values(predictions, times[None].astype(float))
    for name, value in resampled_values(repeated(predictions, times)).items():
        assert weighted[name][0] == pytest.approx(value, abs=1e-12, nan_ok=True), name


@quickly
@given(some_predictions(), some_predictions())
def test_all_weightings_at_once_equal_one_after_another(
    predictions: Predictions, other: Predictions
) -> None:
    slides = len(predictions.labels)
    weights = np.stack([np.ones(slides), np.resize(other.labels, slides)]).astype(float)
    together = weighted_values(predictions, weights)
    for row in range(2):
        alone = weighted_values(predictions, weights[row : row + 1])
        for name, values in together.items():
            assert values[row] == pytest.approx(alone[name][0], abs=1e-12, nan_ok=True), name


@quickly
@given(some_predictions(), some_predictions())
def test_sums_of_two_folds_do_not_depend_on_their_order(one: Predictions, two: Predictions) -> None:
    sums = [ModelScorer(p, HIERARCHY, ordered=True).all_sums() for p in (one, two)]
    forwards = values_of(total(sums), HIERARCHY)
    for name, value in values_of(total(sums[::-1]), HIERARCHY).items():
        assert value == pytest.approx(forwards[name], abs=1e-12, nan_ok=True), name
