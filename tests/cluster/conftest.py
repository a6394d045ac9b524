# SPDX-License-Identifier: Apache-2.0
"""The real Kubernetes of `make cluster`, a namespace for each test, and the operator as a process of its own with the
rights of its own ServiceAccount, serving that namespace alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.cluster import Cluster, proxied
from tests.cluster.kubelet import SECOND_TRIES

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the cluster, and pods take their time."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            # More than a few waits that all fail (waiting.py): those say what they waited for, this limit does not.
            item.add_marker(pytest.mark.timeout(600))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was done a second time, also where it passed then."""
    for told in SECOND_TRIES:
        terminalreporter.write_line(f"the kubelet lost a container, done again: {told}")


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig of an administrator of the test cluster."""
    path = Path(os.environ.get("KUBESAGA_TEST_KUBECONFIG", ROOT / "build" / "kubeconfig"))
    if not path.exists():
        pytest.skip("there is no cluster: `make cluster` brings one up, where it can")
    return path


@pytest.fixture(scope="session")
def shared_cluster(kubeconfig: Path) -> Iterator[Cluster]:
    """The cluster, with our CRDs in it."""
    with proxied(kubeconfig) as cluster:
        cluster.install_crds(ROOT / "crds")
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster in a fresh namespace, which is deleted afterwards."""
    with shared_cluster.in_new_namespace() as cluster:
        yield cluster
