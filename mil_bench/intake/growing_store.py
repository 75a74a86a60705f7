"""A store whose bags arrive one by one, without their number or sizes being known before.

The features are the first column of a store and begin at the same byte whatever its size, so they
are written to the hidden file where they will stay. Coordinates and labels of instances come after
the features of all bags: until the end they wait in two small files. When the last bag has come,
the bytes around the columns are put in place, and the file gets its index and its name. So nothing
large is on the disk twice.

A journal names what is written, so that a call that was killed continues. As in ``partial_store``,
its lines are claims: rows count only if they still have their digest.
"""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from mil_bench import durable
from mil_bench.bags.layout import BagEntry, StoreHeader, sparse_layout, write_index
from mil_bench.bags.rows import Column, RowFile
from mil_bench.errors import InputError
from mil_bench.file_values import typed
from mil_bench.intake.partial_store import (
    append_line,
    bytes_outside,
    hidden_path,
    journal_lines,
    journal_path,
    packing_lock,
    taken_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mil_bench.bags.bag import Slide
    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.intake.readers import RawBag
    from mil_bench.progress import Watch

_BESIDE = {
    "coords": Column(0, "float64", (0, 2)),
    "instance_labels": Column(0, "int16", (0,)),
}
"""Columns that wait in files of their own."""
_SOME_ROWS = 4096


@dataclass(frozen=True)
class Form:
    """What all bags of a store have in common.

    Args:
        width: feature width.
        dtype: "float16" or "float32".
        coords_unit: unit of the coordinates, "" if there are none.
        has_instance_labels: whether instances have labels.
    """

    width: int
    dtype: str
    coords_unit: str
    has_instance_labels: bool

    @classmethod
    def of(cls, bag: RawBag) -> Form:
        """The form of a bag."""
        has_labels = bag.instance_labels is not None
        return cls(bag.features.shape[1], bag.features.dtype.name, bag.coords_unit, has_labels)

    def __str__(self) -> str:
        parts = [f"{self.width} features of type {self.dtype}"]
        parts += ["coordinates"] * bool(self.coords_unit)
        parts += ["labels of its instances"] * self.has_instance_labels
        return ", ".join(parts)


@dataclass(frozen=True)
class WrittenBag:
    """A bag whose rows are written.

    Args:
        slide: slide id.
        rows: number of instances.
        patch_size: side of a patch in the unit of the coordinates, None if unknown.
        label: its class as the source spells it, "" if the source does not say.
        split: its official role, "" if it has none.
        digests: of its rows, by column; labels of instances as 0 and 1.
    """

    slide: str
    rows: int
    patch_size: float | None
    label: str
    split: str
    digests: dict[str, str]


class GrowingStore:
    """An unfinished store, locked for this process; ``open_growing`` makes one.

    Args:
        path: its final name.
        spec: the card of its dataset.
        source: what the bags are made of; what an interrupted call has written counts only if its
            source was the same.
    """

    def __init__(self, path: Path, spec: DatasetSpec, source: str) -> None:
        self.path, self._spec, self._source = path, spec, source
        self._hidden, self._journal = hidden_path(path), journal_path(path)
        self.form: Form | None = None
        self.rows = 0
        self.bags: dict[str, WrittenBag] = {}
        self.skipped: dict[str, str] = {}
        self.finished: set[str] = set()
        self._files: dict[str, RowFile] = {}
        self._start = 0

    def resume(self, watch: Watch) -> None:
        """Take over what an interrupted call has written, as far as the disk still holds it."""
        lines = list(journal_lines(self._journal)) if self._journal.is_file() else []
        start = {"source": self._source}
        kept = [start]
        if lines[:1] == [start] and self._hidden.is_file() and self._hidden.stat().st_nlink == 1:
            for line in watch(lines[1:], len(lines) - 1, "verifying what is packed"):
                if not self._takes(line):
                    break
                kept.append(line)
        else:
            self.discard()
        durable.replace(self._journal, "".join(f"\n{json.dumps(line)}" for line in kept))

    def _takes(self, line: dict[str, Any]) -> bool:
        """Take a line of the journal over, unless the rows that it names are not there."""
        if "form" in line:
            self._begin(typed(Form, line["form"]))
        elif "skipped" in line:
            self.skipped[line["skipped"]] = line["reason"]
        elif "finished" in line:
            self.finished.add(line["finished"])
        else:
            bag = typed(WrittenBag, line["bag"])
            for name, file in self._files.items():
                if file.digest(name, self.rows, bag.rows) != bag.digests[name]:
                    return False
            self._count(bag)
        return True

    def add(self, slide: str, raw: RawBag, label: str = "", split: str = "") -> None:
        """Append a bag.

        Args:
            slide: slide id.
            raw: its rows, in the type in which they are stored.
            label: its class as the source spells it.
            split: its official role.

        Raises:
            InputError: it differs in form from the bags before it.
            OSError: the disk has not enough space.
        """
        form = Form.of(raw)
        if self.form is None:
            self._begin(form)
            append_line(self._journal, {"form": asdict(form)})
        if form != self.form:
            problem = f"slide '{slide}' has {form}; the slides before it have {self.form}"
            remedy = "What is published does not fit together, so no store was made."
            raise InputError(f"packing {self.path.stem}", [problem], remedy)
        digests = {
            name: file.write(name, self.rows, getattr(raw, name))
            for name, file in self._files.items()
        }
        bag = WrittenBag(slide, len(raw.features), raw.patch_size, label, split, digests)
        append_line(self._journal, {"bag": asdict(bag)})
        self._count(bag)

    def _count(self, bag: WrittenBag) -> None:
        self.bags[bag.slide] = bag
        self.rows += bag.rows

    def skip(self, slide: str, reason: str) -> None:
        """Note that a slide is left out, and why."""
        append_line(self._journal, {"skipped": slide, "reason": reason})
        self.skipped[slide] = reason

    def finish(self, part: str) -> None:
        """Note that all bags of a part of the source are written."""
        append_line(self._journal, {"finished": part})
        self.finished.add(part)

    def complete(
        self, slides: Mapping[str, Slide], group_name: str, origin: str, encoder: str
    ) -> None:
        """Write index and surroundings, and give the file its final name.

        Args:
            slides: what is declared of each slide.
            group_name: what a group is, "" if groups are unknown.
            origin: where the features come from, one line.
            encoder: what made them, "" if unknown.

        Raises:
            OSError: the disk has not enough space.
            StorageError: another process has made a store of that name.
        """
        header = self._header(self.rows, group_name, origin, encoder)
        with self._skeleton(header) as (skeleton, columns):
            size = skeleton.stat().st_size
            durable.reserve(self._hidden, size)  # HDF5 does not survive a full disk
            with self._hidden.open("r+b") as file:
                self._move_features(file, columns["features"])
                file.truncate(size)
                for position, content in bytes_outside(skeleton, columns, size):
                    file.seek(position)
                    file.write(base64.b64decode(content))
        write_index(self._hidden, header, self._entries(columns, slides))
        try:
            durable.publish(self._hidden, self.path)
        except FileExistsError as error:
            raise taken_name(self.path) from error
        self.discard()

    def _move_features(self, file: BinaryIO, column: Column) -> None:
        """Put the features of a store that is smaller than a page where its layout has them."""
        if column.start != self._start:
            file.seek(self._start)
            features = file.read(column.stop - column.start)
            file.seek(column.start)
            file.write(features)

    def _header(
        self, rows: int, group_name: str = "", origin: str = "", encoder: str = ""
    ) -> StoreHeader:
        assert self.form is not None  # a bag has come
        return StoreHeader(
            dataset=self._spec.slug,
            hierarchy=self._spec.hierarchy,
            rows=rows,
            width=self.form.width,
            dtype=self.form.dtype,
            origin=origin,
            group_name=group_name,
            coords_unit=self.form.coords_unit,
            has_instance_labels=self.form.has_instance_labels,
            encoder=encoder,
        )

    def _entries(
        self, columns: Mapping[str, Column], slides: Mapping[str, Slide]
    ) -> list[BagEntry]:
        """Move what waited beside into its columns.

        Returns:
            What the index says of each bag.
        """
        entries, first = [], 0
        with contextlib.closing(RowFile(self._hidden, columns)) as store:
            for bag in self.bags.values():
                slide = slides[bag.slide]
                digests = {"features": bag.digests["features"]}
                for name in columns.keys() & _BESIDE.keys():
                    values = self._waiting(name, first, bag.rows)
                    if name == "instance_labels":
                        values = np.where(values > 0, slide.label, -1)
                    digests[name] = store.write(name, first, values)
                ordered = {name: digests[name] for name in columns}
                entries.append(BagEntry(slide, bag.rows, bag.patch_size, ordered))
                first += bag.rows
        return entries

    def _waiting(self, name: str, first: int, rows: int) -> np.ndarray:
        column = _BESIDE[name]
        width = column.shape[1:]
        count, offset = int(np.prod((rows, *width))), first * column.row_bytes
        values = np.fromfile(self._beside(name), column.dtype, count, offset=offset)
        return values.reshape(rows, *width)

    def _begin(self, form: Form) -> None:
        """Open the files of the columns."""
        self.form = form
        # The features are the first column, so where they begin does not depend on the rows, unless
        # the column is too small to begin at a page.
        with self._skeleton(self._header(_SOME_ROWS)) as (_, columns):
            pass
        self._start = columns["features"].start
        for name, column in columns.items():
            place = self._hidden if name == "features" else self._beside(name)
            place.touch()
            self._files[name] = RowFile(place, {name: _BESIDE.get(name, column)})

    def _beside(self, name: str) -> Path:
        return self._hidden.with_name(f"{self._hidden.name}.{name}")

    @contextlib.contextmanager
    def _skeleton(self, header: StoreHeader) -> Iterator[tuple[Path, dict[str, Column]]]:
        """A file of the final layout without any rows, which takes no space on the disk."""
        path = self._beside("skeleton")
        try:
            yield path, sparse_layout(path, header)
        finally:
            path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the hidden files."""
        self.close()
        for path in (self._hidden, *map(self._beside, _BESIDE), self._journal):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files = {}


@contextlib.contextmanager
def open_growing(
    path: Path, spec: DatasetSpec, source: str, watch: Watch
) -> Iterator[GrowingStore]:
    """Start a store, or continue the one that an interrupted call has left.

    Args:
        path: its final name.
        spec: the card of its dataset.
        source: what its bags are made of, as a text that differs whenever they do.
        watch: wraps the iteration over the bags that an interrupted call has written.

    Raises:
        StorageError: another process is packing it or has just done so, or the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with packing_lock(path):
            if path.exists():  # made by the process that held the lock until now
                raise taken_name(path)
            with contextlib.closing(GrowingStore(path, spec, source)) as store:
                store.resume(watch)
                yield store
    except OSError as error:
        raise durable.cannot_write(path, error) from error
