"""Bundles as an attacker or a bad copy leaves them."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from mil_bench.planning.plan import RunPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Contents = dict[str, bytes]


def contents_of(bundle: Path) -> Contents:
    """Name to bytes."""
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, contents: Mapping[str, bytes]) -> zipfile.ZipFile:
    """A zip file of these members, still open for more."""
    archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
    for name, content in contents.items():
        stored = name.endswith(".weights.npz")
        archive.writestr(name, content, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)
    return archive


def listed(contents: Contents) -> Contents:
    """The contents with a manifest and records that vouch for all of them, as a forger makes it."""
    contents = dict(contents)
    for name in [n for n in contents if n.startswith("folds/") and n.endswith(".json")]:
        record = json.loads(contents[name])
        predictions = contents.get(name.replace(".json", ".npz"), b"")
        record["predictions_sha256"] = hashlib.sha256(predictions).hexdigest()
        if weights := contents.get(name.replace(".json", ".weights.npz")):
            record["weights_sha256"] = hashlib.sha256(weights).hexdigest()
        contents[name] = json.dumps(record).encode()
    manifest = json.loads(contents["manifest.json"])
    manifest["members"] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
        if name != "manifest.json"
    }
    contents["manifest.json"] = json.dumps(manifest).encode()
    return contents


def first(contents: Contents, end: str) -> str:
    """Name of the first fold's member with an ending."""
    return next(n for n in sorted(contents) if n.startswith("folds/") and n.endswith(end))


def with_arrays(contents: Contents, name: str, **changed: Any) -> Contents:
    """The contents with other arrays in an npz member, and all digests made to fit."""
    arrays = dict(np.load(io.BytesIO(contents[name]), allow_pickle=False))
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **(arrays | changed))
    return listed(contents | {name: file.getvalue()})


def with_plan(contents: Contents, change: Callable[[dict[str, Any]], None]) -> Contents:
    """The contents with another plan, under the name and with the keys that it then has."""
    old = next(name for name in contents if name.startswith("plans/"))
    value = json.loads(contents[old])
    keys = [job.key for job in RunPlan.from_json(value).jobs]
    change(value)
    plan = RunPlan.from_json(value)
    renamed = dict(contents)
    del renamed[old]
    for before, job in zip(keys, plan.jobs, strict=False):
        for name in [n for n in renamed if before in n]:
            renamed[name.replace(before, job.key)] = renamed.pop(name)
    renamed[f"plans/{plan.run_id}.json"] = json.dumps(value).encode()
    manifest = json.loads(renamed["manifest.json"])
    manifest["runs"] = {
        plan.run_id: {
            "dataset": plan.dataset,
            "data_digest": plan.jobs[0].data_digest,
            "split_digest": plan.splits.digest,
        }
    }
    return listed(renamed | {"manifest.json": json.dumps(manifest).encode()})
