"""mil-bench's own split file: one readable JSON file with folds by role, their source and digest.

The digest is checked whenever the file is read. A file that was edited is refused, because results
of the old folds would not be found for the new ones; ``mil-bench splits import`` makes a new split
file from it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mil_bench import durable
from mil_bench.datasets.catalogue import on_the_command_line
from mil_bench.datasets.regular_file import open_regular
from mil_bench.errors import InputError
from mil_bench.file_values import value_problems
from mil_bench.split_files.formats.interface import FileStart, SplitFormat
from mil_bench.splits.lists import SplitLists
from mil_bench.splits.plan import ROLES, Fold, SplitPlan, folds_digest
from mil_bench.splits.protocols import IMPORTED, PROTOCOLS, bind_folds
from mil_bench.wording import first_names, suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.datasets.slides import Slides

FORMAT = "mil-bench split"
VERSION = 1
_LONGEST_SOURCE = 1000
_AGAIN = "Make or import it again with mil-bench splits."
_IMPORT_FIRST = (
    "Import the splits of other tools first: mil-bench splits import PATH --dataset NAME NEW.json"
)


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{text!r:.60} is not one printable line")
    return text


def _existing_protocol(name: str) -> str:
    protocols = (*PROTOCOLS, IMPORTED)
    if name not in protocols:
        raise ValueError(f"there is none called {name!r:.60}{suggestion(name, protocols)}")
    return name


def _at_least_one(folds: list[_Fold]) -> list[_Fold]:
    if not folds:
        raise ValueError("a split file has at least one fold")
    return folds


class _Fold(BaseModel):
    model_config = ConfigDict(extra="forbid")

    train: list[str]
    val: list[str]
    test: list[str]


class _Content(BaseModel):
    """The keys of a split file, without format and version."""

    dataset: str
    protocol: Annotated[str, AfterValidator(_existing_protocol)]
    source: Annotated[str, Field(max_length=_LONGEST_SOURCE), AfterValidator(_one_line)]
    digest: str
    folds: Annotated[list[_Fold], AfterValidator(_at_least_one)]


@dataclass(frozen=True)
class SplitFile:
    """The content of a split file.

    Args:
        dataset: slug of the dataset whose slides it names.
        protocol: a key of ``PROTOCOLS``, or ``IMPORTED``.
        source: where the folds come from, in words for captions.
        folds: the folds, in order.
    """

    dataset: str
    protocol: str
    source: str
    folds: tuple[Fold, ...]

    @cached_property
    def digest(self) -> str:
        """As ``SplitPlan.digest``."""
        return folds_digest(self.folds)

    @property
    def lists(self) -> SplitLists:
        """The folds as lists, for audits."""
        return SplitLists(self.source, self.folds, tuple(range(len(self.folds))))

    def write(self, path: Path) -> None:
        """Write a new file; a file with the same content is left as it is.

        Raises:
            InputError: another file has that name.
            StorageError: the folder or the disk refuses.
        """
        text = self._text()
        if not path.exists():
            durable.write_once(path, lambda file: file.write(text.encode()))
        try:
            same = path.read_text(encoding="utf-8") == text
        except (OSError, ValueError):
            same = False
        if not same:
            problem = f"{path} exists already, with another content"
            remedy = "Name a new file: split files are never overwritten."
            raise InputError("writing a split file", [problem], remedy)

    def _text(self) -> str:
        about = {
            "format": FORMAT,
            "version": VERSION,
            "dataset": self.dataset,
            "protocol": self.protocol,
        }
        # Names of files and folders may contain anything; the source is one printable line.
        source = "".join(c if c.isprintable() else "?" for c in self.source)[:_LONGEST_SOURCE]
        about |= {"source": source, "digest": self.digest}
        head = "".join(
            f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in about.items()
        )
        # One line per role: neither one line for everything, nor one for each of 100,000 slides.
        folds = [
            ",\n".join(
                f"      {json.dumps(role)}: {json.dumps(getattr(fold, role))}" for role in ROLES
            )
            for fold in self.folds
        ]
        body = ",\n".join(f"    {{\n{fold}\n    }}" for fold in folds)
        return f'{{\n{head}  "folds": [\n{body}\n  ]\n}}\n'


def read_split_file(path: Path) -> SplitFile:
    """A split file, checked.

    Raises:
        InputError: it is not a split file, was edited, or has a slide in two roles; lists every
            problem.
    """
    file, digest = _parsed(path)
    problems = file.lists.problems()
    if not any(fold.val for fold in file.folds):
        problems.append("no fold lists val slides")
    remedy = _AGAIN
    if digest != file.digest:
        problems.append(
            f"its digest says {digest}, but its folds have {file.digest}: it was edited after it "
            "was made"
        )
        remedy = (
            f"Results of {digest} will not be found for other folds. If the change is meant, make "
            f"a new split file from it: mil-bench splits import {path} --dataset "
            f"{on_the_command_line(file.dataset)} NEW.json"
        )
    if problems:
        raise InputError(f"split file {path}", problems, remedy)
    return file


def follow_file(path: Path, spec: DatasetSpec, table: Slides) -> SplitPlan:
    """The folds of a split file, bound to the slides that are known.

    Raises:
        InputError: the file is wrong, is of another dataset, or names slides that are not known.
        SplitError: as ``make_splits``.
    """
    file = read_split_file(path)
    slides, listed = table.frame, file.lists.slides
    absent = sorted(set(listed) - set(slides["slide"]))
    if file.dataset != spec.slug:
        theirs, ours = on_the_command_line(file.dataset), on_the_command_line(spec.slug)
        problem = f"it is a split of {file.dataset}, not of {spec.slug}"
        remedy = f"Name its dataset (--dataset {theirs}), or make a split for this one: "
        remedy += f"mil-bench splits make --dataset {ours} NEW.json"
        raise InputError(f"split file {path}", [problem], remedy)
    if absent:
        shown = "; ".join(filter(None, [first_names(absent), table.near_miss(absent)]))
        problem = (
            f"{len(absent)} of its {len(listed)} slides are not in the {table.origin}: {shown}"
        )
        remedy = "Add these slides (mil-bench data pack), or split the slides that are there "
        remedy += "(mil-bench splits make)."
        raise InputError(f"split file {path}", [problem], remedy)
    plan = bind_folds(file.protocol, file.folds, slides, spec.hierarchy, table.group_name)
    unused = len(slides) - len(listed)
    facts = (f"{unused} of {len(slides)} slides are in no fold",) if unused else ()
    return replace(plan, source=file.source, facts=facts + table.blind_spots(listed))


def _parsed(path: Path) -> tuple[SplitFile, str]:
    """The file, and the digest that is written in it; its folds are not checked.

    Raises:
        InputError: it does not have the form of a split file.
    """
    what = f"split file {path}"
    value = _json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError(what, [f"it does not say that its format is '{FORMAT}'"], _IMPORT_FIRST)
    if value.get("version") != VERSION:
        problem = f"it has version {value.get('version')!r}, this mil-bench reads version {VERSION}"
        raise InputError(what, [problem], "Use the version of mil-bench that made it.")
    try:
        content = _Content.model_validate(value)
    except ValidationError as error:
        raise InputError(what, value_problems(error, _Content), _AGAIN) from error
    folds = tuple(Fold(tuple(f.train), tuple(f.val), tuple(f.test)) for f in content.folds)
    return SplitFile(content.dataset, content.protocol, content.source, folds), content.digest


def _json(path: Path) -> Any:
    """What a JSON file contains.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with open_regular(path) as opened:
            return json.loads(opened.read().decode("utf-8-sig"))
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise InputError(f"split file {path}", [problem], "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"split file {path}", [f"is not JSON: {error}"], _IMPORT_FIRST) from error


def _matches(start: FileStart) -> bool:
    is_json = start.content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    return is_json and json.dumps(FORMAT).encode() in start.content


def _read(files: Sequence[Path]) -> SplitLists:
    """One file, also an edited one: an audit or an import gets its folds as they are now."""
    if len(files) > 1:
        problem = f"{len(files)} split files: {', '.join(path.name for path in files[:5])}"
        raise InputError(f"splits {files[0].parent}", [problem], "Name one of them.")
    file, digest = _parsed(files[0])
    origin = f"split file {files[0].name}: {file.protocol}"
    if file.source:
        origin += f", {file.source}"
    if digest != file.digest:
        origin += f" (edited after {digest} was made)"
    return replace(file.lists, title=origin)


OWN = SplitFormat("mil-bench's own split file", r"(?!)", _matches, _read)
