"""Tables as values; all renderers (terminal, Markdown, CSV, LaTeX, HTML) draw the same ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.wording import in_unit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import pandas as pd

    from mil_bench.evaluation.metric import Metric

ABSENT = "–"
"""Shown if there is no such value (no coarse head, no attention, methods not compared)."""
LINK = "Link"
"""Heading of a column whose texts may be addresses of pages."""
SIGNS = (">", "<", "=", "?")
"""The row is better, it is worse, practically equivalent, undecided."""
DAGGER = "†"
"""Marks a mean over some of the folds; the note of the table says which folds lack it and why."""


@dataclass(frozen=True)
class Cell:
    """One value of a table, in the unit in which it is shown.

    Args:
        mean: over the trainings in which it is defined, or a single value; not a number if there is
            none.
        std: sample standard deviation (ddof 1) over these trainings; not a number for fewer than
            two.
        undefined_folds: folds in which it is undefined because a class has no test slide.
        rank: 1 for the best row of the column, 2 for the second best, 0 for all others.
        digits: number of decimals.
        interval: lower and upper end of its 95 % interval, None if it has none.
        words: how it is printed, if not as a number with ``digits``; files hold ``mean`` all the
            same.
        why: what a page says if the reader points at it: why there is no value, or more of it.
    """

    mean: float
    std: float = float("nan")
    undefined_folds: tuple[int, ...] = ()
    rank: int = 0
    digits: int = 1
    interval: tuple[float, float] | None = None
    words: str = ""
    why: str = ""

    @classmethod
    def of(cls, values: Sequence[float], digits: int = 1) -> Cell:
        """Mean and sample standard deviation of some values.

        Args:
            values: all defined.
            digits: number of decimals.
        """
        mean = float(np.mean(values)) if values else float("nan")
        std = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        return cls(mean, std, digits=digits)

    @classmethod
    def over(cls, values: Mapping[tuple[int, int], float], digits: int = 1) -> Cell:
        """Mean and sample standard deviation over trainings.

        Args:
            values: (seed, fold) to value, not a number if undefined.
            digits: number of decimals.
        """
        undefined = {fold for (_, fold), value in values.items() if np.isnan(value)}
        cell = cls.of([value for value in values.values() if not np.isnan(value)], digits)
        return replace(cell, undefined_folds=tuple(sorted(undefined)))

    @classmethod
    def count(cls, number: float) -> Cell:
        """A whole number."""
        return cls(float(number), digits=0)

    @classmethod
    def single(cls, number: float, words: str) -> Cell:
        """A number that is no mean, with its own way to be printed; a dash if it is none."""
        return cls(number, words=ABSENT if np.isnan(number) else words)

    @classmethod
    def p_value(cls, p: float) -> Cell:
        """A p-value."""
        return cls.single(p, p_number(p))

    @classmethod
    def absent(cls, words: str = ABSENT, why: str = "") -> Cell:
        """A number that does not exist."""
        return cls(float("nan"), words=words, why=why)

    def text(self) -> str:
        """As printed: ``71.2 ± 3.4``, ``71.2 [65.0, 77.1]``; a dagger if some folds lack it."""
        if self.words:
            return self.words
        if np.isnan(self.mean):
            return "undefined" if self.undefined_folds else "no result"
        text = f"{self.mean:.{self.digits}f}"
        if not np.isnan(self.std):
            text += f" ± {self.std:.{self.digits}f}"
        if self.interval is not None:
            text += f" [{self.interval[0]:.{self.digits}f}, {self.interval[1]:.{self.digits}f}]"
        return text + (DAGGER if self.undefined_folds else "")

    @property
    def parts(self) -> dict[str, float]:
        """Its numbers by name, as in frames and CSV files."""
        if self.interval is not None:
            return {"mean": self.mean, "low": self.interval[0], "high": self.interval[1]}
        if self.words:
            return {"value": self.mean}
        return {"mean": self.mean, "std": self.std}


@dataclass(frozen=True)
class ResultTable:
    """A table with its caption; every value can be traced to the jobs that it comes from.

    Args:
        name: for file names ("fine").
        title: heading.
        caption: what holds for all tables of a run: dataset, protocol, split, meaning of ±.
        cells: row to column heading to a value or to plain text.
        job_keys: row to the keys of its jobs; rows without jobs may be absent.
        note: what holds for this table only, "" for nothing.
        row_heading: what a row is.
        method_columns: the columns that belong to one method each.
        is_signs: whether texts are signs of ``SIGNS``, which pages colour.
    """

    name: str
    title: str
    caption: str
    cells: Mapping[str, Mapping[str, Cell | str]]
    job_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    note: str = ""
    row_heading: str = "method"
    method_columns: tuple[str, ...] = ()
    is_signs: bool = False

    def in_unit(self, unit: str) -> ResultTable:
        """The table with title and note about items of a comparison, see ``wording.in_unit``."""
        title, note = (in_unit(text, unit) for text in (self.title, self.note))
        return replace(self, title=title, note=note)

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
        """Whether a column holds only text."""
        return all(isinstance(row[column], str) for row in self.cells.values())

    def values(self, column: str) -> dict[str, list[float] | list[str]]:
        """A column as frames and files hold it: its parts, each with one value per row.

        The parts are "mean", "std", "low", "high", or "value" for a number that is alone, or "text"
        for text. A part that a row lacks is not a number.
        """
        cells = [row[column] for row in self.cells.values()]
        if self.is_text(column):
            return {"text": list(map(text_of, cells))}
        parts = [{} if isinstance(cell, str) else cell.parts for cell in cells]
        defined = [of_row for of_row in parts if not all(map(np.isnan, of_row.values()))]
        names = [name for name in _PARTS if any(name in of_row for of_row in defined or parts)]
        return {name: [of_row.get(name, float("nan")) for of_row in parts] for name in names}

    @property
    def frame(self) -> pd.DataFrame:
        """Columns are (heading, part); see ``values``."""
        import pandas as pd  # a third of a second, and lists of runs do without it

        values = {
            (column, part): numbers
            for column in self.columns
            for part, numbers in self.values(column).items()
        }
        return pd.DataFrame(values, index=pd.Index(list(self.cells), name=self.row_heading))


_PARTS = ("mean", "std", "low", "high", "value")


def p_number(p: float) -> str:
    """A p-value as tables print it: ``.03``, ``< .001``."""
    if p < 0.001:
        return "< .001"
    # With two digits, a value close to the significance level could be on either side of it.
    return (f"{p:.3f}" if p < 0.1 else f"{p:.2f}").removeprefix("0")


def coarse_head_row(method: str) -> str:
    """The row that scores a method's own coarse head."""
    return f"{method} (coarse head)"


def pair_row(first: str, second: str) -> str:
    """The row that compares two methods."""
    return f"{first} vs {second}"


def common_caption(tables: Sequence[ResultTable]) -> str:
    """The caption that all of several tables have, "" if they differ; it is then said once."""
    captions = {table.caption for table in tables}
    return captions.pop() if len(tables) > 1 and len(captions) == 1 else ""


def shown_as(metric: Metric) -> tuple[float, int]:
    """Factor and decimals with which values of a metric are shown."""
    return (100, 1) if metric.percent else (1, 3)


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
    unranked: Sequence[str] = (),
) -> dict[str, dict[str, Cell | str]]:
    """Mark the best and second best of each column; equal means share a rank.

    A column is not marked if its rows are undefined in different folds, because their means are not
    over the same slides.

    Args:
        cells: row to column heading to cell.
        complete: rows that are ranked.
        lower_is_better: columns in which the lowest mean is the best.
        unranked: columns in which none is the best.
    """
    marked = {name: dict(row) for name, row in cells.items()}
    for column in next(iter(cells.values()), {}):
        if column in unranked:
            continue
        values = {
            name: cell
            for name, row in marked.items()
            if name in complete
            and isinstance(cell := row[column], Cell)
            and not np.isnan(cell.mean)
        }
        if len({cell.undefined_folds for cell in values.values()}) != 1:
            continue
        highest_first = column not in lower_is_better
        means = sorted({cell.mean for cell in values.values()}, reverse=highest_first)
        for name, cell in values.items():
            if cell.mean in means[:2]:
                marked[name][column] = replace(cell, rank=means.index(cell.mean) + 1)
    return marked
