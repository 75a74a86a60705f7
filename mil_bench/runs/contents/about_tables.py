"""The tables that are no results: hardest slides, what was trained, folds and data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mil_bench.report.overview.forest import by_mean
from mil_bench.report.overview.hardest_slides import hardest_slides
from mil_bench.runs.contents.data_table import data_table
from mil_bench.runs.contents.trained_table import trained_table
from mil_bench.runs.fold_table import fold_table

if TYPE_CHECKING:
    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.verdicts import Evidence
    from mil_bench.planning.plan import RunPlan
    from mil_bench.report.tables import ResultTable


def about_tables(
    plan: RunPlan, evidence: Evidence, measure: Measure, caption: str
) -> list[ResultTable]:
    """The tables, in the unit of the comparison; bags are counted in slides all the same.

    Args:
        plan: of the run.
        evidence: what was measured.
        measure: what methods are compared on.
        caption: of the run.
    """
    hardest = hardest_slides(evidence, by_mean(evidence, measure), caption)
    tables = [
        *([] if hardest is None else [hardest]),
        trained_table(plan, evidence.trained, caption),
        replace(fold_table(plan, evidence.trained), caption=caption),
    ]
    about_data = replace(data_table(plan), caption=caption)
    return [*(table.in_unit(plan.unit) for table in tables), about_data]
