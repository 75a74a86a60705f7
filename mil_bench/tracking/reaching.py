"""Whether MLflow can be reached, found out without logging anything."""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING

from mil_bench.results import Results
from mil_bench.tracking import local_file, words
from mil_bench.tracking.libraries import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_ANSWER = 30.0  # seconds


def why_unreachable(results: Results) -> str:
    """Why a run could not be logged to MLflow, one line; "" if it could.

    If no file of MLflow is in the folder, one is made beside it and removed again.
    """
    return _answered_in_time(lambda: _try(results))


def _try(results: Results) -> None:
    """Ask the server or the file.

    Raises:
        Exception: MLflow may raise anything.
    """
    if server := words.tracking_server():
        from mlflow import MlflowClient

        MlflowClient(server).search_experiments(max_results=1)
    elif results.database.exists():
        local_file.opened(Results(Path(results.folder).absolute()))  # MLflow wants a whole path
    else:
        parent = next(p for p in Path(results.folder).absolute().parents if p.is_dir())
        place = results.folder if results.folder.is_dir() else parent
        with tempfile.TemporaryDirectory(prefix=".mil-bench-mlflow-", dir=place) as folder:
            local_file.opened(Results(Path(folder)))


def _answered_in_time(work: Callable[[], None]) -> str:
    outcome: Future[None] = Future()

    def do() -> None:
        try:
            with quiet_libraries():
                work()
            outcome.set_result(None)
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=do, name="mlflow", daemon=True).start()
    if not wait([outcome], timeout=_LONGEST_ANSWER).done:
        return f"no answer for {_LONGEST_ANSWER:.0f} seconds"
    error = outcome.exception()
    return "" if error is None else words.first_line(error)
