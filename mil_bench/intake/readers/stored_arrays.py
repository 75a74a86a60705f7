"""NumPy arrays in pickles, built without letting NumPy read a pickled state.

NumPy's own ``__setstate__`` trusts what it is given: a type that lies about itself makes it take
bytes for addresses of objects. So its three names in a pickle (``_reconstruct``, ``ndarray``,
``dtype``) lead here, where an array is a shape, one of the plain number types, and as many bytes as
that makes.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

_TYPES = frozenset(
    f"{kind}{size}"
    for kind, sizes in {"f": "248", "i": "1248", "u": "1248"}.items()
    for size in sizes
)


class _StoredType:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, code: object, *flags: object) -> None:  # noqa: ARG002  # as NumPy calls it
        if code not in _TYPES:
            raise pickle.UnpicklingError(f"an array of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"a byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class StoredArray:
    """Stands in for ``numpy.ndarray`` and for what rebuilds one: shape, type, values as bytes."""

    def __init__(self, *origin: object) -> None:  # noqa: ARG002  # as NumPy calls it
        self.shape: tuple[int, ...] = (0,)
        self.dtype: np.dtype = np.dtype(np.float32)
        self._data = b""
        self._order: Literal["C", "F"] = "C"

    def __setstate__(self, state: Any) -> None:
        _, shape, stored, by_columns, data = state
        if not isinstance(stored, _StoredType) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("an array of something else than numbers")
        self.dtype, self._data, self._order = stored.dtype, data, "F" if by_columns else "C"
        # Raises if shape and bytes do not fit.
        self.shape = np.frombuffer(data, self.dtype).reshape(shape).shape

    def array(self) -> np.ndarray:
        """The array; its values are the bytes of the file, so it cannot be written to."""
        return np.frombuffer(self._data, self.dtype).reshape(self.shape, order=self._order)


def _no_bytes() -> bytes:
    """Stands in for ``bytes``, which a pickle of protocol 2 calls for an empty array."""
    return b""


STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (StoredArray, "numpy._core.multiarray._reconstruct"),
    (StoredArray, "numpy.core.multiarray._reconstruct"),  # as NumPy 1 spelled it
    (StoredArray, "numpy.ndarray"),
    (_StoredType, "numpy.dtype"),
    (_no_bytes, "builtins.bytes"),
]
