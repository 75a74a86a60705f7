"""Results on disk: append-only, atomic, readable with nothing but JSON and NumPy.

    <root>/format.json                              version of this layout
    <root>/<dataset>/<run id>.json                  a run's plan
    <root>/<dataset>/<method>/<key>/job.json        a job
    <root>/<dataset>/<method>/<key>/fold-03.npz     test predictions of a fold
    <root>/<dataset>/<method>/<key>/fold-03.weights.npz   its weights; none where nothing is trained
    <root>/<dataset>/<method>/<key>/fold-03.json    the record: how it was trained, digests of the
                                                    other two; its presence means the fold is done

Results that others trained lie in ``imported`` beside the root, one folder per bundle with this
layout; their jobs name their source, so that they are never taken for what is trained here.

Files appear whole or not at all, the first record wins, and what has a record is never overwritten
or deleted. To resume is to run the same command again.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from pydantic import BaseModel

from mil_bench import durable
from mil_bench.datasets.card import MEAN
from mil_bench.errors import InputError, StorageError, UnknownNameError
from mil_bench.evaluation.predictions import Predictions, TrainedFold
from mil_bench.file_values import read_object, typed
from mil_bench.planning.plan import Job, RunPlan
from mil_bench.results import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FORMAT = 3
_ALTERED = "its content is not what was stored"


class FoldRecord(BaseModel):
    """A fold's record; ``TrainedFold`` says what the fields mean."""

    fold: int
    best_epoch: int
    curves: dict[str, list[float]]
    slides: dict[str, int]
    seconds: float
    environment: dict[str, str]
    in_dim: int | None = None
    parameters: int | None = None
    values: dict[str, float | None] | None = None
    predictions_sha256: str
    weights_sha256: str | None = None


_FILES = {"values", "predictions_sha256", "weights_sha256"}
"""Fields of a record that a ``TrainedFold`` does not have."""


@dataclass(frozen=True)
class PrunedFold:
    """A fold of a pruned trial: it has no predictions, and the result store does not keep it.

    Args:
        fold: its number.
        curves: name to one value per epoch, until it was pruned.
        seconds: wall time.
    """

    fold: int
    curves: Mapping[str, list[float]]
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Folds that gave no result, and why.

    Args:
        reason: in words.
        seconds: wall time until then.
        epochs: trained until then, as far as it is known.
        traceback: the whole traceback, "" if there is none.
    """

    reason: str
    seconds: float = 0.0
    epochs: int = 0
    traceback: str = ""


class ResultStore:
    """The results under one folder.

    Args:
        root: the folder; made on the first write.

    Raises:
        StorageError: the folder holds results of another version.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()  # a plugin may change the current folder
        marker = self.root / "format.json"
        if marker.exists() and (found := _read_json(marker).get("format")) != FORMAT:
            raise StorageError(
                f"{self.root} holds results of format {found}; this mil-bench writes format "
                f"{FORMAT}. Nothing was changed: name another folder with --results, or use the "
                "version that made them."
            )

    def folder(self, job: Job) -> Path:
        """Where a job's results lie."""
        place = Path(job.dataset, job.method, job.key)
        if not job.source:
            return self.root / place
        return next((root for root in self._imports if (root / place).exists()), self.root) / place

    @property
    def _imports(self) -> list[Path]:
        """Folders of imported bundles; one that is being imported has a hidden name."""
        return sorted(Results(self.root.parent).imported.glob("[!.]*"))

    def load_job(self, dataset: str, method: str, key: str) -> Job:
        """A job of which results are stored.

        Raises:
            StorageError: there is none, or its file is broken.
        """
        path = self.root / dataset / method / key / "job.json"
        try:
            job = Job.from_json(_read_json(path))
            if job.key != key:
                raise ValueError(_ALTERED)
        except ValueError as error:
            raise _broken(path, error) from error
        return job

    def done(self, job: Job) -> set[int]:
        """Folds of a job that are finished."""
        numbers = (path.stem.removeprefix("fold-") for path in self.folder(job).glob("fold-*.json"))
        return {int(number) for number in numbers if number.isdigit()}

    def save_plan(self, plan: RunPlan) -> None:
        """Keep a run's plan."""
        self._write_json(self.root / "format.json", {"format": FORMAT})
        self._write_json(self.root / plan.dataset / f"{plan.run_id}.json", plan.to_json())

    def save_fold(
        self, job: Job, result: TrainedFold, values: Mapping[str, float | None] | None = None
    ) -> None:
        """Keep a fold: job, predictions and weights first, then the record that says it is done.

        A fold that has its record is left as it is. Files without a record were left by a process
        that was killed; they are replaced, so that a record vouches only for what its own training
        gave.

        Args:
            job: what was trained.
            result: the fold.
            values: its metric values by name, so that lists of runs need not read predictions.
        """
        self._write_json(self.root / "format.json", {"format": FORMAT})
        self._write_json(self.folder(job) / "job.json", job.to_json())
        path = self._record(job, result.fold)
        record = {name: getattr(result, name) for name in FoldRecord.model_fields.keys() - _FILES}
        record |= {} if values is None else {"values": dict(values)}
        predicted = result.by_slide or result.predictions
        contents = {"predictions": (path.with_suffix(".npz"), _bytes(predicted.write))}
        if (weights := result.weights) is not None:
            content = _bytes(lambda file: np.savez(file, allow_pickle=False, **weights))
            contents["weights"] = (path.with_suffix(".weights.npz"), content)
        with durable.exclusive(self.folder(job)):
            if path.exists():
                return
            for name, (file, content) in contents.items():
                record[f"{name}_sha256"] = hashlib.sha256(content).hexdigest()
                durable.replace(file, content)
            self._write_json(path, record)

    def load_fold(self, job: Job, fold: int) -> TrainedFold:
        """A finished fold, without its weights.

        Raises:
            StorageError: one of its files is broken; it is named and left as it is.
        """
        record = self._load_record(job, fold)
        predictions = self._record(job, fold).with_suffix(".npz")
        try:
            stored = Predictions.read(_checked(predictions, record.predictions_sha256))
            averaged = job.combine == MEAN
            return TrainedFold(
                seed=job.seed,
                job_key=job.key,
                predictions=stored.of_patients() if averaged else stored,
                by_slide=stored if averaged else None,
                epochs=job.recipe.get("epochs", 0),
                **record.model_dump(exclude=_FILES),
            )
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise _broken(predictions, error) from error

    def values(self, job: Job, fold: int) -> dict[str, float | None] | None:
        """Metric values of a finished fold by name; None if an older version stored the fold.

        Raises:
            StorageError: the record is broken.
        """
        return self._load_record(job, fold).values

    def broken(self, job: Job, fold: int, problem: str) -> StorageError:
        """The error for predictions that read well and yet cannot be this job's."""
        return _broken(self._record(job, fold).with_suffix(".npz"), ValueError(problem))

    def load_weights(self, job: Job, fold: int) -> dict[str, np.ndarray] | None:
        """Weights and buffers of a finished fold by name; None where nothing was trained.

        Raises:
            StorageError: one of its files is broken; it is named and left as it is.
            InputError: it was imported without weights.
        """
        record, path = self._load_record(job, fold), self.weights_path(job, fold)
        digest = record.weights_sha256
        if digest is None and job.source and record.in_dim is not None:
            problem = f"the bundle of {job.source} came without weights"
            remedy = "Ask for one that was exported with --weights."
            raise InputError(f"the weights of {job.label}, fold {fold}", [problem], remedy)
        if digest is None:
            return None
        try:
            with np.load(io.BytesIO(_checked(path, digest)), allow_pickle=False) as archive:
                return dict(archive)
        except (OSError, ValueError) as error:
            raise _broken(path, error) from error

    def weights_path(self, job: Job, fold: int) -> Path:
        """Where a fold's weights lie, if it has any."""
        return self._record(job, fold).with_suffix(".weights.npz")

    def planned(self, run_id: str) -> float:
        """When a run was first asked for, in seconds since 1970."""
        return self.runs()[run_id].stat().st_mtime

    def finished(self, job: Job, fold: int) -> float:
        """When a fold was stored, in seconds since 1970."""
        return self._record(job, fold).stat().st_mtime

    def _load_record(self, job: Job, fold: int) -> FoldRecord:
        path = self._record(job, fold)
        try:
            return typed(FoldRecord, _read_json(path))
        except ValueError as error:
            raise _broken(path, error) from error

    def _record(self, job: Job, fold: int) -> Path:
        """The file whose presence says that a fold is done."""
        return self.folder(job) / f"fold-{fold:02d}.json"

    def runs(self) -> dict[str, Path]:
        """Plans by run id, newest first."""
        roots = (self.root, *self._imports)
        paths = [path for root in roots for path in root.glob("*/*.json")]
        newest_first = sorted(paths, key=lambda p: p.stat().st_mtime, reverse=True)
        return {path.stem: path for path in newest_first}

    def load_plan(self, run_id: str) -> RunPlan:
        """The plan of a run.

        Raises:
            UnknownNameError: there is no such run.
        """
        runs = self.runs()
        if run_id not in runs:
            searched = f"The folder of results is {self.root.parent.resolve()}; --results DIR "
            "names another."
            raise UnknownNameError("run", run_id, runs, searched)
        try:
            plan = RunPlan.from_json(_read_json(runs[run_id]))
            if plan.run_id != run_id:
                raise ValueError(_ALTERED)
        except (ValueError, InputError) as error:
            raise _broken(runs[run_id], error) from error
        return plan

    def _write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        text = json.dumps(value, indent=1, ensure_ascii=True) + "\n"
        durable.write_once(path, lambda file: file.write(text.encode()))


def _bytes(write: Callable[[BinaryIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise _broken(path, error) from error


def _checked(path: Path, digest: str) -> bytes:
    """A file's content, if it is what was stored."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(_ALTERED)
    return content


def _broken(path: Path, error: Exception) -> StorageError:
    bundle = next((p for p in path.parents if p.parent.name == Results().imported.name), None)
    remedy = (
        f"move {bundle} away and import the bundle again"
        if bundle
        else "move its folder away and repeat the command to train it again"
    )
    return StorageError(
        f"The stored result {path} cannot be used: {error}. It was left as it is; {remedy}."
    )
