"""Parquet files with one row per slide: a list of instances, each a list of numbers, and a label.

Owkin's features of CAMELYON16 are laid out like this; their rows have no names, so a slide is named
by its role, the number of its file and its row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mil_bench.errors import MilBenchError
from mil_bench.intake.readers import RawBag
from mil_bench.public.layouts.interface import Fetched, PublicBag, in_store_type

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

_ROWS = 8  # slides in memory at a time: a few megabytes each
_BUFFER = 2**22  # bytes of a column that are read at a time; else whole row groups are in memory


def parquet(fetched: Fetched, written: Container[str]) -> Iterator[PublicBag]:
    """The slides of a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, prefix = fetched.recipe.columns, f"{fetched.file.split or 'slide'}{fetched.number}"
    row = 0
    try:
        with pq.ParquetFile(fetched.path, buffer_size=_BUFFER, pre_buffer=False) as file:
            names = [columns.features, str(columns.label)]
            absent = [name for name in names if name not in file.schema_arrow.names]
            if absent:
                raise fetched.unreadable(f"it has no column {' and '.join(absent)}")
            for batch in file.iter_batches(_ROWS, columns=names):
                features, labels = (batch.column(name) for name in names)
                for bag, label in zip(_bags(features, fetched), labels.to_pylist(), strict=True):
                    slide = f"{prefix}-{row:04d}"
                    row += 1
                    if slide not in written:
                        raw = RawBag(in_store_type(bag[:, columns.leading :]))
                        yield PublicBag(slide, raw, fetched.class_name(label), fetched.file.split)
    except MilBenchError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise fetched.unreadable(str(error).partition("\n")[0]) from error


def _bags(column: Any, fetched: Fetched) -> list[np.ndarray]:
    """The instances ``[n, width]`` of each row of a column of lists of lists."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (_is_list(column.type) and _is_list(column.type.value_type)):
        raise fetched.unreadable(f"features of type {column.type}, expected lists of lists")
    instances = column.flatten()
    values = instances.flatten()
    if column.null_count or instances.null_count or values.null_count:
        raise fetched.unreadable("values are missing in the features")
    if not pa.types.is_floating(values.type):
        raise fetched.unreadable(f"features of type {column.type}, expected numbers")
    widths = pc.min_max(pc.list_value_length(instances)).as_py()
    if widths["min"] != widths["max"]:
        raise fetched.unreadable(f"between {widths['min']} and {widths['max']} numbers per row")
    rows = values.to_numpy(zero_copy_only=False).reshape(-1, widths["min"] or 1)
    stops = np.cumsum(pc.list_value_length(column).to_numpy(zero_copy_only=False))
    return np.split(rows, stops[:-1])


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    checks = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(check(kind) for check in checks)
