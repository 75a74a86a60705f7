"""Writes Excel workbooks and edits what openpyxl would not write."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import openpyxl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


def write_xlsx(
    path: Path, sheets: Mapping[str, Sequence[Sequence[Any]]], text_format: str = ""
) -> Path:
    """A workbook with rows of cells by sheet; the first column gets the number format, if any."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
        for row in sheet.iter_rows(min_row=2, max_col=1):
            if text_format:
                row[0].number_format = text_format
    book.save(path)
    return path


def edit_member(path: Path, member: str, change: Callable[[bytes], bytes]) -> Path:
    """Rewrite one file in the archive."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[member] = change(members[member])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path
