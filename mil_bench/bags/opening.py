"""Opens a store of which nobody knows that it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.bags.reading_process import NoEndError, ReadingProcess
from mil_bench.bags.seal import seal_problem
from mil_bench.bags.store import BagStore, broken_store

if TYPE_CHECKING:
    from pathlib import Path


def open_bags(path: Path, labels: Path | None = None) -> BagStore:
    """A store; one without a seal is first opened in a process that can be ended.

    Args:
        path: the store file.
        labels: a label file whose labels count, None for those of the store.

    Raises:
        InputError: not a store, of another version, cut short, or damaged outside its rows.
    """
    if _is_unsealed(path):
        reader = ReadingProcess(BagStore.__module__)
        try:
            reader.call(_opens, path, 0)
        except NoEndError as error:
            raise broken_store(path, f"cannot be read as a bag store: it {error}") from error
        finally:
            reader.close()
    return BagStore(path, labels)


def _is_unsealed(path: Path) -> bool:
    try:
        return seal_problem(path) is None
    except OSError:
        return False  # which BagStore reports


def _opens(path: Path) -> bool:
    """Whether a store can be opened; what matters is that this ends."""
    try:
        BagStore(path)
    except Exception:
        return False
    return True
