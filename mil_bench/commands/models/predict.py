"""Apply the trained models of a run to new slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.inspection import add_reading, reading_of
from mil_bench.commands.options import add_data_folder, add_plugin_files, add_results_folder
from mil_bench.commands.terminal.printing import linked
from mil_bench.errors import one_line
from mil_bench.wording import plural

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from mil_bench.report.tables import ResultTable
    from mil_bench.runs.result import RunResult

_EXAMPLES = """\
examples:
  A few new slides, features as the tool wrote them:
    mil-bench predict RUN --method hmil features/
  Into a file, with a column per model:
    mil-bench predict RUN --method hmil features/ --per-model --out new.parquet
  Another hospital with known labels: also metrics with intervals, and leaks:
    mil-bench predict RUN --method hmil features/ --labels labels.csv
  The test slides of fold 0 once more, from the packed features:
    mil-bench predict RUN --method hmil data/bracs.h5 --fold 0
"""
_MOST_SHOWN = 50


def add_predict(subparsers: Any) -> None:
    """``mil-bench predict``."""
    parser = subparsers.add_parser(
        "predict",
        help="apply a run's trained models to new slides, and score them if labels are known",
        description="Apply the trained models of all folds and seeds to new slides. Every slide "
        "gets the mean of the models' probabilities and their standard deviation. With labels, "
        "the predictions are also scored by the metrics of runs; a slide that took part in a "
        "model's training, itself or through its patient, is named and not scored.",
        epilog=_EXAMPLES,
    )
    parser.set_defaults(call=predict)
    add_model_choice(parser)
    parser.add_argument(
        "features",
        type=Path,
        metavar="FEATURES",
        help="folder of feature files in any format that data pack reads, one feature file, or a "
        "packed bag store",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="TABLE",
        help="label table of the new slides (CSV, TSV or .xlsx); a bag store brings its own",
    )
    parser.add_argument(
        "--allow-leaks",
        action="store_true",
        help="also score slides that took part in training",
    )
    parser.add_argument(
        "--per-model",
        action="store_true",
        help="also write the probabilities of every single model",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write one row per slide to this .csv or .parquet file; one per patient if labels of "
        "the run belong to patients",
    )
    add_reading(parser)


def add_model_choice(parser: Any) -> None:
    """Add the run, and which of its models are used."""
    parser.add_argument("run", metavar="RUN", help="name of the run; see mil-bench runs list")
    parser.add_argument(
        "--method",
        metavar="NAME",
        help="method, as tables call it; may be left out of a run of one",
    )
    parser.add_argument(
        "--fold", type=int, metavar="K", help="only models of this fold, counted from 0"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="only models of this training seed")
    add_plugin_files(parser)
    add_results_folder(parser)
    add_data_folder(parser)


def stored_run(arguments: argparse.Namespace) -> RunResult:
    """The run in the arguments, which may be part of its name; plugins are added first."""
    from mil_bench import registry
    from mil_bench.api import open_run
    from mil_bench.results import Results
    from mil_bench.running.result_store import ResultStore
    from mil_bench.runs.comparison import named

    if arguments.plugins:
        from mil_bench.methods import Method

        for plugin in arguments.plugins:
            registry.methods.add_file(plugin, Method)
    run = named(ResultStore(Results(arguments.results).runs), arguments.run)
    return open_run(run, arguments.results)


def predict(arguments: argparse.Namespace) -> int:
    """Predict, print and write."""
    from mil_bench.inference.table_file import require_ending, write_frame
    from mil_bench.report.render.terminal import print_tables
    from mil_bench.runs.predicting import ModelChoice
    from mil_bench.runs.predicting import predict as predict_new

    if arguments.out is not None:
        require_ending(arguments.out)
    choice = ModelChoice(arguments.method, arguments.fold, arguments.seed, arguments.data)
    predicted = predict_new(
        stored_run(arguments),
        arguments.features,
        choice,
        labels=arguments.labels,
        allow_leaks=arguments.allow_leaks,
        per_model=arguments.per_model,
        how=reading_of(arguments),
    )
    out = arguments.out
    of_slides = None if out is None else out.with_name(f"{out.stem}-slides{out.suffix}")
    if out is not None:
        write_frame(predicted.frame, out)
    else:
        print_tables([_shown(predicted.frame)])
    if of_slides is not None and predicted.of_slides is not None:
        write_frame(predicted.of_slides, of_slides)
    if predicted.tables:
        print_tables(predicted.tables)
    for line in predicted.notes:
        print(f"! {one_line(line)}")
    if out is not None:
        count = plural(len(predicted.frame), str(predicted.frame.columns[0]))
        print(f"Predictions: {linked(out)}  ({count})")
    if of_slides is not None and predicted.of_slides is not None:
        count = plural(len(predicted.of_slides), "slide")
        print(f"Before their mean: {linked(of_slides)}  ({count})")
    return 0


def _shown(frame: pd.DataFrame) -> ResultTable:
    """The first slides or patients with their predicted classes and probabilities in percent."""
    from mil_bench.report.tables import Cell, ResultTable

    cells: dict[str, dict[str, Cell | str]] = {}
    unit = str(frame.columns[0])
    names = [
        c.removeprefix("p(")[:-1] for c in frame.columns if c.startswith("p(") and c[-1] == ")"
    ]
    for _, row in frame.head(_MOST_SHOWN).iterrows():
        shown: dict[str, Cell | str] = {"predicted": row["predicted"]}
        for name in names:
            shown[f"p({name})"] = Cell(100 * row[f"p({name})"], 100 * row[f"sd({name})"])
        cells[str(row[unit])] = ({"slides": row["slides"]} if unit != "slide" else {}) | shown
    rest = len(frame) - len(cells)
    more = f" {rest} more {unit}s; --out FILE writes all." if rest else ""
    models = int(frame["models"].iloc[0])
    spread = "mean ± sample standard deviation over" if models > 1 else "of"
    note = f"Probability in percent, {spread} {plural(models, 'model')}.{more}"
    return ResultTable("predictions", "Predictions", "", cells, note=note, row_heading=unit)
