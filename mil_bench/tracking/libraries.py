"""The libraries under MLflow, kept from printing."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBRARIES = ("mlflow", "alembic", "urllib3")


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Nothing is said by the libraries under MLflow: what fails is said once, by mil-bench."""
    import mlflow  # noqa: F401 - sets up its loggers

    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
