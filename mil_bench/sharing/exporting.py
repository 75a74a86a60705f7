"""Stored runs as a bundle that other folders of results can import."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import mil_bench
from mil_bench import durable
from mil_bench.errors import InputError
from mil_bench.progress import unwatched
from mil_bench.sharing.bundle import (
    FORMAT,
    MANIFEST,
    PREDICTIONS,
    RECORD,
    SOURCE_RULE,
    VERSION,
    WEIGHTS,
    Manifest,
    Member,
    RunDigests,
    fold_member,
    is_source,
    plan_member,
)
from mil_bench.sharing.contents import plan_problems, predictions_problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.progress import Watch
    from mil_bench.running.result_store import ResultStore

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same results give the same bytes


@dataclass(frozen=True)
class Exported:
    """What was written into a bundle.

    Args:
        runs: run id to number of stored and of planned trainings.
        digests: run id to what it was trained on.
        size: bytes of the file.
    """

    runs: Mapping[str, tuple[int, int]]
    digests: Mapping[str, RunDigests]
    size: int


def export_results(
    store: ResultStore,
    run_ids: Sequence[str],
    path: Path,
    source: str,
    weights: bool = False,
    watch: Watch = unwatched,
) -> Exported:
    """Write plans, records and predictions of runs, without features, into a new zip file.

    The commands of the runs are left out, because they can name folders and files.

    Args:
        store: where the runs are.
        run_ids: their names.
        path: the file; it must not exist.
        source: who trained the runs, as tables will name them.
        weights: whether the weights are written, too.
        watch: wraps the iteration over trainings (a progress bar).

    Raises:
        UnknownNameError: there is no such run.
        InputError: the file exists, a run cannot be shared, or nothing of it is stored.
        StorageError: a stored file is broken, or the disk refuses.
    """
    what = f"exporting to {path}"
    if path.exists():
        raise InputError(what, ["the file exists"], "Name a new file, or move this one away.")
    if not is_source(source):
        problem = f"the source '{source:.60}' is not {SOURCE_RULE}"
        raise InputError(what, [problem], "Name who trained the runs with --source NAME.")
    plans = {run_id: replace(store.load_plan(run_id), command="") for run_id in run_ids}
    problems = [f"{run}: {line}" for run, plan in plans.items() for line in plan_problems(plan)]
    trainings = {run_id: _stored(store, plan) for run_id, plan in plans.items()}
    problems += [f"{run}: none of it is stored" for run, done in trainings.items() if not done]
    if problems:
        raise InputError(what, list(dict.fromkeys(problems)), "Nothing was written.")
    digests = {run_id: _digests(plan) for run_id, plan in plans.items()}
    with (
        durable.new_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        members = _Members(archive)
        for run_id, plan in plans.items():
            members.add(plan_member(run_id), _json(plan.to_json()))
        own = [(run, job, fold) for run, done in trainings.items() for job, fold in done]
        for run, job, fold in watch(own, len(own), "reading trainings"):
            _add_fold(members, store, plans[run], job, fold, weights)
        manifest = Manifest(
            format=FORMAT,
            version=VERSION,
            source=source,
            mil_bench=mil_bench.__version__,
            runs=digests,
            members=members.listed,
        )
        members.add(MANIFEST, _json(manifest.model_dump()))
    counts = {run: (len(done), len(plans[run].trainings)) for run, done in trainings.items()}
    return Exported(counts, digests, path.stat().st_size)


class _Members:
    """Writes members and lists them; what two runs have in common is written once."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.listed: dict[str, Member] = {}

    def add(self, name: str, content: bytes) -> None:
        if name in self.listed:
            return
        info = zipfile.ZipInfo(name, _EPOCH)
        info.external_attr = 0o644 << 16
        is_large = name.endswith(WEIGHTS)
        info.compress_type = zipfile.ZIP_STORED if is_large else zipfile.ZIP_DEFLATED
        self._archive.writestr(info, content)
        self.listed[name] = Member(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def _stored(store: ResultStore, plan: RunPlan) -> list[tuple[Job, int]]:
    stored = {job.key: store.done(job) for job in plan.jobs}
    return [(job, fold) for job, fold in plan.trainings if fold in stored[job.key]]


def _digests(plan: RunPlan) -> RunDigests:
    return RunDigests(
        dataset=plan.dataset,
        data_digest=plan.jobs[0].data_digest,
        split_digest=plan.splits.digest,
    )


def _add_fold(
    members: _Members, store: ResultStore, plan: RunPlan, job: Job, fold: int, weights: bool
) -> None:
    """A stored fold, once it is known to be whole."""
    trained = store.load_fold(job, fold)
    if problem := predictions_problem(trained.by_slide or trained.predictions, plan, fold):
        raise store.broken(job, fold, problem)
    folder, stem = store.folder(job), f"fold-{fold:02d}"
    kinds = [RECORD, PREDICTIONS]
    if weights and store.load_weights(job, fold) is not None:
        kinds.append(WEIGHTS)
    for kind in kinds:
        content = Path(folder / f"{stem}{kind}").read_bytes()
        members.add(fold_member(job.key, fold, kind), content)


def _json(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=True) + "\n").encode()
