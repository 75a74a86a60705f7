"""Run files: what is saved from a command line gives the same runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import SMALL_TWIN
from made_runs import run_result, trained_folds

from mil_bench.cli import _parser, main
from mil_bench.commands.options import requests_of, setup_of
from mil_bench.planning.asked import Asked
from mil_bench.planning.options import default_of, from_arguments
from mil_bench.planning.prepare import prepare
from mil_bench.run_file import (
    PARTS,
    completed,
    key_of,
    options_of,
    read_run_file,
    run_file_of,
    save_run_file,
)

if TYPE_CHECKING:
    import argparse

    from mil_bench.bags.store import BagStore

OF_ONE_CALL = {"help", "file", "save", "dry_run", "json"}
SMALL = f"--dataset {SMALL_TWIN} --folds 3"
LINES = [
    SMALL,
    f"{SMALL} --methods abmil hmil:align_bags=false,temperature=0.2",
    f"{SMALL} --methods mean-pool --seeds 3 4 --class-weights balanced",
    f"--dataset {SMALL_TWIN} --methods mean-pool max-pool --preset quick --reference mean-pool",
    f"{SMALL} --methods mean-pool max-pool --pairs mean-pool:max-pool --margin 2.5",
    f"{SMALL} --methods abmil --tune 3 --select shared --no-pruning --epochs 7",
    f"{SMALL} --methods abmil --repeats 2 --device cpu --workers 2 --no-tracking",
    f"{SMALL} --methods abmil --on workers --detach --array-limit 4 --bundle 1.5",
]


def given(*words: str) -> argparse.Namespace:
    return completed(_parser().parse_args(["run", *words]))


def meaning(arguments: argparse.Namespace) -> tuple[Any, ...]:
    return requests_of(arguments), from_arguments(Asked, arguments), setup_of(arguments)


@pytest.mark.parametrize("line", LINES)
def test_a_saved_command_line_gives_the_same_plan(
    line: str, tmp_path: Path, small_store: BagStore
) -> None:
    typed = given(*line.split())
    save_run_file(tmp_path / "study.toml", typed)
    loaded = given(str(tmp_path / "study.toml"))
    assert meaning(loaded) == meaning(typed)
    data = small_store.path.parent
    one, other = (prepare(requests_of(which)[0], data).plan for which in (typed, loaded))
    assert one.to_json() == other.to_json()
    assert [job.key for job in one.jobs] == [job.key for job in other.jobs]
    assert one.splits.digest == other.splits.digest


def other_value(field: Any) -> Any:
    """A value of an option that is not its default; not every one makes sense."""
    default, parse = default_of(field), field.metadata["parse"]
    if isinstance(default, bool):
        return not default
    value = {int: 7, float: 7.5, Path: Path('a "b"/ä'), str: 'a "b"\\ä\n'}[parse]
    return (value, value) if isinstance(default, tuple) else value


@pytest.mark.parametrize("name", options_of(*PARTS))
def test_every_option_comes_back_from_a_file(name: str, tmp_path: Path) -> None:
    value = other_value(options_of(*PARTS)[name])
    arguments = given()
    setattr(arguments, name, value)
    save_run_file(tmp_path / "study.toml", arguments)
    assert getattr(given(str(tmp_path / "study.toml")), name) == value


def test_a_new_option_of_run_is_a_key_of_run_files() -> None:
    options = {
        action.dest: action.option_strings
        for parser in _parser()._subparsers._group_actions
        for action in parser.choices["run"]._actions
    }
    fields = options_of(*PARTS)
    assert options.keys() - OF_ONE_CALL == fields.keys()
    for name, field in fields.items():
        key = f"--{key_of(field).replace('_', '-')}"
        assert options[name] in ([key], [key.replace("--", "--no-", 1)])


def test_the_command_line_counts_more_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('dataset = "digits"\npreset = "quick"\nseeds = [1, 2]\ndevice = "cpu"\n')
    arguments = given(str(path), "--preset", "paper", "--device", "auto")
    assert (arguments.preset, arguments.device) == ("paper", "auto")  # although these are defaults
    assert (arguments.dataset, arguments.seeds) == (("digits",), (1, 2))


def test_all_problems_of_a_file_are_named_with_file_and_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text(
        'dataset = "digits"\nclass-weight = "none"\nseeds = ["a"]\nfolds = 2.5\ntuned = 1\n'
        "margin = true\nmethods = [1]\nsplits = 3\n[machine]\n"
    )
    assert main(["run", "study.toml"]) == 2
    shown = capsys.readouterr().err
    for part in (
        "run file study.toml: 8 problems",
        "unknown key 'class-weight'; did you mean class_weights?",
        "unknown key 'machine'",
        'methods: 1 is not text; write it in quotation marks: "1"',
        "folds: 2.5 is not a whole number",
        "splits: 3 is not a text in quotation marks",
        "seeds: 'a' is not a whole number",
        "tuned: 1 is not true or false",
        "margin: True is not a number",
    ):
        assert part in shown
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.toml"], "run file nowhere.toml: 1 problem"),
        (["folder"], "it cannot be read as TOML in UTF-8: Is a directory"),
        (["broken.toml"], "it cannot be read as TOML in UTF-8: "),
        (["empty.toml"], "no dataset is named"),
        ([], "no dataset is named"),
        (["negative.toml"], "seeds must be different whole numbers from 0 on"),
    ],
)
def test_a_file_that_cannot_be_used_gets_one_message(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("broken.toml").write_text("dataset = \n")
    Path("empty.toml").write_text("")
    Path("negative.toml").write_text('dataset = "digits"\nseeds = -1\n')
    assert main(["run", *words]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("mil-bench: ")
    assert message in shown


def test_an_existing_file_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "study.toml"
    line = ["run", "--dataset", SMALL_TWIN, "--methods", "mean-pool", "--dry-run"]
    line += ["--folds", "2", "--data", str(tmp_path), "--save", str(path)]
    assert main(line) == 0
    content = path.read_text()
    assert main(line) == 0  # it holds the same
    assert main([*line, "--folds", "3"]) == 2
    assert "there is such a file, and it holds something else" in capsys.readouterr().err
    assert path.read_text() == content
    assert not (tmp_path / "results").exists()


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    arguments = given("--dataset", "digits", "--plugin", "a\udcff.py")
    with pytest.raises(Exception, match="in a value is no Unicode text"):
        save_run_file(tmp_path / "study.toml", arguments)


@pytest.mark.parametrize("line", LINES[:7])
def test_a_stored_run_gives_its_run_file_again(line: str, tmp_path: Path) -> None:
    typed = given(*line.split())
    request, asked = requests_of(typed)[0], from_arguments(Asked, typed)
    path = tmp_path / "study.toml"
    path.write_text(run_file_of(request.command, asked))
    loaded = given(str(path))
    assert requests_of(loaded) == [request]
    assert from_arguments(Asked, loaded) == asked


@pytest.mark.parametrize(
    "command", ["", "mil-bench run --folds x", "a; b", "mil-bench tune", "mil-bench run 'x"]
)
def test_a_run_without_one_command_has_no_run_file(command: str) -> None:
    assert run_file_of(command, Asked()) == ""


@pytest.mark.slow
def test_the_report_shows_the_run_file(tmp_path: Path) -> None:
    result = run_result({"a": trained_folds(1.0), "b": trained_folds(2.0)})
    shown = result._page.split('<pre id="run-file">')[1].split("</pre>")[0]
    path = tmp_path / "study.toml"
    path.write_text(shown.replace("&#34;", '"'))
    assert read_run_file(path)["dataset"] == ("toy",)
