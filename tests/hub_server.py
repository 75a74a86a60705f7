"""A server on loopback that answers as the Hugging Face hub's API does, and as badly as it can.

Repositories are paths with bytes. Large files are redirected to another host name, as the hub does
to its storage; small ones are given directly.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mil_bench.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT = "c0ffee" + "0" * 34
LARGE = 2_000
"""Bytes from which a file is stored as a large one."""
_PAGE = 3
"""Entries of a folder per answer."""
_PIECE = 2**14


@dataclass
class Repository:
    """A dataset repository at one commit.

    Args:
        files: path to content.
        commit: its only commit.
        token: what must be sent to read it, "" for nothing.
    """

    files: dict[str, bytes]
    commit: str = COMMIT
    token: str = ""


@dataclass
class Behaviour:
    """How the server misbehaves.

    Args:
        statuses: what is answered in place of the next answers.
        cut_after: bytes after which the transfer of a large file ends, each time.
        ignores_range: whether it always sends whole files.
        seconds_per_piece: how slow it is.
        served: content that is sent in place of a file's own, by path.
    """

    statuses: list[int] = field(default_factory=list)
    cut_after: int | None = None
    ignores_range: bool = False
    seconds_per_piece: float = 0.0
    served: dict[str, bytes] = field(default_factory=dict)


class HubServer(ThreadingHTTPServer):
    """The server; ``requests`` holds (method, path, headers) of everything that was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reset()

    def reset(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.behaviour = Behaviour()
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.sent = 0
        self.transfers = 0
        self.most_transfers = 0
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients that are killed end their connections."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def storage_url(self) -> str:
        """The same server under another host name."""
        return f"http://localhost:{self.server_port}"

    @contextmanager
    def transfer(self) -> Iterator[None]:
        with self.lock:
            self.transfers += 1
            self.most_transfers = max(self.most_transfers, self.transfers)
        try:
            yield
        finally:
            with self.lock:
                self.transfers -= 1


def digest(content: bytes) -> str:
    """The ETag of a file: SHA-256 of large ones, git's of small ones."""
    if len(content) >= LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        behaviour = self.server.behaviour
        if behaviour.statuses:
            status = behaviour.statuses.pop(0)
            if status:
                return self._send(status, b"", {"Retry-After": "0"})
        if match := re.fullmatch(r"/storage/([^/]+/[^/]+)/(.+)", path):
            return self._stored(*match.groups())
        if match := re.fullmatch(
            r"/api/datasets/([^/]+/[^/]+)(?:/tree/([^/]+)(?:/(.*))?)?", path
        ) or re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._of_repository(path, *match.groups())
        return self._send(404, b"")

    def _of_repository(self, path: str, name: str, commit: str | None, below: str | None) -> None:
        repository = self.server.repositories.get(name)
        if repository is None:
            return self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        sent = self.headers.get("authorization", "")
        if repository.token and sent != f"Bearer {repository.token}":
            return self._send(403 if sent else 401, b"", {"X-Error-Code": "GatedRepo"})
        if commit not in (None, "main", repository.commit):
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if path.startswith("/datasets/"):
            return self._resolve(name, repository, below or "")
        if commit is None:
            about = {"id": name, "sha": repository.commit, "siblings": [], "tags": []}
            return self._send(200, json.dumps(about).encode())
        return self._tree(repository, below or "")

    def _tree(self, repository: Repository, folder: str) -> None:
        prefix = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for path, content in repository.files.items():
            name, _, deeper = path.removeprefix(prefix).partition("/")
            if not path.startswith(prefix):
                continue
            entry = {"type": "directory", "path": prefix + name, "oid": "0" * 40, "size": 0}
            if not deeper:
                entry |= {"type": "file", "size": len(content), "oid": digest(content)}
                if len(content) >= LARGE:
                    large = {"oid": digest(content), "size": len(content), "pointerSize": 130}
                    entry |= {"lfs": large, "oid": "1" * 40}
            entries[name] = entry
        if not entries:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        match = re.search(r"cursor=(\d+)", self.path)
        first = int(match.group(1)) if match else 0
        page = list(entries.values())[first : first + _PAGE]
        headers = {}
        if first + _PAGE < len(entries):
            url = f"{self.server.url}{urlsplit(self.path).path}?cursor={first + _PAGE}"
            headers["Link"] = f'<{url}>; rel="next"'
        return self._send(200, json.dumps(page).encode(), headers)

    def _resolve(self, name: str, repository: Repository, path: str) -> None:
        if path not in repository.files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        content = repository.files[path]
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{digest(content)}"'}
        if len(content) < LARGE:
            return self._send(200, content, headers)
        headers |= {
            "Location": f"{self.server.storage_url}/storage/{name}/{path}",
            "X-Linked-Etag": f'"{digest(content)}"',
            "X-Linked-Size": str(len(content)),
        }
        return self._send(302, b"", headers)

    def _stored(self, name: str, path: str) -> None:
        behaviour = self.server.behaviour
        content = behaviour.served.get(path, self.server.repositories[name].files[path])
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(match.group(1)) if match and not behaviour.ignores_range else 0
        rest, size = content[first:], len(content)
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(rest)))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        self.end_headers()
        end = len(rest) if behaviour.cut_after is None else min(behaviour.cut_after, len(rest))
        with self.server.transfer(), suppress(ConnectionError):
            for start in range(0, end, _PIECE):
                self.wfile.write(rest[start : min(end, start + _PIECE)])
                self.server.sent += min(end, start + _PIECE) - start
                time.sleep(behaviour.seconds_per_piece)
        self.close_connection = end < len(rest)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def serving() -> Iterator[HubServer]:
    """A running server."""
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def client_environment(server: HubServer, home: Path) -> dict[str, str]:
    """What makes the real client ask the server, without anything of the user's own."""
    return {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": "1",
    }


def get(name: str, data: Path, *more: str) -> int:
    """Run ``mil-bench data get``."""
    return main(["data", "get", name, "--data", str(data), *more])
