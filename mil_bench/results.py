"""The folder of results and the paths in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ASKED = "asked-"
"""Begins the names of folders with a report on a question of the user's own."""


@dataclass(frozen=True)
class Results:
    """Paths in the folder of results; nothing is created or read here.

    Args:
        folder: the folder, ``results`` by default.
    """

    folder: Path = Path("results")

    @property
    def runs(self) -> Path:
        """Plans and trained folds."""
        return Path(self.folder) / "runs"

    @property
    def imported(self) -> Path:
        """Results that others trained, one folder per bundle, each like ``runs``."""
        return Path(self.folder) / "imported"

    @property
    def studies(self) -> Path:
        """Trials of tuning."""
        return Path(self.folder) / "studies"

    @property
    def reports(self) -> Path:
        """One folder per report."""
        return Path(self.folder) / "reports"

    def report(self, run: str, question: str) -> Path:
        """The folder of a run's report; one on another question does not replace the usual one.

        Args:
            run: name of the run.
            question: ``Asked.name``, "" for the usual question.
        """
        return self.reports / run / (question and f"{ASKED}{question}")

    @property
    def index(self) -> Path:
        """The page over all runs."""
        return Path(self.folder) / "index.html"

    @property
    def maps(self) -> Path:
        """Maps of slides, one folder per run and slide."""
        return Path(self.folder) / "maps"

    @property
    def logs(self) -> Path:
        """Tracebacks of failed trainings, one folder per run."""
        return Path(self.folder) / "logs"

    @property
    def dashboard_file(self) -> Path:
        """The journal file that Optuna's dashboard reads."""
        return Path(self.folder) / "optuna.log"

    @property
    def database(self) -> Path:
        """The SQLite file of MLflow, used if ``MLFLOW_TRACKING_URI`` names no server."""
        return Path(self.folder) / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """The files that MLflow stores next to its database."""
        return Path(self.folder) / "mlartifacts"
