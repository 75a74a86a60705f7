"""Where the tools put their feature files, and which slide each file is of."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mil_bench.bags.label_file import matched
from mil_bench.datasets.slide_ids import without_ending
from mil_bench.errors import InputError
from mil_bench.intake.readers import readers

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

# TRIDENT's folders: a magnification, patch size and overlap.
_SETTING = re.compile(r"[\d.]+x_\d+px_\d+px_overlap")
# TRIDENT's, and those of torchmil's published sets.
_ENCODER = re.compile(r"features_.+")
# STAMP's: an extractor and the hash of its code.
_STAMP = re.compile(r".+-[0-9a-f]{8}")
# Those of torchmil's published sets.
_PATCH_SIZE = re.compile(r"patches_\d+")
_REMEDY = "Name the folder with the feature files."


@dataclass(frozen=True)
class FoundFile:
    """A file that may hold a slide's features.

    Args:
        path: the file.
        slide: slide id: the name without its ending (and without a slide file's, as in
            ``a.svs.h5``), or, if files of several folders share one, the path below the folder
            without these endings.
        below: the path below the folder without these endings, as STAMP's slide tables write it.
    """

    path: Path
    slide: str
    below: str


def find_feature_files(folder: Path) -> list[FoundFile]:
    """The feature files in a folder, sorted by path.

    Supported are a folder of files (with subfolders), CLAM's feature folder (of its two files per
    slide the ``.h5``, which has coordinates), TRIDENT's job folder, STAMP's output folder,
    torchmil's dataset folder, and any folder inside these. Every file with an ending of a reader is
    returned; opening it says what is wrong with it.

    Raises:
        InputError: there is none, there are several sets to choose from, or a folder cannot be
            read.
        PluginError: a package's reader cannot be used.
    """
    if not folder.is_dir():
        reason = "it is not a folder" if os.path.lexists(folder) else "there is no such folder"
        raise InputError(f"folder {folder}", [f"{folder}: {reason}"], _REMEDY)
    endings = tuple(dict.fromkeys(ending for reader in readers() for ending in reader.endings))
    root = _innermost(folder, endings)
    problems: list[str] = []
    paths = sorted(_walk(root, endings, problems, {}))
    if problems:
        raise InputError(f"folder {folder}", problems, "Correct these folders, or take them out.")
    if not paths:
        kinds = ", ".join(sorted(endings))
        raise InputError(f"folder {folder}", [f"{root}: no {kinds} file in it"], _REMEDY)
    stems = [without_ending(path.stem) for path in paths]
    folders = {(stem, path.parent) for stem, path in zip(stems, paths, strict=True)}
    shared = Counter(stem for stem, _ in folders)
    below = [without_ending(path.relative_to(root).with_suffix("").as_posix()) for path in paths]
    return [
        FoundFile(path, stem if shared[stem] == 1 else long, long)
        for path, stem, long in zip(paths, stems, below, strict=True)
    ]


def named_as_labelled(
    files: Sequence[FoundFile], labelled: Collection[str]
) -> tuple[list[FoundFile], list[str]]:
    """The files with the slide ids of a label table.

    There ids may be paths below the folder, or names without (or with) TCGA's UUID.

    Returns:
        The files, and what is ambiguous, one line each.
    """
    named, problems = [], []
    for file in files:
        if file.below in labelled and file.slide != file.below:
            if file.slide in labelled:
                both = f"'{file.slide}' and '{file.below}'"
                problems.append(
                    f"{file.path} matches two slides of the label table, {both}; "
                    "keep the one that is meant"
                )
            file = replace(file, slide=file.below)
        named.append(file)
    packed = matched(labelled, [file.slide for file in named])
    labelled_as = {file: slide for slide, file in packed.items()}
    named = [replace(file, slide=labelled_as.get(file.slide, file.slide)) for file in named]
    return named, problems


def _innermost(folder: Path, endings: tuple[str, ...]) -> Path:
    """The folder that a tool's layout leads to; a folder with feature files leads to itself.

    Raises:
        InputError: it leads to several, and the user has to name one.
    """
    if any(_is_candidate(path, endings) and path.is_file() for path in _entries(folder)):
        return folder
    settings = _folders(folder, _SETTING)
    encoders = [path for setting in settings or [folder] for path in _folders(setting, _ENCODER)]
    if settings and not encoders:
        raise InputError(
            f"folder {folder}", [f"{settings[0]}: no folder features_<encoder> in it"], _REMEDY
        )
    for choice in (encoders, _folders(folder, _PATCH_SIZE), _folders(folder, _STAMP)):
        if len(choice) > 1:
            problems = [f"{path} is a set of features of its own" for path in choice]
            raise InputError(
                f"folder {folder}",
                problems,
                "Sets of features are not mixed: name one of these folders.",
            )
        if choice:
            return _innermost(choice[0], endings)
    for name in ("h5_files", "pt_files", "features"):
        if _walk(folder / name, endings, [], {}):
            return _innermost(folder / name, endings)
    return folder


def _entries(folder: Path) -> list[Path]:
    """What is in a folder; nothing if it cannot be read, which ``_walk`` reports."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _folders(folder: Path, name: re.Pattern[str]) -> list[Path]:
    return [path for path in _entries(folder) if name.fullmatch(path.name) and path.is_dir()]


def _is_candidate(path: Path, endings: tuple[str, ...]) -> bool:
    return path.suffix.lower() in endings and not path.name.startswith(".")


def _walk(
    folder: Path,
    endings: tuple[str, ...],
    problems: list[str],
    above: dict[tuple[int, int], Path],
) -> list[Path]:
    """Every path below a folder with one of the endings, also through symbolic links.

    Args:
        folder: where to begin.
        endings: of feature files.
        problems: folders that cannot be read are added to it.
        above: this folder's parents by device and inode, so that no link leads in a circle.
    """
    try:
        status, entries = folder.stat(), list(folder.iterdir())
    except OSError as error:
        problems.append(f"{folder}: cannot be read: {error.strerror}")
        return []
    identity = status.st_dev, status.st_ino
    if identity in above:
        problems.append(f"{folder}: a symbolic link that leads back to {above[identity]}")
        return []
    paths = []
    for path in entries:
        if _is_candidate(path, endings):
            paths.append(path)
        elif not path.name.startswith(".") and path.is_dir():
            paths += _walk(path, endings, problems, {**above, identity: folder})
    return paths
