"""What is wrong between feature files: two of one slide, or features of several kinds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.intake.folders import FoundFile
    from mil_bench.intake.readers import FeatureFile


def names_without_text(found: Sequence[FoundFile]) -> list[str]:
    """Files whose names are no text, as a file system of another encoding leaves them."""
    problems = []
    for file in found:
        try:
            file.slide.encode()
        except UnicodeEncodeError:
            problems.append(f"{file.path}: its name is not text in UTF-8; rename it")
    return problems


def same_slides(found: Sequence[FoundFile]) -> list[str]:
    """Slides with two files."""
    problems = []
    paths: dict[str, Path] = {}
    for file in found:
        slide = file.slide.lower()
        if slide in paths:
            problems.append(f"{file.path} and {paths[slide]} are the same slide")
        paths.setdefault(slide, file.path)
    return problems


def encoder_problems(files: Sequence[FeatureFile], encoder: str) -> list[str]:
    """Whether the files name another encoder than the option, one line or none."""
    named = next((file.encoder for file in files if file.encoder), "")
    if not encoder or not named or _plain(encoder) == _plain(named):
        return []
    return [
        f"the files name the encoder {named}, not {encoder}; give --encoder {named}, or leave "
        "--encoder out"
    ]


def _plain(encoder: str) -> str:
    """A name of an encoder without case and separators."""
    return re.sub(r"[\W_]", "", encoder).lower()


def mixed_kinds(files: Sequence[FeatureFile]) -> list[str]:
    """What should be the same in all files and is not."""
    problems = []
    for what, values in (
        ("feature widths", [str(file.width) for file in files]),
        ("number types", [file.dtype for file in files]),
        ("encoders", [file.encoder or "unnamed" for file in files]),
        ("units of coordinates", [file.coords_unit for file in files]),
    ):
        kinds: dict[str, list[str]] = {}
        for value, file in zip(values, files, strict=True):
            if value:  # files without coordinates have no unit
                kinds.setdefault(value, []).append(str(file.path))
        if len(kinds) > 1:
            (most, paths), *others = sorted(kinds.items(), key=lambda item: -len(item[1]))
            listed = "; ".join(f"{kind} in {first_names(paths)}" for kind, paths in others)
            count = plural(len(paths), "file")
            problems.append(f"several {what}: {most} in {count} such as {paths[0]}, but {listed}")
    return problems
