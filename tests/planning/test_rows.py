"""Methods with settings as rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import SMALL_TWIN

from mil_bench import registry
from mil_bench.datasets.catalogue import find_dataset
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.planning.make import make_plan
from mil_bench.planning.plan import RunPlan
from mil_bench.planning.request import RunRequest
from mil_bench.planning.rows import MethodRow

if TYPE_CHECKING:
    from mil_bench.bags.store import BagStore


def plan(store: BagStore, *methods: str | MethodRow, **options: object) -> RunPlan:
    request = RunRequest(SMALL_TWIN, tuple(methods), folds=2, **options)
    return make_plan(request, find_dataset(SMALL_TWIN), store)


def test_a_method_with_settings_is_a_row_of_its_own(small_store: BagStore) -> None:
    made = plan(small_store, "hmil", "hmil:align_bags=false,temperature=0.2")
    assert made.methods == ["hmil", "hmil:align_bags=false,temperature=0.2", "lookup"]
    plain, changed, _ = made.jobs
    assert changed.method == "hmil"
    assert changed.params == {**plain.params, "align_bags": False, "temperature": 0.2}
    assert changed.recipe == plain.recipe
    assert changed.key != plain.key


def test_a_row_may_change_the_recipe_and_its_epochs_override_all_others(
    small_store: BagStore,
) -> None:
    made = plan(small_store, "abmil:learning_rate=0.001,epochs=3", "abmil", epochs=7)
    assert [made.jobs[i].recipe["epochs"] for i in (0, 1)] == [3, 7]
    assert made.jobs[0].recipe["learning_rate"] == 0.001


def test_fields_that_a_recipe_does_not_use_are_no_part_of_its_key(small_store: BagStore) -> None:
    made = plan(
        small_store,
        "abmil",
        "abmil:clip_norm=none",
        "abmil:clip_norm=0.5,schedule=step",
        "abmil:patience=none",
    )
    plain, unused, used, other, _ = made.jobs
    assert plain.key == unused.key == other.key
    assert used.recipe == {**plain.recipe, "clip_norm": 0.5, "schedule": "step"}
    assert used.key != plain.key


def test_class_weights_for_every_method_are_part_of_its_key(small_store: BagStore) -> None:
    plain = plan(small_store, "abmil", "hmil").jobs
    weighted = plan(small_store, "abmil", "hmil", class_weights="balanced").jobs
    assert plan(small_store, "abmil", "hmil", class_weights="none").jobs == plain
    for before, after in zip(plain[:2], weighted[:2], strict=True):
        assert after.recipe == {**before.recipe, "class_weights": "balanced"}
        assert after.key != before.key


def test_a_sampler_for_every_method_is_part_of_its_key(small_store: BagStore) -> None:
    plain = plan(small_store, "abmil", "hmil").jobs
    drawn = plan(small_store, "abmil", "hmil", sampler="balanced").jobs
    assert plan(small_store, "abmil", "hmil", sampler="shuffled").jobs == plain
    assert plan(small_store, "abmil:sampler=balanced").jobs[0].key == drawn[0].key
    for before, after in zip(plain[:2], drawn[:2], strict=True):
        assert after.recipe == {**before.recipe, "sampler": "balanced"}
        assert after.key != before.key
    with pytest.raises(UnknownNameError, match="There is no sampler 'weighted'"):
        plan(small_store, "abmil", sampler="weighted")


def test_a_label_changes_the_row_and_not_the_result(small_store: BagStore) -> None:
    named = plan(
        small_store, MethodRow("hmil", {"align_bags": False}, "HMIL without bag alignment")
    )
    plain = plan(small_store, "hmil:align_bags=false")
    assert named.methods[0] == "HMIL without bag alignment"
    assert named.jobs[0].key == plain.jobs[0].key
    assert named.run_id != plain.run_id
    assert RunPlan.from_json(named.to_json()) == named


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("hmil:align_bag=false", UnknownNameError, "Did you mean align_bags"),
        ("hmil:align_bags=perhaps", InputError, "align_bags takes a value of type bool"),
        ("hmil:temperature=warm", InputError, "temperature takes a value of type float"),
        ("hmil:temperature", InputError, "'temperature' has no value"),
        ("hmil:weighting=often", InputError, "weighting is dynamic or fixed"),
        ("hmil:optimizer=adaw", UnknownNameError, "There is no optimizer 'adaw'"),
        ("hmill:temperature=1", UnknownNameError, "Did you mean hmil"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_trains(
    text: str, error: type, said: str, small_store: BagStore
) -> None:
    with pytest.raises(error) as caught:
        plan(small_store, text)
    assert said in str(caught.value)


def test_the_command_of_a_plan_gives_the_same_plan(small_store: BagStore) -> None:
    from mil_bench.cli import _parser
    from mil_bench.run_file import completed

    made = plan(small_store, "abmil", "hmil:align_bags=false", seeds=(0, 3), epochs=2)
    words = made.command.split()
    again = completed(_parser().parse_args(words[1:]))
    assert again.methods == ["abmil", "hmil:align_bags=false"]
    request = RunRequest(
        again.dataset[0],
        tuple(again.methods),
        again.protocol,
        again.folds,
        again.splits,
        tuple(again.seeds),
    )
    assert (
        RunRequest(SMALL_TWIN, ("abmil", "hmil:align_bags=false"), folds=2, seeds=(0, 3)) == request
    )


def test_groups_name_several_methods_and_mix_with_names() -> None:
    def rows(*methods: str) -> list[str]:
        return [row.label for row in RunRequest(SMALL_TWIN, methods).rows]

    core = [*registry.groups.load("core")]
    assert rows("core") == core
    assert {"hmil", "abmil"} < set(core) < set(registry.methods.names())
    assert rows("all") == registry.methods.names()
    assert rows("dtfd", "core", "abmil", "hmil:align_bags=false") == [
        "dtfd",
        *core,
        "hmil:align_bags=false",
    ]
    assert rows("core", "all")[: len(core)] == core
    assert sorted(rows("core", "all")) == registry.methods.names()
    with pytest.raises(UnknownNameError, match=r"no method 'cor'. Did you mean core"):
        rows("cor")
