"""Fast reading of datasets that are stored as chunks of whole rows, as TRIDENT and CLAM write them.

TRIDENT stores one row per chunk, and HDF5 takes far longer to find 3,000 chunks one by one than to
read them. The chunks of such a file are in long contiguous runs, which are read here as they are.
*Measured* on 3,000 x 1,024 float32: 20 ms through HDF5, 7 ms here (CLAM's chunks of 32 rows: 3.3
and 2.1 ms).
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np


def read_row_chunks(dataset: h5py.Dataset, into: np.ndarray) -> bool:
    """Fill ``into`` with the dataset's values, if the layout of the file allows it.

    Args:
        dataset: a dataset whose chunks are all written.
        into: contiguous array of its shape.

    Returns:
        False if anything is unusual (filters, another number type, chunks of part of a row); then
        the content of ``into`` is undefined, and HDF5 has to read the values.
    """
    if dataset.chunks is None or dataset.chunks[1:] != dataset.shape[1:]:
        return False
    if dataset.id.get_create_plist().get_nfilters() or dataset.file.userblock_size:
        return False
    if dataset.id.get_type() != h5py.h5t.py_create(into.dtype):
        return False
    stored: list[h5py.h5d.StoreInfo] = []
    dataset.id.chunk_iter(stored.append)
    rows = np.array([chunk.chunk_offset[0] for chunk in stored])
    places = np.array([chunk.byte_offset for chunk in stored])[np.argsort(rows)]
    size = math.prod(dataset.chunks) * into.itemsize
    if not np.array_equal(np.sort(rows), np.arange(0, len(into), dataset.chunks[0])):
        return False
    if any(chunk.filter_mask or chunk.size != size for chunk in stored):
        return False
    return _read_runs(dataset.file.filename, places, size, into)


def _read_runs(filename: str, places: np.ndarray, size: int, into: np.ndarray) -> bool:
    """Read each contiguous run of chunks at once."""
    memory = into.reshape(-1).view(np.uint8).data
    breaks = [0, *(np.flatnonzero(np.diff(places) != size) + 1), len(places)]
    with Path(filename).open("rb", buffering=0) as raw:
        for first, stop in pairwise(breaks):
            run = memory[first * size : stop * size]  # the last chunk may exceed the array
            raw.seek(places[first])
            if raw.readinto(run) != len(run):
                return False
    return True
