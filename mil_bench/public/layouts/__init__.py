"""Layouts of public features, by the name that recipes use; each opens a way to read files."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from mil_bench.public.layouts.folder import folder
from mil_bench.public.layouts.interface import Fetched, Layout, PublicBag
from mil_bench.public.layouts.npy_tar import npy_tar
from mil_bench.public.layouts.parquet import parquet
from mil_bench.public.layouts.table import table

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LAYOUTS", "Fetched", "Layout", "PublicBag"]

LAYOUTS: dict[str, Callable[[], AbstractContextManager[Layout]]] = {
    "parquet": lambda: nullcontext(parquet),
    "npy-tar": lambda: nullcontext(npy_tar),
    "folder": folder,
    "table": lambda: nullcontext(table),
}
