"""Names in MLflow: allowed, and as distinct as what they name."""

from __future__ import annotations

import made_runs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param

from mil_bench.tracking import entries
from mil_bench.tracking.names import plain_names

COLLIDING = [
    ("a/b", "a?b"),
    ("adeno [a]", "adeno (a)"),
    ("a_b", "a/b", "a$b"),
    ("x" * 300, "x" * 299 + "y"),
    ("", "?"),
    (".", "..", "/"),
    ("$_$", "___"),
    ("ä漢", "ä?", "ä!"),
]


@pytest.mark.parametrize("names", COLLIDING)
def test_names_that_look_alike_stay_distinct_and_are_allowed(names: tuple[str, ...]) -> None:
    shown = plain_names(names)
    assert len(set(shown.values())) == len(names)
    for name in shown.values():
        assert len(name) <= 100
        _validate_metric_name(f"test_fine_auc/{name}")
        _validate_param(name, "value")


@given(st.sets(st.text(max_size=100), max_size=6))
def test_any_names_are_allowed_and_distinct(names: set[str]) -> None:
    shown = plain_names(names)
    assert len(set(shown.values())) == len(names)
    for name in shown.values():
        _validate_metric_name(f"test_fine_auc/{name}")


def test_a_name_that_is_allowed_or_alone_keeps_its_letters() -> None:
    assert plain_names(["ADH", "ISUP 3", "a_b", "in situ (low)"]) == {
        "ADH": "ADH",
        "ISUP 3": "ISUP 3",
        "a_b": "a_b",
        "in situ (low)": "in situ _low_",
    }
    assert plain_names(["a_b", "a/b"])["a_b"] == "a_b"


def test_methods_that_look_alike_have_points_of_their_own() -> None:
    trained = made_runs.trained_folds(1.0)
    plan = made_runs.run_result({"abmil [a]": trained, "abmil (a)": trained}).plan
    means = {"test_fine/accuracy": (0.5, 2, 0.0)}
    points = [
        entries.headline_points(plan, label, means)[0].name for label in ("abmil [a]", "abmil (a)")
    ]
    assert len(set(points)) == 2
