"""The slides of a run by class: how many, of how many patients, with how many instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.report.tables import Cell, ResultTable
from mil_bench.wording import plural

if TYPE_CHECKING:
    from mil_bench.planning.plan import RunPlan

_NOTE = "Slides of each class in all folds, and the number of instances in their bags."
_SPREAD = ("Smallest bag", "Lower quartile", "Median bag", "Upper quartile", "Largest bag")
_OLDER = "An older version of mil-bench planned the run and did not count this."


def data_table(plan: RunPlan) -> ResultTable:
    """One row per fine class."""
    facts, group = plan.data, plan.splits.group_name
    cells: dict[str, dict[str, Cell | str]] = {}
    for c, name in enumerate(plan.hierarchy.fine):
        known = None if facts is None else facts.classes.get(name)
        row: dict[str, Cell | str] = {}
        if not plan.hierarchy.is_flat:
            row["Coarse class"] = plan.hierarchy.coarse[plan.hierarchy.parent[c]]
        row["Slides"] = Cell.absent(why=_OLDER) if known is None else _count(known.slides)
        if group:
            heading = f"{group[0].upper()}{group[1:]}s"
            row[heading] = Cell.absent(why=_OLDER) if known is None else _count(known.groups)
        spread = () if known is None else known.instances
        why = _OLDER if known is None else "No slide has this class."
        row |= {
            heading: _count(round(spread[i])) if spread else Cell.absent(why=why)
            for i, heading in enumerate(_SPREAD)
        }
        cells[name] = row
    return ResultTable(
        "data", "Data", plan.caption, cells, note=f"{_NOTE} {_missing(plan)}", row_heading="class"
    )


def _count(number: int) -> Cell:
    return Cell.single(float(number), f"{number:,}")


def _missing(plan: RunPlan) -> str:
    facts = plan.data
    if facts is None:
        return f"Bags and missing slides are not known: {_OLDER[0].lower()}{_OLDER[1:]}"
    width = f"Each instance has {plural(facts.width, 'feature')}."
    if not facts.without_features:
        return f"{width} No labelled slide lacks features."
    number = plural(facts.without_features, "labelled slide has", "labelled slides have")
    return (
        f"{width} {number} no features and {'is' if facts.without_features == 1 else 'are'} "
        "in no fold."
    )
