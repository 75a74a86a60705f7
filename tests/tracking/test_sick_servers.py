"""Servers on loopback that answer wrongly, slowly or never: they cost seconds, and no result."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import SMALL_TWIN
from untracked_runs import end_tracked, only_plan, untracked_run

from mil_bench import cli
from mil_bench.tracking import tracker

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of MLflow

CEILING = 3.0
SLACK = 4.0  # seconds for imports on a busy machine

Sickness = "Callable[[BaseHTTPRequestHandler], None]"


def answer(status: int, body: bytes = b"", **headers: str) -> Sickness:
    def sick(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return sick


def drip(request: BaseHTTPRequestHandler) -> None:
    """A byte of the body now and then, each before any timeout."""
    answer(200, Content_Length="1000000")(request)
    while True:
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.2)


def drip_headers(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        request.wfile.write(b"X-More: 1\r\n")
        request.wfile.flush()
        time.sleep(0.2)


def hang(request: BaseHTTPRequestHandler) -> None:
    time.sleep(60)


def close(request: BaseHTTPRequestHandler) -> None:
    request.connection.close()


def begin_well_then_hang(request: BaseHTTPRequestHandler) -> None:
    if "get-by-name" not in request.path:
        hang(request)
    experiment = {"experiment_id": "1", "name": "x", "lifecycle_stage": "active"}
    answer(200, json.dumps({"experiment": experiment}).encode())(request)


SICK = {
    "429 with an hour to wait": answer(429, Retry_After="3600"),
    "503 with an hour to wait": answer(503, Retry_After="3600"),
    "drips its body": drip,
    "drips its headers": drip_headers,
    "hangs": hang,
    "begins well, then hangs": begin_well_then_hang,
    "500": answer(500, b"sorry"),
    "closes": close,
    "a page": answer(200, b"<html>\n<body>Log in</body></html>"),
    "JSON of another kind": answer(200, b"[1, 2]"),
    "JSON with other fields": answer(200, b'{"experiment": 7}'),
    "letters that steer a terminal": answer(
        403, b"\x1b[2Jgone", Content_Type="text/plain; charset=utf-8"
    ),
    "401": answer(401, b"no"),
    "403": answer(403, b"no"),
    "sends in circles": answer(302, Location="/"),
}


@contextlib.contextmanager
def served(sick: Sickness) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                sick(self)

        do_POST = do_PUT = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://user:secret@127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untracked_run(tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize("name", SICK)
def test_a_sick_server_costs_seconds_and_is_named_once(
    name: str, trained: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(tracker, "LONGEST_END", CEILING)
    with served(SICK[name]) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        seconds = end_tracked(trained)
    assert seconds < CEILING + SLACK
    said = capfd.readouterr()
    lines = said.err.splitlines()
    told = [line for line in lines if line.startswith(("MLflow failed: ", "MLflow was not done "))]
    assert len(told) == 1
    assert len([line for line in lines if not line.startswith("Waiting for MLflow")]) <= 2
    assert "mil-bench runs track bracs-sim-twin_patient-kfold_" in lines[-1]
    assert lines[-1].endswith(f" --results {trained}")
    assert "secret" not in said.err + said.out
    assert "\x1b" not in said.err


def test_whoever_interrupts_a_run_does_not_wait_for_a_server(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(tracker, "LONGEST_END", 600.0)
    with served(hang) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            end_tracked(trained)
    said = capfd.readouterr().err
    assert "MLflow was not done 0.5 seconds after the end of the run" in said
    assert "Waiting for MLflow" not in said


@pytest.mark.parametrize("name", ["drips its body", "429 with an hour to wait"])
def test_a_process_ends_although_its_server_does_not(name: str, tmp_path: Path) -> None:
    code = (
        f"import mil_bench.tracking.tracker as t; t.LONGEST_END = {CEILING}\n"
        "from mil_bench.cli import main\n"
        f"raise SystemExit(main(['run', '--methods', 'mean-pool', '--dataset', '{SMALL_TWIN}', "
        "'--folds', '2', '--epochs', '1', '--results', 'r', '--on', 'inline']))"
    )
    with served(SICK[name]) as address:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=os.environ | {"MLFLOW_TRACKING_URI": address},
            timeout=90,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert "mean-pool" in done.stdout  # the tables
    assert done.stderr.count("mil-bench runs track") == 1
    assert "Traceback" not in done.stderr


def test_a_command_that_only_tracks_ends_when_the_server_falls_silent_and_completes_later(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    results = Path(shutil.copytree(trained, tmp_path / "results"))
    command = ["runs", "track", only_plan(results).run_id, "--results", str(results)]
    monkeypatch.setattr(tracker, "_LONGEST_SILENCE", 1.0)
    with served(begin_well_then_hang) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert cli.main(command) == 2
    assert (
        "mil-bench: MLflow failed: no answer for 1 seconds (MLFLOW_TRACKING_URI"
        in capsys.readouterr().err
    )
    monkeypatch.setattr(tracker, "_LONGEST_SILENCE", 120.0)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert cli.main(command) == 0
    assert "4 of 4 stored trainings were missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    "uri", ["nonsense", "http://", "http://[", "ftp://x/y", "http://no.such.host.invalid", "a b"]
)
def test_a_server_that_cannot_exist_is_named_once(
    uri: str, trained: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(tracker, "LONGEST_END", CEILING)
    monkeypatch.chdir(trained.parent)
    before = sorted(trained.parent.iterdir())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert end_tracked(trained) < CEILING + SLACK
    said = capfd.readouterr().err
    assert said.count("MLflow failed: ") + said.count("MLflow was not done ") == 1
    assert said.count("mil-bench runs track ") == 1
    assert sorted(trained.parent.iterdir()) == before
