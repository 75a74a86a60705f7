from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from conftest import SMALL_TWIN

from mil_bench.datasets.catalogue import find_dataset, open_store
from mil_bench.errors import InputError, SplitError, UnknownNameError
from mil_bench.planning.make import make_plan
from mil_bench.planning.plan import RunPlan
from mil_bench.planning.request import RunRequest

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.bags.store import BagStore


def plan_of(store: BagStore, **changed: Any) -> RunPlan:
    settings = {"methods": ("mean-pool", "abmil"), "folds": 3, "preset": "quick"} | changed
    return make_plan(RunRequest(SMALL_TWIN, **settings), find_dataset(SMALL_TWIN), store)


def test_a_changed_setting_is_a_changed_key(small_store: BagStore) -> None:
    job = plan_of(small_store).jobs[0]
    changes = {
        "dataset": "other",
        "data_digest": "other",
        "method": "abmil",
        "method_version": 2,
        "params": {**job.params, "dropout": 0.1},
        "recipe": {**job.recipe, "learning_rate": 1e-3},
        "split_digest": "other",
        "seed": 1,
        "training_version": job.training_version + 1,
        "source": "Lab",
        "combine": "bag",
    }
    assert changes.keys() | {"label"} == {f.name for f in dataclasses.fields(job)}
    keys = {
        job.key,
        *(dataclasses.replace(job, **{name: value}).key for name, value in changes.items()),
    }
    assert len(keys) == 1 + len(changes)
    assert dataclasses.replace(job, label="other").key == job.key


def test_the_key_does_not_depend_on_the_order_of_parameters(small_store: BagStore) -> None:
    job = plan_of(small_store).jobs[0]
    turned = dataclasses.replace(job, params=dict(reversed(job.params.items())))
    assert turned.key == job.key


def test_a_plan_survives_the_round_trip(small_store: BagStore) -> None:
    plan = plan_of(small_store)
    again = RunPlan.from_json(plan.to_json())
    assert again.run_id == plan.run_id
    assert again.splits.digest == plan.splits.digest
    assert again.caption == plan.caption


def test_the_caption_says_what_a_reader_must_know(small_store: BagStore) -> None:
    caption = plan_of(small_store, seeds=(0, 1)).caption
    for part in (
        "simulated dataset, not BRACS",
        "difficulty 1",
        "patient-kfold",
        "3 folds x 2 seeds",
        "no patient is shared between training, validation and test",
        "sample standard deviation over the 6 trainings",
        plan_of(small_store).splits.digest,
        "Budget: at most 20 epochs (mean-pool, abmil). Weights are taken from the epoch with the "
        "lowest validation loss.",
    ):
        assert part in caption
    leaking = plan_of(small_store, protocol="paper").caption
    assert "LEAKS" in leaking
    assert "drawn anew by HMIL's rule, not its published lists" in leaking


def test_the_name_of_a_run_on_simulated_data_says_so(small_store: BagStore) -> None:
    assert plan_of(small_store).run_id.startswith("bracs-sim-twin_patient-kfold_")


def test_seeds_change_jobs_but_not_splits(small_store: BagStore) -> None:
    first, second = plan_of(small_store, seeds=(0,)), plan_of(small_store, seeds=(1,))
    assert first.splits.digest == second.splits.digest
    assert not {j.key for j in first.jobs} & {j.key for j in second.jobs}


def test_presets_keep_the_authors_epochs_or_cap_them(small_store: BagStore) -> None:
    def epochs(**changed: Any) -> list[int]:
        return [
            job.recipe["epochs"]
            for job in plan_of(small_store, methods=("abmil", "hmil"), **changed).jobs
            if job.recipe
        ]

    assert epochs(preset="paper") == [20, 200]
    assert epochs(preset="quick") == [20, 200]
    assert epochs(preset="quick", epochs=7) == [7, 7]


def test_quick_allows_every_method_the_same_number_of_steps(small_store: BagStore) -> None:
    rows = {
        "clam-sb": 40,  # of 200, one slide per step
        "transmil": 80,  # of 200, two slides per step
        "hmil": 200,  # 64 slides per step
        "hmil:batch_size=1": 40,
        "hmil:batch_size=1,accumulate=3": 120,
        "hmil:epochs=7": 7,
    }
    planned = plan_of(small_store, methods=tuple(rows), preset="quick").jobs
    assert {job.label: job.recipe["epochs"] for job in planned if job.recipe} == rows


def test_unknown_names_suggest_near_matches(small_store: BagStore) -> None:
    with pytest.raises(UnknownNameError, match=r"no method 'abmill'. Did you mean abmil"):
        plan_of(small_store, methods=("abmill",))
    with pytest.raises(
        UnknownNameError, match=r"no protocol 'patient-kfld'. Did you mean patient-kfold"
    ):
        plan_of(small_store, protocol="patient-kfld")
    with pytest.raises(UnknownNameError, match=r"no preset 'quik'. Did you mean quick"):
        plan_of(small_store, preset="quik")
    with pytest.raises(UnknownNameError, match=r"no dataset 'bracs-sin'. Did you mean bracs-sim"):
        find_dataset("bracs-sin")


def test_a_protocol_the_dataset_does_not_have_is_refused(small_store: BagStore) -> None:
    with pytest.raises(SplitError, match=r"no protocol 'official'; it offers patient-kfold, paper"):
        plan_of(small_store, protocol="official")


def test_all_wrong_numbers_are_listed_at_once() -> None:
    with pytest.raises(InputError) as error:
        RunRequest("digits", methods=(), epochs=0, folds=0, seeds=(1, 1))
    assert len(error.value.problems) == 4


def test_newer_parameters_leave_the_keys_of_older_results(small_store: BagStore) -> None:
    older = {"embed_dim": 500, "attention_dim": 128, "dropout": 0.0}
    methods = ("abmil", "abmil-gated", "abmil:entropy_weight=0", "abmil:entropy_weight=0.1")
    plain, gated, zero, spread = plan_of(small_store, methods=methods).jobs[:4]
    assert plain.params == {**older, "gated": False}
    assert gated.params == older
    assert zero.key == plain.key
    assert spread.params == {**plain.params, "entropy_weight": 0.1}


def test_a_plan_knows_the_centres_of_slides_where_groups_are_centres(
    small_store: BagStore, tmp_path: Path
) -> None:
    assert plan_of(small_store).centres == {}
    name = "ccc-sim:slides=90,rows=4,width=8"
    spec = find_dataset(name)
    store = open_store(spec, tmp_path)
    plan = make_plan(RunRequest(name, methods=("mean-pool",), folds=2), spec, store)
    assert plan.centres == dict(zip(store.slides["slide"], store.slides["group"], strict=True))
    assert RunPlan.from_json(plan.to_json()).centres == plan.centres
    older = {key: value for key, value in plan.to_json().items() if key != "centres"}
    assert RunPlan.from_json(older).centres == {}
