"""The command line, with the CPU time of tracking's thread on the last line of standard error.

Run as a separate process by ``mil_bench.benchmarks.speed.tracking``.
"""

from __future__ import annotations

import runpy
import sys
import time
from typing import TYPE_CHECKING
from unittest import mock

from mil_bench.tracking.tracker import MlflowTracker

if TYPE_CHECKING:
    from mil_bench.tracking.run_log import RunLog

LAST_LINE = "CPU seconds of tracking's thread:"


def run() -> None:
    """Run the command that the process was started with, then print the CPU time of tracking."""
    seconds = []
    work = MlflowTracker._work

    def timed(tracker: MlflowTracker, log: RunLog) -> None:
        work(tracker, log)
        seconds.append(time.thread_time())  # the thread does nothing else

    try:
        with mock.patch.object(MlflowTracker, "_work", timed):
            runpy.run_module("mil_bench", run_name="__main__", alter_sys=True)
    finally:
        print(f"{LAST_LINE} {sum(seconds):.3f}", file=sys.stderr)


if __name__ == "__main__":
    run()
