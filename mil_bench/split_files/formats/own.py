"""mil-bench's own split file: one readable JSON with folds by role, where they come from, and their digest.

The digest is checked on every reading. A file that was edited is refused, because results that were
made with the old folds would not be found for the new ones; ``mil-bench splits import`` makes a
file of its own from it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mil_bench import durable
from mil_bench.datasets.catalogue import on_the_command_line
from mil_bench.errors import InputError
from mil_bench.regular_file import open_regular
from mil_bench.split_files.formats.interface import FileStart, SplitFormat
from mil_bench.splits.lists import SplitLists, first_of
from mil_bench.splits.plan import (
    IMPORTED,
    PROTOCOLS,
    ROLES,
    Fold,
    SplitPlan,
    bind_folds,
    folds_digest,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.datasets.slides import Slides

FORMAT = "mil-bench split"
VERSION = 1
_LONGEST_SOURCE = 1000


@dataclass(frozen=True)
class SplitFile:
    """What a split file holds.

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
        """Write a new file; a file that holds the same already is left as it is.

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
            problem = f"{path} exists already and holds something else"
            raise InputError(
                "writing a split file",
                [problem],
                "Name a new file: split files are never overwritten.",
            )

    def _text(self) -> str:
        about = {
            "format": FORMAT,
            "version": VERSION,
            "dataset": self.dataset,
            "protocol": self.protocol,
        }
        # Names of files and folders may hold anything; readers are promised one printable line.
        source = "".join(c if c.isprintable() else "?" for c in self.source)[:_LONGEST_SOURCE]
        about |= {"source": source, "digest": self.digest}
        head = "".join(
            f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in about.items()
        )
        # One line a role: neither one line for everything, nor one for each of 100,000 slides.
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
        InputError: it is no such file, was edited, or has a slide in two roles; lists everything.
    """
    file, digest = _parsed(path)
    problems = file.lists.problems()
    if not any(fold.val for fold in file.folds):
        problems.append("no fold lists val slides")
    remedy = "Make or import it again with mil-bench splits."
    if digest != file.digest:
        problems.append(
            f"its digest says {digest}, its folds have {file.digest}: it was edited after it was made"
        )
        remedy = (
            f"Results of {digest} will not be found for other folds. If the change is meant, make a split of its own: "
            f"mil-bench splits import {path} --dataset {on_the_command_line(file.dataset)} NEW.json"
        )
    if problems:
        raise InputError(f"split file {path}", problems, remedy)
    return file


def follow_file(path: Path, spec: DatasetSpec, table: Slides) -> SplitPlan:
    """The folds of a split file, bound to the slides that are known.

    Raises:
        InputError: the file is wrong, is another dataset's, or names slides that are not known.
        SplitError: as ``make_splits``.
    """
    file = read_split_file(path)
    slides, listed = table.frame, file.lists.slides
    absent = sorted(set(listed) - set(slides["slide"]))
    if file.dataset != spec.slug:
        theirs, ours = on_the_command_line(file.dataset), on_the_command_line(spec.slug)
        remedy = f"Name its dataset (--dataset {theirs}), or make a split for this one: "
        remedy += f"mil-bench splits make --dataset {ours} NEW.json"
        raise InputError(
            f"split file {path}", [f"it is a split of {file.dataset}, not of {spec.slug}"], remedy
        )
    if absent:
        shown = "; ".join(filter(None, [first_of(absent), table.near_miss(absent)]))
        problem = (
            f"{len(absent)} of its {len(listed)} slides are not in the {table.origin}: {shown}"
        )
        remedy = "Add these slides (mil-bench data pack), or split those that are there (mil-bench splits make)."
        raise InputError(f"split file {path}", [problem], remedy)
    plan = bind_folds(file.protocol, file.folds, slides, spec.hierarchy, table.group_name)
    unused = len(slides) - len(listed)
    facts = (f"{unused} of {len(slides)} slides are in no fold",) if unused else ()
    return replace(plan, source=file.source, facts=facts + table.blind_spots(listed))


def _parsed(path: Path) -> tuple[SplitFile, str]:
    """The file, and the digest that stands in it; nothing of the folds is promised.

    Raises:
        InputError: it has not the form of a split file.
    """
    remedy = "Other tools' splits have to be imported first: mil-bench splits import PATH --dataset NAME NEW.json"
    try:
        with open_regular(path) as opened:
            value = json.loads(opened.read().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"split file {path}", [f"cannot be read: {error.strerror}"], "Check the path."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"split file {path}", [f"is no JSON text: {error}"], remedy) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError(
            f"split file {path}", [f"it does not say that its format is '{FORMAT}'"], remedy
        )
    if value.get("version") != VERSION:
        problem = f"it has version {value.get('version')!r}, this mil-bench reads version {VERSION}"
        raise InputError(
            f"split file {path}", [problem], "Use the version of mil-bench that made it."
        )
    problems = _faults(value)
    if problems:
        raise InputError(
            f"split file {path}", problems, "Make or import it again with mil-bench splits."
        )
    folds = tuple(Fold(*(tuple(fold[role]) for role in ROLES)) for fold in value["folds"])
    return SplitFile(value["dataset"], value["protocol"], value["source"], folds), value["digest"]


def _faults(value: dict[str, Any]) -> list[str]:
    problems = [
        f"'{key}' must be a text, not {value.get(key)!r:.40}"
        for key in ("dataset", "source", "digest")
        if not isinstance(value.get(key), str)
    ]
    source = value.get("source")
    if isinstance(source, str) and (len(source) > _LONGEST_SOURCE or not source.isprintable()):
        problems.append(
            f"'source' must be one printable line of at most {_LONGEST_SOURCE} characters"
        )
    protocols = (*PROTOCOLS, IMPORTED)
    if value.get("protocol") not in protocols:
        problems.append(
            f"'protocol' is {value.get('protocol')!r:.40}, not one of {', '.join(protocols)}"
        )
    folds = value.get("folds")
    if not isinstance(folds, list) or not folds:
        return [*problems, "'folds' must be a list of folds"]
    for k, fold in enumerate(folds):
        if not isinstance(fold, dict) or set(fold) != set(ROLES):
            named = ", ".join(map(str, fold)) if isinstance(fold, dict) else type(fold).__name__
            problems.append(f"fold {k} has {named or 'nothing'}; it must have {', '.join(ROLES)}")
        else:
            wrong = [
                r
                for r in ROLES
                if not isinstance(fold[r], list) or not all(isinstance(s, str) for s in fold[r])
            ]
            problems += [
                f"fold {k}: '{role}' must be a list of slide ids in quotes" for role in wrong
            ]
    return problems


def _matches(start: FileStart) -> bool:
    is_json = start.content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    return is_json and json.dumps(FORMAT).encode() in start.content


def _read(files: Sequence[Path]) -> SplitLists:
    """One file, also an edited one: whoever audits or imports it sees its folds as they are now."""
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
