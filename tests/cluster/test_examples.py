# SPDX-License-Identifier: Apache-2.0
"""Every example does what its README says, on the real cluster."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
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
        operator.start("orders", "trips")
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


def promise(folder: Path, pattern: str) -> str:
    """Return the phase that an example's README promises."""
    promised = re.search(pattern, (folder / "README.md").read_text())
    assert promised is not None, "the README names no phase"
    return promised[1]


def carried_out(cluster: Cluster, file: Path, **spec: Any) -> dict[str, Any]:
    """Create the run of a file, with changes of its spec; return its status once it has finished."""
    (run,) = documents(file)
    run["spec"] |= spec

    def once(name: str) -> dict[str, Any]:
        cluster.apply({**run, "metadata": {"name": name}})
        return cluster.finished(name)

    return twice(run["metadata"].get("name", file.stem), once)


def ask(cluster: Cluster, path: str, body: dict[str, Any] | None = None) -> Any:
    """Return what the desk answers to a GET, or to a POST of a body."""
    base = f"{cluster.proxy}/api/v1/namespaces/{cluster.namespace}/services/desk:80/proxy"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"{base}{path}", data, timeout=PATIENCE) as answer:
        return json.load(answer)


def calls_of(cluster: Cluster, status: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the desk has carried out for a run, in order: the path, and the deed that the key names."""
    return [
        (call["path"], call["key"].partition("/")[2])
        for call in ask(cluster, "/calls")["calls"]
        if (call["key"] or "").startswith(f"{status['id']}/") and call["status"] < 400 and not call["replayed"]
    ]


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_reaches_the_phase_that_its_readme_names(here: Cluster, folder: Path) -> None:
    if folder.name == "ticket-desk":
        desk(here)
    for name in ("activities.yaml", "workflow.yaml"):
        if (folder / name).exists():
            here.apply(*documents(folder / name))
    status = carried_out(here, folder / "run.yaml")
    promised = promise(folder, r"must reach the phase `(\w+)`")
    assert status["phase"] == promised, json.dumps(status, indent=1)


def test_the_desk_was_really_called_once_for_each_activity(here: Cluster) -> None:
    names = ("ticket-t-123-again", "ticket-t-123")  # the last one: see `twice`
    status = wait_for("the ticket's run", lambda: next(filter(None, map(here.status, names)), None))
    assert calls_of(here, status) == [
        ("/notifications", "notify_team/do"),
        ("/tickets/T-123/assign", "assign_agent/do"),
        ("/tickets/T-123/sla", "set_sla/do"),
        ("/audit", "audit/do"),
    ]
    assert status["activities"]["set_sla"]["podName"]
    assert "podName" not in status["activities"]["notify_team"]


def test_the_second_ticket_is_undone_and_taken_up_again(here: Cluster) -> None:
    """It uses the desk that the first ticket's test has started."""
    folder = ROOT / "examples" / "ticket-desk"
    refusal = {"path": "/tickets/T-666/sla", "status": 422}
    ask(here, "/tickets", {"id": "T-666", "title": "The printer is on fire", "priority": "high"})
    ask(here, "/faults", {**refusal, "times": -1})
    undone = carried_out(here, folder / "run-2.yaml")
    assert undone["phase"] == promise(folder, r"`run-2\.yaml` must reach the phase `(\w+)`"), json.dumps(
        undone, indent=1
    )
    assert {name: known["phase"] for name, known in undone["activities"].items()} == {
        "notify_team": "Succeeded", "assign_agent": "Compensated", "set_sla": "Failed", "audit": "Succeeded",
    }  # fmt: skip
    assert undone["activities"]["set_sla"]["attempt"] == 3
    assert calls_of(here, undone) == [
        ("/notifications", "notify_team/do"),
        ("/tickets/T-666/assign", "assign_agent/do"),
        ("/tickets/T-666/unassign", "assign_agent/undo"),
        ("/audit", "audit/do"),
    ]
    assert ask(here, "/tickets/T-666")["agent_id"] is None

    ask(here, "/faults", {**refusal, "times": 0})
    names = ("ticket-t-666-again", "ticket-t-666")
    source = next(name for name in names if here.status(name))
    replay = carried_out(here, folder / "replay.yaml", replayOf={"run": source})
    assert replay["phase"] == promise(folder, r"a new run, which must reach the\s+phase `(\w+)`"), json.dumps(
        replay, indent=1
    )
    assert [deed for _, deed in calls_of(here, replay)] == ["assign_agent/do", "set_sla/do", "audit/do"]
    ticket = ask(here, "/tickets/T-666")
    assert (ticket["agent_id"], ticket["sla_hours"]) == (replay["outputs"]["agent"], 4)
