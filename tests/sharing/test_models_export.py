"""Trained models as one file: they predict as in their run, and nothing else is opened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from conftest import SMALL_TWIN
from safetensors.numpy import load_file, save_file

import mil_bench
from mil_bench import cli, registry
from mil_bench.bags.store import BagStore
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.methods.checkpoints import build_method
from mil_bench.sharing.model_export import export_model
from mil_bench.sharing.model_file import read_model_file

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.hierarchy import LabelHierarchy
    from mil_bench.runs.result import RunResult

QUIET = {"tracking": False, "progress": False, "on": "inline"}
METHODS = ["abmil", "linear-probe", "hmil"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, BagStore]:
    folder = tmp_path_factory.mktemp("ran")
    places = {"results": folder / "results", "data": folder / "data"}
    result = mil_bench.run(METHODS, SMALL_TWIN, folds=2, epochs=2, seeds=[0, 4], **places, **QUIET)
    return result, BagStore(next((folder / "data").rglob("*.h5")))


@pytest.fixture(scope="module")
def file(ran: tuple[RunResult, BagStore], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "abmil.safetensors"
    export_model(ran[0], "abmil", path)
    return path


@pytest.mark.parametrize("method", METHODS)
def test_a_loaded_model_predicts_what_its_run_predicted(
    method: str, ran: tuple[RunResult, BagStore], tmp_path: Path
) -> None:
    result, bags = ran
    export_model(result, method, tmp_path / "m.safetensors")
    model = mil_bench.load_model(tmp_path / "m.safetensors")
    places = {(m.seed, m.fold): i for i, m in enumerate(model.about.models)}
    assert len(places) == 4
    for trained in result.trained[method]:
        predictions = trained.predictions
        for slide, stored in list(zip(predictions.slides, predictions.fine, strict=True))[:5]:
            bag = bags.bag(int(bags.index_of((str(slide),))[0]))
            found = model.predict(bag.features)
            assert np.abs(found.each[places[trained.seed, trained.fold]] - stored).max() < 1e-6
            assert np.allclose(list(found.fine.values()), found.each.mean(0))
            lifted = bags.hierarchy.lift(found.each.mean(0))
            assert np.allclose(list(found.coarse.values()), lifted)
            assert found.predicted == bags.hierarchy.fine[int(found.each.mean(0).argmax())]


def test_a_fold_and_a_seed_can_be_chosen(ran: tuple[RunResult, BagStore], tmp_path: Path) -> None:
    result, _ = ran
    export_model(result, "abmil", tmp_path / "m.safetensors", fold=1, seed=4)
    model = mil_bench.load_model(tmp_path / "m.safetensors")
    assert [(m.seed, m.fold) for m in model.about.models] == [(4, 1)]
    expected = result.model("abmil", 4, 1).state_dict()
    assert all(
        torch.equal(value, expected[name])
        for name, value in model.models[0].method.state_dict().items()
    )
    with pytest.raises(InputError, match="no such model is stored; stored are: seed 0 fold 0"):
        export_model(result, "abmil", tmp_path / "n.safetensors", fold=7)
    with pytest.raises(UnknownNameError, match="Did you mean abmil"):
        export_model(result, "abmill", tmp_path / "n.safetensors")
    with pytest.raises(InputError, match="lookup trains nothing"):
        export_model(result, "lookup", tmp_path / "n.safetensors")


def test_the_card_says_what_the_models_are(ran: tuple[RunResult, BagStore], file: Path) -> None:
    result, _ = ran
    text = file.with_suffix(".md").read_text(encoding="utf-8")
    auc = result.tables["fine"].loc["abmil", "Macro AUC"]
    for part in (
        f"{auc['mean']:.1f} ± {auc['std']:.1f}",
        "The data are simulated",
        "DCIS | malignant",
        "recipe: learning\\_rate | 0.0005",
        result.run_id,
        "Ilse",
        "Brancati",
        "mil_bench.load_model('abmil.safetensors')",
        "The mean of all models, which `predict` gives, was not tested.",
    ):
        assert part in text or part.replace("\\_", "_") in text, part


def test_the_commands_write_both_files_and_overwrite_none(
    ran: tuple[RunResult, BagStore],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    result, _ = ran
    assert result.store is not None
    monkeypatch.chdir(tmp_path)
    words = ["export", result.run_id, "--method", "abmil", "--fold", "0"]
    words += ["--results", str(result.store.root.parent)]
    assert cli.main(words) == 0
    path = tmp_path / f"{result.run_id}-abmil.safetensors"
    assert path.name in capsys.readouterr().out
    assert path.with_suffix(".md").exists()
    before = path.read_bytes()
    assert cli.main(words) == 2
    assert "exists" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_arrays_of_another_form_are_refused_by_their_shape(file: Path) -> None:
    model = mil_bench.load_model(file)
    for rows, message in (
        (np.zeros((5, 17), np.float32), "it has 17 features per instance, .* trained on 16"),
        (np.zeros(16), r"it has the shape \(16,\)"),
        (np.zeros((0, 16)), r"it has the shape \(0, 16\)"),
        (np.full((2, 16), np.nan), "it holds NaN or infinite values"),
        (np.array([["x"] * 16]), "the type <U1"),
    ):
        with pytest.raises(InputError, match=message):
            model.predict(rows)
    with pytest.raises(InputError, match=r"coordinates.*\n.*they have the shape \(3, 2\)"):
        model.predict(np.zeros((2, 16)), np.zeros((3, 2)))


def altered(file: Path, out: Path, **changed: object) -> Path:
    """The file with other values in what it says of itself."""
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata()
    about = json.loads(metadata["about"]) | changed
    save_file(load_file(file), out, metadata | {"about": json.dumps(about)})
    return out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method_version": "0"}, "trained by version 0 of abmil, and 1 is installed"),
        ({"in_dim": 10**9}, "other shapes of"),
        ({"in_dim": None}, "in_dim cannot be understood"),
        ({"in_dim": -3}, "do not fit abmil"),
        ({"models": []}, "belongs to no model"),
        ({"parent": [0]}, "7 fine classes but 1 parents"),
        ({"fine": ["a", "b"], "parent": [0, 1], "coarse": ["a", "b"]}, "other shapes of"),
    ],
)
def test_a_file_that_says_other_things_is_refused(
    changed: dict[str, object], message: str, file: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        mil_bench.load_model(altered(file, tmp_path / "m.safetensors", **changed))
    assert message in str(error.value)


def test_a_file_of_an_unknown_method_names_it(file: Path, tmp_path: Path) -> None:
    path = altered(file, tmp_path / "m.safetensors", method="secret-mil")
    with pytest.raises(UnknownNameError, match="no method 'secret-mil'"):
        mil_bench.load_model(path)
    assert read_model_file(path)[0].method == "secret-mil"


def test_what_is_no_model_file_is_refused(file: Path, tmp_path: Path) -> None:
    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    torch.save({"a": torch.zeros(2)}, tmp_path / "pickle.safetensors")
    content = file.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-50])
    (tmp_path / "flipped.safetensors").write_bytes(content[:-9] + b"\x77" + content[-8:])
    (tmp_path / "words.safetensors").write_bytes(content.replace(b'"seed\\":0', b'"seed\\" 0'))
    (tmp_path / "head.safetensors").write_bytes(content[:40])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "long.safetensors").write_bytes(b"\xff" * 8 + content[8:])
    (tmp_path / "folder.safetensors").mkdir()
    for path in (*tmp_path.glob("*.safetensors"), tmp_path / "missing.safetensors"):
        with pytest.raises((InputError, OSError)) as error:
            mil_bench.load_model(path)
        assert path.name in str(error.value)


@pytest.mark.parametrize("name", registry.methods.names())
def test_sizes_of_every_method_are_known_before_memory_is_taken(
    name: str, hierarchy: LabelHierarchy
) -> None:
    with torch.device("meta"):
        planned = build_method(name, 16, hierarchy).state_dict()
    built = build_method(name, 16, hierarchy).state_dict()
    assert {n: v.shape for n, v in planned.items()} == {n: v.shape for n, v in built.items()}
