"""Train a share of a run that another process has frozen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_results_folder
from mil_bench.devices import CPU, GPU
from mil_bench.errors import InputError
from mil_bench.planning.options import add_options
from mil_bench.running.setup import Setup
from mil_bench.wording import plural

if TYPE_CHECKING:
    import argparse

_EXAMPLES = """\
examples:
  Freeze a run, train it on machines that share the folder, see the tables:
    mil-bench run --methods all --dataset bracs --on workers --detach
    mil-bench worker RUN            (on every machine)
    mil-bench run --methods all --dataset bracs --on workers
"""


def add_worker(subparsers: Any) -> None:
    """``mil-bench worker``."""
    parser = subparsers.add_parser(
        "worker",
        help="train a share of a run that another machine has frozen",
        description="Train tasks of a run that was frozen with --on workers or --on slurm, and "
        "store the results. Several workers may share a folder of results: each claims the tasks "
        "it trains, and claims of workers that died expire after a minute.",
        epilog=_EXAMPLES,
    )
    parser.set_defaults(call=worker)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("run", nargs="?", metavar="RUN", help="name of the run, or of its trials")
    what.add_argument("--tasks", type=Path, metavar="FILE", help="its task file")
    parser.add_argument(
        "--index", type=int, metavar="N", help="train only bundle N of the task file"
    )
    add_results_folder(parser)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of packed features (default: MIL_BENCH_DATA, else the folder of the run)",
    )
    add_options(parser, Setup, "workers", "device", "deterministic", "patience_minutes")


def worker(arguments: argparse.Namespace) -> int:
    """Train; returns 1 if a task failed."""
    import os

    from mil_bench.cluster.frozen import TaskFolder
    from mil_bench.cluster.trials import OpenStudies, open_tasks
    from mil_bench.cluster.worker import ClaimedTasks, work
    from mil_bench.results import Results
    from mil_bench.running.setup import Machine
    from mil_bench.tuning.tuner import Tuner

    results = Results(arguments.results)
    path = arguments.tasks or TaskFolder(results, arguments.run).newest()
    if path is None:
        problem = f"no tasks of {arguments.run} are frozen in {arguments.results}"
        remedy = "Freeze them: mil-bench run ... --on workers --detach"
        raise InputError("mil-bench worker", [problem], remedy)
    tasks = open_tasks(path, results)
    bundles = tasks.frozen.bundles
    if arguments.index is not None and not 0 <= arguments.index < len(bundles):
        problem = f"index {arguments.index} is outside 0..{len(bundles) - 1}"
        raise InputError(f"task file {path}", [problem], "Name a bundle of this file.")
    chosen = bundles if arguments.index is None else (bundles[arguments.index],)
    device = arguments.device
    if device == "auto":  # as frozen: a GPU that is missing here must be said
        device = GPU if any(bundle.device == GPU for bundle in chosen) else CPU
    patience = arguments.patience_minutes or None
    deterministic = arguments.deterministic
    machine = Machine(arguments.workers, device, patience=patience, deterministic=deterministic)
    named = arguments.data or (Path(d) if (d := os.environ.get("MIL_BENCH_DATA")) else None)
    positions = [task for bundle in chosen for task in bundle.tasks]
    device, workers = machine.resolve(len(positions))
    maker = tasks.maker(named, device)
    if isinstance(tasks, OpenStudies):
        studies = [tasks.studies[position] for position in positions]
        tuner = Tuner(tasks.plan, studies, tasks.frozen.trials, maker, results)
        work(tuner, machine, workers)
        print(f"{plural(tuner.made, 'trial')} made")
        return 0
    claimed = ClaimedTasks(tasks, positions, maker)
    work(claimed, machine, workers)
    print(f"{plural(claimed.trained, 'fold')} trained, {plural(claimed.failed, 'task')} failed")
    return 1 if claimed.failed else 0
