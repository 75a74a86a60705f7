"""Torch's ``.pt`` files: a tensor, a dict with one, or the NumPy array that TRIDENT saves.

CLAM and HMIL save the bare tensor ``[N, D]``; users' scripts save a dict with ``features`` or
``feats`` and perhaps ``coords``; TRIDENT's ``saveas="pt"`` gives a NumPy array to torch.save.
Nothing in the files is executed: they are loaded as weights only, with stand-ins for NumPy's part
(see ``stored_arrays``).
bfloat16, which NumPy does not have, becomes float32, exactly.
"""

from __future__ import annotations

import pickle
import threading
import warnings
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mil_bench.intake.readers.interface import (
    LEVEL_0,
    UNKNOWN_UNIT,
    FeatureFile,
    RawBag,
    bag_shape,
    broken,
    coordinates,
    feature_type,
    reading,
)
from mil_bench.intake.readers.stored_arrays import STAND_INS, StoredArray
from mil_bench.intake.readers.trident import patches_beside, read_patches

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

_TRIDENT = "TRIDENT .pt"
_ARCHIVE = b"PK\x03\x04"
_REMEDY = (
    "Save the bare feature tensor of shape (instances, width) with torch.save, or give .h5 files."
)
_LOADING = threading.Lock()  # torch keeps the list of what may be loaded for the whole process


@dataclass(frozen=True, kw_only=True)
class TorchFile(FeatureFile):
    """A file written by ``torch.save``.

    Args:
        patches: TRIDENT's list of its patches, or None.
    """

    patches: Path | None

    @classmethod
    def open(cls, path: Path, slide: str) -> TorchFile:
        """Read the shape, without the values unless the file is in torch's older form.

        Raises:
            InputError: the file holds anything but features and coordinates, or is cut short.
        """
        features, coords, form = _content(path, mapped=True)
        if isinstance(features, StoredArray):
            shape, name = features.shape, features.dtype.name
        else:
            shape, name = tuple(features.shape), str(features.dtype).removeprefix("torch.")
        rows, width = bag_shape(path, shape, "holds a tensor")
        patches = patches_beside(path, rows) if form == _TRIDENT else None
        unit = "" if coords is None else UNKNOWN_UNIT
        return cls(
            path=path,
            slide=slide,
            format=form,
            rows=rows,
            width=width,
            dtype="float32" if name == "bfloat16" else feature_type(path, name, rows),
            coords_unit=unit if patches is None else LEVEL_0,
            patches=patches,
        )

    def load(self) -> RawBag:
        """The file's rows."""
        features, coords, _ = _content(self.path, mapped=False)
        table = _numpy(features)
        table = table.reshape(bag_shape(self.path, table.shape, "holds a tensor"))
        if self.patches is not None:
            places, side = read_patches(self.patches, self.rows)
            return RawBag(table, places, LEVEL_0, side)
        if coords is None:
            return RawBag(table)
        return RawBag(table, coordinates(self.path, _numpy(coords), self.rows), UNKNOWN_UNIT)


def _content(path: Path, mapped: bool) -> tuple[Any, Any, str]:
    """Features and coordinates (None if missing), as tensors or stored arrays, and the format."""
    value = _load(path, mapped)
    if isinstance(value, dict):
        keys = [key for key in reading().keys if key in value]
        if len(keys) != 1:
            held = ", ".join(str(key) for key in list(value)[:8]) or "nothing"
            wanted = " or ".join(f"'{key}'" for key in reading().keys)
            raise broken(
                path,
                f"holds a dict, expected exactly one of {wanted} in it (it holds: {held})",
                "Name the features with --key.",
            )
        coords = value.get("coords")
        return (
            _plain(path, value[keys[0]]),
            None if coords is None else _plain(path, coords),
            "plain .pt",
        )
    return _plain(path, value), None, _TRIDENT if isinstance(value, StoredArray) else "CLAM .pt"


def _load(path: Path, mapped: bool) -> Any:
    archive = _check_archive(path)
    try:
        with _LOADING, warnings.catch_warnings(), torch.serialization.safe_globals(STAND_INS):
            warnings.simplefilter("ignore")  # what torch warns about is refused in _plain
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and archive)
    except pickle.UnpicklingError as error:
        problem = "holds more than tensors, so it was not opened: unpickling it could run code"
        raise broken(path, problem, _REMEDY) from error
    except Exception as error:  # a damaged file makes torch raise almost anything
        reason = str(error).partition("\n")[0]
        raise broken(
            path, f"cannot be read as a torch file, it may be cut short ({reason})", _REMEDY
        ) from error


def _check_archive(path: Path) -> bool:
    """Whether the file is an archive.

    Raises:
        InputError: it is one that torch.save would not write.
    """
    with path.open("rb") as file:
        if file.read(len(_ARCHIVE)) != _ARCHIVE:
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise broken(
            path, f"cannot be read as a torch file, it may be cut short ({error})", _REMEDY
        ) from error
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise broken(path, "is a compressed archive, which torch.save does not write", _REMEDY)
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise broken(path, "is an archive that declares more bytes than the file has", _REMEDY)
    return True


def _plain(path: Path, value: Any) -> Any:
    """The value itself if it is a dense tensor or a stored array.

    Raises:
        InputError: it is something else, or not all its values are in the file.
    """
    if isinstance(value, StoredArray):
        return value
    if type(value) not in (torch.Tensor, torch.nn.Parameter):
        raise broken(path, f"holds a {type(value).__name__}, expected one tensor", _REMEDY)
    for is_so, kind in (
        (value.is_meta, "meta"),
        (value.is_nested, "nested"),
        (value.layout != torch.strided, "sparse"),
        (value.is_quantized, "quantised"),
    ):
        if is_so:
            raise broken(path, f"holds a {kind} tensor, expected a plain one", _REMEDY)
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise broken(
            path,
            f"declares a tensor of shape {tuple(value.shape)}, but holds fewer values",
            _REMEDY,
        )
    return value.detach()


def _numpy(value: Any) -> np.ndarray:
    if isinstance(value, StoredArray):
        return value.array()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
