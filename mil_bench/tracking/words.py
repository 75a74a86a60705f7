"""What is said of MLflow: errors in one line, the command that opens a run, the one to go on."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

from mil_bench.errors import MilBenchError, printable
from mil_bench.results import Results

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST_LINE = 400


def first_line(error: BaseException) -> str:
    """Type and first line of an error of MLflow, which may be long; mil-bench's own errors whole.

    Names and passwords in addresses are left out.
    """
    text = printable(without_password(str(error).strip())).removesuffix(".")
    if isinstance(error, MilBenchError):
        return text
    line = text.partition("\n")[0]
    line = f"{type(error).__name__}: {line}" if line else type(error).__name__
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} [...]"


def failure(error: BaseException) -> str:
    """An error of MLflow in one line, with the server if one is named."""
    server = tracking_server()
    where = f" (MLFLOW_TRACKING_URI is {printable(without_password(server))})" if server else ""
    return f"{first_line(error)}{where}"


def without_password(text: str) -> str:
    """Text whose addresses have no user and no password (``https://user:word@host``)."""
    return re.sub(r"(?<=://)[^/\s@]*@", "", text)


def track_again(folder: Path, run_id: str) -> str:
    """The command that logs what is missing of a run, ready to be pasted.

    Args:
        folder: of results, as the user named it.
        run_id: name of the run.
    """
    named = [] if folder == Results().folder else ["--results", str(folder)]
    return shlex.join(["mil-bench", "runs", "track", run_id, *named])


def page_command(server: str, local: str) -> str:
    """The command that shows a database in a browser, ready to be pasted.

    Args:
        server: value of ``MLFLOW_TRACKING_URI``, "" if there is none.
        local: address of the local SQLite file.
    """
    if server:  # its name may have a password
        return 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"'
    return shlex.join(["mlflow", "ui", "--backend-store-uri", local])


def tracking_server() -> str:
    """What ``MLFLOW_TRACKING_URI`` names, "" if nothing."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip()
