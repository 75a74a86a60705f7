"""Trials on disk, one JSON file per trial; files are added and never changed.

    <root>/<dataset>/<method>/<study>/study.json        job, ranges, folds and pruning rule
    <root>/<dataset>/<method>/<study>/trial-007.json    a trial: complete, pruned or failed

The files hold everything about a study. A study resumes by reading them and continues with the next
number.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from mil_bench import durable
from mil_bench.errors import StorageError
from mil_bench.evaluation.trials import Trial
from mil_bench.file_values import read_object, typed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from filelock import BaseFileLock

    from mil_bench.planning.plan import RunPlan


class TrialStore:
    """The trials under one folder.

    Args:
        root: the folder; made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def folder(self, dataset: str, method: str, study: str) -> Path:
        """The folder of a study."""
        return self.root / dataset / method / study

    def describe(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Store the description of a study, unless it is stored."""
        self._write(folder / "study.json", about)

    def about(self, folder: Path) -> dict[str, Any]:
        """The description of a study.

        Raises:
            StorageError: the file is broken or missing.
        """
        path = folder / "study.json"
        try:
            return read_object(path)
        except (OSError, ValueError) as error:
            raise self.broken(folder, error) from error

    def broken(self, folder: Path, error: Exception) -> StorageError:
        """The error for a description of a study that cannot be understood."""
        return StorageError(
            f"The stored study {folder / 'study.json'} cannot be used: {error}. The file was not "
            "changed; move its folder away and repeat the command to make the trials again."
        )

    def save(self, folder: Path, record: Trial) -> None:
        """Store a finished trial; if it is stored already, the stored one stays."""
        self._write(self._path(folder, record.number), dataclasses.asdict(record))

    def records(self, folder: Path) -> list[Trial]:
        """The finished trials of a study in their order, up to the first missing number.

        Raises:
            StorageError: a file is broken; the message names it, and it is not changed.
        """
        records: list[Trial] = []
        while (path := self._path(folder, len(records))).exists():
            try:
                records.append(typed(Trial, read_object(path)))
            except (OSError, ValueError) as error:
                raise StorageError(
                    f"The stored trial {path} cannot be used: {error}. The file was not changed; "
                    "move it and the later trials of its folder away and repeat the command to "
                    "make them again."
                ) from error
        return records

    def of_plan(self, plan: RunPlan) -> list[Trial]:
        """The trials of a tuned plan, study by study, up to its budget; none if it is not tuned.

        Raises:
            StorageError: a file is broken.
        """
        if plan.tuning is None:
            return []
        records: list[Trial] = []
        for choice in plan.tuning.chosen:
            trials = self.records(self.folder(plan.dataset, choice.method, choice.study))
            records += [
                dataclasses.replace(trial, label=choice.label)
                for trial in trials[: plan.tuning.trials]
            ]
        return records

    def finished(self, dataset: str, trial: Trial) -> float:
        """When a trial was stored, in seconds since 1970."""
        folder = self.folder(dataset, trial.method, trial.study)
        return self._path(folder, trial.number).stat().st_mtime

    def claim(self, folder: Path) -> BaseFileLock | None:
        """A lock that lets only this process add trials to a study; None if another has it.

        The lock lasts until it is released or the process ends.

        Raises:
            StorageError: the folder cannot be made or written to.
        """
        try:
            return durable.acquired(folder / ".lock", patience=0)
        except Timeout:
            return None

    @staticmethod
    def _path(folder: Path, number: int) -> Path:
        return folder / f"trial-{number:03d}.json"

    def _write(self, path: Path, value: Mapping[str, Any]) -> None:
        text = json.dumps(value, indent=1, ensure_ascii=True) + "\n"
        durable.write_once(path, lambda file: file.write(text.encode()))
