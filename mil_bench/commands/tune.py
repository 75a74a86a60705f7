"""Choose each method's settings by trials."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import (
    add_comparison,
    add_setup,
    requests_of,
    setup_of,
    words_again,
)
from mil_bench.planning.options import add_options
from mil_bench.planning.request import RunRequest
from mil_bench.wording import plural

if TYPE_CHECKING:
    import argparse

_EXAMPLES = """\
examples:
  Search, then the comparison with the chosen settings:
    mil-bench tune --methods abmil hmil --dataset bracs-sim --trials 20
    mil-bench run --methods abmil hmil --dataset bracs-sim --tuned
  Both in one command:
    mil-bench run --methods abmil hmil --dataset bracs-sim --tune 20

Every method gets the same number of trials, the same sampler seeds, the same epochs and the same
pruning rule. Test labels are not used. An interrupted command continues where it stopped, and a
higher number adds trials.
"""


def add_tune(subparsers: Any) -> None:
    """``mil-bench tune``."""
    parser = subparsers.add_parser(
        "tune",
        help="choose each method's settings by trials, with an equal budget",
        description="Choose each method's settings by trials on validation slides, with an equal "
        "budget for every method. The first trial is always the method's own recipe.",
        epilog=_EXAMPLES,
    )
    parser.set_defaults(call=tune)
    add_comparison(parser)
    tuning = parser.add_argument_group("tuning")
    tuning.add_argument(
        "--trials",
        type=int,
        required=True,
        metavar="N",
        help="number of trials per method and seed and, with --select per-fold, per fold; trials "
        "already stored count towards N",
    )
    add_options(tuning, RunRequest, "select", "pruning")
    add_setup(parser)


def tune(arguments: argparse.Namespace) -> int:
    """Make the trials, print cost and choice; returns 1 if a method has no complete trial."""
    from mil_bench.api import make_missing_trials, prepare, tune_settings
    from mil_bench.report.render.terminal import print_tables
    from mil_bench.report.tuning_tables import chosen_table, spent_table
    from mil_bench.tuning.trial_store import TrialStore

    setup = setup_of(arguments)
    failed = False
    # All requests are checked before the first one trains.
    for prepared in [prepare(r, setup) for r in requests_of(arguments, tune=arguments.trials)]:
        if setup.cluster.detach:
            stored, wanted = make_missing_trials(prepared, setup)
            if stored < wanted:
                print(
                    f"{prepared.plan.dataset}: {stored} of {plural(wanted, 'trial')} are stored; "
                    "others make the rest. The same command without --detach waits for them."
                )
                continue
        plan = tune_settings(prepared, setup).plan
        records = TrialStore(setup.folder.studies).of_plan(plan)
        print_tables([spent_table(records, plan.caption), chosen_table(records, plan.caption)])
        left_out = [f"{label} was left out: {reason}" for label, reason in plan.skipped.items()]
        for line in [*left_out, *(f"{label}: {text}" for label, text in plan.remarks.items())]:
            print(f"! {line}")
        failed = failed or bool(plan.skipped.keys() - prepared.plan.skipped.keys())
        request = dataclasses.replace(prepared.request, tune=None, tuned=True)
        again = request.command + words_again(arguments, "results", "data")
        print(f"\nThe comparison with the chosen settings:\n  {again}")
    dashboard = shlex.quote(str(setup.folder.dashboard_file))
    print("To see every trial in a browser (pip install optuna-dashboard):")
    print(f"  optuna-dashboard {dashboard}")
    return 1 if failed else 0
