"""Bundles that were altered are refused with one message, and nothing of them is imported."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bundle_files import Contents, contents_of, first, listed, with_arrays, with_plan, write
from conftest import SMALL_TWIN

import mil_bench
from mil_bench import cli
from mil_bench.sharing.arrays import plain_arrays
from mil_bench.sharing.exporting import export_results

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET = {"tracking": False, "progress": False, "on": "inline"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    places = {"results": folder / "results", "data": folder / "data"}
    run = mil_bench.run("mean-pool", SMALL_TWIN, folds=2, epochs=1, **places, **QUIET)
    assert run.store is not None
    export_results(run.store, [run.run_id], folder / "b.zip", "Lab", weights=True)
    return folder / "b.zip"


def refused(path: Path, folder: Path, capsys: pytest.CaptureFixture) -> str:
    """The message with which a bundle is refused; nothing of it may be left."""
    words = ["results", "import", str(path), "--results", str(folder), "--data", str(folder)]
    assert cli.main(words) == 2
    assert not list(folder.rglob("*.npz"))
    assert not list((folder / "imported").glob("[!.]*"))
    error = capsys.readouterr().err
    assert error.startswith("mil-bench: ")
    assert "Traceback" not in error
    return error


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def arrays_of(contents: Contents) -> dict[str, np.ndarray]:
    content = contents[first(contents, ".npz")]
    return dict(np.load(io.BytesIO(content), allow_pickle=False))


def set_in(key: str, value: object) -> Callable[[Contents], Contents]:
    """A forged first record with another value."""

    def change(contents: Contents) -> Contents:
        name = first(contents, ".weights.npz").replace(".weights.npz", ".json")
        record = json.loads(contents[name]) | {key: value}
        return listed(contents | {name: json.dumps(record).encode()})

    return change


def arrays(change: Callable[[dict[str, np.ndarray]], dict[str, Any]]) -> Callable[..., Contents]:
    """Forged first predictions with other arrays."""
    return lambda contents: with_arrays(
        contents, first(contents, "00.npz"), **change(arrays_of(contents))
    )


def plan(change: Callable[[dict[str, Any]], Any]) -> Callable[[Contents], Contents]:
    """A forged plan, under the name that it then has."""
    return lambda contents: with_plan(contents, lambda value: change(value))


def every_job(**changed: object) -> Callable[[Contents], Contents]:
    return plan(lambda value: [job.update(changed) for job in value["jobs"]])


def flipped(contents: Contents) -> Contents:
    name = first(contents, "00.npz")
    content = bytearray(contents[name])
    content[-300] ^= 1
    return contents | {name: bytes(content)}


def without(end: str) -> Callable[[Contents], Contents]:
    def change(contents: Contents) -> Contents:
        name = first(contents, end)
        return {other: content for other, content in contents.items() if other != name}

    return change


def first_class(**changed: object) -> Callable[[Contents], Contents]:
    """A forged plan that says something else of the slides of its first class."""
    return plan(lambda value: next(iter(value["data"]["classes"].values())).update(changed))


ALTERED: dict[str, tuple[Callable[[Contents], Contents], str]] = {
    "data of other classes": (
        plan(lambda value: value["data"]["classes"].popitem()),
        "what it says of its data is of other classes",
    ),
    "sizes of bags that are none": (
        first_class(instances=[1.0, 2.0, 3.0, 4.0, float("inf")]),
        "no numbers of instances",
    ),
    "fewer sizes of bags": (first_class(instances=[1.0]), "no numbers of instances"),
    "a number of slides below 0": (first_class(slides=-1), "numbers below 0"),
    "parameters below 0": (set_in("parameters", -5), "it counts -5 parameters"),
    "a flipped bit": (flipped, "has the SHA-256"),
    "a member less": (without("00.npz"), "is listed in the manifest and missing"),
    "a member less, nobody told": (
        lambda contents: listed(without("00.npz")(contents)),
        "it is missing, and a record is there",
    ),
    "no manifest": (
        lambda contents: {n: c for n, c in contents.items() if n != "manifest.json"},
        "it has no manifest.json",
    ),
    "a member more": (
        lambda contents: contents | {f"folds/{'0' * 16}/fold-00.json": b"{}"},
        "is not listed in the manifest",
    ),
    "a fold of no run": (
        lambda contents: listed(
            contents | {f"folds/{'0' * 16}/fold-00.npz": contents[first(contents, "00.npz")]}
        ),
        "belongs to no run",
    ),
    "a path upwards": (
        lambda contents: listed(contents | {"folds/../../../evil.json": b"{}"}),
        "no member of a bundle has such a name",
    ),
    "an absolute path": (
        lambda contents: listed(contents | {"/tmp/evil.json": b"{}"}),
        "no member of a bundle has such a name",
    ),
    "a drive": (
        lambda contents: listed(contents | {"C:\\evil.json": b"{}"}),
        "no member of a bundle has such a name",
    ),
    "too large a member": (
        lambda contents: contents | {"manifest.json": b" " * (64 * 2**20 + 1)},
        "the limit is 67108864",
    ),
    "a manifest that is nested too deeply": (
        lambda contents: contents | {"manifest.json": b'{"a":' * 100_000},
        "it is nested too deeply",
    ),
    "another version": (
        lambda contents: contents | {"manifest.json": b'{"format": "mil-bench results"}'},
        "version 1: it says 'mil-bench results', version None",
    ),
    "probabilities that are none": (
        arrays(lambda old: {"fine": old["fine"] * 2}),
        "some rows are no probabilities",
    ),
    "probabilities that are not finite": (
        arrays(lambda old: {"fine": old["fine"] * np.nan}),
        "probabilities are not finite",
    ),
    "other slides": (
        arrays(lambda old: {"slides": np.char.add(old["slides"], "x")}),
        "its slides are not the test slides of the fold",
    ),
    "a slide of another class": (
        lambda contents: with_arrays(
            contents,
            first(contents, "00.npz"),
            labels=np.roll(arrays_of(contents)["labels"], 1),
        ),
        "has the class and group",
    ),
    "an array that no predictions have": (
        arrays(lambda old: {"more": old["fine"]}),
        "unexpected keyword argument 'more'",
    ),
    "a record of another fold": (set_in("fold", 1), "it says that it is of fold 1"),
    "an epoch that was not trained": (set_in("best_epoch", 7), "its curves have other lengths"),
    "a curve less": (set_in("curves", {}), "its curves have other lengths"),
    "a record with more": (set_in("more", 1), "more cannot be understood"),
    "a plan of another name": (
        lambda contents: listed(
            {
                n: c.replace(b'"seed": 0', b'"seed": 3') if n.startswith("plans/") else c
                for n, c in contents.items()
            }
        ),
        "its plan is that of",
    ),
    "a method that is a path": (every_job(method="../../evil"), "is no name that files can have"),
    "a method that is a drive": (every_job(method="c:"), "is no name that files can have"),
    "a protocol that is a path": (
        plan(lambda value: value["splits"].update(protocol="..")),
        "is no name that files can have",
    ),
    "a recipe without epochs": (every_job(recipe={"epochs": "1"}), "has no number of epochs"),
    "another dataset's job": (every_job(dataset="x"), "is of another dataset or split"),
    "another split's job": (every_job(split_digest="0" * 16), "is of another dataset or split"),
    "a fold with a slide twice": (
        plan(lambda value: value["splits"]["folds"][0]["train"].extend(["s", "s"])),
        "of another dataset or split",
    ),
    "rows with a source of their own": (every_job(source="Other"), "was imported"),
    "two jobs with one label": (
        plan(lambda value: [job.update(label="a") for job in value["jobs"]]),
        "have the same label and seed",
    ),
}


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_bundle_is_refused(
    name: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    change, message = ALTERED[name]
    write(tmp_path / "altered.zip", change(contents_of(bundle))).close()
    assert message in refused(tmp_path / "altered.zip", tmp_path / "here", capsys)


def test_contents_that_only_went_through_these_helpers_are_imported(
    bundle: Path, tmp_path: Path
) -> None:
    write(tmp_path / "same.zip", with_plan(contents_of(bundle), lambda value: None)).close()
    words = ["results", "import", str(tmp_path / "same.zip"), "--results", str(tmp_path / "here")]
    assert cli.main(words) == 0


def test_nothing_is_unpickled(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    evil = tmp_path / "evil"
    contents = contents_of(bundle)
    for end in ("00.npz", "00.weights.npz"):
        harmful = np.array([Harmful(evil)], dtype=object)
        altered = with_arrays(contents, first(contents, end), slides=harmful)
        write(tmp_path / f"{end}.zip", altered).close()
        message = refused(tmp_path / f"{end}.zip", tmp_path / "here", capsys)
        assert "holds object, not numbers or texts" in message
    assert not evil.exists()


def directory_of(bundle: Path) -> int:
    """Where the entry of the first member begins in the directory of a zip file."""
    with zipfile.ZipFile(bundle) as archive:
        return archive.start_dir


def test_links_doubles_and_encrypted_members_are_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    contents = contents_of(bundle)
    name = first(contents, ".json")
    link = zipfile.ZipInfo(f"folds/{'a' * 16}/fold-00.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with write(tmp_path / "link.zip", contents) as archive:
        archive.writestr(link, "/etc/passwd")
    assert "it is a link or a folder" in refused(tmp_path / "link.zip", tmp_path / "h", capsys)
    with (
        write(tmp_path / "double.zip", contents) as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr(name, b"{}")
    assert f"{name} is there 2 times" in refused(tmp_path / "double.zip", tmp_path / "h", capsys)
    write(tmp_path / "nul.zip", contents | {"manifest.json_.npz": b"{}"}).close()
    hidden = (tmp_path / "nul.zip").read_bytes().replace(b"json_.npz", b"json\0.npz")
    (tmp_path / "nul.zip").write_bytes(hidden)
    message = refused(tmp_path / "nul.zip", tmp_path / "h", capsys)
    assert "manifest.json\\x00.npz: no member of a bundle has such a name" in message
    locked = bytearray(bundle.read_bytes())
    locked[directory_of(bundle) + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    assert "it is encrypted" in refused(tmp_path / "locked.zip", tmp_path / "h", capsys)


def test_a_member_with_other_bytes_than_it_declares_is_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    content = bytearray(bundle.read_bytes())
    at = directory_of(bundle)
    size = int.from_bytes(content[at + 24 : at + 28], "little")
    content[at + 24 : at + 28] = (size - 5).to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(content)
    assert "the manifest lists" in refused(tmp_path / "b.zip", tmp_path / "h", capsys)


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip file", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_bundle_is_refused(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "b.zip").write_bytes(content)
    refused(tmp_path / "b.zip", tmp_path / "h", capsys)
    refused(tmp_path / "missing.zip", tmp_path / "h", capsys)
    refused(tmp_path, tmp_path / "h", capsys)


def npz(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npz(a=header("(10**9,)")), "it is no file of plain arrays"),
        (npz(a=header("(1000000000000,)")), "promises 8000000000000 bytes and holds 0"),
        (npz(a=header("(2,)") + bytes(15)), "promises 16 bytes and holds 15"),
        (npz(a=header("(-1, -2)") + bytes(16)), "promises"),
        (npz(a=header("(1,)", "'|O'") + bytes(8)), "holds object"),
        (npz(a=header("(1,)", "[('x', '<f8')]") + bytes(8)), "not numbers or texts"),
        (npz(a=header("(1,)", "'<M8[s]'") + bytes(8)), "not numbers or texts"),
        (npz(a=b"\x93NUMPY\x09\x00"), "it is no file of plain arrays"),
        (b"\x80\x04N.", "it is no file of plain arrays"),
    ],
)
def test_arrays_that_promise_more_than_they_hold_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plain_arrays(content)


def test_compressed_arrays_are_refused() -> None:
    file = io.BytesIO()
    np.savez_compressed(file, a=np.zeros(10**6))
    with pytest.raises(ValueError, match=r"'a\.npy' is compressed"):
        plain_arrays(file.getvalue())


def test_plain_arrays_read_as_they_were_written() -> None:
    file = io.BytesIO()
    written = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(["x", "yy"]), "c": np.array(3)}
    np.savez(file, allow_pickle=False, **written)
    found = plain_arrays(file.getvalue())
    assert found.keys() == written.keys()
    assert all(np.array_equal(found[name], array) for name, array in written.items())
