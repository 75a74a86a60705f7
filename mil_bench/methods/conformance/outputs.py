"""What a forward pass has to return, for bags of all kinds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from mil_bench import seeds
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods.conformance.bags import (
    APART,
    TRAINING_SIZES,
    build,
    fit,
    others_changed,
    random_bags,
)
from mil_bench.methods.conformance.building import same_seed
from mil_bench.methods.conformance.comparing import assert_close, assert_same_output
from mil_bench.methods.conformance.repeating import training_step, unless_fails
from mil_bench.methods.method import Output
from mil_bench.methods.output import OutputFormError
from mil_bench.methods.recipe import Fit
from mil_bench.running.faults import reason_of

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch
    from mil_bench.methods.method import Method


def output(method: type[Method]) -> None:
    """Metrics and attention maps rely on these shapes."""
    bags = random_bags(method)
    out = build(method)(bags)
    assert out.fine.isfinite().all(), "fine is not finite"
    if out.coarse is not None:
        assert out.coarse.isfinite().all(), "coarse is not finite"
    if out.attention is not None:
        sums = torch.stack([part.sum(0) for part in out.attention.split(bags.lengths)])
        assert_close(sums, torch.ones_like(sums), "attention does not sum to 1 over each bag")
    _require_loss(method)


def _require_loss(method: type[Method]) -> None:
    """The loss is a scalar in training too; what else goes wrong there is for other checks."""
    bags, weight = random_bags(method, TRAINING_SIZES), torch.ones(8, dtype=torch.float64)
    try:
        build(method).train().training_loss(bags, weight, 0.5)
    except OutputFormError:
        raise
    except Exception:
        return


def bag_alone(method: type[Method]) -> None:
    """Bags are batched for speed only."""
    built, bags = build(method), random_bags(method)
    together = built(bags)
    for b in range(bags.n_bags):
        alone = built(bags.select(torch.tensor([b])))
        coarse = None if together.coarse is None else together.coarse[b : b + 1]
        expected = Output(together.fine[b : b + 1], coarse)
        assert_same_output(alone, expected, f"bag of {bags.lengths[b]} instances alone")
    if method.stackable:  # otherwise all bags of a batch are bags on which the fold trains
        _bag_alone_in_training(method)


def _bag_alone_in_training(method: type[Method]) -> None:
    """The other bags change and keep their sizes, so that dropout draws the same numbers."""
    bags = random_bags(method, TRAINING_SIZES)
    weight = torch.zeros(bags.n_bags)
    weight[::2] = 1
    kept, outs = weight.nonzero()[:, 0], []
    for batch in (others_changed(bags, weight), bags):
        with seeds.torch_seeded("conformance", "dropout"):
            out = build(method).train()(batch)
        outs.append(Output(out.fine[kept], None if out.coarse is None else out.coarse[kept]))
    what = "in training mode, a bag's output depends on other bags"
    with unless_fails(method, same_seed):
        assert_same_output(outs[0], outs[1], what, APART)


def instance_order(method: type[Method]) -> None:
    """Instances are a set, unless the class sets ``order_matters``."""
    if method.order_matters:
        return
    bags = random_bags(method)
    reversed_rows = torch.cat([part.flip(0) for part in bags.features.split(bags.lengths)])
    built = build(method)
    out = built(replace(bags, features=reversed_rows))
    what = "instances in another order (set order_matters if that is intended)"
    assert_same_output(out, built(bags), what)


def bag_sizes(method: type[Method]) -> None:
    """Slides have one patch or many thousands."""
    with torch.no_grad():
        bags = random_bags(method, (50_000, 1))
        out = build(method).float()(replace(bags, features=bags.features.float()))
    tried = f"{bags.lengths[0]:,} and of {bags.lengths[1]:,}"
    assert out.fine.isfinite().all(), f"bags of {tried} instances: fine is not finite"
    for sizes in ((1,), (2,), (1, 1), (1, 3)):
        bags = random_bags(method, sizes)
        what = f"in training mode, a batch with bags of {' and '.join(map(str, bags.lengths))} rows"
        _trains_on(method, bags, what)


def _trains_on(method: type[Method], bags: BagBatch, what: str) -> None:
    """A step on a batch, or a fit, gives finite numbers."""
    weight = torch.ones(bags.n_bags, dtype=torch.float64)
    try:
        if isinstance(method.recipe, Fit):
            built = build(method)
            loss = fit(built, bags)
            found = {"loss": torch.tensor(loss), "fine": built.eval()(bags).fine}
        else:
            found = training_step(method, bags, weight, 0.5)
    except Exception as error:  # a method under test may raise anything
        raise AssertionError(f"{what}: {reason_of(error)}") from error
    broken = [name for name, value in found.items() if not value.isfinite().all()]
    assert not broken, f"{what}: not finite: {', '.join(broken[:3])}"


def widths_and_classes(method: type[Method]) -> None:
    """Encoders and datasets differ in their numbers of features and classes."""
    for in_dim, classes in ((3, 2), (1024, 3), (64, 7)):
        flat = LabelHierarchy.flat([f"c{c}" for c in range(classes)])
        try:
            build(method, flat, in_dim)(random_bags(method, (4, 6, 1), in_dim, classes))
        except OutputFormError as error:
            raise AssertionError(f"{in_dim} features, {classes} classes: {error}") from error


def half_precision(method: type[Method]) -> None:
    """Packed features are often float16, and some encoders give large values."""
    bags = random_bags(method)
    rounded = replace(bags, features=(50 * bags.features).half().float())
    built = build(method).float()
    if isinstance(method.recipe, Fit):
        fit(built, rounded)
        built.eval()
    fine, loss = built(rounded).fine, built.training_loss(rounded, torch.ones(8), 0.5)
    assert fine.isfinite().all(), "fine is not finite on large half-precision features"
    assert loss.isfinite(), "the loss is not finite on large half-precision features"
