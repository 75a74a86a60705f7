"""The command line, with the computing of tracking's own thread told on the last line of standard error.

Run as a process of its own by ``benchmarks.speed.tracking``.
"""

from __future__ import annotations

import sys
import time

from mil_bench.cli import main
from mil_bench.running.tracking.run_log import RunLog
from mil_bench.running.tracking.tracker import MlflowTracker

TOLD = "seconds of computing in tracking's thread:"


def run(words: list[str]) -> int:
    """A command; what its trackers' threads computed is printed when it is over."""
    seconds = []
    work = MlflowTracker._work

    def timed(tracker: MlflowTracker, log: RunLog) -> None:
        work(tracker, log)
        seconds.append(time.thread_time())  # of this thread, which does nothing else

    MlflowTracker._work = timed
    code = main(words)
    print(f"{TOLD} {sum(seconds):.3f}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
