from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest

from mil_bench.evaluation.predictions import Predictions
from mil_bench.hierarchy import LabelHierarchy

PLAIN = Predictions(
    np.array(["s1", "s22"]),
    np.array([0, 1]),
    np.array([[0.9, 0.1], [0.4, 0.6]]),
    np.array(["p", "q"]),
)
FULL = Predictions(
    PLAIN.slides,
    PLAIN.labels,
    PLAIN.fine,
    PLAIN.groups,
    PLAIN.fine[:, ::-1],
    np.array([0.7, np.nan]),
)


def written(predictions: Predictions) -> bytes:
    file = io.BytesIO()
    predictions.write(file)
    return file.getvalue()


@pytest.mark.parametrize("made", [PLAIN, FULL], ids=["without what is optional", "with it"])
def test_they_survive_the_round_trip_and_always_give_the_same_bytes(made: Predictions) -> None:
    assert written(made) == written(made)
    read = Predictions.read(written(made))
    for name in ("slides", "labels", "fine", "groups", "coarse_head", "attention_auc"):
        before, after = getattr(made, name), getattr(read, name)
        assert (before is None) == (after is None)
        np.testing.assert_array_equal(before, after)


def test_text_kept_as_objects_is_stored_as_plain_text() -> None:
    objects = Predictions(
        PLAIN.slides.astype(object), PLAIN.labels, PLAIN.fine, PLAIN.groups.astype(object)
    )
    assert written(objects) == written(PLAIN)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, ""),
        ({"fine": np.full((2, 3), 1 / 3)}, "fine has the shape (2, 3), not (2, 4)"),
        ({"labels": np.array([0, 4])}, "labels are not numbers of fine classes"),
        ({"labels": np.array([0.0, 1.5])}, "labels are not numbers of fine classes"),
        ({"fine": np.full((2, 4), np.nan)}, "probabilities are not finite"),
        ({"coarse_head": np.full((2, 4), 0.25)}, "coarse_head has the shape (2, 4), not (2, 2)"),
        ({"attention_auc": np.zeros(3)}, "attention_auc has the shape (3,), not (2,)"),
    ],
)
def test_predictions_of_other_classes_are_found_out(
    changed: dict[str, np.ndarray], fault: str
) -> None:
    hierarchy = LabelHierarchy.from_groups({"left": ["a", "b"], "right": ["c", "d"]})
    right = Predictions(
        np.array(["s", "t"]), np.array([0, 1]), np.full((2, 4), 0.25), np.array(["", ""])
    )
    assert dataclasses.replace(right, **changed).fault(hierarchy) == fault
