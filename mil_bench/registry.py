"""Names to methods and datasets, found through entry points and loaded only when used.

Listing imports nothing: the one-line summaries are read from the source files' docstrings, so that
``mil-bench list methods`` answers without torch, and a plugin that cannot be imported breaks only itself.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from mil_bench.errors import PluginError, UnknownNameError


@dataclass(frozen=True)
class Registry:
    """The objects that installed packages offer under one entry-point group."""

    group: str
    kind: str

    @cached_property
    def _points(self) -> dict[str, metadata.EntryPoint]:
        points: dict[str, metadata.EntryPoint] = {}
        for point in sorted(metadata.entry_points(group=self.group), key=lambda p: (p.name, p.value)):
            known = points.get(point.name)
            if known is not None and known.value != point.value:
                raise PluginError(
                    f"Two packages claim the {self.kind} '{point.name}': {_origin(known)} and {_origin(point)}. "
                    f"Uninstall one of them, or rename it in its pyproject.toml."
                )
            points[point.name] = point
        return points

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._points)

    def load(self, name: str) -> Any:
        """The object behind a name.

        Raises:
            UnknownNameError: no package offers the name.
            PluginError: the package that offers it cannot be imported.
        """
        if name not in self._points:
            raise UnknownNameError(self.kind, name, self._points)
        point = self._points[name]
        try:
            return point.load()
        except Exception as error:
            raise PluginError(
                f"The {self.kind} '{name}' of {_origin(point)} cannot be loaded: {type(error).__name__}: {error}. "
                f"Mend or uninstall that package."
            ) from error

    def origin(self, name: str) -> str:
        """Distribution and entry point behind a name, for lists and error messages."""
        return _origin(self._points[name])

    def summary(self, name: str) -> str:
        """First docstring line of the object behind a name, read without importing it ('' if there is none)."""
        point = self._points[name]
        source = _source_of(point.module)
        tree = ast.parse(source) if source else ast.Module(body=[], type_ignores=[])
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == point.attr:
                return (ast.get_docstring(node) or "").partition("\n")[0]
        return (ast.get_docstring(tree) or "").partition("\n")[0]


def _origin(point: metadata.EntryPoint) -> str:
    distribution = point.dist.name if point.dist else "an unknown package"
    return f"{distribution} ({point.value})"


def _source_of(module: str) -> str:
    """Source text of a module, without running it (its parent packages' __init__ are imported)."""
    try:
        spec = importlib.util.find_spec(module)
        return Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    except (ImportError, OSError, ValueError):
        return ""


methods = Registry("mil_bench.methods", "method")
datasets = Registry("mil_bench.datasets", "dataset")
