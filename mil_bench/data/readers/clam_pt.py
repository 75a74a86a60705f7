"""CLAM's ``.pt`` files: a bare tensor ``[N, D]``. Loaded as weights only: nothing in it is ever executed."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch

from mil_bench.data.readers.interface import FeatureFile, RawBag
from mil_bench.errors import InputError

SIGNATURES = (b"PK\x03\x04", b"\x80\x02")  # torch's archive since 1.6, and its older form
_REMEDY = "Save the bare feature tensor of shape (instances, width) with torch.save, or give .h5 files."


class TensorFeatureFile(FeatureFile):
    """A file that holds one tensor."""

    @property
    def format(self) -> str:
        """Always CLAM's."""
        return "CLAM .pt"

    @classmethod
    def open(cls, path: Path) -> TensorFeatureFile:
        """Read the tensor's shape.

        Raises:
            InputError: the file holds anything but one two-dimensional tensor, or is cut short.
        """
        tensor = _load(path)
        return cls(path, *tensor.shape, str(tensor.dtype).removeprefix("torch."), encoder="", has_coords=False)

    def read(self) -> RawBag:
        """All rows in their stored type."""
        return RawBag(_load(self.path).numpy())


def _load(path: Path) -> torch.Tensor:
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _wrong(path, "holds more than tensors, so it was not opened: unpickling it could run code") from error
    except Exception as error:  # a damaged file makes torch raise almost anything
        reason = str(error).partition("\n")[0]
        raise _wrong(path, f"cannot be read as a torch file, it may be cut short ({reason})") from error
    if not isinstance(value, torch.Tensor):
        raise _wrong(path, f"holds a {type(value).__name__}, expected one tensor")
    if value.layout != torch.strided or value.is_meta:
        raise _wrong(path, f"holds a {'meta' if value.is_meta else 'sparse'} tensor, expected a plain one")
    value = value.detach()
    if value.ndim == 3 and value.shape[0] == 1:
        value = value[0]
    if value.ndim != 2:
        raise _wrong(path, f"holds a tensor of shape {tuple(value.shape)}, expected (instances, width)")
    return value


def _wrong(path: Path, problem: str) -> InputError:
    return InputError(f"feature file {path}", [f"{path.name} {problem}"], _REMEDY)
