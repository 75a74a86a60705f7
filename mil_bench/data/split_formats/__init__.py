"""Split files of this field's tools, one module a tool; which tool made a file is told from its content."""

from __future__ import annotations

from pathlib import Path

from mil_bench.data.split_formats.clam import CLAM
from mil_bench.data.split_formats.hmil import HMIL
from mil_bench.data.split_formats.interface import FileStart
from mil_bench.data.split_formats.mil_baseline import MIL_BASELINE
from mil_bench.data.split_formats.own import OWN
from mil_bench.data.split_formats.patho_bench import PATHO_BENCH
from mil_bench.data.split_formats.transmil import TRANSMIL
from mil_bench.data.split_lists import SplitLists
from mil_bench.errors import InputError

FORMATS = (OWN, HMIL, CLAM, PATHO_BENCH, MIL_BASELINE, TRANSMIL)

_ENDINGS = (".json", ".pkl", ".pickle", ".csv", ".tsv", ".txt")  # others in a folder are not looked into
_START_BYTES = 2**16


def read_split_lists(path: Path) -> SplitLists:
    """What split files list, whoever made them.

    Args:
        path: a folder with all files of one split, or a single file.

    Raises:
        InputError: nothing there is a split file, several tools' files lie there, or a file is broken.
    """
    found: dict[str, list[Path]] = {}
    try:
        for file in _files(path):
            with file.open("rb") as opened:
                start = FileStart(file, opened.read(_START_BYTES))
            own = next((form for form in FORMATS if form.matches(start)), None)
            if own is not None:
                found.setdefault(own.title, []).append(file)
    except OSError as error:
        raise InputError(f"splits {path}", [f"cannot be read: {error.strerror}"], "Check the path.") from error
    if len(found) == 1:
        ((title, files),) = found.items()
        return next(form for form in FORMATS if form.title == title).read(files)
    known = "; ".join(form.title for form in FORMATS)
    if found:
        problems = [f"{len(files)} of {title}: {files[0].name}" for title, files in found.items()]
        raise InputError(f"splits {path}", problems, "Name one file, or a folder with the files of one split.")
    raise InputError(f"splits {path}", [_nothing(path)], f"These are known: {known}.")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = [file for file in path.iterdir() if file.suffix.lower() in _ENDINGS and not file.name.startswith(".")]
    return sorted(file for file in inside if not file.is_dir())


def _nothing(path: Path) -> str:
    if not path.is_dir():
        return "it is an empty file" if path.stat().st_size == 0 else "it is no split file of a known form"
    folders = sorted(each.name for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    inside = f"; it has folders {', '.join(folders[:5])}: name one of them" if folders else ""
    return f"no split file lies in this folder{inside}"
