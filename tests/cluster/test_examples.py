# SPDX-License-Identifier: Apache-2.0
"""Every example does what its README says, on the real cluster."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.cluster import Cluster, Operator
from tests.cluster.kubelet import twice
from tests.cluster.waiting import PATIENCE, wait_for

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/workflow.yaml"))


@pytest.fixture(scope="module")
def here(shared_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A namespace with the operator and the ticket desk in it."""
    with (
        shared_cluster.in_new_namespace() as cluster,
        Operator(cluster, tmp_path_factory.mktemp("operator")) as operator,
    ):
        operator.start("orders")
        yield cluster


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a file, without the namespace they name: the test has its own."""
    found = [document for document in yaml.safe_load_all(path.read_text()) if document["kind"] != "Namespace"]
    for document in found:
        document["metadata"].pop("namespace", None)
    return found


def desk(cluster: Cluster) -> None:
    """Start the ticket desk."""
    subprocess.run(
        [sys.executable, str(ROOT / "tools" / "cluster"), "image", "desk"], check=True, cwd=ROOT, capture_output=True
    )
    cluster.apply(*documents(ROOT / "examples" / "ticket-desk" / "manifests" / "desk.yaml"))
    cluster.kubectl("rollout", "status", "deployment/desk", f"--timeout={PATIENCE}s")


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_reaches_the_phase_that_its_readme_names(here: Cluster, folder: Path) -> None:
    if folder.name == "ticket-desk":
        desk(here)
    promised = re.search(r"must reach the phase `(\w+)`", (folder / "README.md").read_text())
    assert promised is not None, "the README names no phase"
    (run,) = documents(folder / "run.yaml")
    here.apply(*documents(folder / "workflow.yaml"))

    def once(name: str) -> dict[str, Any]:
        here.apply({**run, "metadata": {**run["metadata"], "name": name}})
        return here.finished(name)

    status = twice(run["metadata"]["name"], once)
    assert status["phase"] == promised.group(1), json.dumps(status, indent=1)


def test_the_desk_was_really_called_once_for_each_activity(here: Cluster) -> None:
    names = ("ticket-t-123-again", "ticket-t-123")  # the last one: see `twice`
    status = wait_for("the ticket's run", lambda: next(filter(None, map(here.status, names)), None))
    calls = json.loads(
        here.kubectl("get", "--raw", f"/api/v1/namespaces/{here.namespace}/services/desk:80/proxy/calls").stdout
    )["calls"]
    mine = [(call["path"], call["key"]) for call in calls if (call["key"] or "").startswith(status["id"])]
    assert mine == [
        (path, f"{status['id']}/{activity}/do")
        for path, activity in (
            ("/notifications", "notify_team"),
            ("/tickets/T-123/assign", "assign_agent"),
            ("/tickets/T-123/sla", "set_sla"),
            ("/audit", "audit"),
        )
        for _ in range(status["activities"][activity]["attempt"])  # one; a desk too slow to answer is asked again
    ]
    assert status["activities"]["set_sla"]["podName"]
    assert "podName" not in status["activities"]["notify_team"]
