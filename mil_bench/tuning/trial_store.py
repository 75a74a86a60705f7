"""Trials on disk, beside the results: append-only, one JSON file each.

    <root>/<dataset>/<method>/<study>/study.json        what is tuned, on what, by which rule
    <root>/<dataset>/<method>/<study>/trial-007.json    a finished trial, also one that was pruned
    or failed

The files say all there is to know of a study. To resume is to read them and to go on with the next
number.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from mil_bench import durable
from mil_bench.errors import StorageError
from mil_bench.evaluation.trials import Trial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mil_bench.planning.plan import RunPlan


class TrialStore:
    """The trials under one folder.

    Args:
        root: the folder; made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def folder(self, dataset: str, method: str, study: str) -> Path:
        """Where a study lies."""
        return self.root / dataset / method / study

    def describe(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Keep what a study is."""
        self._write(folder / "study.json", about)

    def about(self, folder: Path) -> dict[str, Any]:
        """What a study is.

        Raises:
            StorageError: its file is broken or missing.
        """
        path = folder / "study.json"
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise StorageError(
                f"The stored study {path} cannot be used: {error}. It was left as it is."
            ) from error

    def save(self, folder: Path, record: Trial) -> None:
        """Keep a finished trial; the first writer wins."""
        self._write(self._path(folder, record.number), dataclasses.asdict(record))

    def records(self, folder: Path) -> list[Trial]:
        """The finished trials of a study in their order, up to the first that is missing.

        Raises:
            StorageError: one of the files is broken; it is named and left as it is.
        """
        found = []
        while (path := self._path(folder, len(found))).exists():
            try:
                value = json.loads(path.read_bytes())
                value["curves"] = {int(fold): curve for fold, curve in value["curves"].items()}
                found.append(Trial(**value))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise StorageError(
                    f"The stored trial {path} cannot be used: {error}. It was left as it is; move it and the later "
                    f"ones of its folder away and repeat the command to try them again."
                ) from error
        return found

    def of_plan(self, plan: RunPlan) -> list[Trial]:
        """The trials behind a tuned plan, study by study, as many of each as its budget says; none if it is not tuned.

        Raises:
            StorageError: a file is broken.
        """
        if plan.tuning is None:
            return []
        found = []
        for each in plan.tuning.chosen:
            records = self.records(self.folder(plan.dataset, each.method, each.study))[
                : plan.tuning.trials
            ]
            found += [dataclasses.replace(record, label=each.label) for record in records]
        return found

    def finished(self, dataset: str, trial: Trial) -> float:
        """When a trial was stored, in seconds since 1970."""
        return (
            self._path(self.folder(dataset, trial.method, trial.study), trial.number)
            .stat()
            .st_mtime
        )

    def claim(self, folder: Path) -> FileLock | None:
        """The right to add trials to a study, until it is released or the process ends; None if another has it."""
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock

    @staticmethod
    def _path(folder: Path, number: int) -> Path:
        return folder / f"trial-{number:03d}.json"

    def _write(self, path: Path, value: Mapping[str, Any]) -> None:
        text = json.dumps(value, indent=1, ensure_ascii=True) + "\n"
        durable.write_once(path, lambda file: file.write(text.encode()))
