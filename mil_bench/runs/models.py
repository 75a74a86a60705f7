"""Trained models: methods built with the weights that the result store keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mil_bench import registry
from mil_bench.errors import InputError
from mil_bench.methods.checkpoints import build_method

if TYPE_CHECKING:
    from mil_bench.hierarchy import LabelHierarchy
    from mil_bench.methods import Method
    from mil_bench.planning.plan import Job
    from mil_bench.running.result_store import ResultStore


def trained_method(store: ResultStore, job: Job, fold: int, hierarchy: LabelHierarchy) -> Method:
    """The method that a job trained on a fold, in evaluation mode, on the CPU.

    Args:
        store: where its result is.
        job: what was trained.
        fold: number of the fold.
        hierarchy: the classes of the job's dataset.

    Raises:
        InputError: the fold is not trained, or the method trains nothing, or its code has another
            version now.
        UnknownNameError: the method is not installed; a method of a single file has to be named
            first, as for a run.
        StorageError: a stored file is broken.
    """
    what = f"the trained {job.label}, seed {job.seed}, fold {fold}"
    if fold not in store.done(job):
        done = ", ".join(map(str, sorted(store.done(job)))) or "none"
        raise InputError(
            what, [f"fold {fold} is not stored; stored are: {done}"], "Repeat the run to train it."
        )
    weights, in_dim = store.load_weights(job, fold), store.load_fold(job, fold).in_dim
    if weights is None or in_dim is None:
        raise InputError(what, [f"{job.label} trains nothing"], "Name a trained method.")
    require_version(what, job.method, job.method_version)
    method = build_method(job.method, in_dim, hierarchy, **job.params)
    try:
        method.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    except RuntimeError as error:
        problem = f"its weights do not fit {job.method} ({str(error).partition(chr(10))[0]})"
        raise InputError(what, [problem], "Use the version that trained it.") from error
    return method.eval()


def require_version(what: str, method: str, version: str) -> None:
    """Refuse the weights of a method whose installed code has another version.

    Args:
        what: the weights, for the message.
        method: its name.
        version: that trained them.

    Raises:
        InputError: another version is installed.
        UnknownNameError: the method is not installed.
    """
    installed = registry.methods.version(method, registry.methods.load(method))
    if installed != version:
        problem = f"it was trained by version {version} of {method}, and {installed} is installed"
        raise InputError(what, [problem], "Use the version that trained it.")
