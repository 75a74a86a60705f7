"""Methods, datasets and other objects by name, from entry points and single files.

An object is imported when it is first used. The one-line summaries of lists are read from the
docstrings in the source files, so that ``mil-bench methods list`` does not import torch and a
plugin that cannot be imported does not affect the others.
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

_THIS_PACKAGE = "mil-bench"


@dataclass(frozen=True)
class FromFile:
    """An object from a single file, with the file's path and a digest of its text."""

    value: Any
    path: Path
    digest: str


@dataclass(frozen=True)
class Registry:
    """The objects of one entry-point group, and those of single files.

    Args:
        group: name of the entry-point group.
        kind: what an object is, for messages.
    """

    group: str
    kind: str
    _files: dict[str, FromFile] = field(default_factory=dict)

    @cached_property
    def _points(self) -> dict[str, metadata.EntryPoint]:
        points: dict[str, metadata.EntryPoint] = {}
        for point in sorted(
            metadata.entry_points(group=self.group), key=lambda p: (p.name, p.value)
        ):
            other = points.get(point.name)
            if other is not None and other.value != point.value:
                raise PluginError(
                    f"Two packages offer a {self.kind} '{point.name}': {_origin(other)} and "
                    f"{_origin(point)}. Uninstall one of them, or rename its entry point in its "
                    "pyproject.toml."
                )
            points[point.name] = point
        return points

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self._points, *self._files})

    def built_in(self) -> list[str]:
        """Names that mil-bench itself offers, without those of other packages and files, sorted."""
        points = self._points.values()
        return sorted(p.name for p in points if p.dist and p.dist.name == _THIS_PACKAGE)

    def load(self, name: str) -> Any:
        """The object behind a name.

        Raises:
            UnknownNameError: no package offers the name.
            PluginError: the object cannot be imported.
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
                f"The {self.kind} '{name}' of {_origin(point)} cannot be loaded: "
                f"{type(error).__name__}: {error}. Repair or uninstall that package."
            ) from error

    def add_file(self, path: Path, base: type) -> list[str]:
        """Add every subclass of ``base`` that a Python file defines; ``MyMethod`` is ``my-method``.

        Args:
            path: the file.
            base: the base class.

        Returns:
            The names, sorted.

        Raises:
            PluginError: the file cannot be imported, defines no such class, or a name is taken.
        """
        module = _import_file(path)
        classes = {
            _hyphened(name): value
            for name, value in vars(module).items()
            if isinstance(value, type)
            and issubclass(value, base)
            and value.__module__ == module.__name__
        }
        if not classes:
            raise PluginError(
                f"{path} defines no {self.kind}: no subclass of {base.__module__}.{base.__name__}."
            )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        for name, value in classes.items():
            if name in self._points or (
                name in self._files and not _same(self._files[name].path, path)
            ):
                raise PluginError(
                    f"{path} and {self.origin(name)} both claim the {self.kind} '{name}'. "
                    "Rename the class."
                )
            self._files[name] = FromFile(value, path, digest)
        return sorted(classes)

    def add(self, name: str, value: Any) -> None:
        """Offer an object under a name in this process, for notebooks and tests."""
        self._files[name] = FromFile(value, Path(), "")

    def origin(self, name: str) -> str:
        """The package and entry point, or the file, that offers a name."""
        return _origin(self._points[name]) if name in self._points else str(self._files[name].path)

    def digest(self, name: str) -> str:
        """Digest of the file that offers a name, '' for installed packages, which have versions."""
        return self._files[name].digest if name in self._files else ""

    def version(self, name: str, value: Any) -> str:
        """The object's ``version``, with the digest of its file if it comes from a single file."""
        return "+".join(filter(None, [str(value.version), self.digest(name)]))

    def fault(self, name: str) -> str:
        """Why an object of another package cannot be loaded, '' if it can.

        Objects of mil-bench itself are not loaded to find out.
        """
        point = self._points.get(name)
        if point is None or (point.dist and point.dist.name == _THIS_PACKAGE):
            return ""
        try:
            self.load(name)
        except PluginError as error:
            return str(error)
        return ""

    def summary(self, name: str) -> str:
        """First docstring line of an object, read without importing it; '' if there is none."""
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
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    name = f"mil_bench_plugin_{digest}_{path.stem}"
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
    """Source text of a module that is not run; its parent packages are imported."""
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


def _same(path: Path, other: Path) -> bool:
    """Whether two paths name the same file, however they are spelled."""
    return path.absolute() == other.absolute()
