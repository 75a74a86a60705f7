"""Writes small feature files and label tables as CLAM, TRIDENT, STAMP, torchmil and people do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


def some_features(
    rows: int = 5, width: int = 4, dtype: str = "float32", seed: int = 0
) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(dtype)


def write_h5(
    path: Path,
    features: Any,
    coords: np.ndarray | None = None,
    encoder: str = "",
    patch_size: int | None = None,
) -> Path:
    """CLAM's layout; with an encoder and a patch size TRIDENT's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"] = features
        if encoder:
            file["features"].attrs["encoder"] = encoder
        if coords is not None:
            file["coords"] = coords
            if patch_size is not None:
                file["coords"].attrs["patch_size_level0"] = patch_size
    return path


def write_stamp(
    path: Path,
    features: np.ndarray,
    coords: np.ndarray | None = None,
    key: str = "feats",
    **attributes: Any,
) -> Path:
    """STAMP's layout with the given attributes of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file[key] = features
        if coords is not None:
            file["coords"] = coords
        file.attrs.update(attributes)
    return path


def write_npy(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return path


def write_pt(path: Path, value: Any, archive: bool = True) -> Path:
    """torch.save in its present form, or in the one from before torch 1.6."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path, _use_new_zipfile_serialization=archive)
    return path


def write_label_table(path: Path, label_of: Mapping[str, str]) -> Path:
    lines = [f"{slide},{label},patient of {slide}" for slide, label in label_of.items()]
    path.write_text("\n".join(["slide,label,patient", *lines]) + "\n", encoding="utf-8")
    return path


def unwatched(items: Iterable, count: int, what: str) -> Iterable:
    """No progress bar."""
    return items
