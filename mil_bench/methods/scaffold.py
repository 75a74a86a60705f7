"""Writes a package for a new method from templates: a method file, an entry point, a test."""

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
    """Write a package that can be installed and passes ``mil-bench methods check``.

    Args:
        name: of the method, in lower case with hyphens.
        parent: the folder in which the package's folder is made, under that name.

    Returns:
        The files written.

    Raises:
        InputError: the name is taken or has another form, or the folder exists.
    """
    problems = []
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        problems.append(f"'{name}' is not a name in lower case with hyphens, such as my-method")
    if name in registry.methods.names():
        problems.append(f"the name is taken by {registry.methods.origin(name)}")
    folder = parent / name
    if folder.exists():
        problems.append(f"{folder} already exists")
    if problems:
        remedy = "Choose another name or another folder (--folder)."
        raise InputError(f"new method {name}", problems, remedy)
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
