"""The folder of results: what lies where in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Results:
    """Paths below one folder; nothing is made or read here.

    Args:
        folder: the folder, ``results`` by default.
    """

    folder: Path = Path("results")

    @property
    def runs(self) -> Path:
        """Plans and trained folds."""
        return Path(self.folder) / "runs"

    @property
    def studies(self) -> Path:
        """Trials of tuning."""
        return Path(self.folder) / "studies"

    @property
    def reports(self) -> Path:
        """One folder per report."""
        return Path(self.folder) / "reports"

    @property
    def logs(self) -> Path:
        """Tracebacks of trainings that failed, one folder per run."""
        return Path(self.folder) / "logs"

    @property
    def dashboard_file(self) -> Path:
        """The journal that Optuna's dashboard reads."""
        return Path(self.folder) / "optuna.log"

    @property
    def database(self) -> Path:
        """The SQLite file of MLflow, used unless ``MLFLOW_TRACKING_URI`` names a server."""
        return Path(self.folder) / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """What MLflow stores beside its database."""
        return Path(self.folder) / "mlartifacts"
