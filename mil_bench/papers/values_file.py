"""Published values that a user has typed from the paper: a table with one value per line.

The columns are table, page, method, metric, mean and std; docs/paper.md shows such a file.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mil_bench.datasets.catalogue import find_dataset
from mil_bench.datasets.tables import read_table
from mil_bench.errors import InputError
from mil_bench.evaluation.built_in_metrics import BUILT_IN
from mil_bench.papers.published import Published
from mil_bench.wording import shortened, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mil_bench.datasets.tables import TableRow
    from mil_bench.papers.items import Item

COLUMNS = ("table", "page", "method", "metric", "mean", "std")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
_PAGE = re.compile(r"[1-9]\d{0,5}", re.ASCII)
_REMEDY = f"Write one value per line, under the header line {','.join(COLUMNS)}."


class _Lines:
    """The lines read so far, with the problems of all of them."""

    def __init__(self, path: Path, items: Sequence[Item]) -> None:
        self._path = path
        self._items = {item.name: item for item in items}
        self._locations: dict[tuple[str, str, str], str] = {}
        self.published: dict[str, list[Published]] = {}
        self.problems: list[str] = []

    def add(self, row: TableRow, cells: Mapping[str, str]) -> None:
        """Read one line."""
        before = len(self.problems)
        item = self._items.get(
            self._known(row, "table", _table(cells["table"]), {n: n for n in self._items})
        )
        page = cells["page"]
        if not _PAGE.fullmatch(page):
            self._say(row, f"page '{shortened(page)}' is not a page number")
        mean = self._number(row, "mean", cells["mean"])
        std = self._number(row, "std", cells["std"]) if cells["std"] else None
        if mean is not None and 0 < mean <= 1:
            self._say(row, f"mean {cells['mean']} looks like a share of 1; write percent")
        if item is None:
            return
        named = item.named.not_built_in if item.named else []
        methods = {name: name for name in (*(r.label for r in item.rows), *named)}
        metrics = {name: k for k in item.metrics for name in (k, BUILT_IN[k].heading)}
        method = self._known(row, "method", cells["method"], methods)
        metric = self._known(row, "metric", cells["metric"], metrics)
        if not method or not metric:
            return
        first = self._locations.setdefault((item.name, method, metric), row.location)
        if first != row.location:
            self._say(row, f"{metric} of {method} in {item.name} is already in {first}")
        if len(self.problems) == before and mean is not None:
            self.published.setdefault(item.name, []).append(
                Published(
                    row=method,
                    dataset=item.datasets[0],
                    standing="read",
                    source=f"page {page} of the paper, as typed in {self._path.name}",
                    values={metric: mean},
                    deviations={} if std is None else {metric: std},
                )
            )

    def _say(self, row: TableRow, problem: str) -> None:
        self.problems.append(f"{row.location}: {problem}")

    def _known(self, row: TableRow, column: str, name: str, known: Mapping[str, str]) -> str:
        """What a name means, whatever its capitals; "" if there is no such name."""
        meanings = {text.casefold(): meaning for text, meaning in known.items()}
        meaning = meanings.get(name.casefold(), "")
        if not name:
            self._say(row, f"{column} is empty")
        elif not meaning:
            near = suggestion(shortened(name).casefold(), dict.fromkeys(known.values()))
            self._say(row, f"there is no {column} '{shortened(name)}'{near}")
        return meaning

    def _number(self, row: TableRow, column: str, text: str) -> float | None:
        if not text:
            self._say(row, f"{column} is empty")
            return None
        if not _NUMBER.fullmatch(text):
            hint = "write a number such as 55.6, in percent"
            self._say(row, f"{column} '{shortened(text)}' is not a number; {hint}")
            return None
        value = float(text)
        if not 0 <= value <= 100:
            self._say(row, f"{column} {shortened(text)} is not between 0 and 100 %")
            return None
        return value


def _table(text: str) -> str:
    """The name of an item as people write it: ``1`` and ``Table 1`` are ``table1``."""
    name = re.sub(r"\s", "", text).casefold()
    return f"table{name}" if name.isdecimal() else name


def read_values(path: Path, items: Iterable[Item]) -> dict[str, list[Published]]:
    """Published values from a file: name of an item to its values.

    Args:
        path: a CSV, TSV or .xlsx file with the columns ``COLUMNS``.
        items: all items. Values can be given for those about one real dataset with one column per
            metric.

    Raises:
        InputError: it is not such a file, or has errors; lists all of them, with their lines.
    """
    tables = [
        item
        for item in items
        if not item.is_classwise
        and len(item.datasets) == 1
        and not find_dataset(item.datasets[0]).simulates
    ]
    table = read_table(path, lambda header: set(COLUMNS) <= {*map(str.casefold, header)})
    header = [name.casefold() for name in table.columns]
    problems = [
        f"the header line has no column {name}; its columns are {', '.join(table.columns)}"
        for name in COLUMNS
        if name not in header
    ]
    problems += [
        f"the header line has {header.count(name)} columns {name}"
        for name in COLUMNS
        if header.count(name) > 1
    ]
    lines = _Lines(path, tables)
    for row in table.rows if not problems else ():
        faults = {header[at]: fault for at, fault in row.faults.items() if header[at] in COLUMNS}
        if faults:
            problems += [f"{row.location}: {name}: {fault}" for name, fault in faults.items()]
        else:
            lines.add(row, dict(zip(header, row.cells, strict=True)))
    if problems or lines.problems:
        raise InputError(f"published values {path}", [*problems, *lines.problems], _REMEDY)
    return lines.published


def with_values(item: Item, given: Sequence[Published]) -> Item:
    """An item with more published values; they replace those of the same row and metric."""
    ours = {(each.row, key) for each in given for key in each.values}
    kept = []
    for each in item.published:
        values = {key: v for key, v in each.values.items() if (each.row, key) not in ours}
        if values:
            kept.append(each.model_copy(update={"values": values}))
    return replace(item, published=(*kept, *given))
