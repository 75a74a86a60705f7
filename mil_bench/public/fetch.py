"""The Hugging Face hub: which files a repository holds, and one of them after the other on disk.

Only this module knows huggingface_hub. Its ``hf_hub_download`` begins a file anew when the process
was killed and leaves what was fetched behind (read in the code of version 2.4), and loses up to
10 MB whenever a connection ends (measured). So the bytes are read here from its session, and a file
continues at the byte at which the last call ended. There is one connection at a time. ``HF_HOME``,
``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` are the library's own and mean the same here.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mil_bench import durable
from mil_bench.errors import InputError, MilBenchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_MOST_FAILURES = 5  # in a row, without a byte between them
_SECONDS_BETWEEN = 1  # doubled after each further failure
_PARTIAL_CONTENT = 206
_PIECE = 2**20
_AGAIN = "What has arrived stays; the same command continues from there."


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository at one commit.

    Args:
        path: inside the repository.
        size: bytes.
        digest: of its content: "sha256:..." for large files, "git:..." for others.
    """

    path: str
    size: int
    digest: str

    @property
    def local_name(self) -> str:
        """Its name on this disk: another content has another name."""
        return f"{self.digest.partition(':')[2][:16]}-{posixpath.basename(self.path)}"


class Hub:
    """A dataset repository of the hub.

    Args:
        repository: "owner/name".
        page: its page, for messages.

    Raises:
        InputError: huggingface_hub is not installed.
    """

    def __init__(self, repository: str, page: str) -> None:
        try:
            import huggingface_hub
        except ImportError as error:
            problem = "fetching public features needs the package huggingface_hub"
            remedy = "Install it: pip install 'mil-bench[hub]'"
            raise InputError("the request", [problem], remedy) from error
        self._repository, self._page = repository, page
        self._api = huggingface_hub.HfApi(library_name="mil-bench")

    def show_progress(self, wanted: bool) -> None:
        """Show a bar per file that is fetched, if wanted and if there is a terminal."""
        from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

        (enable_progress_bars if wanted and sys.stderr.isatty() else disable_progress_bars)()

    def commit(self) -> str:
        """The newest commit.

        Raises:
            InputError: there is no such repository, or it is gated.
            MilBenchError: the hub does not answer, or refuses.
        """
        with self._in_words():
            return str(self._api.dataset_info(self._repository).sha)

    def files(self, commit: str, folder: str) -> list[RemoteFile]:
        """The files in a folder ("" for the root) at a commit, without those in its folders.

        Raises:
            InputError: there is no such folder or commit, or the repository is gated.
            MilBenchError: the hub does not answer, or refuses.
        """
        from huggingface_hub.hf_api import RepoFile

        with self._in_words():
            entries = self._api.list_repo_tree(
                self._repository, folder or None, revision=commit, repo_type="dataset"
            )
            return [
                RemoteFile(
                    entry.path,
                    entry.size,
                    f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git:{entry.blob_id}",
                )
                for entry in entries
                if isinstance(entry, RepoFile)
            ]

    def cached(self, commit: str, file: RemoteFile) -> Path | None:
        """The file in the library's own cache, where another program may have put it."""
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(
            self._repository, file.path, revision=commit, repo_type="dataset"
        )
        found = Path(path) if isinstance(path, str) else None
        return found if found and found.stat().st_size == file.size else None

    def folder(self, commit: str) -> Path:
        """Where files of a commit are kept while they are needed, below ``HF_HOME``."""
        from huggingface_hub import cached_assets_path

        try:
            return cached_assets_path("mil-bench", self._repository, commit)
        except OSError as error:
            raise durable.cannot_write(Path(error.filename or "HF_HOME"), error) from error

    def fetched(self, commit: str, file: RemoteFile) -> Path:
        """The file on this disk, with its size and digest verified.

        Raises:
            InputError: it is not there at this commit, or the repository is gated.
            MilBenchError: the transfer does not come to its end, or what came is something else.
            StorageError: the disk refuses.
        """
        whole = self.folder(commit) / file.local_name
        if whole.is_file():
            return whole
        partial = whole.with_name(f"{whole.name}.partial")
        try:
            self._fill(partial, commit, file)
            if digest_of(partial, file.digest.partition(":")[0], file.size) != file.digest:
                partial.unlink()
                raise MilBenchError(
                    f"{file.path}: what the hub at {self._endpoint} delivered is not what it "
                    f"announced ({file.digest}). It was removed; call again to fetch it anew."
                )
            partial.rename(whole)
        except OSError as error:
            raise durable.cannot_write(partial, error) from error
        return whole

    @property
    def _endpoint(self) -> str:
        return str(self._api.endpoint)

    def _fill(self, partial: Path, commit: str, file: RemoteFile) -> None:
        """Fetch what is missing of a file, whatever interrupts it."""
        failures = 0
        partial.touch()
        while (size := partial.stat().st_size) < file.size:
            with self._in_words():
                location, headers = self._location(commit, file)
            with partial.open("ab") as target:
                failure = _transfer(location, target, size, headers, file)
            has_grown = partial.stat().st_size > size
            failures = 0 if has_grown else failures + 1
            if not (failure or has_grown):
                failure = "the answer is empty"
            if failure and failures == _MOST_FAILURES:
                raise MilBenchError(
                    f"{file.path} does not arrive: {failures} attempts at byte {size:,} of "
                    f"{file.size:,} failed ({failure}). {_AGAIN}"
                )
            if failure:
                time.sleep(_SECONDS_BETWEEN * 2**failures)

    def _location(self, commit: str, file: RemoteFile) -> tuple[str, dict[str, str]]:
        """From where the file comes now, and the headers to send there.

        Raises:
            MilBenchError: the file is no longer what it was.
        """
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(
            self._repository,
            file.path,
            repo_type="dataset",
            revision=commit,
            endpoint=self._endpoint,
        )
        headers = build_hf_headers(library_name="mil-bench")
        now = get_hf_file_metadata(url, headers=headers, retry_on_errors=True)
        kind, _, digest = file.digest.partition(":")
        if now.size not in (None, file.size) or now.etag != digest:
            raise MilBenchError(
                f"{file.path} changed on the hub: it was {file.size:,} bytes with the {kind} "
                f"digest {digest}, and is {now.size or 0:,} bytes with {now.etag}. "
                "Nothing was stored."
            )
        if urlsplit(now.location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # the token is for the hub alone
        return now.location, headers

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        """Say in one message what the library raises."""
        from huggingface_hub import errors

        try:
            yield
        except MilBenchError:
            raise
        except errors.GatedRepoError as error:
            raise self._refused(
                "is gated: access is given on request",
                f"Ask for it at {self._page}, then set HF_TOKEN to a token of yours that may read "
                "it, and call again.",
            ) from error
        except errors.RevisionNotFoundError as error:
            raise self._refused(
                "no longer has the commit of this recipe or of the first call",
                "Look at its page for what became of it.",
            ) from error
        except errors.EntryNotFoundError as error:
            path = urlsplit(str(error.response.url)).path if hasattr(error, "response") else ""
            raise self._refused(
                f"has no {path}", "Its files may have been renamed; please report it."
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise self._refused(
                "is not there, or is hidden from those who may not read it",
                f"Look at {self._page}; if it is gated, set HF_TOKEN to a token of yours that may "
                "read it.",
            ) from error
        except errors.OfflineModeIsEnabled as error:
            raise self._refused(
                "cannot be asked: HF_HUB_OFFLINE is set, and not all files are here",
                "Unset it, or bring the files with HF_HOME from a machine that has them.",
            ) from error
        except errors.HfHubHTTPError as error:
            raise MilBenchError(self._http_words(error)) from error
        except Exception as error:  # of its HTTP library, which is another one in each version
            reason = f"{type(error).__name__}: {str(error) or 'no reason given'}"
            raise MilBenchError(
                f"The hub at {self._endpoint} does not answer ({reason}). {_AGAIN}"
            ) from error

    def _refused(self, problem: str, remedy: str) -> InputError:
        return InputError(self._page, [f"{self._repository} {problem}"], remedy)

    def _http_words(self, error: Any) -> str:
        """What an HTTP status means here."""
        status = error.response.status_code
        asked = f"The hub at {self._endpoint}"
        if status == 401:
            return f"{asked} does not accept the token (HF_TOKEN, or the one of hf auth login)."
        if status == 403:
            return (
                f"{asked} forbids it: the token may not read {self._repository} (see {self._page})."
            )
        if status == 429:
            return f"{asked} allows no more requests for now. Wait some minutes. {_AGAIN}"
        return f"{asked} answers with status {status}. {_AGAIN}"


def _transfer(
    location: str, target: BinaryIO, size: int, headers: dict[str, str], file: RemoteFile
) -> str:
    """Append to a file until it is complete; the reason if that fails, else ""."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import hf_raise_for_status, tqdm

    asked = headers | {"Accept-Encoding": "identity", "Range": f"bytes={size}-"}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        with get_session().stream("GET", location, headers=asked, timeout=timeout) as response:
            hf_raise_for_status(response)
            if response.status_code != _PARTIAL_CONTENT:  # the whole file comes
                target.truncate(0)
                size = 0
            name = posixpath.basename(file.path)
            with tqdm(desc=name, total=file.size, initial=size, unit="B", unit_scale=True) as bar:
                for piece in response.iter_raw():
                    target.write(piece)
                    bar.update(len(piece))
    except HfHubHTTPError as error:
        return f"status {error.response.status_code}"
    except OSError as error:
        if error.errno is None or isinstance(error, ConnectionError):
            return str(error).partition("\n")[0]
        raise  # the disk
    except Exception as error:  # of its HTTP library
        return f"{type(error).__name__}: {error}"
    return ""


def digest_of(path: Path, kind: str, size: int) -> str:
    """The digest of a file as the hub writes it.

    Args:
        path: the file.
        kind: "sha256", or "git" for that of git's objects.
        size: its bytes.
    """
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(usedforsecurity=False)
    if kind == "git":
        digest.update(f"blob {size}\0".encode())
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return f"{kind}:{digest.hexdigest()}"
