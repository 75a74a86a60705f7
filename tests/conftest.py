"""Fixtures that several files use: a small simulated dataset, and files of the real tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hub_server import HubServer, client_environment, serving

from mil_bench.bags.batch import BagBatch
from mil_bench.bags.store import BagStore
from mil_bench.datasets.catalogue import find_dataset, open_store
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.training.stack import Stack, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Tests run on all cores at once (pytest -n): a second thread per test only gets in the way.
torch.set_num_threads(1)

SMALL_TWIN = "bracs-sim:slides=120,rows=12,width=16"


HAS_GPU = torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _gpus_for_their_tests_only(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPUs are there in tests marked ``gpu`` alone: the others compare results bit for bit."""
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # for processes that a test starts
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    elif not HAS_GPU:
        pytest.skip("needs a GPU that torch finds")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU in place of a GPU, and a GPU if there is one."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder next to the repository with files of the real tools; tests skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder 'shared' with files of the real tools is not beside the repository")
    return folder


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> BagStore:
    """A twin of BRACS with 120 slides."""
    return open_store(find_dataset(SMALL_TWIN), tmp_path_factory.mktemp("data"))


@pytest.fixture
def hierarchy() -> LabelHierarchy:
    """BRACS's shape: seven fine classes under three coarse ones."""
    return LabelHierarchy.from_groups(
        {"a": ["a0", "a1", "a2"], "b": ["b0", "b1"], "c": ["c0", "c1"]}
    )


def random_batch(
    sizes: list[int], width: int, classes: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> BagBatch:
    """A batch of random bags whose labels run through the classes."""
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.standard_normal((sum(sizes), width))).to(dtype)
    labels = torch.arange(len(sizes)) % classes
    return BagBatch.pack(features, torch.tensor(sizes), labels)


def slow(values: Iterable[Any], *slow_values: object) -> list[Any]:
    """Values of a parametrisation, some of them marked as slow."""
    return [
        pytest.param(value, marks=pytest.mark.slow) if value in slow_values else value
        for value in values
    ]


def train_step(
    stack: Stack, bags: BagBatch, weight: torch.Tensor, progress: float, number: int
) -> torch.Tensor:
    """A single step; the folds' losses ``[K]``."""
    return stack.train([Step(bags, weight, number)], progress)[0]


def permute_labels(path: Path, bags: np.ndarray) -> None:
    """Give bags of a store each other's labels, with the digest and without the seal."""
    import h5py

    from mil_bench.bags.index import TEXTS, index_digest

    store = BagStore(path)
    with h5py.File(path, "r+") as file:
        labels = file["labels"][:]
        labels[bags] = np.roll(labels[bags], 1)
        file["labels"][:] = labels
        texts = {name: file[name].asstr()[:].tolist() for name in TEXTS}
        digests = {
            name: file[f"{name}_digests"].asstr()[:].tolist()
            for name in ("features", "coords", "instance_labels")
            if name in file
        }
        del file.attrs["sealed"]
        offsets = [0, *np.cumsum(store.sizes).tolist()]
        file.attrs["digest"] = index_digest(
            file.attrs, store.hierarchy, texts, labels.tolist(), offsets, digests
        )


@pytest.fixture(scope="session")
def hub_process() -> Iterator[HubServer]:
    """The server of this process; huggingface_hub reads its address when it is first imported."""
    pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    with serving() as server:
        yield server


@pytest.fixture
def hub(
    hub_process: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubServer]:
    """An empty hub, and an empty folder for what the client keeps."""
    import huggingface_hub.constants as constants
    import huggingface_hub.utils._cache_assets as assets
    import huggingface_hub.utils._http as http

    home = tmp_path / "hf"
    for name, value in client_environment(hub_process, home).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", hub_process.url)
    template = hub_process.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(assets, "HF_ASSETS_CACHE", str(home / "assets"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    hub_process.reset()
    yield hub_process
    http.close_session()
