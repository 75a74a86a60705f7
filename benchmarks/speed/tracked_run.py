"""The command line, with the computing of tracking's own thread told on the last line of standard error.

Run as a process of its own by ``mil_bench.benchmarks.speed.tracking``.
"""

from __future__ import annotations

import runpy
import sys
import time
from typing import TYPE_CHECKING

from mil_bench.tracking.tracker import MlflowTracker

if TYPE_CHECKING:
    from mil_bench.tracking.run_log import RunLog

TOLD = "seconds of computing in tracking's thread:"


def run() -> None:
    """The command that the process was started with; what its trackers' threads computed is printed when it is over."""
    seconds = []
    work = MlflowTracker._work

    def timed(tracker: MlflowTracker, log: RunLog) -> None:
        work(tracker, log)
        seconds.append(time.thread_time())  # of this thread, which does nothing else

    MlflowTracker._work = timed
    try:
        runpy.run_module("mil_bench", run_name="__main__", alter_sys=True)
    finally:
        print(f"{TOLD} {sum(seconds):.3f}", file=sys.stderr)


if __name__ == "__main__":
    run()
