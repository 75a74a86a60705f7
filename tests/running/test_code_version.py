"""The commit that is logged is that of the package, and of nothing around it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from mil_bench.running.code_version import commit

if TYPE_CHECKING:
    from pathlib import Path


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def checkout(folder: Path) -> Path:
    package = folder / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git(folder, "init", "--quiet")
    git(folder, "add", "package")
    git(folder, "commit", "--quiet", "-m", "first")
    return package


def test_a_checkout_says_its_commit_and_whether_files_differ(tmp_path: Path) -> None:
    package = checkout(tmp_path / "clean")
    assert commit(package) == git(package, "rev-parse", "HEAD")
    changed = checkout(tmp_path / "changed")
    (changed / "__init__.py").write_text("new = 1\n")
    assert commit(changed) == git(changed, "rev-parse", "HEAD") + "+changes"


def test_an_environment_inside_of_a_checkout_is_not_that_checkout(tmp_path: Path) -> None:
    checkout(tmp_path / "other")
    installed = tmp_path / "other" / ".venv" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert commit(installed) == ""
    assert commit(tmp_path / "nowhere") == ""
