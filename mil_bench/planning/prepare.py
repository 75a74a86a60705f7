"""From a request to a plan and its bags; nothing is trained here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.datasets.catalogue import find_dataset, open_store
from mil_bench.datasets.patients import combined
from mil_bench.planning.make import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mil_bench.bags.store import BagStore
    from mil_bench.planning.plan import RunPlan
    from mil_bench.planning.request import RunRequest


@dataclass(frozen=True)
class Prepared:
    """A plan with its bags and the request that it was made for."""

    plan: RunPlan
    bags: BagStore
    request: RunRequest


def prepare(request: RunRequest, data: Path, watch: Callable[..., Any] | None = None) -> Prepared:
    """Check a request and plan it. A generated dataset is made if its bag store does not exist.

    Args:
        request: what the user asks for.
        data: folder of the bag stores.
        watch: wraps the iteration over bags that are being generated, for a progress bar.

    Raises:
        MilBenchError: the request cannot be planned; the text says why and what to do.
    """
    if request.plugins:
        from mil_bench.methods import Method

        for plugin in request.plugins:
            registry.methods.add_file(plugin, Method)
    request.rows  # noqa: B018 - reports unknown names before any data are made
    spec = find_dataset(request.dataset)
    own, *others = request.encoders or (None,)
    bags = open_store(spec, data, watch, own)
    beside = {name: open_store(spec, data, encoder=name) for name in others if name is not None}
    plan = make_plan(request, spec, bags, beside)
    return Prepared(plan, combined(bags, plan.combine), request)
