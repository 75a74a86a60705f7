"""Two prepared views of an experiment on MLflow's own page, and the address that opens one.

A view is a tag of the experiment with the page's settings as JSON, as its *Share* button writes it.
A page ignores settings that it does not know, and shows the plain list of runs for an unknown view.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mil_bench.tracking.entries import DESCRIPTION, KIND

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAIN = (
    "test_fine/macro_auc",
    "std_test_fine/macro_auc",
    "test_fine/accuracy",
    "test_coarse/macro_auc",
)
_OF_FOLD = (
    "test_fine/macro_auc",
    "test_fine/accuracy",
    "test_coarse/macro_auc",
    "cost/seconds",
    "cost/best_epoch",
)


def _view(kind: str, metrics: Sequence[str], params: Sequence[str]) -> str:
    """Runs of one kind, best first, with these columns; JSON."""
    columns = [*(f"metrics.`{name}`" for name in metrics), *(f"params.`{name}`" for name in params)]
    return json.dumps(
        {
            "searchFilter": f"tags.{KIND} = '{kind}'",
            "orderByKey": f"metrics.`{metrics[0]}`",
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
            "selectedColumns": columns,
            "runsExpanded": {},
            "runsPinned": [],
            "runsHidden": [],
        }
    )


EXPERIMENT_TAGS = {
    # Models are trained here; no language model is traced.
    "mlflow.experimentKind": "custom_model_development",
    DESCRIPTION: "mil-bench: every benchmark is a run, with its methods as child runs and their "
    f"folds and trials below them. `tags.{KIND} = 'benchmark'` (or `'method'`, `'fold'`, "
    "`'trial'`) shows one kind only; `tags.mil_bench.run = 'NAME'` shows one benchmark.",
    "mlflow.sharedViewState.methods": _view("method", _MAIN, ("protocol", "folds", "seeds")),
    "mlflow.sharedViewState.folds": _view("fold", _OF_FOLD, ("method", "seed", "fold")),
}


def address(server: str, experiment: str, view: str = "methods") -> str:
    """The address of a view; without ``workflowType`` MLflow shows traces of language models."""
    query = f"workflowType=machine_learning&viewStateShareKey={view}"
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs?{query}"
