"""CLAM's and TRIDENT's ``.h5`` files: ``features`` and ``coords``, told apart by the attributes TRIDENT writes.

CLAM (extract_features_fp.py): ``features [N, D]`` float32 and ``coords [N, 2]`` int32, no attributes, so the size of
a patch is unknown. TRIDENT 0.3: ``features [N, D]`` float16 or float32 with the encoder's name, ``coords [N, 2]`` int64
with ``patch_size_level0``. In both, coordinates are the top left corner in level-0 pixels. Files in the wild also have
a leading axis of length 1.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from mil_bench.data.readers.interface import FeatureFile, RawBag
from mil_bench.errors import InputError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_REMEDY = "Extract this slide's features again, or take the file out of the folder."


class Hdf5FeatureFile(FeatureFile):
    """A CLAM or TRIDENT feature file."""

    @property
    def format(self) -> str:
        """TRIDENT names its encoder, CLAM does not."""
        return "TRIDENT .h5" if self.encoder else "CLAM .h5"

    @classmethod
    def open(cls, path: Path) -> Hdf5FeatureFile:
        """Read the shape and the attributes.

        Raises:
            InputError: the file cannot be opened, or does not have the layout above.
        """
        try:
            with h5py.File(path, "r") as file:
                features, coords = file.get("features"), file.get("coords")
                if not isinstance(features, h5py.Dataset) or features.shape is None:
                    raise _wrong(path, f"has no dataset 'features' (it holds: {', '.join(file) or 'nothing'})")
                if coords is not None and (not isinstance(coords, h5py.Dataset) or coords.shape is None):
                    raise _wrong(path, "has 'coords', but not as a dataset of numbers")
                shape = features.shape[1:] if features.ndim == 3 and features.shape[0] == 1 else features.shape
                if len(shape) == 1 and shape[0] == 0:
                    shape = (0, 0)  # TRIDENT's way to say that a slide has no tissue
                if len(shape) != 2:
                    raise _wrong(path, f"'features' has the shape {features.shape}, expected (instances, width)")
                encoder = str(features.attrs.get("encoder", ""))
                return cls(path, *shape, features.dtype.name, encoder, has_coords=coords is not None)
        except OSError as error:
            raise _wrong(path, f"cannot be opened as HDF5, it may be cut short ({error})") from error

    def read(self) -> RawBag:
        """All rows in their stored type."""
        try:
            with h5py.File(self.path, "r") as file:
                features = file["features"][:].reshape(self.rows, self.width)
                if not self.has_coords:
                    return RawBag(features)
                coords, attrs = file["coords"][:], file["coords"].attrs
                if coords.shape not in ((self.rows, 2), (1, self.rows, 2)):
                    raise _wrong(self.path, f"has {self.rows} instances but coordinates of shape {coords.shape}")
                coords = np.asarray(coords, dtype=np.float64).reshape(self.rows, 2)
                return RawBag(features, coords, "level-0 pixels", self._patch_size(attrs.get("patch_size_level0")))
        except OSError as error:
            raise _wrong(self.path, f"cannot be read to the end, it may be cut short ({error})") from error

    def _patch_size(self, value: object) -> float | None:
        try:
            return None if value is None or value == "None" else float(value)  # TRIDENT writes None as a word
        except (TypeError, ValueError) as error:
            raise _wrong(self.path, f"has a patch_size_level0 that is no number: {value!r}") from error


def _wrong(path: Path, problem: str) -> InputError:
    return InputError(f"feature file {path}", [f"{path.name} {problem}"], _REMEDY)
