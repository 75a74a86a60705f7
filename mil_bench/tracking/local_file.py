"""MLflow's SQLite file in the folder of results.

It gets its name when its tables are complete, is tried before MLflow opens it, and is told where
its artifacts are if the folder has moved: MLflow stores absolute places only.
"""

from __future__ import annotations

import contextlib
import shlex
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mil_bench import durable
from mil_bench.errors import TrackingError
from mil_bench.tracking.words import first_line

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.results import Results

EXPERIMENTS = "mil-bench/"
"""All experiments of mil-bench begin with this."""
_LONGEST_LOCK = 20.0  # seconds; MLflow waits as long for another process that writes
_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_REFUSED = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_FULL", "SQLITE_IOERR")


def address(path: Path) -> str:
    """How MLflow and its commands name a SQLite file, whatever letters its path has."""
    from sqlalchemy.engine import URL, make_url

    path_text = str(path)
    if make_url(plain := f"sqlite:///{path_text}").database == path_text:
        return plain
    # With sqlite+pysqlite MLflow makes no folder that has the escapes in its name.
    escaped = URL.create("sqlite+pysqlite", database=path_text).render_as_string()
    if make_url(escaped).database == path_text:
        return escaped
    # SQLAlchemy before 2.1 has no escapes, but SQLite has.
    return f"sqlite+pysqlite:///file:{quote(path_text)}?uri=true"


def opened(results: Results) -> Any:
    """An ``MlflowClient`` on the file, which is made if it does not exist.

    Raises:
        TrackingError: the file cannot be written to, is damaged, or is of another MLflow.
        StorageError: it cannot be made.
    """
    import mlflow

    path = results.database
    if not path.exists():
        _make(path)
    _sweep(path)
    _settle(results)
    try:
        client = mlflow.MlflowClient(address(path))
        client.search_experiments(max_results=1)
    except Exception as error:  # MLflow may raise anything
        upgrade = shlex.join(["mlflow", "db", "upgrade", address(path)])
        raise TrackingError(
            f"MLflow {mlflow.__version__} cannot use {path} ({first_line(error)}). If an older "
            f"MLflow made it, `{upgrade}` converts it; otherwise move it away, and a new one is "
            "made"
        ) from error
    return client


def _make(path: Path) -> None:
    """Make the file; MLflow cannot use one if its first set-up was killed."""
    from mlflow import MlflowClient

    with durable.new_file(path) as temporary:
        temporary.touch()  # refused at once where MLflow would try for two minutes
        try:
            MlflowClient(address(temporary)).search_experiments(max_results=1)
        finally:
            _journal(temporary).unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Remove the journals of files whose set-up was killed; the files go when the next is made."""
    for journal in path.parent.glob(f".{path.name}.*.partial-journal"):
        if not journal.with_name(journal.name.removesuffix("-journal")).exists():
            journal.unlink(missing_ok=True)


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def _settle(results: Results) -> None:
    """Try to write to the file, and correct the places of artifacts if the folder has moved.

    Raises:
        TrackingError: SQLite refuses.
    """
    path = results.database
    try:
        place = f"file:{quote(str(path))}?mode=rw"
        with contextlib.closing(
            sqlite3.connect(place, uri=True, timeout=_LONGEST_LOCK, isolation_level=None)
        ) as file:
            file.execute("BEGIN IMMEDIATE")
            (version,) = file.execute("PRAGMA user_version").fetchone()
            file.execute(f"PRAGMA user_version = {int(version)}")  # always writes, changes nothing
            _move(file, results.artifacts)
            file.execute("COMMIT")
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(_BUSY):
            raise TrackingError(f"{path} is locked by another process") from error
        if name.startswith(_REFUSED):
            raise TrackingError(f"{path} cannot be written to ({error})") from error
        raise TrackingError(
            f"{path} is no whole file of MLflow ({error}); move it away, and a new one is made"
        ) from error


def _move(file: sqlite3.Connection, artifacts: Path) -> None:
    """Name the folder of artifacts anew where another one is named and the files are in this one.

    Args:
        file: in a transaction.
        artifacts: the folder.
    """
    here = artifacts.as_uri()
    own = f"name LIKE '{EXPERIMENTS}%' AND artifact_location LIKE 'file:%/{artifacts.name}'"
    own_ids = f"SELECT experiment_id FROM experiments WHERE {own}"
    found = file.execute(
        f"SELECT run_uuid FROM runs WHERE experiment_id IN ({own_ids}) "
        "AND artifact_uri != ? || '/' || run_uuid || '/artifacts'",
        (here,),
    )
    moved = [run for (run,) in found if (artifacts / run).is_dir()]
    file.executemany(
        "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?",
        [(f"{here}/{run}/artifacts", run) for run in moved],
    )
    file.execute(f"UPDATE experiments SET artifact_location = ? WHERE {own}", (here,))
