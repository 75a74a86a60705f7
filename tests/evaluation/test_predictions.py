from __future__ import annotations

import io

import numpy as np
import pytest

from mil_bench.evaluation.predictions import Predictions

PLAIN = Predictions(np.array(["s1", "s22"]), np.array([0, 1]), np.array([[0.9, 0.1], [0.4, 0.6]]), np.array(["p", "q"]))
FULL = Predictions(PLAIN.slides, PLAIN.labels, PLAIN.fine, PLAIN.groups, PLAIN.fine[:, ::-1], np.array([0.7, np.nan]))


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
    objects = Predictions(PLAIN.slides.astype(object), PLAIN.labels, PLAIN.fine, PLAIN.groups.astype(object))
    assert written(objects) == written(PLAIN)
