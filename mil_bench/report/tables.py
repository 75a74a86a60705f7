"""What a table is, as values; every renderer (terminal, Markdown, CSV, LaTeX, HTML) draws the same ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import pandas as pd

DAGGER = "†"
"""Stands behind a figure that is not defined everywhere; the table's note says where and why."""


@dataclass(frozen=True)
class Cell:
    """One figure of a table, in the unit it is shown in.

    Args:
        mean: over the trainings in which it is defined, or a single figure; not a number if there
            is none.
        std: sample standard deviation (ddof 1) over them; not a number for fewer than two.
        undefined_folds: folds in which it is undefined because a class has no test slide.
        rank: 1 for the best row of the column, 2 for the second best, 0 for all others.
        digits: decimals that are shown.
        interval: lower and upper end of its 95 % interval, None where it has none.
    """

    mean: float
    std: float = float("nan")
    undefined_folds: tuple[int, ...] = ()
    rank: int = 0
    digits: int = 1
    interval: tuple[float, float] | None = None

    @classmethod
    def over(cls, values: Mapping[tuple[int, int], float], digits: int = 1) -> Cell:
        """Mean and standard deviation over trainings.

        Args:
            values: (seed, fold) to value, not a number if undefined.
            digits: decimals that are shown.
        """
        defined = [value for value in values.values() if not np.isnan(value)]
        undefined = tuple(sorted({fold for (_, fold), value in values.items() if np.isnan(value)}))
        mean = float(np.mean(defined)) if defined else float("nan")
        std = float(np.std(defined, ddof=1)) if len(defined) > 1 else float("nan")
        return cls(mean, std, undefined, digits=digits)

    def text(self) -> str:
        """As printed: ``71.2 ± 3.4``, ``71.2 [65.0, 77.1]``, with a dagger where it lacks folds."""
        if np.isnan(self.mean):
            return "undefined" if self.undefined_folds else "no result"
        figure = f"{self.mean:.{self.digits}f}"
        if not np.isnan(self.std):
            figure += f" ± {self.std:.{self.digits}f}"
        if self.interval is not None:
            figure += f" [{self.interval[0]:.{self.digits}f}, {self.interval[1]:.{self.digits}f}]"
        return figure + (DAGGER if self.undefined_folds else "")

    @property
    def parts(self) -> dict[str, float]:
        """Its figures by name, as frames and CSV files hold them."""
        if self.interval is None:
            return {"mean": self.mean, "std": self.std}
        return {"mean": self.mean, "low": self.interval[0], "high": self.interval[1]}


@dataclass(frozen=True)
class ResultTable:
    """A table with its caption; every figure is traceable to the jobs that gave it.

    Args:
        name: for file names ("fine").
        title: heading.
        caption: what holds for every table of a run: dataset, protocol, split, what ± is.
        cells: row to column heading to a figure or to plain text.
        job_keys: row to the keys of its jobs; rows without jobs may be absent.
        note: what holds for this table alone, "" for nothing.
        row_heading: what a row is.
    """

    name: str
    title: str
    caption: str
    cells: Mapping[str, Mapping[str, Cell | str]]
    job_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    note: str = ""
    row_heading: str = "method"

    @property
    def columns(self) -> list[str]:
        """Column headings."""
        return list(next(iter(self.cells.values()), {}))

    @property
    def legend(self) -> str:
        """Note and caption together."""
        return f"{self.note} {self.caption}".strip()

    @property
    def is_ranked(self) -> bool:
        """Whether any cell is marked as best."""
        return any(rank_of(cell) for row in self.cells.values() for cell in row.values())

    def is_text(self, column: str) -> bool:
        """Whether a column holds text alone."""
        return all(isinstance(row[column], str) for row in self.cells.values())

    @property
    def frame(self) -> pd.DataFrame:
        """One row a row; columns (heading, "mean" | "std" | "low" | "high"), or (heading, "text") for text."""
        import pandas as pd  # a third of a second, and lists of runs do without it

        nothing = Cell(float("nan"))
        rows = {}
        for name, row in self.cells.items():
            rows[name] = {}
            for column, cell in row.items():
                if self.is_text(column):
                    rows[name][column, "text"] = cell
                else:
                    parts = (nothing if isinstance(cell, str) else cell).parts
                    rows[name] |= {(column, part): value for part, value in parts.items()}
        frame = pd.DataFrame.from_dict(rows, orient="index")
        frame.index.name = self.row_heading
        return frame


def text_of(cell: Cell | str) -> str:
    """A cell as printed."""
    return cell if isinstance(cell, str) else cell.text()


def rank_of(cell: Cell | str) -> int:
    """1 for the best of a column, 2 for the second best, 0 for all others and for text."""
    return 0 if isinstance(cell, str) else cell.rank


def ranked(
    cells: Mapping[str, Mapping[str, Cell | str]],
    complete: Collection[str],
    lower_is_better: Sequence[str] = (),
) -> dict[str, dict[str, Cell | str]]:
    """Mark best and second best of each column among complete rows; equal means share a rank.

    A column in which these rows are undefined in different folds stays unmarked: their means would
    not be about the same slides.

    Args:
        cells: row to column heading to cell.
        complete: rows that take part.
        lower_is_better: columns in which the lowest mean is the best.
    """
    marked = {name: dict(row) for name, row in cells.items()}
    for column in next(iter(cells.values()), {}):
        own = {
            n: row[column]
            for n, row in marked.items()
            if n in complete and isinstance(row[column], Cell)
        }
        own = {name: cell for name, cell in own.items() if not np.isnan(cell.mean)}
        if len({cell.undefined_folds for cell in own.values()}) != 1:
            continue
        means = sorted({cell.mean for cell in own.values()}, reverse=column not in lower_is_better)
        for name, cell in own.items():
            if cell.mean in means[:2]:
                marked[name][column] = replace(cell, rank=means.index(cell.mean) + 1)
    return marked
