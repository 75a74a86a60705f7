"""Say what this machine can do for a run, and what would go wrong."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_data_folder, add_json, add_results_folder
from mil_bench.errors import show
from mil_bench.wording import plural

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from mil_bench.commands.machine.finding import Finding

_METHOD = "abmil"
_EXAMPLES = """\
examples:
  What this machine can do, and what would go wrong:
    mil-bench doctor
  For an issue:
    mil-bench doctor --json
"""


def add_doctor(subparsers: Any) -> None:
    """``mil-bench doctor``."""
    parser = subparsers.add_parser(
        "doctor",
        help="look for what would go wrong on this machine",
        description="Look at versions, devices, memory, threads, folders and MLflow, and train for "
        "ten seconds on every device. Says what would go wrong and what to do; exits with 1 if "
        "there is anything. What it prints names no user, host, folder or address, so it can be "
        "pasted into an issue.",
        epilog=_EXAMPLES,
    )
    parser.set_defaults(call=doctor)
    add_results_folder(parser)
    add_data_folder(parser)
    add_json(parser)


def doctor(arguments: argparse.Namespace) -> int:
    """Print what was found; returns 1 if something would go wrong."""
    findings = []
    for finding in _findings(arguments):
        findings.append(finding.shareable())
        if not arguments.json:
            _print(findings[-1])
    problems = [finding for finding in findings if finding.problem]
    if arguments.json:
        content = {
            "ok": not problems,
            "findings": [dataclasses.asdict(finding) for finding in findings],
        }
        show(json.dumps(content, indent=1))
    elif problems:
        print(f"\n{plural(len(problems), 'problem')}:")
        for finding in problems:
            show(f"  - {finding.subject}: {finding.problem} {finding.remedy}")
    else:
        print("\nNothing would go wrong.")
    return 1 if problems else 0


def _findings(arguments: argparse.Namespace) -> Iterator[Finding]:
    from mil_bench.commands.machine import folders, hardware, software, speed

    yield from software.findings()
    yield from hardware.findings()
    yield from folders.findings("results", arguments.results)
    yield from folders.findings("data", arguments.data)
    yield _mlflow(arguments)
    yield from speed.findings(_METHOD, speed.SECONDS, _say)


def _mlflow(arguments: argparse.Namespace) -> Finding:
    from mil_bench.commands.machine.finding import Finding
    from mil_bench.results import Results
    from mil_bench.tracking.reaching import why_unreachable
    from mil_bench.tracking.words import tracking_server

    kind = "a server" if tracking_server() else "a file in the folder of results"
    why = why_unreachable(Results(arguments.results))
    if not why:
        return Finding("MLflow", f"{kind}, can be used")
    correct = "Name another folder (--results)"
    if tracking_server():  # whose errors name hosts and users
        why, correct = why.partition(":")[0], "Correct MLFLOW_TRACKING_URI"
    remedy = f"{correct}, or use --no-tracking; results are stored all the same."
    return Finding("MLflow", f"{kind}, cannot be used", f"Runs would not be logged: {why}.", remedy)


def _say(words: str) -> None:
    sys.stderr.write(f"{words} ...\n")


def _print(finding: Finding) -> None:
    mark = "!" if finding.problem else " "
    show(f"{mark} {finding.subject:24} {finding.seen}")
