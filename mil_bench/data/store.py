"""All bags of a dataset in one HDF5 file.

Reading per-slide files is the slow part of every training loop in this field, so features are packed once: one
contiguous matrix, the offsets of the bags in it, ids, labels and groups. The matrix is read through a memory map.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from mil_bench import durable
from mil_bench.data.bag import Bag
from mil_bench.data.hierarchy import LabelHierarchy
from mil_bench.errors import InputError

FORMAT = "mil-bench bag store"
VERSION = 1


@dataclass(frozen=True)
class StoreHeader:
    """What must be known before the first bag is written.

    Args:
        dataset: slug of the dataset.
        hierarchy: its classes.
        rows: instances of all bags together, N.
        width: feature width, D.
        dtype: "float16" or "float32", as the source has it.
        origin: where the features come from, one line.
        group_name: what a group is, "" where groups are unknown.
        coords_unit: unit of the coordinates, "" where bags have none.
        has_instance_labels: whether every bag brings witness labels.
    """

    dataset: str
    hierarchy: LabelHierarchy
    rows: int
    width: int
    dtype: str
    origin: str
    group_name: str
    coords_unit: str = ""
    has_instance_labels: bool = False


@dataclass
class _Written:
    """What has been added so far, one entry a bag."""

    slides: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    patch_sizes: list[float] = field(default_factory=list)
    offsets: list[int] = field(default_factory=lambda: [0])
    digests: list[str] = field(default_factory=list)


class StoreWriter:
    """Writes a store bag by bag; nothing appears under the final name unless every announced row was added."""

    def __init__(self, file: h5py.File, header: StoreHeader):
        self._file, self._header, self._done = file, header, _Written()
        self._features = file.create_dataset("features", (header.rows, header.width), header.dtype)
        if header.coords_unit:
            self._coords = file.create_dataset("coords", (header.rows, 2), "float64")
        if header.has_instance_labels:
            self._instance_labels = file.create_dataset("instance_labels", (header.rows,), "int16")

    def add(self, bag: Bag) -> None:
        """Append one bag. Its features are stored as they are, bit for bit."""
        start = self._done.offsets[-1]
        rows = slice(start, start + len(bag.features))
        features = np.ascontiguousarray(bag.features, dtype=self._header.dtype)
        self._features[rows] = features
        digest = hashlib.sha256(features.data)
        if self._header.coords_unit:
            self._coords[rows] = coords = np.ascontiguousarray(bag.coords, dtype=np.float64)
            digest.update(coords.data)
        if self._header.has_instance_labels:
            self._instance_labels[rows] = shown = np.ascontiguousarray(bag.instance_labels, dtype=np.int16)
            digest.update(shown.data)
        done = self._done
        done.offsets.append(rows.stop)
        done.slides.append(bag.slide)
        done.labels.append(bag.label)
        done.groups.append(bag.group)
        done.splits.append(bag.split)
        done.patch_sizes.append(np.nan if bag.patch_size is None else bag.patch_size)
        done.digests.append(digest.hexdigest())

    def finish(self) -> None:
        """Write the index and the digest of everything."""
        header, done, file = self._header, self._done, self._file
        if done.offsets[-1] != header.rows:
            raise ValueError(f"{header.rows} rows were announced, {done.offsets[-1]} were added")
        text = h5py.string_dtype()
        file["offsets"] = np.asarray(done.offsets, dtype=np.int64)
        file["labels"] = np.asarray(done.labels, dtype=np.int16)
        file["patch_sizes"] = np.asarray(done.patch_sizes, dtype=np.float64)
        for name in ("slides", "groups", "splits", "digests"):
            file.create_dataset(name, data=np.asarray(getattr(done, name), dtype=object), dtype=text)
        index = [header.dataset, header.hierarchy.to_json(), header.group_name]
        content = [*index, done.slides, done.labels, done.groups, done.splits, done.offsets, done.digests]
        file.attrs.update(
            format=FORMAT,
            version=VERSION,
            dataset=header.dataset,
            hierarchy=json.dumps(header.hierarchy.to_json()),
            origin=header.origin,
            group_name=header.group_name,
            coords_unit=header.coords_unit,
            digest=hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()[:16],
        )


@contextlib.contextmanager
def create_store(path: Path, header: StoreHeader) -> Iterator[StoreWriter]:
    """A writer whose file becomes ``path`` when the block ends well, and leaves nothing when it does not."""
    with durable.new_file(path) as temporary:
        # HDF5 does not survive a disk that fills up while it writes, so the space is asked for first.
        row_bytes = header.width * np.dtype(header.dtype).itemsize + 18  # and coordinates, instance label
        durable.reserve(temporary, header.rows * (row_bytes + 128) + 2**20)  # and the index: at most a bag a row
        with h5py.File(temporary, "w") as file:
            writer = StoreWriter(file, header)
            yield writer
            writer.finish()


class BagStore:
    """Read access to a packed dataset.

    Args:
        path: the store file.

    Raises:
        InputError: not a store, of another version, or cut short.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        try:
            with h5py.File(self.path, "r") as file:
                self._check_version(file)
                self._read_index(file)
        except (OSError, KeyError) as error:
            raise self._broken(f"cannot be read as a bag store ({error})") from error
        end = max(at + math.prod(shape) * dtype.itemsize for at, dtype, shape in self._rowwise.values())
        if self.path.stat().st_size < end:
            raise self._broken(f"is cut short: {self.path.stat().st_size} bytes, {end} needed")

    def _check_version(self, file: h5py.File) -> None:
        found = file.attrs.get("format"), file.attrs.get("version")
        if found != (FORMAT, VERSION):
            raise self._broken(f"is not a bag store of version {VERSION} (it says {found[0]!r}, version {found[1]})")

    def _broken(self, problem: str) -> InputError:
        remedy = "Move it away and pack the features again (mil-bench data pack); generated datasets are made anew."
        return InputError(f"bag store {self.path}", [f"{self.path.name} {problem}"], remedy)

    def _read_index(self, file: h5py.File) -> None:
        attrs = file.attrs
        self.dataset: str = attrs["dataset"]
        self.hierarchy = LabelHierarchy.from_json(json.loads(attrs["hierarchy"]))
        self.origin: str = attrs["origin"]
        self.group_name: str = attrs["group_name"]
        self.coords_unit: str = attrs["coords_unit"]
        self.digest: str = attrs["digest"]
        self.rows, self.width = file["features"].shape
        self.dtype: np.dtype = file["features"].dtype
        self._rowwise = {
            name: (file[name].id.get_offset(), file[name].dtype, file[name].shape)
            for name in ("features", "coords", "instance_labels")
            if name in file
        }
        self.offsets: np.ndarray = file["offsets"][:]
        self.labels: np.ndarray = file["labels"][:].astype(np.int64)
        self.patch_sizes: np.ndarray = file["patch_sizes"][:]
        columns = {name: file[name].asstr()[:] for name in ("slides", "groups", "splits")}
        self.slides = pd.DataFrame(
            {
                "slide": columns["slides"],
                "label": self.labels,
                "group": columns["groups"],
                "split": columns["splits"],
                "rows": np.diff(self.offsets),
            }
        )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def features(self) -> np.ndarray:
        """All rows ``[N, D]`` as a read-only memory map."""
        return self._mapped("features")

    @cached_property
    def instance_labels(self) -> np.ndarray | None:
        """Witness labels ``[N]`` (fine class, -1 for background), or None."""
        return self._mapped("instance_labels") if "instance_labels" in self._rowwise else None

    @cached_property
    def coords(self) -> np.ndarray | None:
        """Coordinates ``[N, 2]`` in ``coords_unit``, or None."""
        return self._mapped("coords") if "coords" in self._rowwise else None

    def _mapped(self, name: str) -> np.ndarray:
        at, dtype, shape = self._rowwise[name]
        return np.memmap(self.path, dtype, "r", at, shape)

    def index_of(self, slides: tuple[str, ...]) -> np.ndarray:
        """Positions of slide ids in the store."""
        position = {slide: i for i, slide in enumerate(self.slides["slide"])}
        return np.array([position[s] for s in slides], dtype=np.int64)

    def bag(self, index: int) -> Bag:
        """One bag; its features are a view of the memory map."""
        rows = slice(self.offsets[index], self.offsets[index + 1])
        row = self.slides.iloc[index]
        size = self.patch_sizes[index]
        return Bag(
            slide=row["slide"],
            label=int(row["label"]),
            group=row["group"],
            features=self.features[rows],
            coords=None if self.coords is None else self.coords[rows],
            patch_size=None if np.isnan(size) else float(size),
            instance_labels=None if self.instance_labels is None else self.instance_labels[rows],
            split=row["split"],
        )
