"""Keys of jobs stay, so that stored results are found."""

from __future__ import annotations

import pytest

from mil_bench import registry
from mil_bench.methods.settings import defaults_of, stored_params
from mil_bench.planning.plan import Job

KEYS = {
    "abmil": "dc26883c40396098",
    "abmil-gated": "a134e399e8cb521e",
    "acmil": "4d12bc11f7568c54",
    "clam-mb": "2ad514409a0c6012",
    "clam-sb": "224eec8209aed6d3",
    "detector": "a79aaa1e7afdeadd",
    "dsmil": "79b64174a630419c",
    "dtfd": "f5f46b4a82cf0a6b",
    "hmil": "4865123500e21e80",
    "ilra": "0320458d2a6804df",
    "max-pool": "7e280c5e35c174ba",
    "mean-mlp": "4178bc8d36113f8f",
    "mean-pool": "0075fc8424ab8a50",
    "rrt": "f06338a9cf45c48b",
    "simple-mil": "9af71c85b44f1aa0",
    "transformer": "e8a81bd70e93e9ea",
    "transmil": "fd59466a6b18789d",
    "wikg": "3857f370e96f0bdd",
}
"""From the code as it was before recipes had samplers, momentum, plateaus, rates and averages. A
method whose ``version``, parameters or recipe change on purpose gets a new one."""


@pytest.mark.parametrize("name", KEYS)
def test_a_job_of_a_method_has_the_key_it_had(name: str) -> None:
    method = registry.methods.load(name)
    version, recipe = registry.methods.version(name, method), method.recipe.to_json()
    params = stored_params(method, defaults_of(method))
    job = Job("d", "data", name, version, params, recipe, "split", 0, name)
    assert job.key == KEYS[name]
