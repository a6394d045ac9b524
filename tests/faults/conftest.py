# SPDX-License-Identifier: Apache-2.0
"""The cluster of the fault harness, and one campaign for all scenarios that are asked for: they share lanes and time."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.cluster.cluster import Cluster
from tests.faults.campaign import Result, play_all
from tests.faults.scenarios import Scenario
from tests.faults.upstream import connected

ROOT = Path(__file__).resolve().parents[2]
FAILURES = ROOT / "build" / "faults"


@pytest.fixture(scope="session")
def faults_kubeconfig() -> Path:
    """The kubeconfig of an administrator of the test cluster, which has our CRDs."""
    path = Path(os.environ.get("KUBESAGA_TEST_KUBECONFIG", ROOT / "build" / "kubeconfig"))
    if not path.exists():
        pytest.skip("there is no cluster: `make cluster` brings one up, where it can")
    Cluster(path).install_crds(ROOT / "crds")
    return path


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest, faults_kubeconfig: Path) -> dict[str, Result]:
    """What became of each scenario that is collected, by its id."""
    asked: dict[str, Scenario] = {}
    for item in request.session.items:
        scenario = getattr(item, "callspec", None) and item.callspec.params.get("scenario")
        if isinstance(scenario, Scenario):
            asked[scenario.id] = scenario

    async def campaign() -> list[Result]:
        async with connected(faults_kubeconfig) as upstream:
            # Lanes of a kind one after another, the slow ones first.
            scenarios = sorted(asked.values(), key=lambda each: (not each.case.settings, each.case.place))
            return await play_all(upstream, [each.case for each in scenarios], lanes=5, failures=FAILURES)

    return {result.case.title: result for result in asyncio.run(campaign())}
