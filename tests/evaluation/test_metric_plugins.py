"""A metric from outside, in a few lines: it appears wherever a built-in one does."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
import pytest
from made_runs import evidence, run_result, trained_folds

from mil_bench import registry
from mil_bench.evaluation.metric import Metric
from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.verdicts import verdicts
from mil_bench.evaluation.weighted_sums import Ratio, Weighted
from mil_bench.registry import Registry
from mil_bench.report.result_tables import pooled_tables, result_tables
from mil_bench.report.sentences import verdict_sentence

if TYPE_CHECKING:
    from pathlib import Path


def top2(weighted: Weighted) -> Ratio:
    best = weighted.probabilities.argsort(1)[:, -2:]
    right = (best == weighted.labels[:, None]).any(1)
    return Ratio.share(weighted.weight, right, np.ones(len(right), dtype=bool))


TOP2 = Metric("Top-2", "top-2 accuracy", "The class is one of the two most probable.", top2)
NEVER = Metric(
    "Never",
    "a value that is never defined",
    "Undefined everywhere.",
    lambda weighted: Ratio.of(weighted.total * 0, weighted.total * 0),
    undefined="nothing is counted",
    levels=("slide",),
)


@pytest.fixture
def _offered(monkeypatch: pytest.MonkeyPatch) -> None:
    group = "mil_bench.metrics"
    points = [metadata.EntryPoint(n.lower(), f"{__name__}:{n}", group) for n in ("TOP2", "NEVER")]
    real = metadata.entry_points

    def entry_points(group: str) -> list[metadata.EntryPoint]:
        return points if group == points[0].group else list(real(group=group))

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    monkeypatch.setattr(registry, "metrics", Registry(group, "metric"))


@pytest.mark.usefixtures("_offered")
def test_a_metric_of_a_package_has_a_column_an_interval_and_verdicts(tmp_path: Path) -> None:
    methods = {"good": trained_folds(2.0), "bad": trained_folds(0.2)}
    made = evidence(methods)
    more = next(table for table in result_tables(made, "") if table.name == "more")
    predictions = [fold.predictions for fold in methods["good"]]
    shares = [
        np.mean([label in row.argsort()[-2:] for label, row in zip(p.labels, p.fine, strict=True)])
        for p in predictions
    ]
    assert more.cells["good"]["Top-2 (%)"].mean == pytest.approx(100 * np.mean(shares))
    assert "The class is one of the two most probable." in more.note
    pooled = next(table for table in pooled_tables(made, "") if table.name == "pooled")
    low, high = pooled.cells["good"]["Top-2 (%)"].interval
    assert low < more.cells["good"]["Top-2 (%)"].mean < high
    (verdict,) = verdicts(made, Measure("fine", "top2"))
    assert verdict.first == "good"
    assert "top-2 accuracy" in verdict_sentence(verdict)
    run_result(methods).write_tables(tmp_path)
    assert "Top-2" in (tmp_path / "more.csv").read_text()


@pytest.mark.usefixtures("_offered")
def test_a_slide_level_metric_of_a_package_that_is_undefined_says_why() -> None:
    made = evidence({"good": trained_folds(2.0)})
    more = next(table for table in result_tables(made, "") if table.name == "more")
    assert more.cells["good"]["Never (%)"].text() == "undefined"
    assert "nothing is counted in folds 0, 1, 2" in more.note
