"""Say what a comparison could show, before anything is trained."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_data_folder, add_plugin_files, add_results_folder
from mil_bench.errors import InputError
from mil_bench.planning.asked import Asked
from mil_bench.planning.options import add_options, from_arguments
from mil_bench.planning.request import PRESETS, RunRequest
from mil_bench.progress import progress_bar

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.datasets.slides import Slides
    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.power.ahead import Basis
    from mil_bench.evaluation.power.spread import Design
    from mil_bench.planning.rows import MethodRow
    from mil_bench.report.plan_tables import Planned

_EXAMPLES = """\
examples:
  What five methods on BRACS would show, and what more folds would add:
    mil-bench plan --dataset bracs --methods 5
  The same for methods by name, with three repeats:
    mil-bench plan --dataset bracs --methods hmil abmil clam-sb --repeats 3

The numbers come from the stored run of the dataset that has most of the methods, repeats and seeds.
Without one they rest on an assumption, which is printed. A small run of two methods with two seeds
makes them better. Nothing is trained.
"""


def add_plan(subparsers: Any) -> None:
    """``mil-bench plan``."""
    parser = subparsers.add_parser(
        "plan",
        help="say what a comparison could show before it is made, and how long it takes",
        description="Say how small a difference between methods a comparison could show, what "
        "would show the margin of practical equivalence (more folds, repeats, seeds or patients), "
        "and how many hours the trainings take. The options are those of mil-bench run.",
        epilog=_EXAMPLES,
    )
    parser.set_defaults(call=plan)
    group = parser.add_argument_group("the comparison")
    group.add_argument("--dataset", required=True, metavar="NAME", help="a name or a card file")
    group.add_argument(
        "--methods",
        nargs="+",
        default=("all",),
        metavar="N",
        help="number of methods that are compared, or their names (default: all)",
    )
    add_options(group, RunRequest, "protocol", "folds", "repeats", "seeds", "preset")
    add_options(group, Asked, "margin", "metric", "reference", "pairs")
    add_plugin_files(group)
    add_results_folder(parser)
    add_data_folder(parser)


def plan(arguments: argparse.Namespace) -> int:
    """Print the sentences and the table."""
    from mil_bench.report.plan_tables import plan_sentences, plan_table
    from mil_bench.report.render.terminal import print_tables

    planned = _planned(arguments)
    for sentence in plan_sentences(planned):
        print(sentence)
    print()
    print_tables([plan_table(planned)])
    return 0


def _planned(arguments: argparse.Namespace) -> Planned:
    """What the arguments ask for, with what is stored of the dataset.

    Raises:
        MilBenchError: what is wrong with the request.
    """
    from mil_bench import registry
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.evaluation.main_metric import measure_named
    from mil_bench.report.plan_tables import Planned
    from mil_bench.results import Results
    from mil_bench.running.result_store import ResultStore
    from mil_bench.runs.basis import basis_in, seconds_in
    from mil_bench.splits.protocols import protocol_named, repeatable

    asked = from_arguments(Asked, arguments)
    measure = None if asked.metric is None else measure_named(asked.metric)
    request = from_arguments(RunRequest, arguments)
    number, names = _methods(request)
    spec = find_dataset(request.dataset)
    protocol = request.protocol or spec.protocols[0]
    protocol_named(protocol, spec.protocols, spec.name)
    if request.repeats > 1:
        repeatable(protocol)
    store, slides = ResultStore(Results(arguments.results).runs), _slides(spec, arguments.data)
    basis = basis_in(store, spec.slug, protocol, names, measure)
    design = _design(request, spec, protocol, slides, basis)
    if basis is None:
        _refuse_assumed(measure)
        basis = _assumed(spec, protocol, slides, design)
    yardsticks = registry.yardsticks.names() if basis.unit != "slide" else []
    seconds = seconds_in(store, spec.slug)
    return Planned(
        dataset=spec.name,
        protocol=protocol,
        design=design,
        methods=number,
        yardsticks=len(yardsticks),
        compared=_compared(asked, number, names, yardsticks),
        margin=asked.margin / 100,
        basis=basis,
        names=names,
        seconds=seconds,
        epochs=_epochs(request, request.rows if names else _known_rows(seconds)),
    )


def _epochs(request: RunRequest, rows: Sequence[MethodRow]) -> dict[str, int]:
    """Methods to their highest number of epochs; those that take no steps are left out.

    Raises:
        UnknownNameError: a method has no such setting.
        InputError: a setting has a wrong value.
    """
    from mil_bench import registry
    from mil_bench.methods.recipe import takes_steps
    from mil_bench.methods.settings import parse_settings, settings_of

    found = {}
    for row in rows:
        method = registry.methods.load(row.method)
        settings = parse_settings(row.method, row.settings, settings_of(method))
        recipe = method.recipe.to_json()
        if takes_steps(recipe):
            found[row.label] = settings.get("epochs", request.epochs_of({**recipe, **settings}))
    return found


def _known_rows(labels: Iterable[str]) -> list[MethodRow]:
    """The methods that stored labels name; a row from Python may have any label."""
    from mil_bench import registry
    from mil_bench.planning.rows import MethodRow

    known, rows = registry.methods.names(), []
    for label in labels:
        with contextlib.suppress(InputError):
            rows.append(MethodRow.parse(label))
    return [row for row in rows if row.method in known]


def _methods(request: RunRequest) -> tuple[int, list[str]]:
    """The number of methods, and their names if they are given.

    Raises:
        UnknownNameError: a method does not exist.
        InputError: they are fewer than two.
    """
    first = str(request.methods[0])
    names: list[str] = []
    if len(request.methods) == 1 and first.isdecimal():
        number = int(first)
    else:
        if request.plugins:
            from mil_bench import registry
            from mil_bench.methods import Method

            for plugin in request.plugins:
                registry.methods.add_file(plugin, Method)
        names = [row.label for row in request.rows]
        number = len(names)
    if not 2 <= number <= _MOST_METHODS:
        problem = f"{number} methods cannot be planned"
        remedy = f"Name 2 to {_MOST_METHODS} methods, or give their number."
        raise InputError("the request", [problem], remedy)
    return number, names


_MOST_METHODS = 40


def _compared(
    asked: Asked, number: int, names: Sequence[str], yardsticks: Sequence[str]
) -> list[tuple[int, int]]:
    """The pairs that are compared, by numbers of methods; yardsticks come after the methods.

    Raises:
        InputError: the pairs name a method that is not compared.
    """
    rows = [*names, *yardsticks]
    if not names:
        if asked.reference is not None or asked.pairs:
            problem = "--reference and --pairs name methods, of which only the number is given"
            raise InputError("the request", [problem], "Name the methods: --methods hmil abmil")
        rows = [str(i) for i in range(number + len(yardsticks))]
    pairs = asked.pairs_of(rows) or itertools.combinations(rows, 2)
    return [(rows.index(first), rows.index(second)) for first, second in pairs]


def _refuse_assumed(measure: Measure | None) -> None:
    """Refuse another metric than that of the simulated benchmarks if no run is stored.

    Raises:
        InputError: it is another one.
    """
    from mil_bench.evaluation.main_metric import MAIN_MEASURE

    if measure is None or measure == MAIN_MEASURE:
        return
    problem = (
        f"no suitable run with {measure.metric.words} is stored, and what could be assumed is "
        f"known for {MAIN_MEASURE.metric.words} alone"
    )
    raise InputError("the request", [problem], "Make a small run first, or leave out --metric.")


def _slides(spec: DatasetSpec, data: Path) -> Slides | None:
    """The packed slides; None if features are not packed. A generated dataset is made."""
    from mil_bench.datasets.catalogue import is_packed
    from mil_bench.datasets.slides import any_store, packed_slides

    if not is_packed(spec, data):
        return None

    def watch(bags: Any, count: int) -> Any:
        return progress_bar(bags, count, f"making {spec.name}")

    return packed_slides(any_store(spec, data, watch), spec)


def _design(
    request: RunRequest,
    spec: DatasetSpec,
    protocol: str,
    slides: Slides | None,
    basis: Basis | None,
) -> Design:
    """The size of the comparison.

    Raises:
        InputError: it cannot be known without features, or the stored run cannot say it.
    """
    from mil_bench.evaluation.power.spread import Design
    from mil_bench.splits.protocols import PROTOCOLS

    rule, folds = PROTOCOLS[protocol], request.folds
    if folds is None and slides is not None:
        folds = rule.usual_folds(slides.frame, spec.folds, PRESETS[request.preset].folds)
    elif folds is None and not callable(rule.folds):
        folds = rule.folds or spec.folds
    if basis and (slides is None or not basis.most):
        patients = basis.design.patients
    else:
        patients = _patients(spec, protocol, slides)
    problems = []
    if folds is None or not patients:
        problems.append(f"without features of {spec.name} its folds and patients are not known")
    elif basis and not basis.most and folds != basis.design.folds:
        problems.append(
            f"the stored run {basis.run} has {basis.design.folds} folds of {protocol}, and they do "
            f"not say what {folds} would show"
        )
    if problems or folds is None:
        remedy = "Pack them (mil-bench data pack), or leave out --folds."
        raise InputError("the request", problems, remedy)
    return Design(folds, request.repeats, len(request.seeds), patients)


def _patients(spec: DatasetSpec, protocol: str, slides: Slides | None) -> int:
    """How many patients (or slides) are tested; 0 if that is unknown."""
    if slides is None:
        return spec.groups.count if protocol != "official" else 0
    frame = slides.frame
    if protocol == "official":
        frame = frame[frame["split"] == "test"]
    return int(frame["group" if slides.group_name else "slide"].nunique())


def _assumed(spec: DatasetSpec, protocol: str, slides: Slides | None, design: Design) -> Basis:
    """The basis if no run is stored."""
    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.power.ahead import Basis
    from mil_bench.splits.protocols import PROTOCOLS

    most = 0
    if callable(PROTOCOLS[protocol].again):
        most = design.patients
        if slides is not None:
            column = "group" if slides.group_name else "slide"
            most = int(slides.frame.groupby("label")[column].nunique().min())
    unit = spec.groups.name if slides is None else slides.group_name or "slide"
    return Basis.assumed(design, unit, Measure("fine", "macro_auc"), most)
