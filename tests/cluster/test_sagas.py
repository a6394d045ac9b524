# SPDX-License-Identifier: Apache-2.0
"""Sagas on a real Kubernetes: undoing, in pods too; people who decide; crashes in the middle; runs taken up again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.cluster import Cluster, Operator, busybox, document
from tests.cluster.kubelet import twice
from tests.cluster.waiting import wait_for

NEVER = {"errorHandling": {"activityError": {"retry": {"maxAttempts": 1}}}}


@pytest.fixture(scope="module")
def place(shared_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Operator]]:
    """One namespace and one operator for the tests here that do not kill it."""
    with shared_cluster.in_new_namespace() as cluster, Operator(cluster, tmp_path_factory.mktemp("sagas")) as operator:
        operator.start("cluster_handlers")
        yield cluster, operator


@pytest.fixture
def here(place: tuple[Cluster, Operator]) -> Cluster:
    """The cluster."""
    return place[0]


def saga(folder: Path, *names: str, **more: Any) -> dict[str, Any]:
    """Return a spec of handlers that write down what they do, each with its undo."""
    handler = {"handler": "test:ledger", "params": {"folder": str(folder)}}
    activities = [{"name": name, **handler, "compensation": handler} for name in names]
    return {"activities": activities, **NEVER, **more}


def ledger(folder: Path) -> list[str]:
    """Return what was done, in order, each once: a start that is repeated bears the same key."""
    lines = (folder / "ledger").read_text().splitlines() if (folder / "ledger").exists() else []
    return list(dict.fromkeys(" ".join(line.split()[:2]) for line in lines))


def act(cluster: Cluster, name: str, run: str, action: str, **more: Any) -> dict[str, Any]:
    """Create a WorkflowAction; return it once it is answered."""
    cluster.apply(document("WorkflowAction", name, {"targetRef": {"name": run}, "action": action, **more}))

    def answered() -> dict[str, Any] | None:
        found = cluster.find("workflowactions", name)
        return found if found and (found.get("status") or {}).get("phase") else None

    return wait_for(f"{name} to be answered", answered)


def test_a_run_that_fails_is_undone_backwards_in_pods_too(here: Cluster, tmp_path: Path) -> None:
    script = 'echo "{\\"seat\\": \\"$KUBESAGA_DEED $SEAT\\"}" > /dev/termination-log'
    seat = [{"name": "SEAT", "value": "${activities.book.output.seat}"}]
    undo = {"pod": busybox(script, env=seat)}
    first = {
        "name": "book",
        "pod": busybox('echo "{\\"seat\\": \\"12A\\"}" > /dev/termination-log'),
        "compensation": undo,
    }
    rest = saga(tmp_path, "pay", "send")
    (tmp_path / "fail do send").touch()

    def once(run: str) -> None:
        here.run(run, {**rest, "activities": [first, *rest["activities"]]})
        status = here.finished(run)
        assert (status["phase"], status["reason"]) == ("Compensated", "ActivityFailed")
        assert {name: known["phase"] for name, known in status["activities"].items()} == {
            "book": "Compensated", "pay": "Compensated", "send": "Failed",
        }  # fmt: skip
        book = status["activities"]["book"]["compensation"]
        assert (book["phase"], book["output"]) == ("Succeeded", {"seat": "undo 12A"})
        assert book["startTime"] >= status["activities"]["pay"]["compensation"]["completionTime"], "backwards"
        assert len(here.list("pods", f"kubesaga.dev/run={run},kubesaga.dev/deed=undo")) == 1

    twice("trip", once)
    assert ledger(tmp_path) == ["do pay", "do send", "undo pay"]
    row = here.kubectl("get", "kwr").stdout
    assert "Compensated" in row


def test_a_fallback_stands_in_and_a_skip_goes_on(here: Cluster, tmp_path: Path) -> None:
    handler = {"handler": "test:ledger", "params": {"folder": str(tmp_path)}}
    spec = {
        "activities": [
            {"name": "mail", **handler, "errorHandling": {"fallback": handler}},
            {"name": "chat", **handler, "errorHandling": {"fallback": {"activity": "skip"}}},
        ],
        "outputs": {"ticket": "${activities.mail.output.ticket}"},
        **NEVER,
    }
    for name in ("mail", "chat"):
        (tmp_path / f"fail do {name}").touch()
    here.run("stand-in", spec)
    status = here.wait_phase("stand-in", "Succeeded")
    assert status["outputs"] == {"ticket": "T-mail"}
    assert status["activities"]["chat"]["phase"] == "Skipped"
    assert ledger(tmp_path) == ["do mail", "fallback mail", "do chat"]


def test_in_mode_manual_a_person_decides(here: Cluster, tmp_path: Path) -> None:
    (tmp_path / "fail do b").touch()
    here.run("manual", saga(tmp_path, "a", "b", compensation={"mode": "Manual"}))
    here.wait_phase("manual", "Waiting")
    odd = act(here, "manual-retry", "manual", "Retry")
    assert odd["status"]["phase"] == "Refused"
    assert "the run is Waiting; Retry is for one that is CompensationFailed" in odd["status"]["message"]
    done = act(here, "manual-go", "manual", "Compensate", requestedBy="anna", comment="the customer agrees")
    assert done["status"]["phase"] == "Applied"
    status = here.wait_phase("manual", "Compensated")
    (record,) = status["actions"]
    assert (record["verb"], record["by"], record["uid"]) == ("Compensate", "anna", done["metadata"]["uid"])


def test_a_run_whose_undo_failed_waits_and_is_helped_on(here: Cluster, tmp_path: Path) -> None:
    for deed in ("do c", "undo a", "undo b"):
        (tmp_path / f"fail {deed}").touch()
    here.run("parked", saga(tmp_path, "a", "b", "c"))
    status = here.wait_phase("parked", "CompensationFailed")
    conditions = {condition["type"]: condition for condition in status["conditions"]}
    assert (conditions["Stalled"]["status"], conditions["Compensated"]["reason"]) == ("True", "UndoFailed")
    assert "undo b is not possible" in conditions["Compensated"]["message"]
    assert act(here, "parked-skip", "parked", "Skip", activity="b")["status"]["message"] == "left out: b"
    (tmp_path / "fail undo a").unlink()
    act(here, "parked-retry", "parked", "Retry")
    status = here.wait_phase("parked", "Compensated")
    assert {name: known["phase"] for name, known in status["activities"].items()} == {
        "a": "Compensated", "b": "Succeeded", "c": "Failed",
    }  # fmt: skip
    late = act(here, "parked-late", "parked", "Retry")
    assert late["status"]["message"] == "the run has finished: it is Compensated"


@pytest.mark.parametrize(
    ("how", "phase", "reason"),
    [
        pytest.param("Cancel", "Cancelled", "Cancelled", id="cancelled"),
        pytest.param("Compensate", "Compensated", "CompensationRequested", id="told to be undone"),
        pytest.param("delete", "Cancelled", "Deleted", id="deleted"),
    ],
)
def test_a_live_run_is_stopped_and_undone_when_it_is(
    here: Cluster, tmp_path: Path, how: str, phase: str, reason: str
) -> None:
    (tmp_path / "hold do b").touch()
    run = f"stopped-{how.lower()}"
    here.run(run, saga(tmp_path, "a", "b", "c"))
    wait_for("b to begin", lambda: "do b" in ledger(tmp_path))
    if how == "delete":
        here.kubectl("delete", "workflowruns.kubesaga.dev", run)
        wait_for("the run to be gone", lambda: here.find("workflowruns", run) is None)
    else:
        here.patch_run(run, shutdown=how)
        status = here.finished(run)
        assert (status["phase"], status["reason"]) == (phase, reason)
    assert ledger(tmp_path) == ["do a", "do b", "undo b", "undo a"], "b was cut off, so it may have had its effect"


def test_a_finished_run_is_taken_up_again_where_it_failed(here: Cluster, tmp_path: Path) -> None:
    (tmp_path / "fail do c").touch()
    spec = saga(
        tmp_path, "a", "b", "c", errorHandling={**NEVER["errorHandling"], "workflowError": {"strategy": "Abort"}}
    )
    here.apply(document("Workflow", "taken-up", {"description": "Three steps", **spec}))
    here.run("first", "taken-up")
    here.wait_phase("first", "Failed")
    (tmp_path / "fail do c").unlink()
    (tmp_path / "ledger").unlink()
    replays = {"would": {"dryRun": True}, "again": {}, "alone": {"activity": "b", "mode": "Activity"}}
    for name, replay in replays.items():
        here.apply(document("WorkflowRun", name, {"replayOf": {"run": "first", **replay}}))
    would, again, alone = (here.wait_phase(name, "Succeeded") for name in replays)
    assert (would["reason"], would["message"]) == ("DryRun", "a replay of first takes over a, b; does c")
    assert (again["replay"]["reused"], again["replay"]["redone"]) == (["a", "b"], ["c"])
    assert list(alone["activities"]) == ["b"]
    assert sorted(ledger(tmp_path)) == ["do b", "do c"]
    here.apply(document("WorkflowRun", "none", {"replayOf": {"run": "nobody"}}))
    refused = here.wait_phase("none", "Failed")
    assert (refused["reason"], "there is no WorkflowRun 'nobody'" in refused["message"]) == ("InvalidReplay", True)


def test_undoing_goes_on_where_it_was_after_a_kill(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "fail do c").touch()
    (tmp_path / "hold undo b").touch()
    with Operator(cluster, tmp_path) as operator:
        operator.start("cluster_handlers")
        cluster.run("killed", saga(tmp_path, "a", "b", "c"))
        wait_for("the undo of b to begin", lambda: "undo b" in ledger(tmp_path))
        operator.kill()
        (tmp_path / "hold undo b").unlink()
        operator.start("cluster_handlers")
        status = cluster.wait_phase("killed", "Compensated")
    assert ledger(tmp_path) == ["do a", "do b", "do c", "undo b", "undo a"]
    assert status["activities"]["b"]["compensation"]["interruptions"] == 1
    keys = {line.split()[2] for line in (tmp_path / "ledger").read_text().splitlines() if line.startswith("undo b")}
    assert len(keys) == 1, "both starts of the undo bear one key"


def test_a_namespace_goes_though_an_undo_in_it_has_failed(cluster: Cluster, tmp_path: Path) -> None:
    for deed in ("do b", "undo a"):
        (tmp_path / f"fail {deed}").touch()
    with Operator(cluster, tmp_path, as_admin=True) as operator:
        operator.start("cluster_handlers")
        cluster.run("parked", saga(tmp_path, "a", "b"))
        cluster.wait_phase("parked", "CompensationFailed")
        cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")

        def gone() -> bool:
            found = json.loads(cluster.kubectl("get", "namespaces", "--output", "json").stdout)["items"]
            return all(namespace["metadata"]["name"] != cluster.namespace for namespace in found)

        wait_for("the namespace to be gone", gone)
