"""Published values next to ours, each with its source."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Text = Annotated[str, Field(min_length=1)]
"""Text of a protocol file that may not be empty."""
_NOT_AVAILABLE = "not available"
_NOT_BUILT_IN = "not built in"


class Published(BaseModel):
    """Published values of one row on one dataset.

    Args:
        row: label of the row.
        dataset: name of the real dataset.
        standing: "read" if we, or the user who gives them, read them in the publication;
            "second-hand" if somebody else quotes them.
        source: where they were found.
        values: key of a metric to its value, in the unit of the tables (mostly percent).
        deviations: key of a metric to its standard deviation, where it is known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    row: str
    dataset: str
    standing: Literal["read", "second-hand"]
    source: Text
    values: dict[str, Annotated[float, Field(strict=True)]]
    deviations: dict[str, Annotated[float, Field(strict=True)]] = {}


class Named(BaseModel):
    """Methods that a source names as compared in the publication, without values.

    Args:
        rows: labels of rows.
        not_built_in: methods that mil-bench lacks; tables show them without values of ours.
        standing: "read" or "second-hand", as of published values.
        source: where they are named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: list[Text] = []
    not_built_in: list[Text] = []
    standing: Literal["read", "second-hand"]
    source: Text

    @property
    def methods(self) -> list[str]:
        """All methods that are named."""
        return [*self.rows, *self.not_built_in]


def published_beside(
    table: ResultTable,
    columns: Mapping[str, str],
    published: Sequence[Published],
    named: Named | None = None,
) -> ResultTable:
    """A table of ours with a column of published values after each metric that has any.

    Args:
        table: of a run.
        columns: headings to show, in their order, to keys of published values.
        published: of this dataset.
        named: methods that are named without values; those that mil-bench lacks get a row.
    """
    sources = {(source.row, key): source for source in published for key in source.values}
    keys = {key for _, key in sources}
    lacking = dict.fromkeys(columns, Cell.absent(_NOT_BUILT_IN))
    rows = {**table.cells, **dict.fromkeys(named.not_built_in if named else (), lacking)}
    cells: dict[str, dict[str, Cell | str]] = {}
    for row, ours in rows.items():
        cells[row] = {}
        for heading, key in columns.items():
            cells[row][heading] = ours[heading]
            if key in keys:
                source = sources.get((row, key))
                cells[row][f"{heading}, published"] = (
                    Cell.absent(_without_value(row, named))
                    if source is None
                    else _compared(ours[heading], source, key)
                )
    return replace(table, cells=cells, note=f"{table.note} {_sources(published, named)}".strip())


def alone(table: ResultTable, headings: Sequence[str]) -> ResultTable:
    """Some columns of a table on simulated data, which no published value is comparable with."""
    cells = {
        row: {heading: ours[heading] for heading in headings} for row, ours in table.cells.items()
    }
    note = "Published values are not shown: they are not comparable with simulated data."
    return replace(table, cells=cells, note=f"{table.note} {note}".strip())


def _without_value(row: str, named: Named | None) -> str:
    if named is None or row not in named.methods:
        return _NOT_AVAILABLE
    return f"named {named.standing}, no value"


def _compared(ours: Cell | str, published: Published, key: str) -> Cell:
    """A published value with the difference of ours from it."""
    value = published.values[key]
    deviation = f" ± {published.deviations[key]:g}" if key in published.deviations else ""
    text = f"{value:g}{deviation} {published.standing}"
    if isinstance(ours, str) or np.isnan(ours.mean):
        return Cell(value, words=text)
    return Cell(value, words=f"{text} (ours {ours.mean - value:+.{ours.digits}f})")


def _sources(published: Sequence[Published], named: Named | None) -> str:
    if not published:
        sentences = ["Published values are not available: no source that we could read gives them."]
    else:
        rows: dict[str, dict[str, None]] = {}
        for each in published:
            rows.setdefault(f"{each.standing}, {each.source}", {})[each.row] = None
        sources = "; ".join(f"{', '.join(names)}: {source}" for source, names in rows.items())
        sentences = [
            f"Published values of {sources}. All others are not available: no source that was "
            "read gives them."
        ]
    if named is not None:
        names = ", ".join(named.methods)
        sentences.append(f"Named without values: {names} ({named.standing}, {named.source}).")
        if named.not_built_in:
            sentences.append(f"mil-bench lacks {', '.join(named.not_built_in)}.")
    return " ".join(sentences)
