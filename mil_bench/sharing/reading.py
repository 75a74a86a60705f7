"""Reading bundles that others made: names, sizes and digests are checked, nothing is unpacked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import stat
import zipfile
from collections import Counter
from typing import TYPE_CHECKING, Any

from mil_bench.datasets.regular_file import open_regular
from mil_bench.errors import InputError
from mil_bench.file_values import typed
from mil_bench.sharing.bundle import (
    FORMAT,
    MANIFEST,
    MEMBER,
    MOST_BYTES_TOGETHER,
    MOST_MEMBERS,
    VERSION,
    WEIGHTS,
    Manifest,
    most_bytes,
)
from mil_bench.wording import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_REMEDY = "Nothing was imported. Get the file again from who made it."
_NOT_ONE = "Nothing was imported. Name a file that mil-bench results export wrote."


class BundleReader:
    """A bundle whose members are those of its manifest.

    Args:
        path: for messages.
        archive: the opened zip file.

    Raises:
        InputError: a member has a name, a kind or a size that no bundle has, or the manifest does
            not list it.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        self._refuse(_problems(archive.infolist(), path.stat().st_size))
        self._infos = {info.filename: info for info in archive.infolist()}
        if MANIFEST not in self._infos:
            raise InputError(f"bundle {path}", [f"it has no {MANIFEST}"], _NOT_ONE)
        content = self._bytes(MANIFEST)
        self.digest = hashlib.sha256(content).hexdigest()
        """Of the manifest, and so of the whole bundle."""
        self.manifest = self._manifest(self._object(MANIFEST, content))
        self._refuse(self._unlisted())

    @property
    def names(self) -> list[str]:
        """Names of all members but the manifest."""
        return sorted(self.manifest.members)

    def content(self, name: str) -> bytes:
        """A member's bytes.

        Raises:
            InputError: they are not those that the manifest lists.
        """
        content = self._bytes(name)
        if (digest := hashlib.sha256(content).hexdigest()) != self.manifest.members[name].sha256:
            listed = self.manifest.members[name].sha256
            self._refuse([f"{name} has the SHA-256 {digest:.60}, the manifest lists {listed:.64}"])
        return content

    def json(self, name: str) -> dict[str, Any]:
        """A member that is a JSON object.

        Raises:
            InputError: as ``content``, or it is none.
        """
        return self._object(name, self.content(name))

    def refusal(self, name: str, error: Exception) -> InputError:
        """The error for a member with values that it cannot have."""
        return InputError(f"bundle {self._path}", [f"{name}: {error}"], _REMEDY)

    def _bytes(self, name: str) -> bytes:
        info = self._infos[name]
        try:
            with self._archive.open(info) as file:
                content = file.read(info.file_size + 1)
        except Exception as error:  # as open_bundle
            raise self.refusal(name, ValueError(f"it cannot be read ({error})")) from error
        if len(content) != info.file_size:
            self._refuse([f"{name} has not the {info.file_size} bytes that it declares"])
        return content

    def _object(self, name: str, content: bytes) -> dict[str, Any]:
        try:
            value = json.loads(content)
        except RecursionError as error:
            raise self.refusal(name, ValueError("it is nested too deeply")) from error
        except ValueError as error:
            raise self.refusal(name, ValueError(f"it is no JSON ({error})")) from error
        if not isinstance(value, dict):
            raise self.refusal(name, ValueError("it is no JSON object"))
        return value

    def _manifest(self, value: dict[str, Any]) -> Manifest:
        about = value.get("format"), value.get("version")
        if about != (FORMAT, VERSION):
            says = f"it says {about[0]!r:.60}, version {about[1]!r:.20}"
            problem = f"its manifest is not that of '{FORMAT}', version {VERSION}: {says}"
            raise InputError(f"bundle {self._path}", [problem], _NOT_ONE)
        try:
            return typed(Manifest, value)
        except ValueError as error:
            raise self.refusal(MANIFEST, error) from error

    def _unlisted(self) -> list[str]:
        """Members and entries of the manifest that are without each other, or differ in size."""
        listed, present = self.manifest.members, self._infos.keys() - {MANIFEST}
        return [
            *(f"{n} is not listed in the manifest" for n in sorted(present - listed.keys())),
            *(
                f"{shortened(n)} is listed in the manifest and missing"
                for n in listed
                if n not in present
            ),
            *(
                f"{name} has {self._infos[name].file_size} bytes, the manifest lists {entry.bytes}"
                for name, entry in listed.items()
                if name in present and self._infos[name].file_size != entry.bytes
            ),
        ]

    def _refuse(self, problems: list[str]) -> None:
        if problems:
            raise InputError(f"bundle {self._path}", problems, _REMEDY)


@contextlib.contextmanager
def open_bundle(path: Path) -> Iterator[BundleReader]:
    """A bundle, opened for reading.

    Raises:
        InputError: it is no bundle, or one that could do harm; lists every problem.
    """
    with open_regular(path) as file:
        try:
            archive = zipfile.ZipFile(file)
        except Exception as error:  # a damaged file makes zipfile raise almost anything
            problem = f"it is no zip file ({error})"
            raise InputError(f"bundle {path}", [problem], _NOT_ONE) from error
        with archive:
            yield BundleReader(path, archive)


def _problems(infos: list[zipfile.ZipInfo], size: int) -> list[str]:
    """What no bundle has: other names, links, encryption, sizes above the limits.

    Args:
        infos: the members.
        size: bytes of the zip file.
    """
    if len(infos) > MOST_MEMBERS:
        return [f"it has {len(infos)} members; no bundle has more than {MOST_MEMBERS}"]
    times = Counter(info.filename for info in infos)
    problems = [f"{shortened(name)} is there {n} times" for name, n in times.items() if n > 1]
    for info in infos:
        problems += [f"{shortened(info.orig_filename)}: {fault}" for fault in _faults(info)]
    small = sum(info.file_size for info in infos if not info.filename.endswith(WEIGHTS))
    if small > MOST_BYTES_TOGETHER:
        problems.append(
            f"its members without weights would be {small} bytes; the limit is "
            f"{MOST_BYTES_TOGETHER}"
        )
    if sum(info.compress_size for info in infos) > size:
        problems.append("its members overlap")
    return problems


def _faults(info: zipfile.ZipInfo) -> Iterator[str]:
    """Why a member cannot be one of a bundle."""
    if not MEMBER.fullmatch(info.orig_filename) or info.filename != info.orig_filename:
        yield "no member of a bundle has such a name"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        yield "it is a link or a folder, not a file"
    if info.flag_bits & 1:
        yield "it is encrypted"
    has_weights = info.filename.endswith(WEIGHTS)
    allowed = (zipfile.ZIP_STORED,) if has_weights else (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if info.compress_type not in allowed:
        yield "it is compressed in a way that no bundle uses"
    if info.file_size > most_bytes(info.filename):
        yield f"it would be {info.file_size} bytes; the limit is {most_bytes(info.filename)}"
