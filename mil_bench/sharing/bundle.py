"""What a bundle of results is: a zip file of plans, records and predictions, and its limits.

    manifest.json                        source, runs, size and SHA-256 of members
    plans/<run id>.json                  a run's plan
    folds/<key>/fold-03.json             how a fold was trained
    folds/<key>/fold-03.npz              its test predictions
    folds/<key>/fold-03.weights.npz      its weights, if they were exported; never compressed

No other member is accepted. Members are never unpacked under their own names: an import reads them,
checks their values and writes files of its own.
"""

from __future__ import annotations

import re

from pydantic import BaseModel

FORMAT = "mil-bench results"
VERSION = 1
MANIFEST = "manifest.json"
RECORD, PREDICTIONS, WEIGHTS = ".json", ".npz", ".weights.npz"

MEMBER = re.compile(
    r"manifest\.json|plans/[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.json"
    r"|folds/[0-9a-f]{16}/fold-\d{2,6}(\.json|\.npz|\.weights\.npz)"
)
MOST_MEMBERS = 50_000
_MOST_BYTES = (
    (WEIGHTS, 8 * 2**30),
    (PREDICTIONS, 256 * 2**20),
    ("", 64 * 2**20),  # the manifest, a plan or a record
)
"""End of a member's name to the most bytes that it may have."""
MOST_BYTES_TOGETHER = 4 * 2**30
"""Of all members but the weights, which are not compressed and so as large as they look."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
"""Names of datasets, methods and protocols, which are names of folders and files."""
_SOURCE = re.compile(r"\w[\w .&+-]{0,39}")
SOURCE_RULE = (
    "1 to 40 letters, digits, blanks or any of . & + _ -, beginning with a letter or digit"
)


class Member(BaseModel):
    """Size and digest of a member, uncompressed."""

    bytes: int
    sha256: str


class RunDigests(BaseModel):
    """On what a run was trained."""

    dataset: str
    data_digest: str
    split_digest: str


class Manifest(BaseModel):
    """What a bundle says of itself.

    Args:
        format: ``FORMAT``.
        version: ``VERSION``.
        source: who trained its runs.
        mil_bench: version that wrote it.
        runs: run id to what it was trained on.
        members: name of each other member to its size and digest.
    """

    format: str
    version: int
    source: str
    mil_bench: str
    runs: dict[str, RunDigests]
    members: dict[str, Member]


def plan_member(run_id: str) -> str:
    """Name of the member that holds a run's plan."""
    return f"plans/{run_id}.json"


def fold_member(key: str, fold: int, kind: str) -> str:
    """Name of the member that holds a part of a fold.

    Args:
        key: of the job.
        fold: number of the fold.
        kind: ``RECORD``, ``PREDICTIONS`` or ``WEIGHTS``.
    """
    return f"folds/{key}/fold-{fold:02d}{kind}"


def most_bytes(name: str) -> int:
    """The most bytes that a member may have, uncompressed."""
    return next(limit for end, limit in _MOST_BYTES if name.endswith(end))


def is_source(text: str) -> bool:
    """Whether a text can be the name of who trained results; see ``SOURCE_RULE``."""
    return bool(_SOURCE.fullmatch(text)) and text == text.strip() and text.isprintable()
