"""Choose settings by trials."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from mil_bench.commands.options import add_comparison, add_setup, requests_of, setup_of
from mil_bench.planning.options import add_options
from mil_bench.planning.request import RunRequest

_EXAMPLES = """\
examples:
  mil-bench tune --methods abmil hmil --dataset digits --preset quick --trials 10
  mil-bench run --methods abmil hmil --dataset digits --preset quick --tuned      the table with what was chosen
  mil-bench run --methods abmil hmil --dataset digits --preset quick --tune 10    both in one

Every method gets the same number of trials, the same seeds for the sampler, the same epochs and the same rule for
giving up trials. Test labels are not looked at. An interrupted command goes on where it stopped; more trials can be
added by a higher number.
"""


def add_tune(subparsers: Any) -> None:
    """``mil-bench tune``."""
    parser = subparsers.add_parser(
        "tune",
        help="choose each method's settings by trials, with an equal budget",
        description="Choose each method's settings by trials on validation slides, with an equal budget for every "
        "method. The first trial is always the method's own recipe.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(call=tune)
    add_comparison(parser)
    tuning = parser.add_argument_group("tuning")
    tuning.add_argument(
        "--trials",
        type=int,
        required=True,
        metavar="N",
        help="number of trials per method and seed and, with --select per-fold, per fold; trials already stored count",
    )
    add_options(tuning, RunRequest, "select", "pruning")
    add_setup(parser)


def tune(arguments: argparse.Namespace) -> int:
    """Make the trials and print what they cost and what was chosen; 1 if a method has no complete trial."""
    from mil_bench.api import prepare, tune_settings
    from mil_bench.report.render.terminal import print_tables
    from mil_bench.report.tuning_tables import chosen_table, spent_table
    from mil_bench.tuning.trial_store import TrialStore

    setup = setup_of(arguments)
    failed = False
    # All requests are checked before the first trains.
    for prepared in [prepare(r, setup) for r in requests_of(arguments, tune=arguments.trials)]:
        plan = tune_settings(prepared, setup).plan
        records = TrialStore(setup.folder.studies).of_plan(plan)
        print_tables([spent_table(records, plan.caption), chosen_table(records, plan.caption)])
        left_out = [f"{label} was left out: {why}" for label, why in plan.skipped.items()]
        for line in [*left_out, *(f"{label}: {what}" for label, what in plan.remarks.items())]:
            print(f"! {line}")
        failed = failed or bool(plan.skipped.keys() - prepared.plan.skipped.keys())
        request = dataclasses.replace(prepared.request, tune=None, tuned=True)
        print(f"\nThe comparison with the chosen settings:\n  {request.command}")
    dashboard = setup.folder.dashboard_file
    print(
        f"Every trial in a browser (pip install optuna-dashboard):\n  optuna-dashboard {dashboard}"
    )
    return 1 if failed else 0
