"""mil-bench: which multiple-instance learning method is really better on your slides?

    import mil_bench
    result = mil_bench.run(methods=["abmil", "hmil"], dataset="digits", preset="quick")
    result.tables["fine"]          # a pandas frame

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mil_bench.api import open_run, run
    from mil_bench.errors import MilBenchError
    from mil_bench.methods.checkpoints import build_method, load_method
    from mil_bench.runs.result import RunResult
    from mil_bench.sharing.model import load_model

__version__ = "0.2.0"
__all__ = [
    "MilBenchError",
    "RunResult",
    "build_method",
    "load_method",
    "load_model",
    "open_run",
    "run",
]

_HOMES = {
    "MilBenchError": "mil_bench.errors",
    "RunResult": "mil_bench.runs.result",
    "build_method": "mil_bench.methods.checkpoints",
    "load_method": "mil_bench.methods.checkpoints",
    "load_model": "mil_bench.sharing.model",
    "open_run": "mil_bench.api",
    "run": "mil_bench.api",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mil_bench' has no attribute '{name}'")
