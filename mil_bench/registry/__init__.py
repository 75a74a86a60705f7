"""Methods, datasets and other objects by name, from entry points and single files.

An object is imported when it is first used. The one-line summaries of lists are read from the
docstrings in the source files, so that ``mil-bench methods list`` does not import torch and a
plugin that cannot be imported does not affect the others.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from mil_bench.errors import PluginError, UnknownNameError
from mil_bench.registry.class_digest import class_digest
from mil_bench.registry.plugin_files import import_file
from mil_bench.registry.syntax import syntax_of

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
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a package may raise anything, or end the program
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
        module, digest = import_file(path)
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
        own = {
            name for name, other in self._files.items() if other.path.resolve() == path.resolve()
        }
        for name in own - classes.keys():  # the file has been edited
            del self._files[name]
        for name, value in classes.items():
            if name in self._points or (name in self._files and name not in own):
                raise PluginError(
                    f"{path} and {self.origin(name)} both claim the {self.kind} '{name}'. "
                    "Rename the class."
                )
            self._files[name] = FromFile(value, path, digest)
        return sorted(classes)

    def add(self, name: str, value: Any) -> None:
        """Offer an object under a name in this process, for notebooks and tests.

        Raises:
            PluginError: a package or a file has the name.
        """
        if name in self._points or (name in self._files and not self.is_of_session(name)):
            raise PluginError(f"The {self.kind} '{name}' is already there: {self.origin(name)}.")
        digest = class_digest(value) if isinstance(value, type) else ""
        self._files[name] = FromFile(value, Path(), digest)

    def add_class(self, value: type) -> str:
        """Offer a class in this process; its name, as a file's, or that of its package.

        Raises:
            PluginError: see ``add``.
        """
        place = f"{value.__module__}:{value.__qualname__}"
        for name, point in self._points.items():
            if point.value == place:
                return name
        for name, known in self._files.items():
            if known.value is value and not self.is_of_session(name):
                return name
        name = _hyphened(value.__name__)
        self.add(name, value)
        return name

    def is_of_session(self, name: str) -> bool:
        """Whether an object was given by value, so that no other process has it."""
        return name in self._files and self._files[name].path == Path()

    def origin(self, name: str) -> str:
        """The package and entry point, or the file, that offers a name."""
        if name in self._points:
            return _origin(self._points[name])
        return (
            "a class of this session" if self.is_of_session(name) else str(self._files[name].path)
        )

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
        tree = _tree_of(point.module)
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == point.attr:
                return (ast.get_docstring(node) or "").partition("\n")[0]
        return (ast.get_docstring(tree) or "").partition("\n")[0]

    def text(self, name: str, attribute: str) -> str:
        """A text that a class has as an attribute, read without importing it; '' if it has none.

        Base classes of the same module are searched, too.
        """
        if name in self._files:
            value = getattr(self._files[name].value, attribute, "")
            return value if isinstance(value, str) else ""
        point = self._points[name]
        classes = {n.name: n for n in _tree_of(point.module).body if isinstance(n, ast.ClassDef)}
        waiting = [point.attr]
        while waiting:
            node = classes.pop(waiting.pop(0), None)
            if node is None:
                continue
            for statement in node.body:
                if isinstance(statement, ast.Assign) and attribute in map(_name, statement.targets):
                    return _text(statement.value)
            waiting += map(_name, node.bases)
        return ""


def _hyphened(class_name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", class_name).lower()


def _origin(point: metadata.EntryPoint) -> str:
    distribution = point.dist.name if point.dist else "an unknown package"
    return f"{distribution} ({point.value})"


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _tree_of(module: str) -> ast.Module:
    """The syntax of a module that is not run; nothing if its source is not found."""
    source = _source_of(module)
    return syntax_of(source) if source else ast.Module(body=[], type_ignores=[])


def _source_of(module: str) -> str:
    """Source text of a module that is not run; its parent packages are imported."""
    try:
        spec = importlib.util.find_spec(module)
        return Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    except (ImportError, OSError, ValueError):
        return ""


methods = Registry("mil_bench.methods", "method")
groups = Registry("mil_bench.groups", "group of methods")
"""Tuples of methods' names, for requests that name several at once."""
yardsticks = Registry("mil_bench.yardsticks", "yardstick")
datasets = Registry("mil_bench.datasets", "dataset")
executors = Registry("mil_bench.executors", "executor")
readers = Registry("mil_bench.readers", "reader")
metrics = Registry("mil_bench.metrics", "metric")
papers = Registry("mil_bench.papers", "paper")
"""Packages whose files are protocol files; see ``mil_bench.papers.items``."""
recipes = Registry("mil_bench.recipes", "package of recipes")
"""Packages whose files say where public features are; see ``mil_bench.public.recipe``."""
