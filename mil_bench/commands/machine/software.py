"""Versions, and settings of the environment that change what is computed or how fast."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING

import mil_bench
from mil_bench.commands.machine.finding import Finding
from mil_bench.running.code_version import commit

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHOWN = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
)
_NAMED_ONLY = ("MIL_BENCH_DATA", "MLFLOW_TRACKING_URI", "DASK_SCHEDULER_ADDRESS")
"""Variables whose values name folders, servers and users."""


def findings() -> Iterator[Finding]:
    """Versions of Python, mil-bench and what it needs, and variables of the environment."""
    yield Finding("Python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield Finding("mil-bench", f"{mil_bench.__version__} {commit()}".strip())
    yield from _packages()
    shown = [f"{name}={os.environ[name]}" for name in _SHOWN if name in os.environ]
    shown += [f"{name} is set" for name in _NAMED_ONLY if os.environ.get(name)]
    yield Finding("environment", ", ".join(shown) or "no variable that matters is set")


def _packages() -> Iterator[Finding]:
    """The packages that mil-bench requires, each with its version."""
    from packaging.requirements import Requirement

    versions = []
    required = [Requirement(line) for line in metadata.requires("mil-bench") or ()]
    for package in (r for r in required if r.marker is None or r.marker.evaluate({"extra": ""})):
        try:
            version = metadata.version(package.name)
        except metadata.PackageNotFoundError:
            version = ""
        if package.specifier.contains(version or "0", prereleases=True) and version:
            versions.append(f"{package.name} {version}")
            continue
        seen = version or "is not installed"
        problem = f"mil-bench was tested with {package.name} {package.specifier} only."
        remedy = f"Install it: pip install '{package.name}{package.specifier}'"
        yield Finding(package.name, seen, problem, remedy)
    yield Finding("packages", ", ".join(versions))
