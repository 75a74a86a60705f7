"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import SMALL_TWIN

from mil_bench import registry
from mil_bench.cli import _parser, main

if TYPE_CHECKING:
    from collections.abc import Iterator


def call(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mil_bench", *words]
    environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "100"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def small(*words: str) -> tuple[str, ...]:
    return (
        "run",
        "--dataset",
        SMALL_TWIN,
        "--folds",
        "2",
        "--epochs",
        "1",
        "--no-tracking",
        *words,
    )


def test_help_teaches(tmp_path: Path) -> None:
    shown = call(tmp_path, "--help")
    assert shown.returncode == 0
    assert "examples:" in shown.stdout
    assert "mil-bench run --methods abmil hmil --dataset digits --preset quick" in shown.stdout


def parsers_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from parsers_of(command)


PARSERS = {parser.prog: parser for parser in parsers_of(_parser())}


@pytest.mark.parametrize("command", PARSERS)
def test_every_command_and_option_has_help(command: str) -> None:
    actions = PARSERS[command]._actions
    commands = [a for a in actions if isinstance(a, argparse._SubParsersAction)]
    explained = [a for a in actions if a not in commands]
    explained += [choice for a in commands for choice in a._choices_actions]
    assert [a.dest for a in explained if not a.help] == []


@pytest.mark.parametrize("command", PARSERS)
def test_help_fits_80_columns(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = PARSERS[command].format_help()
    assert [line for line in shown.splitlines() if len(line) > 80] == []


def test_help_does_not_break_names_at_hyphens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "bracs-sim:slides=200" in PARSERS["mil-bench run"].format_help()


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("list runs", "runs list"),
        ("track --resync x", "runs track"),
        ("runs x y", "runs compare"),
    ],
)
def test_a_former_command_works_and_names_its_successor(
    former: str,
    present: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    main(former.split())
    assert f"is now called '{present}'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_prints_tables_and_where_the_report_lies(tmp_path: Path) -> None:
    done = call(tmp_path, *small("--methods", "mean-pool", "abmil"))
    assert done.returncode == 0, done.stderr
    assert "Fine level, 7 classes (%)" in done.stdout
    assert "Class-wise one-vs-rest AUC, fine classes (%)" in done.stdout
    assert "a simulated dataset, not BRACS" in " ".join(done.stdout.split())
    line = next(line for line in done.stdout.splitlines() if line.startswith("Report: "))
    report = line.split()[1]
    assert (tmp_path / report).exists()
    run_id = Path(report).parent.name
    listing = call(tmp_path, "runs", "list").stdout
    for part in (run_id, "mean-pool, abmil, lookup", "6 of 6"):
        assert part in listing
    again = call(tmp_path, "report", run_id)
    assert again.returncode == 0
    assert again.stdout == done.stdout
    asked = call(tmp_path, "report", run_id, "--reference", "abmil", "--margin", "2")
    assert "the 2 pairs that were asked for: " in " ".join(asked.stdout.split())
    assert f"mil-bench report {run_id} --margin 2.0 --reference abmil" in asked.stdout
    unknown = call(tmp_path, "report", run_id, "--pairs", "abmil:hmil")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "'abmil:hmil': the run has no method 'hmil'" in unknown.stderr


@pytest.mark.slow
def test_a_dry_run_trains_nothing_and_writes_no_result(tmp_path: Path) -> None:
    shown = call(tmp_path, *small("--methods", "all", "--dry-run"))
    assert shown.returncode == 0, shown.stderr
    line = next(line for line in shown.stdout.splitlines() if line.startswith("hmil "))
    assert " ".join(line.split()) == (
        "hmil seed 0: 2 of 2 folds to train, 1 epoch, adam, learning rate 0.0001, 64 bags per step"
    )
    assert "fold 0: " in shown.stdout
    assert not (tmp_path / "results").exists()


def test_a_card_tells_classes_traps_and_what_to_cite(capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "card", "bracs"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "malignant: DCIS (61), IC (132)",
        "patients:  189",
        "Patient 67 is in both",
        "Brancati",
    ):
        assert part in shown
    assert main(["data", "card", "bracs-sim"]) == 0
    assert "a simulated dataset, not BRACS" in capsys.readouterr().out


@pytest.mark.slow
def test_several_datasets_are_all_checked_before_the_first_trains(tmp_path: Path) -> None:
    done = call(
        tmp_path, "run", "--dataset", SMALL_TWIN, "bracs", "--methods", "mean-pool", "--no-tracking"
    )
    assert done.returncode == 2
    assert not (tmp_path / "results").exists()


def test_a_real_dataset_without_features_says_how_to_pack_them(tmp_path: Path) -> None:
    done = call(tmp_path, "run", "--dataset", "bracs")
    assert done.returncode == 2
    assert done.stderr.count("\n") <= 6
    for part in (
        "no features are packed",
        "mil-bench data pack FOLDER --dataset bracs",
        "--dataset bracs-sim",
    ):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--dataset", "digit"], "There is no dataset 'digit'. Did you mean digits?"),
        (
            ["run", "--dataset", "digits", "--methods", "hmill"],
            "There is no method 'hmill'. Did you mean hmil",
        ),
        (["run", "--dataset", "digits", "--preset", "fast"], "There is no preset 'fast'."),
        (
            ["run", "--dataset", "digits", "--protocol", "ofical"],
            "There is no protocol 'ofical'. Did you mean official",
        ),
        (
            ["run", "--dataset", "digits:bag=3"],
            "There is no setting of digits 'bag'. Did you mean bags",
        ),
        (
            ["run", "--dataset", "digits", "--seeds", "1", "1"],
            "seeds must be different whole numbers",
        ),
        (
            ["run", "--dataset", "digits", "--folds", "40"],
            "slides of every class must come from at least 40 writers",
        ),
        (["report", "digits_x"], "There is no run 'digits_x'"),
        (["run", "--dataset", "digits", "--margin", "0"], "margin must be more than 0"),
        (
            ["run", "--dataset", "digits", "--methods", "abmil", "hmil", "--reference", "hmli"],
            "the run has no method 'hmli'; did you mean hmil",
        ),
        (
            ["run", "--dataset", "digits", "--methods", "abmil", "--pairs", "abmil:hmil"],
            "'abmil:hmil': the run has no method 'hmil'",
        ),
        (
            ["data", "pack", "nowhere", "--dataset", "bracs", "--labels", "no.csv"],
            "no.csv: it cannot be read: No such file or directory",
        ),
    ],
)
def test_bad_input_gets_one_message_and_exit_code_2(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("mil-bench: ")


@pytest.mark.slow
def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    runs = tmp_path / "results" / "runs"
    runs.mkdir(parents=True)
    (runs / "format.json").write_text(json.dumps({"format": 0}))
    done = call(tmp_path, *small("--methods", "mean-pool"))
    assert done.returncode == 2
    assert "holds results of format 0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_FSIZE")
def test_a_disk_that_takes_no_more_loses_nothing(tmp_path: Path) -> None:
    assert call(tmp_path, *small("--methods", "mean-pool")).returncode == 0
    stored = {p: p.read_bytes() for p in (tmp_path / "results" / "runs").rglob("*.npz")}
    words = [*small("--methods", "mean-pool", "abmil"), "--on", "inline"]
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        f"from mil_bench.cli import main; sys.exit(main({words!r}))"
    )
    full = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert full.returncode == 2
    assert "File too large. Free space" in full.stderr
    assert "Traceback" not in full.stderr
    assert all(p.read_bytes() == content for p, content in stored.items())
    assert not list(tmp_path.rglob("*.partial"))
    assert call(tmp_path, *small("--methods", "mean-pool", "abmil")).returncode == 0


def test_output_that_nobody_reads_does_not_end_a_command(tmp_path: Path) -> None:
    script = (
        "import os, sys; from mil_bench import cli\n"
        "def call(arguments):\n"
        "    for _ in range(3): print('x' * 100000)\n"
        "    open('finished', 'w').close(); return 0\n"
        "cli.run.run = call; cli.run.add_run.__globals__['run'] = call\n"
        "sys.exit(cli.main(['run', '--dataset', 'digits']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait() == 0, process.stderr.read()
    process.stderr.close()
    assert (tmp_path / "finished").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_output_is_written_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    """Characters that the stream lacks are spelled, and the exit code keeps its meaning."""
    script = (
        "import sys; from mil_bench import cli\n"
        "def call(arguments):\n"
        "    print('85.3 ± 1.2 ─ größer 腺癌 \\udcff'); return 0\n"
        "cli.run.run = call; cli.run.add_run.__globals__['run'] = call\n"
        "sys.exit(cli.main(['run', '--dataset', 'digits']))"
    )
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    sign = {"ascii": "+/-"}.get(encoding, "±")
    assert done.stdout.decode(encoding).startswith(f"85.3 {sign} 1.2 ")
    assert b"?" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--dataset", "digits", "--results", "x" * 4096],
        ["run", "--dataset", "digits", "--data", "x" * 4096],
        ["run", "--dataset", "x" * 4096],
        ["run", "--dataset", "digits", "--methods", "x" * 4096],
        ["run", "--dataset", "digits", "--plugin", "x" * 4096 + ".py"],
        ["report", "x" * 4096],
        ["runs", "list", "--results", "x" * 4096],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_a_name_of_any_length_gets_one_short_message(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert len(capsys.readouterr().err) < 1000
    assert not list(tmp_path.rglob("*x*"))


def test_the_list_of_methods_marks_the_groups(capsys: pytest.CaptureFixture) -> None:
    assert main(["methods", "list"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    marked = {line.split()[0] for line in lines if line.split()[1] == "core"}
    assert marked == {*registry.groups.load("core")}
    assert [line.split()[0] for line in lines] == [*registry.methods.names(), "lookup"]
    assert "--methods core dtfd" in last
