"""Speed of training: ours, the authors' loops, torchmil and the matrix products alone.

    python -m mil_bench.benchmarks.speed.training [--quick] [--cores 2] [--torchmil
    torchmil/bin/python] [--device cuda] [--keep NAME]

Prints Markdown tables of ratios within this run. On a GPU it takes less than ten minutes and also
compares features that stay on the GPU with features that are streamed. benchmarks/speed/README.md
says what is compared, and why.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mil_bench.benchmarks.speed.race.cells import FOLDS, Spec
from mil_bench.benchmarks.speed.race.disk import write_bags
from mil_bench.benchmarks.speed.race.floor import SHAPES
from mil_bench.benchmarks.speed.race.loops import LOOPS
from mil_bench.benchmarks.speed.race.picture import draw
from mil_bench.benchmarks.speed.race.streaming import streamed
from mil_bench.benchmarks.speed.race.turns import Medians, compete
from mil_bench.benchmarks.speed.timing import table
from rich.console import Console

from mil_bench import devices, registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

METHODS = ("abmil", "clam-sb", "dsmil", "transmil", "hmil")  # of the paper's table 1, with targets
TORCHMIL = ("abmil", "clam-sb", "dsmil", "transmil")
BAGS = {120: 40, 500: 20, 3000: 10}  # bags per cell, if these are enough for one step
PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"
# Targets of loop / ours, by device, method and rows.
TARGETS: Mapping[str, Mapping[str, Mapping[int, float]]] = {
    devices.CPU: {
        "abmil": {120: 1.8, 500: 1.3, 3000: 1.1},
        "clam-sb": {120: 1.8, 500: 1.3, 3000: 1.1},
        "dsmil": {120: 2.0, 500: 1.8, 3000: 1.4},
        "transmil": {120: 1.1, 500: 1.1, 3000: 1.05},
        "hmil": {120: 2.5, 500: 2.0, 3000: 1.7},
    },
    devices.GPU: {method: {500: 5 if method == "transmil" else 20} for method in METHODS},
}
_ON_GPU = [500, 3000]  # rows; in shorter bags the start of a kernel is all there is to measure
_SLIDES, _EPOCHS = 547, 200  # of the paper's table 1, on BRACS


def _cells(arguments: argparse.Namespace) -> Iterator[Spec]:
    for method in arguments.methods:
        for rows in arguments.rows:
            folds = tuple(range(arguments.folds))
            yield Spec(
                "", method, rows, _bags(method, rows), folds, arguments.cores, arguments.device
            )


def _kinds(arguments: argparse.Namespace, method: str) -> dict[str, tuple[int, str]]:
    """Number of processes and interpreter of each contestant of a method."""
    on_gpu = devices.is_gpu(arguments.device)
    processes = 1 if on_gpu else arguments.cores
    stackable = registry.methods.load(method).stackable
    kinds = {"loop": (1, sys.executable)}
    if not (on_gpu and stackable):
        kinds["ours"] = (processes, sys.executable)
    if method == "abmil":
        kinds["wrapped"] = (processes, sys.executable)
    if not on_gpu and method in SHAPES:
        kinds["floor"] = (processes, sys.executable)
    if stackable and (arguments.stacked or on_gpu):
        kinds["stacked"] = (processes, sys.executable)
    if arguments.torchmil and method in TORCHMIL:
        kinds["torchmil"] = (1, arguments.torchmil)
    return kinds


def _training_alone(
    arguments: argparse.Namespace, console: Console
) -> tuple[str, dict[tuple[str, int], dict[str, Medians]]]:
    lines: list[list[str]] = []
    results: dict[tuple[str, int], dict[str, Medians]] = {}
    for spec in _cells(arguments):
        kinds = _kinds(arguments, spec.method)
        with console.status(f"measuring: {spec.method}, {spec.rows} rows"):
            medians = compete(kinds, spec, arguments.starts, arguments.turns)
        if "ours" not in medians:  # on a GPU our workers train all folds as one stack
            medians["ours"] = medians["stacked"]
        results[spec.method, spec.rows] = medians
        lines.append(_line(spec, medians))
        console.print(" | ".join(lines[-1]))
    head = [
        "method",
        "rows",
        "ours, s",
        "loop, s",
        "loop / ours",
        "target",
        "CPU time: loop / ours",
    ]
    head += [
        "floor / ours",
        "floor / loop",
        "torchmil / ours",
        "loop / one stack",
        "loop / loop's model bag by bag",
        "memory, MB: ours",
        "loop",
    ]
    return table(head, lines), results


def _line(spec: Spec, medians: Mapping[str, Medians]) -> list[str]:
    ours, loop = medians["ours"], medians["loop"]

    def ratio(over: str, under: str, what: str = "wall", shown: str = "{:.2f}") -> str:
        if over not in medians or under not in medians:
            return "not measured"
        return shown.format(getattr(medians[over], what) / getattr(medians[under], what))

    return [
        spec.method,
        f"{spec.rows:,}",
        f"{ours.wall:.3f}",
        f"{loop.wall:.3f}",
        ratio("loop", "ours"),
        str(TARGETS[spec.device].get(spec.method, {}).get(spec.rows, "")),
        ratio("loop", "ours", "cpu"),
        ratio("floor", "ours", "cpu", "{:.0%}"),
        ratio("floor", "loop", "cpu", "{:.0%}"),
        ratio("torchmil", "ours"),
        ratio("loop", "stacked"),
        ratio("loop", "wrapped"),
        f"{ours.memory:.0f}",
        f"{loop.memory:.0f}",
    ]


def table_1(results: Mapping[tuple[str, int], Mapping[str, Medians]]) -> str:
    """Hours to train the paper's table 1: ten folds, 200 epochs, eight tenths of 547 slides.

    Args:
        results: medians of every contestant by method and rows; those of 3,000 rows are used, the
            size of BRACS's bags.
    """
    lines = []
    for method in METHODS:
        medians = results.get((method, 3000))
        trained = len(Spec("", method, 3000, _bags(method, 3000), (), 1).trains(0))
        factor = FOLDS * _EPOCHS * 0.8 * _SLIDES / trained / 3600
        hours = [medians[kind].wall * factor if medians else None for kind in ("ours", "loop")]
        lines.append([method, *(_time(h) for h in hours)])
    return table(["method", "ours, hours", "loop, hours"], lines)


def _time(hours: float | None) -> str:
    """Hours; of less than one, the minutes."""
    if hours is None:
        return "not measured"
    return f"{hours:.1f}" if hours >= 1 else f"{60 * hours:.1f} min"


def _bags(method: str, rows: int) -> int:
    """The number of bags of a cell, of which a fold trains on at least one batch of the loop."""
    return max(BAGS.get(rows, 20), LOOPS[method].batch * 10 // 8)


def _with_reading(arguments: argparse.Namespace) -> str:
    """ABMIL at 500 rows: files of TRIDENT's layout read by the loop, our store read by our feed."""
    with tempfile.TemporaryDirectory() as place:
        spec = Spec(
            "",
            "abmil",
            500,
            40,
            tuple(range(arguments.folds)),
            arguments.cores,
            arguments.device,
            place,
        )
        write_bags(spec)
        on_gpu = devices.is_gpu(arguments.device)
        name, processes = ("stacked-reading", 1) if on_gpu else ("ours-reading", arguments.cores)
        kinds = {name: (processes, sys.executable), "loop-reading": (1, sys.executable)}
        medians = compete(kinds, spec, arguments.starts, arguments.turns)
    ours, loop = medians[name], medians["loop-reading"]
    ratios = [f"{loop.wall / ours.wall:.2f}", "1.8", f"{loop.cpu / ours.cpu:.2f}"]
    head = ["ours, s", "loop, s", "loop / ours", "target", "CPU time: loop / ours"]
    return table(head, [[f"{ours.wall:.3f}", f"{loop.wall:.3f}", *ratios]])


def _parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=METHODS,
        choices=tuple(LOOPS),
        metavar="NAME",
        help=f"of {', '.join(LOOPS)}; default: the first {len(METHODS)}",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        type=int,
        metavar="N",
        help="median rows per bag; default: 120 (not on a GPU), 500, 3000",
    )
    parser.add_argument(
        "--folds",
        type=int,
        default=FOLDS,
        choices=range(1, FOLDS + 1),
        metavar="K",
        help="number of folds to train",
    )
    parser.add_argument(
        "--starts", type=int, metavar="N", help="starts of all processes; default: 3, on a GPU 1"
    )
    parser.add_argument(
        "--turns",
        type=int,
        default=2,
        metavar="N",
        help="turns per start (default: 2); the tables have medians of all turns",
    )
    parser.add_argument(
        "--cores", type=int, default=os.cpu_count() or 1, metavar="N", help="cores per contestant"
    )
    parser.add_argument("--device", default=devices.CPU, choices=(devices.CPU, devices.GPU))
    parser.add_argument(
        "--torchmil", metavar="PYTHON", help="interpreter of an environment with torchmil 1.0.2"
    )
    parser.add_argument(
        "--stacked", action="store_true", help="also train all folds as one stack on the CPU"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="two folds, one start, no bags of 3,000 rows: a few minutes",
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where 13 GB of features are written on a GPU"
    )
    parser.add_argument(
        "--keep", metavar="NAME", help="write results/published/NAME.md and NAME.png"
    )
    return parser


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The options that were given, checked, with defaults that depend on the device."""
    parser = _parser()
    arguments = parser.parse_args(words)
    if devices.is_gpu(arguments.device) and not devices.gpu_names():
        parser.error("--device cuda: this machine has no GPU")
    if arguments.folder is not None and not arguments.folder.is_dir():
        parser.error(f"--folder {arguments.folder}: there is no such folder")
    if arguments.torchmil and not Path(arguments.torchmil).is_file():
        parser.error(f"--torchmil {arguments.torchmil}: there is no such interpreter")
    on_gpu = devices.is_gpu(arguments.device)
    arguments.rows = arguments.rows or (_ON_GPU if on_gpu else list(BAGS))
    arguments.starts = arguments.starts or (1 if on_gpu else 3)
    if arguments.quick:
        arguments.folds, arguments.starts = 2, 1
        arguments.rows = [rows for rows in arguments.rows if rows < 3000]
    return arguments


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = _arguments(words)
    shown, results = _training_alone(arguments, Console(stderr=True))
    text = f"Training without reading\n\n{shown}\n\n"
    if "abmil" in arguments.methods:
        text += f"ABMIL, 500 rows, with reading\n\n{_with_reading(arguments)}\n"
    if any(rows == 3000 and method in METHODS for method, rows in results):
        text += "\nThe paper's table 1, training without reading, extrapolated from bags of 3,000 "
        text += f"rows\n\n{table_1(results)}\n"
    if devices.is_gpu(arguments.device) and not arguments.quick:
        text += f"\nFeatures of PANDA's size\n\n{streamed(arguments.device, arguments.folder)}\n"
    print(text)
    if arguments.keep:
        _keep(arguments, " ".join(words or sys.argv[1:]), text)
        what = "wall" if devices.is_gpu(arguments.device) else "cpu"
        draw(results, TARGETS[arguments.device], what, PUBLISHED / f"{arguments.keep}.png")


def _keep(arguments: argparse.Namespace, words: str, text: str) -> None:
    """Write the page of a run that is published."""
    name, torchmil = arguments.keep, arguments.torchmil or "\0"
    command = f"`python -m mil_bench.benchmarks.speed.training {words}`"
    command = command.replace(torchmil, "torchmil/bin/python")
    model = devices.model_of(torch.device(arguments.device))
    machine = f"{arguments.cores} cores, trained on {model}, torch {torch.__version__}"
    head = f"# Speed of training, one run\n\n{command}, {machine}, {arguments.folds} folds, "
    head += "seconds per fold and epoch.\n"
    (PUBLISHED / f"{name}.md").write_text(f"{head}\n![]({name}.png)\n\n{text}")


if __name__ == "__main__":
    main()
