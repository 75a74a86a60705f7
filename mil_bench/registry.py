"""Names to methods and datasets, found through entry points and loaded only when used.

Listing imports nothing: the one-line summaries are read from the source files' docstrings, so that
``mil-bench list methods`` answers without torch, and a plugin that cannot be imported breaks only
itself.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import sys
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.errors import PluginError, UnknownNameError

if TYPE_CHECKING:
    from types import ModuleType

_OWN = "mil-bench"


@dataclass(frozen=True)
class FromFile:
    """An object taken from a single file: where it lies, and a digest of the file's text."""

    value: Any
    path: Path
    digest: str


@dataclass(frozen=True)
class Registry:
    """The objects that installed packages offer under one entry-point group, and those of single files."""

    group: str
    kind: str
    _files: dict[str, FromFile] = field(default_factory=dict)

    @cached_property
    def _points(self) -> dict[str, metadata.EntryPoint]:
        points: dict[str, metadata.EntryPoint] = {}
        for point in sorted(
            metadata.entry_points(group=self.group), key=lambda p: (p.name, p.value)
        ):
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
        return sorted({*self._points, *self._files})

    def load(self, name: str) -> Any:
        """The object behind a name.

        Raises:
            UnknownNameError: no package offers the name.
            PluginError: the package that offers it cannot be imported.
        """
        if name in self._files:
            return self._files[name].value
        if name not in self._points:
            raise UnknownNameError(self.kind, name, self.names())
        point = self._points[name]
        try:
            return point.load()
        except Exception as error:
            raise PluginError(
                f"The {self.kind} '{name}' of {_origin(point)} cannot be loaded: {type(error).__name__}: {error}. "
                f"Mend or uninstall that package."
            ) from error

    def add_file(self, path: Path, base: type) -> list[str]:
        """Offer every subclass of ``base`` that a Python file defines, under its name in lower case with hyphens.

        Raises:
            PluginError: the file cannot be imported, defines none, or one whose name is taken.
        """
        module = _import_file(path)
        found = {
            _hyphened(name): value
            for name, value in vars(module).items()
            if isinstance(value, type)
            and issubclass(value, base)
            and value.__module__ == module.__name__
        }
        if not found:
            raise PluginError(
                f"{path} defines no {self.kind}: no subclass of {base.__module__}.{base.__name__}."
            )
        for name, value in found.items():
            known = self._files.get(name)
            if name in self._points or (known is not None and known.path != path):
                other = _origin(self._points[name]) if name in self._points else str(known.path)
                raise PluginError(
                    f"{path} and {other} both claim the {self.kind} '{name}'. Rename the class."
                )
            self._files[name] = FromFile(
                value, path, hashlib.sha256(path.read_bytes()).hexdigest()[:8]
            )
        return sorted(found)

    def add(self, name: str, value: Any) -> None:
        """Offer an object under a name in this process, for notebooks and tests."""
        self._files[name] = FromFile(value, Path(), "")

    def origin(self, name: str) -> str:
        """Package and entry point, or file, that a name comes from."""
        return str(self._files[name].path) if name in self._files else _origin(self._points[name])

    def digest(self, name: str) -> str:
        """Digest of the file a name comes from, '' for installed packages: their versions speak for them."""
        return self._files[name].digest if name in self._files else ""

    def version(self, name: str, value: Any) -> str:
        """Version of an object's code: what it says itself, with a digest of its file if it comes from one."""
        return "+".join(filter(None, [str(value.version), self.digest(name)]))

    def fault(self, name: str) -> str:
        """Why a stranger's object cannot be loaded, '' if it can; mil-bench's own are not loaded to find out."""
        point = self._points.get(name)
        if point is None or (point.dist and point.dist.name == _OWN):
            return ""
        try:
            self.load(name)
        except PluginError as error:
            return str(error)
        return ""

    def summary(self, name: str) -> str:
        """First docstring line of the object behind a name, read without importing it ('' if there is none)."""
        if name in self._files:
            return (self._files[name].value.__doc__ or "").partition("\n")[0]
        point = self._points[name]
        source = _source_of(point.module)
        tree = ast.parse(source) if source else ast.Module(body=[], type_ignores=[])
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == point.attr:
                return (ast.get_docstring(node) or "").partition("\n")[0]
        return (ast.get_docstring(tree) or "").partition("\n")[0]


def _import_file(path: Path) -> ModuleType:
    name = f"mil_bench_plugin_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise PluginError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickle looks classes up here
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise PluginError(f"{path} cannot be imported: {type(error).__name__}: {error}.") from error
    return module


def _hyphened(class_name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", class_name).lower()


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
yardsticks = Registry("mil_bench.yardsticks", "yardstick")
datasets = Registry("mil_bench.datasets", "dataset")
executors = Registry("mil_bench.executors", "executor")
readers = Registry("mil_bench.readers", "reader")
metrics = Registry("mil_bench.metrics", "metric")
papers = Registry("mil_bench.papers", "paper")
"""Packages whose files are protocol files; see ``mil_bench.papers.items``."""
