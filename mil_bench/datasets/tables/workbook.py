"""Excel workbooks (.xlsx), the only door to openpyxl."""

from __future__ import annotations

import datetime
import io
import re
import warnings
import zipfile
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from mil_bench.datasets.tables.table import MOST_BYTES, TableRow, TextTable, refusal
from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_HIGHEST_RATIO = 100  # of unpacked to packed bytes; the official BRACS.xlsx has 11
_SMALL = 16 * 2**20  # unpacked bytes below which no ratio does harm
_MOST_ROWS = 2**20  # of an Excel sheet
_EXACT_DIGITS = 10**15  # Excel keeps 15 digits of a number
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s[^>]*?ref="([A-Z]+\d+:[A-Z]+\d+)"')
_BLANK_ROWS_BEFORE_HEADER = 100


def read_workbook(
    path: Path, raw: bytes, fits: Callable[[tuple[str, ...]], bool], sheet: str
) -> TextTable:
    """The table in the bytes of a workbook; see ``read_table``.

    Raises:
        InputError: not an .xlsx workbook, damaged, a zip bomb, without rows, or several of its
            sheets fit.
    """
    _check_archive(path, raw)
    with warnings.catch_warnings():
        # openpyxl's, about styles and extensions that do not concern the cells.
        warnings.simplefilter("ignore")
        try:
            return _table(path, raw, fits, sheet)
        except InputError:
            raise
        except Exception as error:  # a damaged or hostile workbook may make openpyxl throw anything
            cause = error.__cause__ or error  # openpyxl wraps some
            detail = f"{type(cause).__name__}: {cause}"
            raise refusal(
                path, f"it cannot be read as an Excel workbook, it may be damaged ({detail})"
            ) from error


def _check_archive(path: Path, raw: bytes) -> None:
    """Refuse what is not a workbook, and what would unpack to a size that no label table has."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise refusal(
            path, f"it cannot be read as an Excel workbook, it may be cut short ({error})"
        ) from error
    if not any(member.filename.startswith("xl/") for member in members):
        raise refusal(
            path, "it is a zip archive but not an .xlsx workbook; save it as .xlsx or as CSV UTF-8"
        )
    packed, unpacked = len(raw), sum(member.file_size for member in members)
    if unpacked > MOST_BYTES or unpacked > max(_SMALL, _HIGHEST_RATIO * packed):
        sizes = f"{packed:,} bytes would unpack to {unpacked:,}"
        raise refusal(
            path, f"{sizes}; no label table does that, so it was not opened (a zip bomb?)"
        )


def _table(
    path: Path, raw: bytes, fits: Callable[[tuple[str, ...]], bool], sheet: str
) -> TextTable:
    import openpyxl

    # Twice: with values as last computed, and with formulas, to distinguish an empty cell from one
    # that was never computed.
    books = [
        openpyxl.load_workbook(io.BytesIO(raw), read_only=True, data_only=values, keep_links=False)
        for values in (True, False)
    ]
    try:
        for book in books:
            for worksheet in book.worksheets:
                worksheet.reset_dimensions()  # some programs write wrong ones
        name = _chosen(path, books[0], fits, sheet)
        merged = _Merged(books[0][name])
        columns: tuple[str, ...] = ()
        rows = []
        for number, (cells, formulas) in enumerate(
            zip(*(book[name].iter_rows() for book in books), strict=True), 1
        ):
            if number > _MOST_ROWS:
                raise refusal(path, f"sheet '{name}' has more than {_MOST_ROWS:,} rows")
            if not columns:
                columns = _header(cells)
                merged.faults(number, 0)
            elif any(cell.value is not None for cell in formulas):
                row = _row(f"sheet '{name}', row {number}", len(columns), cells, formulas)
                faults = {**row.faults, **merged.faults(number, len(columns))}
                rows.append(replace(row, faults=faults))
    finally:
        for book in books:
            book.close()
    rows = [row for row in rows if any(row.cells) or row.faults]
    if not rows:
        raise refusal(path, f"sheet '{name}' has no rows under its header")
    return TextTable(columns, tuple(rows))


class _Merged:
    """The merged cells of a sheet, of which Excel keeps the value of the first only."""

    def __init__(self, sheet: Any) -> None:
        from openpyxl.utils import get_column_letter, range_boundaries

        self._letter = get_column_letter
        # openpyxl gives them only for a sheet that it loads as a whole.
        raw = sheet.parent._archive.read(sheet._worksheet_path)
        ranges: list[Any] = [range_boundaries(ref.decode()) for ref in _MERGED.findall(raw)]
        self._coming = sorted(((r, c, last, end) for c, r, end, last in ranges), reverse=True)
        self._here: list[tuple[int, int, int, int]] = []

    def faults(self, number: int, width: int) -> dict[int, str]:
        """What is wrong with the cells of a row; rows are asked for in their order."""
        while self._coming and self._coming[-1][0] <= number:
            self._here.append(self._coming.pop())
        self._here = [area for area in self._here if area[2] >= number]
        faults = {}
        for row, column, last, end in self._here:
            first = f"{self._letter(column)}{row}"
            for at in range(column, min(end, width) + 1):
                if (row, column) != (number, at):
                    cell = f"{self._letter(at)}{number}"
                    faults[at - 1] = (
                        f"cell {cell} is merged with {first} (to {self._letter(end)}{last}), "
                        "which alone has a value; unmerge the cells and fill in every row"
                    )
        return faults


def _chosen(path: Path, book: Any, fits: Callable[[tuple[str, ...]], bool], sheet: str) -> str:
    """Name of the sheet to read: the one that is named, the only one that fits, or the only one."""
    names = [worksheet.title for worksheet in book.worksheets]
    if not names:
        raise refusal(path, "it has no sheet with cells")
    if sheet in names:
        return sheet
    headers = {name: next(filter(any, map(_header, _first_rows(book[name]))), ()) for name in names}
    fitting = [name for name in names if fits(headers[name])]
    if len(fitting) == 1 or len(names) == 1:
        return (fitting or names)[0]
    begins = [
        f"sheet '{name}' begins with: {', '.join(filter(None, headers[name])) or 'nothing'}"
        for name in names
    ]
    count = f"{len(fitting)} of its sheets have" if fitting else "none of its sheets has"
    raise refusal(
        path,
        f"{count} the needed columns; name one on a card (columns.sheet) or save it alone",
        *begins,
    )


def _first_rows(sheet: Any) -> Iterator[tuple[Any, ...]]:
    return islice(sheet.iter_rows(), _BLANK_ROWS_BEFORE_HEADER)


def _header(cells: tuple[Any, ...]) -> tuple[str, ...]:
    """Column names; () for a blank row."""
    names = tuple(_text(cell) for cell in cells)
    return names if any(names) else ()


def _row(location: str, width: int, cells: tuple[Any, ...], formulas: tuple[Any, ...]) -> TableRow:
    """A row as wide as the header; cells beyond it have no heading and are ignored."""
    texts = [_text(cell) for cell in cells[:width]]
    faults = {at: fault for at, cell in enumerate(cells[:width]) if (fault := _fault(cell))}
    for at, (cell, formula) in enumerate(zip(cells[:width], formulas, strict=False)):
        if cell.value is None and formula.data_type == "f":
            cure = "open the workbook in a spreadsheet program and save it"
            faults[at] = f"cell {formula.coordinate} holds a formula without a result; {cure}"
    return TableRow(location, (*texts, *[""] * (width - len(texts))), faults)


def _text(cell: Any) -> str:
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer():
        zeros = re.fullmatch("0+", cell.number_format)  # "00000": Excel shows leading zeros
        return f"{int(value):0{len(zeros.group()) if zeros else 1}d}"
    return str(value).strip()


def _fault(cell: Any) -> str:
    """Why a cell's text is not what was once entered, "" if it is."""
    value, again = cell.value, "format the column as text and enter it again"
    if value is None:
        return ""
    holds = f"cell {cell.coordinate} holds"
    if cell.data_type == "e":
        return f"{holds} the error {value}"
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
        return (
            f"{holds} a date or time ({value}), as spreadsheets make of entries like 3-5; {again}"
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if abs(value) >= _EXACT_DIGITS:
        return f"{holds} a number of more than 15 digits, of which Excel keeps 15; {again}"
    if not float(value).is_integer():
        return f"{holds} the number {value}, which is not whole; {again}"
    return ""
