"""The syntax of Python files, which are not run."""

from __future__ import annotations

import ast
import time

_ATTEMPTS = 5
_PAUSE = 0.02  # seconds


def syntax_of(source: str | bytes) -> ast.Module:
    """The syntax tree of a source.

    In Python 3.11, threads that parse at the same time disturb each other, and one of them gets a
    ``SystemError`` (python/cpython#106905). MLflow's thread parses templates of its database, so
    this one then tries again.

    Raises:
        SyntaxError: it is no Python.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return ast.parse(source)
        except SystemError:
            time.sleep(_PAUSE)
    return ast.parse(source)
