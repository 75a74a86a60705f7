"""A new plugin package from templates: one method file, its entry point, its test."""

from __future__ import annotations

import re
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from mil_bench import durable, registry
from mil_bench.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def new_plugin(name: str, parent: Path) -> list[Path]:
    """Write a package that installs, passes ``mil-bench check``, and runs beside the built-in methods.

    Args:
        name: of the method, lower case with hyphens.
        parent: the package becomes a folder of that name in it.

    Returns:
        The files written.

    Raises:
        InputError: the name is taken or not of that form, or the folder exists.
    """
    problems = []
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        problems.append(f"'{name}' is not a name in lower case with hyphens, such as my-method")
    if name in registry.methods.names():
        problems.append(f"the name is taken by {registry.methods.origin(name)}")
    folder = parent / name
    if folder.exists():
        problems.append(f"{folder} exists")
    if problems:
        raise InputError(
            f"new method {name}", problems, "Choose another name or another folder (--folder)."
        )
    module = name.replace("-", "_")
    words = {
        "name": name,
        "module": module,
        "class_name": "".join(part.capitalize() for part in name.split("-")),
    }
    files = {
        "pyproject.toml.in": folder / "pyproject.toml",
        "method.py.in": folder / f"{module}.py",
        "test_method.py.in": folder / f"test_{module}.py",
    }
    for template, path in files.items():
        text = (
            resources.files("mil_bench").joinpath("templates", template).read_text(encoding="utf-8")
        )
        durable.replace(path, Template(text).substitute(words))
    return list(files.values())
