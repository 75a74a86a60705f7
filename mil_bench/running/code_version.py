"""Which commit of mil-bench is running, if its package is in a git checkout."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import mil_bench

_FORTY = ["describe", "--always", "--dirty=+changes", "--abbrev=40", "--exclude=*"]


@cache
def commit(package: Path = Path(mil_bench.__file__).parent) -> str:
    """40 hex digits, followed by "+changes" if tracked files differ; "" without checkout or git.

    Args:
        package: a folder with an ``__init__.py``. It counts only if git tracks that file: an
            environment inside of somebody's checkout is no checkout of ours.
    """
    return _git(package, ["ls-files", "--error-unmatch", "__init__.py"]) and _git(package, _FORTY)


def _git(folder: Path, words: list[str]) -> str:
    """What git prints, "" where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=10,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
