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
from mil_bench.split_files.refusals import LEAVE_OUT, unknown_slides
from mil_bench.splits.lists import SplitLists
from mil_bench.splits.plan import ROLES, Fold, SplitPlan, folds_digest
from mil_bench.splits.protocols import IMPORTED, PROTOCOLS, bind_folds
from mil_bench.wording import suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.datasets.slides import Slides

FORMAT = "mil-bench split"
VERSIONS = (1, 2)
"""Of the file; the second has repeats."""
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
    repeats: Annotated[int, Field(ge=1)] = 1
    folds: Annotated[list[_Fold], AfterValidator(_at_least_one)]


@dataclass(frozen=True)
class SplitFile:
    """The content of a split file.

    Args:
        dataset: slug of the dataset whose slides it names.
        protocol: a key of ``PROTOCOLS``, or ``IMPORTED``.
        source: where the folds come from, in words for captions.
        folds: the folds, in order.
        repeats: as of ``SplitPlan``.
    """

    dataset: str
    protocol: str
    source: str
    folds: tuple[Fold, ...]
    repeats: int = 1

    @cached_property
    def digest(self) -> str:
        """As ``SplitPlan.digest``."""
        return folds_digest(self.folds, self.repeats)

    @property
    def lists(self) -> SplitLists:
        """The folds as lists, for audits."""
        numbers = tuple(range(len(self.folds)))
        return SplitLists(
            self.source,
            self.folds,
            numbers,
            protocol=self.protocol,
            dataset=self.dataset,
            repeats=self.repeats,
        )

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
            "version": VERSIONS[self.repeats > 1],
            "dataset": self.dataset,
            "protocol": self.protocol,
        }
        # Names of files and folders may contain anything; the source is one printable line.
        source = "".join(c if c.isprintable() else "?" for c in self.source)[:_LONGEST_SOURCE]
        about |= {"source": source, "digest": self.digest}
        about |= {"repeats": self.repeats} if self.repeats > 1 else {}
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
    edited = _edited(file, digest)
    problems = [*file.lists.problems(), *_without_validation(file), *edited]
    if not problems:
        return file
    remedy = _AGAIN
    if edited:
        remedy = (
            f"Results of {digest} will not be found for other folds. If the change is meant, make "
            f"a new split file from it: mil-bench splits import {path} --dataset "
            f"{on_the_command_line(file.dataset)} NEW.json"
        )
    raise InputError(f"split file {path}", problems, remedy)


def _without_validation(file: SplitFile) -> list[str]:
    return [] if any(fold.val for fold in file.folds) else ["no fold lists val slides"]


def _edited(file: SplitFile, digest: str) -> list[str]:
    if digest == file.digest:
        return []
    return [
        f"its digest says {digest}, but its folds have {file.digest}: it was edited after it was "
        "made"
    ]


def follow_file(
    path: Path, spec: DatasetSpec, table: Slides, allow_missing: bool = False
) -> SplitPlan:
    """The folds of a split file, bound to the slides that are known.

    Args:
        path: the split file.
        spec: the dataset's card.
        table: what is known of the slides.
        allow_missing: whether slides that are not known are left out, which changes the digest and
            is a fact of the plan; else they are an error.

    Raises:
        InputError: the file is wrong, is of another dataset, or names slides that are not known.
        SplitError: as ``make_splits``.
    """
    file = read_split_file(path)
    problems, remedy = another_dataset(file.lists, spec), ""
    if problems:
        theirs, ours = on_the_command_line(file.dataset), on_the_command_line(spec.slug)
        remedy = f"Name its dataset (--dataset {theirs}), or make a split for this one: "
        remedy += f"mil-bench splits make --dataset {ours} NEW.json"
        raise InputError(f"split file {path}", problems, remedy)
    lists, listed = file.lists, file.lists.slides
    if allow_missing:
        lists = lists.only(frozenset(table.frame["slide"]), f"the {table.origin}")
        problems, remedy = lists.problems(), "Pack these slides too (mil-bench data pack)."
    else:
        problems = unknown_slides(listed, table, "its ")
        remedy = f"{LEAVE_OUT} Or add these slides (mil-bench data pack), or split the slides that "
        remedy += "are there (mil-bench splits make)."
    if problems:
        raise InputError(f"split file {path}", problems, remedy)
    plan = bind_folds(file.protocol, lists.folds, table.frame, spec.hierarchy, table.group_name)
    facts = _facts(listed, lists.slides, table)
    facts += table.blind_spots(lists.slides)
    return replace(plan, source=file.source, facts=facts, repeats=file.repeats)


def another_dataset(lists: SplitLists, spec: DatasetSpec) -> list[str]:
    """That lists are those of another dataset, if they say so."""
    if lists.dataset in ("", spec.slug):
        return []
    return [f"it is a split of {lists.dataset}, not of {spec.slug}"]


def _facts(listed: Sequence[str], used: Sequence[str], table: Slides) -> tuple[str, ...]:
    """Slides that are left out of the split, and slides that are in no fold, one clause each."""
    facts = []
    if left_out := len(listed) - len(used):
        facts.append(
            f"{left_out} of the {len(listed)} slides of the split file are not in the "
            f"{table.origin} and left out"
        )
    if unused := len(table.frame) - len(used):
        facts.append(f"{unused} of {len(table.frame)} slides are in no fold")
    return tuple(facts)


def _parsed(path: Path) -> tuple[SplitFile, str]:
    """The file, and the digest that is written in it; its folds are not checked.

    Raises:
        InputError: it does not have the form of a split file.
    """
    what = f"split file {path}"
    value = _json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError(what, [f"it does not say that its format is '{FORMAT}'"], _IMPORT_FIRST)
    if value.get("version") not in VERSIONS:
        versions = f"versions {' and '.join(map(str, VERSIONS))}"
        problem = f"it has version {value.get('version')!r}, this mil-bench reads {versions}"
        raise InputError(what, [problem], "Use the version of mil-bench that made it.")
    try:
        content = _Content.model_validate(value)
    except ValidationError as error:
        raise InputError(what, value_problems(error, _Content), _AGAIN) from error
    folds = tuple(Fold(tuple(f.train), tuple(f.val), tuple(f.test)) for f in content.folds)
    about = content.dataset, content.protocol, content.source
    return SplitFile(*about, folds, content.repeats), content.digest


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
    refusals = tuple(_without_validation(file) + _edited(file, digest))
    return replace(file.lists, title=origin, refusals=refusals)


OWN = SplitFormat("mil-bench's own split file", r"(?!)", _matches, _read)
