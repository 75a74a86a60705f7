"""Which files of the hub a store is made of: listed at the first call, kept beside the store."""

from __future__ import annotations

import json
import posixpath
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.errors import InputError
from mil_bench.file_values import read_object, typed
from mil_bench.public.fetch import RemoteFile  # noqa: TC001  # pydantic reads it

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.public.fetch import Hub
    from mil_bench.public.recipe import FilePattern, Recipe


@dataclass(frozen=True)
class SourceFile:
    """A file that a store is made of.

    Args:
        remote: the file on the hub.
        holds: as in ``FilePattern``.
        split: the official role of its slides, "" if it does not say.
    """

    remote: RemoteFile
    holds: str
    split: str


@dataclass(frozen=True)
class Source:
    """What a store is made of.

    Args:
        repository: of the hub.
        commit: its commit, to which later calls keep.
        files: in the order in which they are read.
    """

    repository: str
    commit: str
    files: tuple[SourceFile, ...]

    def holding(self, what: str) -> list[SourceFile]:
        """The files that hold something."""
        return [file for file in self.files if file.holds == what]


def source_of(recipe: Recipe, hub: Hub, path: Path) -> Source:
    """The files of a recipe: those of the first call, else as the hub lists them now.

    Args:
        recipe: the recipe.
        hub: its repository.
        path: where they are kept.

    Raises:
        InputError: the hub's files are not those of the recipe, or cannot be had.
        MilBenchError: the hub does not answer.
    """
    known = _kept(recipe, path)
    if known is not None:
        return known
    commit = recipe.revision or hub.commit()
    listed: dict[str, list[RemoteFile]] = {}
    files, problems = [], []
    for pattern in recipe.files:
        folder, name = posixpath.split(pattern.path)
        if folder not in listed:
            listed[folder] = hub.files(commit, folder)
        found = [
            file for file in listed[folder] if fnmatchcase(posixpath.basename(file.path), name)
        ]
        problems += _problems(pattern, found)
        files += [
            SourceFile(file, pattern.holds, pattern.split)
            for file in sorted(found, key=lambda file: file.path)
        ]
    if problems:
        raise InputError(
            f"{recipe.page} at commit {commit}",
            problems,
            "The recipe no longer fits what is published; nothing was fetched. Please report it.",
        )
    source = Source(recipe.repository, commit, tuple(files))
    durable.replace(path, json.dumps(asdict(source), indent=1))
    return source


def _kept(recipe: Recipe, path: Path) -> Source | None:
    """What an earlier call has listed, unless it is of another recipe."""
    try:
        source = typed(Source, read_object(path))
    except (OSError, ValueError):
        return None
    is_same = source.repository == recipe.repository and recipe.revision in ("", source.commit)
    fits = all(any(_fits(file, pattern) for pattern in recipe.files) for file in source.files)
    return source if is_same and fits else None


def _fits(file: SourceFile, pattern: FilePattern) -> bool:
    same = (file.holds, file.split) == (pattern.holds, pattern.split)
    return same and fnmatchcase(file.remote.path, pattern.path)


def _problems(pattern: FilePattern, found: list[RemoteFile]) -> list[str]:
    """How the files on the hub differ from what the recipe says."""
    if not found:
        return [f"there is no {pattern.path}"]
    problems = []
    for file in found:
        if pattern.size is not None and file.size != pattern.size:
            problems.append(f"{file.path} has {file.size:,} bytes, not {pattern.size:,}")
        if pattern.sha256 and file.digest != f"sha256:{pattern.sha256}":
            problems.append(f"{file.path} has the digest {file.digest}, not {pattern.sha256}")
    return problems
