"""A hub on loopback for each test, and the real client that asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hub_server import HubServer, client_environment, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
