"""Small datasets in the layouts in which features are published, at the places of the recipes."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hub_server import Repository

if TYPE_CHECKING:
    from collections.abc import Mapping

MUSK_COMMIT = "264a736289b6959a7f88acbc44d63c217e6bcfe0"


@dataclass
class Made:
    """What was published of a slide.

    Args:
        features: ``[n, D]``.
        label: number of its class.
        split: official role.
        coords: ``[n, 2]``.
        patch_labels: ``[n]``.
    """

    features: np.ndarray
    label: int
    split: str
    coords: np.ndarray
    patch_labels: np.ndarray


def made(slide: int, rows: int = 0, width: int = 6, dtype: str = "float32") -> Made:
    rng = np.random.default_rng(slide)
    n = rows or 3 + slide % 5
    label = slide % 2
    return Made(
        rng.standard_normal((n, width)).astype(dtype),
        label,
        "test" if slide % 3 == 2 else "train",
        rng.integers(0, 9999, (n, 2)),
        np.asarray([label] * 2 + [0] * (n - 2)),
    )


def parquet(slides: list[Made]) -> bytes:
    """Owkin's layout: three coordinates in front of the features of each instance."""
    bags = [np.hstack([slide.coords, slide.coords[:, :1], slide.features]) for slide in slides]
    kind = pa.list_(pa.list_(pa.float32()))
    table = pa.table(
        {
            "features": pa.array([bag.astype(np.float32).tolist() for bag in bags], kind),
            "label": pa.array([slide.label for slide in slides], pa.int64()),
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=4)
    return file.getvalue()


def phikon(
    train: int = 20, test: int = 10, rows: int = 0, width: int = 6
) -> tuple[Repository, dict[str, Made]]:
    """owkin/camelyon16-features, and its slides by the names that they get."""
    slides = [made(n, rows, width) for n in range(train + test)]
    half = train // 2
    files = {
        "README.md": b"license: other",
        "data/Phikon_test-00000-of-00001.parquet": parquet(slides[train:]),
        "data/Phikon_train-00000-of-00002.parquet": parquet(slides[:half]),
        "data/Phikon_train-00001-of-00002.parquet": parquet(slides[half:train]),
    }
    named = {f"train0-{n:04d}": slide for n, slide in enumerate(slides[:half])}
    named |= {f"train1-{n:04d}": slide for n, slide in enumerate(slides[half:train])}
    named |= {f"test0-{n:04d}": slide for n, slide in enumerate(slides[train:])}
    for name, slide in named.items():
        slide.split = "train" if name.startswith("train") else "test"
    return Repository(files), named


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def tar(members: Mapping[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> bytes:
    """An archive as ``tar -C folder ./`` makes it; a member may be any entry."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        top = tarfile.TarInfo("./")
        top.type = tarfile.DIRTYPE
        archive.addfile(top)
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def camelyon_uni(
    count: int = 24, rows: int = 0, width: int = 6
) -> tuple[Repository, dict[str, Made]]:
    """torchmil/Camelyon16_MIL, and its slides."""
    slides = {f"slide_{n:03d}": made(n, rows, width, "float16") for n in range(count)}
    folder = "dataset/patches_512"
    splits = "".join(f"{name},{slide.split}\n" for name, slide in slides.items())

    def archive(**arrays: np.ndarray) -> bytes:
        return tar({f"./{name}.npy": npy(array) for name, array in arrays.items()})

    files = {
        "dataset/splits.csv": f"bag_name,split\n{splits}".encode(),
        f"{folder}/labels.tar.gz": archive(
            **{name: np.asarray([slide.label]) for name, slide in slides.items()}
        ),
        f"{folder}/coords.tar.gz": archive(
            **{name: slide.coords for name, slide in slides.items()}
        ),
        f"{folder}/patch_labels.tar.gz": archive(
            **{name: slide.patch_labels for name, slide in slides.items()}
        ),
        f"{folder}/features/features_UNI.tar.gz": archive(
            **{name: slide.features for name, slide in slides.items()}
        ),
    }
    return Repository(files), slides


def panda_folder(
    count: int = 12, rows: int = 40, width: int = 32
) -> tuple[Repository, dict[str, Made]]:
    """Dearcat/CPathPatchFeature's folder of PANDA, and its slides."""
    slides = {f"{n:032x}": made(n, rows, width) for n in range(count)}
    files = {"panda/uni/pt_files/other.pt": b"of another encoder"}
    for name, slide in slides.items():
        file = io.BytesIO()
        torch.save(torch.from_numpy(slide.features), file)
        files[f"panda/r50/pt_files/{name}.pt"] = file.getvalue()
    return Repository(files), slides


def musk(bags: int = 30) -> tuple[Repository, dict[str, Made]]:
    """mstz/musk, and its bags."""
    slides = {f"{'MUSK' if n % 2 else 'NON-MUSK'}-{n}": made(n, width=8) for n in range(bags)}
    lines = [
        ",".join([name, f"{name}_{row}", *map(repr, values.tolist()), f"{slide.label}."])
        for name, slide in slides.items()
        for row, values in enumerate(slide.features)
    ]
    content = ("\n".join(lines) + "\n").encode()
    return Repository({"clean1.data": content}, MUSK_COMMIT), slides
