"""Single Python files with objects of the user's own, and the modules beside them.

A file may import modules that lie beside it, as a script may. They belong to it: a change of one of
them counts as a change of the file.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import io
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from mil_bench.errors import PluginError
from mil_bench.registry.syntax import syntax_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCRIPT = "Put what only a script should do under if __name__ == '__main__':"
_helpers: dict[str, tuple[Path, str]] = {}
"""Modules that lie beside files, with path and digest of what was imported."""


def import_file(path: Path) -> tuple[ModuleType, str]:
    """A file as a module, and a digest of its text and that of the modules beside it that it needs.

    Raises:
        PluginError: there is no such Python file, or it cannot be imported.
    """
    file = path.resolve()
    text = _text(path)
    sources = {other: other.read_bytes() for other in _modules_beside(file)}
    name = f"mil_bench_plugin_{_digest(str(file).encode())}_{path.stem}"
    module = ModuleType(name)
    module.__file__ = str(path)
    before, folder = sys.modules.get(name), Path.cwd()
    sys.modules[name] = module  # pickle looks classes up here
    said = io.StringIO()
    try:
        with _beside(file, sources), contextlib.redirect_stderr(said):
            code = compile(text, str(path), "exec", dont_inherit=True)
            exec(code, vars(module))  # not from a cached .pyc, which may be older
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a file may raise anything, or end the program
        sys.modules.pop(name)
        if before is not None:
            sys.modules[name] = before
        raise PluginError(f"{path} cannot be imported: {_fault(error, path)}") from error
    finally:
        os.chdir(folder)
    sys.stderr.write(said.getvalue())
    parts = [text, *(part for other in sorted(sources) for part in _named(other, file, sources))]
    return module, _digest(b"".join(parts))


def _text(path: Path) -> bytes:
    """The text of a file.

    Raises:
        PluginError: there is none, or it is no Python file.
    """
    if path.is_dir():
        raise PluginError(f"{path} is a folder. Name a Python file in it.")
    if not path.exists():
        raise PluginError(f"{path}: there is no such file.")
    if path.suffix != ".py" or not path.is_file():
        raise PluginError(f"{path} is not a Python file: the name of one ends in .py.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise PluginError(f"{path} cannot be read: {error.strerror}.") from error


def _fault(error: BaseException, path: Path) -> str:
    """What went wrong, and in which line of the file."""
    if isinstance(error, SystemExit):
        said = f"it ended the program (SystemExit {error.code})"
    else:
        try:
            said = f"{type(error).__name__}: {error}"
        except Exception:  # the text of an error may raise
            said = type(error).__name__
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    place = f" (line {lines[-1]})" if lines else ""
    advice = f" {_SCRIPT}" if isinstance(error, SystemExit) else ""
    return f"{said}{place}.{advice}"


@contextlib.contextmanager
def _beside(file: Path, sources: dict[Path, bytes]) -> Iterator[None]:
    """Inside the block, modules beside the file are imported first, and as they are now.

    Afterwards they are still found, for imports inside functions, but after all others.
    """
    folder = str(file.parent)
    names = {_module_name(source, file): source for source in sources}
    known = {name: _helpers[name] for name in names if name in _helpers}
    if any(known[name] != (names[name], _digest(sources[names[name]])) for name in known):
        for name in known:  # all of them, since they may have imported each other
            sys.modules.pop(name, None)
            del _helpers[name]
    written, sys.dont_write_bytecode = (
        sys.dont_write_bytecode,
        True,
    )  # .pyc of one second look alike
    importlib.invalidate_caches()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.dont_write_bytecode = written
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)
        for name, source in names.items():
            if getattr(sys.modules.get(name), "__file__", None) == str(source):
                _helpers[name] = (source, _digest(sources[source]))


def _modules_beside(file: Path) -> set[Path]:
    """Files that a file imports, directly or through another one, from its own folder."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        current = waiting.pop()
        for name in _imported(current, file.parent):
            for candidate in _candidates(file.parent, name):
                if candidate not in found and candidate != file and candidate.is_file():
                    found.add(candidate)
                    waiting.append(candidate)
    return found


def _imported(file: Path, root: Path) -> Iterator[str]:
    """Dotted names that a file imports; of ``from a import b`` both ``a`` and ``a.b``."""
    try:
        tree = syntax_of(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):  # the import says it better
        return
    package = file.parent.relative_to(root).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join(filter(None, [*above, node.module]))
            yield base
            yield from (f"{base}.{alias.name}".strip(".") for alias in node.names)


def _candidates(root: Path, name: str) -> Iterator[Path]:
    """Where a dotted name and the packages above it may lie."""
    parts = [part for part in name.split(".") if part]
    for depth in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:depth])
        yield place.with_name(f"{place.name}.py")
        yield place / "__init__.py"


def _module_name(source: Path, file: Path) -> str:
    parts = source.relative_to(file.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _named(source: Path, file: Path, sources: dict[Path, bytes]) -> tuple[bytes, bytes]:
    return str(source.relative_to(file.parent)).encode(), sources[source]


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:8]
