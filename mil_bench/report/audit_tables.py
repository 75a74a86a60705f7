"""An audit of a split in tables: slides per fold, per class and per centre."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.report.tables import Cell, ResultTable
from mil_bench.splits.plan import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.split_files.audit import SplitAudit


def audit_tables(audit: SplitAudit) -> list[ResultTable]:
    """Slides per fold, and per class and centre if they are known."""
    tables = [_fold_table(audit)]
    if cells := _class_cells(audit):
        tables.append(ResultTable("classes", "Slides per class", "", cells, row_heading="part"))
    if audit.centres:
        cells, title = _centre_cells(audit), "Slides per centre (%)"
        tables.append(ResultTable("centres", title, "", cells, row_heading="centre"))
    return tables


def _fold_table(audit: SplitAudit) -> ResultTable:
    cells = _fold_cells(audit)
    note = ""
    if any(" in " in name for name in next(iter(cells.values()))):
        group = f" ({audit.group_name})" if audit.group_name else ""
        note = (
            "'test in train' counts the test slides that share a slide, a group"
            f"{group} or a near-duplicate bag with training slides of the same fold."
        )
    return ResultTable("folds", "Slides per fold", "", cells, note=note, row_heading="fold")


def _fold_cells(audit: SplitAudit) -> dict[str, dict[str, Cell | str]]:
    """Sizes, and how many slides of a role overlap with another; zero everywhere has no column."""
    columns: dict[str, Sequence[int]] = {
        role: [size[role] for size in audit.sizes] for role in ROLES
    }
    for overlap in audit.overlaps:
        if len(overlap.others) > 1:
            continue
        counts = {
            "same slide": overlap.slides,
            "same group": overlap.groups,
            "same group and label": overlap.same_label,
            "near-duplicate": overlap.near_duplicates,
        }
        columns |= {
            f"{overlap.role} in {overlap.others[0]}: {what}": numbers
            for what, numbers in counts.items()
            if numbers and sum(numbers)
        }
    cells: dict[str, dict[str, Cell | str]] = {
        str(k): {name: _count(column[i]) for name, column in columns.items()}
        for i, k in enumerate(audit.numbers)
    }
    if len(cells) > 1:
        cells["all"] = {name: _count(sum(column)) for name, column in columns.items()}
    return cells


def _class_cells(audit: SplitAudit) -> dict[str, dict[str, Cell | str]]:
    """One row per role and fold; folds with equal counts share a row."""
    folds_of: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for role in ROLES:
        for number, count in zip(audit.numbers, audit.class_counts, strict=True):
            if sum(count[role]):
                folds_of.setdefault((role, count[role]), []).append(number)
    return {
        f"{role}, {_folds(numbers, audit)}": dict(
            zip(audit.classes, map(_count, count), strict=True)
        )
        for (role, count), numbers in folds_of.items()
    }


def _folds(numbers: Sequence[int], audit: SplitAudit) -> str:
    if len(numbers) == len(audit.numbers) > 1:
        return "every fold"
    return f"fold{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _centre_cells(audit: SplitAudit) -> dict[str, dict[str, Cell | str]]:
    """Lowest and highest share over the folds."""
    roles = [role for role in ROLES if any(role in shares for shares in audit.centres)]
    names = sorted({name for shares in audit.centres for role in shares for name in shares[role]})
    return {
        name: {
            role: _range([100 * shares[role][name] for shares in audit.centres if role in shares])
            for role in roles
        }
        for name in names
    }


def _range(values: Sequence[float]) -> Cell | str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return Cell(values[0]) if low == high else f"{low} to {high}"


def _count(number: int) -> Cell:
    return Cell(number, digits=0)
