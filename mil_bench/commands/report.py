"""Print and write the report of stored runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import (
    add_json,
    add_results_folder,
    output_as_errors,
    words_again,
)
from mil_bench.commands.terminal.printing import linked
from mil_bench.errors import InputError, one_line
from mil_bench.planning.asked import OPTIONS, Asked
from mil_bench.planning.options import add_options, from_arguments

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.planning.plan import RunPlan
    from mil_bench.results import Results


def add_report(subparsers: Any) -> None:
    """``mil-bench report``."""
    parser = subparsers.add_parser(
        "report",
        help="print a run's tables again and write its report",
        description="Print a run's tables and verdicts again, and write its report: report.html, "
        "one file with all tables and figures, and the tables as Markdown, CSV and LaTeX. Runs on "
        "the same split (other methods, other seeds) are joined. For runs on different datasets, "
        "the methods are also ranked over the datasets, with a critical-difference diagram.",
    )
    parser.set_defaults(call=report)
    parser.add_argument(
        "run", nargs="+", metavar="RUN", help="names of runs; see mil-bench runs list"
    )
    add_options(parser.add_argument_group("the comparison"), Asked, *OPTIONS)
    add_json(parser)
    add_results_folder(parser)


def report(arguments: argparse.Namespace) -> int:
    """Print and write the tables of runs, and the ranking of methods over their datasets."""
    from mil_bench.results import Results
    from mil_bench.running.result_store import ResultStore
    from mil_bench.runs.result import RunResult

    folder = Results(arguments.results)
    store, reports = ResultStore(folder.runs), folder.reports
    # All plans are loaded before the first one is shown.
    plans = _joined([store.load_plan(name) for name in dict.fromkeys(arguments.run)])
    asked = from_arguments(Asked, arguments)
    for plan in plans:
        asked.require(plan)
    for plan in plans:
        if plan.run_id not in store.runs():
            store.save_plan(plan)  # of joined runs, so that they can be named together
    results = [RunResult.collect(store, plan, asked=asked) for plan in plans]
    if arguments.json:
        with output_as_errors():
            documents = [document_of(result, reports / result.run_id) for result in results]
            comparisons = comparison_documents(results, reports)
            renew_index(folder)
        print_documents(documents, comparisons)
        return 0
    for result in results:
        show(result, reports / result.run_id, words_again(arguments, "results"))
    show_ranking(results, reports)
    renew_index(folder)
    return 0


def renew_index(folder: Results) -> None:
    """Write the page over all runs; if the disk refuses it, everything else is written already."""
    from mil_bench.errors import StorageError
    from mil_bench.running.result_store import ResultStore
    from mil_bench.runs.listing import write_index

    try:
        print(f"All runs: {write_index(ResultStore(folder.runs), folder)}")
    except StorageError as error:
        print(one_line(f"! The page over all runs is not renewed: {error}"))


def _joined(plans: Sequence[RunPlan]) -> list[RunPlan]:
    """The plans, those of the same bags and split as one."""
    from mil_bench.planning.plan import joined

    parts: dict[object, list[RunPlan]] = {}
    for plan in plans:
        same = (plan.dataset, plan.splits.digest, {job.data_digest for job in plan.jobs})
        parts.setdefault(plan.run_id if plan.tuning else repr(same), []).append(plan)
    return [joined(same) if len(same) > 1 else same[0] for same in parts.values()]


def show(result: Any, folder: Path, again: str) -> None:
    """Print the main tables and the verdicts, and write the report.

    Args:
        result: of a run.
        folder: where the report is written.
        again: the options that the command for the same report needs.
    """
    from mil_bench.report.render.terminal import print_tables

    print_tables(result.main_tables)
    print()
    for sentence in result.summary:
        print(one_line(sentence))
    if result.planned is not None:
        print(one_line(result.planned.sentence))
    for fact in result.facts:  # before anything is written: a disk may refuse
        print(f"! {one_line(fact)}")
    result.note_shown()
    page = result.write(folder)
    for line in result.figures.failures.values():
        print(f"! {one_line(line)}")
    print(f"\nReport: {linked(page)}  (tables as Markdown, CSV and LaTeX in the same folder)")
    figure = page.parent / "figures" / "classwise_auc.svg"
    if figure.is_file():
        print(f"Class-wise AUC: {linked(figure)}")
    print(f"To print it again: mil-bench report {result.run_id}{result.asked.again}{again}")


def document_of(result: Any, folder: Path) -> dict[str, Any]:
    """A run as a document; writes its report, too."""
    from mil_bench.runs.document import run_document

    result.note_shown()
    return run_document(result, result.write(folder))


def comparison_documents(results: list[Any], reports: Path) -> dict[str, Any]:
    """How methods compare over encoders and over datasets, as documents; writes them, too."""
    from mil_bench.runs.document import comparison_document

    if len(results) < 2:
        return {"encoders": [], "ranking": None}
    grids, datasets = _over_encoders(results)
    found: dict[str, Any] = {"encoders": [], "ranking": None}
    for grid in grids:
        page = grid.write(reports)
        found["encoders"].append(comparison_document(grid.sentences, grid.tables, page))
    if len(datasets) > 1:
        from mil_bench.runs.ranking import Ranking

        try:
            ranking = Ranking(datasets)
        except InputError as error:  # every run is finished; only the ranking is missing
            return found | {"ranking": {"problem": str(error)}}
        page = ranking.write(reports)
        found["ranking"] = comparison_document([ranking.sentence], [ranking.table], page)
    return found


def _over_encoders(results: list[Any]) -> tuple[Sequence[Any], list[Any]]:
    """The comparisons of encoders, and one run per dataset."""
    from mil_bench.runs.encoders import encoder_grids

    grids = encoder_grids(results)
    others = [other for grid in grids for other in grid.results[1:]]
    return grids, [result for result in results if all(result is not o for o in others)]


def print_documents(runs: list[dict[str, Any]], comparisons: dict[str, Any]) -> None:
    """Print the document of a command."""
    from mil_bench.runs.document import text_of_document

    print(text_of_document({"runs": runs} | comparisons))


def show_ranking(results: list[Any], reports: Path) -> None:
    """Print and write how methods compare over encoders and over datasets, if there are several."""
    if len(results) < 2:
        return
    from mil_bench.report.render.terminal import print_tables
    from mil_bench.runs.ranking import Ranking

    grids, results = _over_encoders(results)
    for grid in grids:
        print()
        print_tables(grid.tables[:2])
        print()
        for sentence in grid.sentences:
            print(one_line(sentence))
        print(f"\nEncoders: {linked(grid.write(reports))}")
    if len(results) < 2:
        return
    print()
    try:
        ranking = Ranking(results)
    except InputError as error:  # every run is finished and shown; only the ranking is missing
        print(f"! Not done: {error}")
        return
    print_tables([ranking.table])
    print(f"\n{one_line(ranking.sentence)}\n\nRanking: {linked(ranking.write(reports))}")
