"""Slurm: arrays of workers, sent with ``sbatch`` and watched with ``squeue``; no accounting."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.devices import CPU, GPU
from mil_bench.errors import InputError, StorageError
from mil_bench.file_values import read_object, typed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mil_bench.cluster.frozen import OpenTasks
    from mil_bench.running.setup import Setup

_SECONDS_BEFORE_THE_LIMIT = 120  # the signal that lets a worker finish its trainings
_PATIENCE = 60  # seconds for an answer of Slurm
_SCRIPT = """
# Written by mil-bench. One element trains one bundle of tasks.
bundles=({bundles})
exec {python} -m mil_bench worker --tasks {path} --index "${{bundles[$SLURM_ARRAY_TASK_ID]}}" \\
  --results {results} --data {data} --patience-minutes {patience:g}{more}
"""


@dataclass(frozen=True)
class _Array:
    """An array that was sent: its job, and its bundles with the number of missing tasks."""

    job: str
    bundles: tuple[int, ...]
    missing: tuple[int, ...]


class Slurm:
    """The arrays of one run.

    Args:
        tasks: the frozen tasks.
        path: of the task file.
        data: folder of the packed features, as this machine knows it.
        setup: header, limit of elements at the same time, options of the workers.

    Raises:
        InputError: there is no Slurm here, or it does not answer.
    """

    def __init__(self, tasks: OpenTasks, path: Path, data: Path, setup: Setup) -> None:
        self._tasks, self._path, self._data = tasks, path, data
        self._options, self._patience = setup.cluster, setup.patience_minutes
        self._is_deterministic = setup.deterministic
        if shutil.which("sbatch") is None:
            raise InputError(
                "the request",
                ["there is no sbatch on this machine's path"],
                "Call the command on a machine that submits to Slurm, or use --on local.",
            )
        config = _call(["scontrol", "show", "config"])
        size = re.search(r"^MaxArraySize\s*=\s*(\d+)", config, re.MULTILINE)
        self._most = int(size[1]) if size else 1001

    def submit(self, missing: Mapping[int, int]) -> None:
        """Send bundles, in as many arrays as Slurm's largest array size asks for.

        Args:
            missing: the bundles, each with the number of its tasks that are missing.

        Raises:
            InputError: Slurm refuses; the message holds its words.
        """
        frozen = self._tasks.frozen
        for device in (CPU, GPU):
            chosen = [number for number in missing if frozen.bundles[number].device == device]
            for start in range(0, len(chosen), self._most):
                part = chosen[start : start + self._most]
                self._send({number: missing[number] for number in part}, device)

    def _send(self, missing: Mapping[int, int], device: str) -> None:
        bundles = list(missing)
        folder, limit = self._tasks.folder, self._options.array_limit
        logs = folder.logs.resolve()
        logs.mkdir(parents=True, exist_ok=True)
        words = [
            "sbatch",
            "--parsable",
            f"--array=0-{len(bundles) - 1}{f'%{limit}' if limit else ''}",
            f"--job-name={self._tasks.frozen.name}",
            "--requeue",
            "--open-mode=append",
            f"--signal=B:USR1@{_SECONDS_BEFORE_THE_LIMIT}",
            f"--output={logs}/%A_%a.log",
            *(["--gres=gpu:1"] if device == GPU else []),
        ]
        answer = _call(words, self._script(bundles))
        number = answer.strip().split(";")[0]
        content = {"job": number, "bundles": bundles, "missing": list(missing.values())}
        record = json.dumps(content).encode()
        durable.write_once(folder.submitted / f"{number}.json", lambda file: file.write(record))

    def _script(self, bundles: list[int]) -> str:
        """The user's header, then one command that replaces the shell, so that signals reach it."""
        header = "#!/bin/bash\n"
        if self._options.sbatch is not None:
            try:
                header = self._options.sbatch.read_text()
            except (OSError, UnicodeDecodeError) as error:
                problem = f"the header {self._options.sbatch} cannot be read: {error}"
                raise InputError("the request", [problem], "Check --sbatch.") from error
            if not header.startswith("#!"):
                header = f"#!/bin/bash\n{header}"
        results = Path(self._tasks.folder.results.folder).resolve()
        return (
            header.rstrip()
            + "\n"
            + _SCRIPT.format(
                bundles=" ".join(map(str, bundles)),
                python=shlex.quote(sys.executable),
                path=shlex.quote(str(self._path.resolve())),
                results=shlex.quote(str(results)),
                data=shlex.quote(str(self._data.resolve())),
                patience=self._patience,
                more=" --deterministic" if self._is_deterministic else "",
            )
        )

    def arrays(self) -> dict[str, _Array]:
        """What was sent, by number of the job, in that order."""
        arrays = {}
        for path in self._tasks.folder.submitted.glob("*.json"):
            try:
                array = typed(_Array, read_object(path))
            except (OSError, ValueError) as error:
                raise StorageError(f"{path} cannot be used: {error}. Remove it.") from error
            arrays[array.job] = array
        return dict(sorted(arrays.items(), key=lambda item: (len(item[0]), item[0])))

    def waiting_or_running(self) -> set[int] | None:
        """Bundles with a living element; None if Slurm does not answer at the moment."""
        arrays = self.arrays()
        if not arrays:
            return set()
        try:
            lines = _call(["squeue", "--noheader", "--array", "--me", "--format=%F %K"])
        except InputError:
            return None
        living = set()
        for line in lines.splitlines():
            job, _, element = line.strip().partition(" ")
            if job in arrays and element.isdigit() and int(element) < len(arrays[job].bundles):
                living.add(arrays[job].bundles[int(element)])
        return living

    def times_in_vain(self, bundle: int, missing: int) -> int:
        """How often a bundle was sent without a result since.

        Args:
            bundle: the bundle.
            missing: number of its tasks that are missing now.
        """
        return sum(
            dict(zip(array.bundles, array.missing, strict=True)).get(bundle) == missing
            for array in self.arrays().values()
        )

    def log(self, bundle: int) -> Path | None:
        """What the last worker of a bundle printed; None if there is nothing."""
        logs = [
            self._tasks.folder.logs / f"{job}_{array.bundles.index(bundle)}.log"
            for job, array in self.arrays().items()
            if bundle in array.bundles
        ]
        return next((path for path in reversed(logs) if path.exists()), None)

    def has_logs(self) -> bool:
        """Whether any element left what it printed, which Slurm writes where the element runs."""
        logs = self._tasks.folder.logs
        return any(next(logs.glob(f"{job}_*.log"), None) for job in self.arrays())

    def forget(self) -> None:
        """Remove the records of what was sent, once every task is stored or has failed."""
        for path in self._tasks.folder.submitted.glob("*.json"):
            path.unlink(missing_ok=True)


def _call(words: list[str], script: str | None = None) -> str:
    """What a command of Slurm prints.

    Raises:
        InputError: it fails; the message holds its words.
    """
    try:
        done = subprocess.run(
            words, input=script, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(words[0], [str(error)], "See whether Slurm answers: sinfo") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise InputError(words[0], lines, "These are Slurm's own words; see --sbatch and sinfo.")
    return done.stdout
