# SPDX-License-Identifier: Apache-2.0
"""Limits on a real Kubernetes: runs that wait for their turn, business keys, activities that wait for a slot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.cluster import Cluster, Operator, document
from tests.cluster.waiting import wait_for


@pytest.fixture(scope="module")
def place(shared_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Operator]]:
    """One namespace and one operator."""
    with shared_cluster.in_new_namespace() as cluster, Operator(cluster, tmp_path_factory.mktemp("limits")) as operator:
        operator.start("cluster_handlers")
        yield cluster, operator


@pytest.fixture
def here(place: tuple[Cluster, Operator]) -> Cluster:
    """The cluster."""
    return place[0]


class Desk:
    """A Workflow whose runs each hold until they are let go."""

    def __init__(self, cluster: Cluster, folder: Path, name: str, **concurrency: Any) -> None:
        self.cluster, self.folder, self.name = cluster, folder, name
        self.limit(**concurrency)

    def limit(self, **concurrency: Any) -> None:
        """Apply the Workflow with these limits."""
        params = {"calls": str(self.folder / "calls"), "gate": f"{self.folder}/${{run.name}}"}
        spec = {
            "inputs": [{"name": "ticket", "type": "string", "default": ""}],
            "activities": [{"name": "hold", "handler": "test:hold", "params": params}],
            "concurrency": concurrency,
        }
        self.cluster.apply(document("Workflow", self.name, spec))

    def run(self, *names: str, ticket: str = "", **spec: Any) -> None:
        """Create runs, one after another: the API server knows of seconds only."""
        inputs = {"inputs": {"ticket": ticket}} if ticket else {}
        for name in names:
            self.cluster.run(name, self.name, **inputs, **spec)

    def status(self, name: str) -> dict[str, Any]:
        """Return the status of a run."""
        found = self.cluster.find("workflowruns", name)
        return (found or {}).get("status") or {}

    def becomes(self, name: str, *phases: str) -> dict[str, Any]:
        """Wait until a run is in one of these phases."""
        wait_for(f"{name} to be {' or '.join(phases)}", lambda: self.status(name).get("phase") in phases)
        return self.status(name)

    def release(self, *names: str) -> None:
        """Let runs go on to their end."""
        for name in names:
            (self.folder / name).touch()


def test_runs_beyond_max_workflows_wait_and_say_for_what(here: Cluster, tmp_path: Path) -> None:
    desk = Desk(here, tmp_path, "two", maxWorkflows=2)
    desk.run("two-a", "two-b", "two-c", "two-d")
    desk.becomes("two-a", "Running"), desk.becomes("two-b", "Running")
    waits = desk.becomes("two-c", "Queued")
    assert waits["queue"]["blockedBy"] == "maxWorkflows"
    assert "startTime" not in waits
    assert desk.becomes("two-d", "Queued")["queue"]["since"] >= waits["queue"]["since"]
    listed = here.kubectl("get", "kwr", "two-c").stdout
    assert "Queued" in listed
    desk.release("two-a")
    started = desk.becomes("two-c", "Running")
    assert "queue" not in started
    assert started["startTime"] > waits["queue"]["since"]
    assert desk.status("two-d")["phase"] == "Queued"
    desk.limit(maxWorkflows=3)
    desk.becomes("two-d", "Running")  # raising the limit lets in who waits
    desk.release("two-b", "two-c", "two-d")
    assert {desk.becomes(f"two-{letter}", "Succeeded")["phase"] for letter in "abcd"} == {"Succeeded"}


def test_a_limit_that_is_lowered_drains(here: Cluster, tmp_path: Path) -> None:
    desk = Desk(here, tmp_path, "drain", maxWorkflows=2)
    desk.run("drain-a", "drain-b")
    desk.becomes("drain-a", "Running"), desk.becomes("drain-b", "Running")
    desk.limit(maxWorkflows=1)
    desk.run("drain-c")
    desk.becomes("drain-c", "Queued")
    desk.release("drain-a")
    desk.becomes("drain-a", "Succeeded")
    assert (desk.status("drain-b")["phase"], desk.status("drain-c")["phase"]) == ("Running", "Queued")
    desk.release("drain-b")
    desk.becomes("drain-c", "Running")
    desk.release("drain-c")
    desk.becomes("drain-c", "Succeeded")


def test_a_run_that_waits_too_long_fails(here: Cluster, tmp_path: Path) -> None:
    desk = Desk(here, tmp_path, "late", maxWorkflows=1, queuing={"timeout": "2s"})
    desk.run("late-a")
    desk.becomes("late-a", "Running")
    desk.run("late-b")
    ended = desk.becomes("late-b", "Failed")
    assert (ended["reason"], ended.get("startTime")) == ("QueueTimeout", None)
    assert "concurrency.queuing.timeout" in ended["message"]
    desk.release("late-a")
    desk.becomes("late-a", "Succeeded")


def test_who_is_suspended_cancelled_or_deleted_while_it_waits_gives_its_place_up(here: Cluster, tmp_path: Path) -> None:
    desk = Desk(here, tmp_path, "leave", maxWorkflows=1)
    desk.run("leave-a")
    desk.becomes("leave-a", "Running")
    desk.run("leave-b", "leave-c", "leave-d", "leave-e")
    for name in ("leave-b", "leave-c", "leave-d", "leave-e"):
        desk.becomes(name, "Queued")
    here.patch_run("leave-b", suspend=True)
    here.patch_run("leave-c", shutdown="Cancel")
    here.kubectl("delete", "kwr", "leave-d")
    assert desk.becomes("leave-b", "Paused").get("startTime") is None
    assert desk.becomes("leave-c", "Cancelled")["reason"] == "Cancelled"
    wait_for("leave-d to be gone", lambda: here.find("workflowruns", "leave-d") is None)
    desk.release("leave-a")
    desk.becomes("leave-e", "Running")
    here.patch_run("leave-b", suspend=False)
    desk.becomes("leave-b", "Queued")
    desk.release("leave-e", "leave-b")
    desk.becomes("leave-b", "Succeeded")


def test_runs_of_one_key_do_not_overlap(here: Cluster, tmp_path: Path) -> None:
    desk = Desk(here, tmp_path, "mutex", key="${inputs.ticket}")
    desk.run("mutex-a", ticket="T-1")
    desk.becomes("mutex-a", "Running")
    desk.run("mutex-b", ticket="T-1")
    desk.run("mutex-c", ticket="T-2")
    desk.becomes("mutex-c", "Running")
    waits = desk.becomes("mutex-b", "Queued")
    assert (waits["queue"]["blockedBy"], waits["concurrencyKey"]) == ("key", "T-1")
    assert "mutex-a has the same key, T-1" in waits["message"]
    desk.release("mutex-a", "mutex-c")
    desk.becomes("mutex-b", "Running")
    desk.release("mutex-b")
    desk.becomes("mutex-b", "Succeeded")


@pytest.mark.parametrize(
    ("on_conflict", "old", "new"),
    [
        pytest.param("Replace", "Cancelled Replaced", "Running None", id="Replace cancels the older run"),
        pytest.param("Reject", "Running None", "Failed KeyConflict", id="Reject turns the newer run away"),
        pytest.param("UseExisting", "Running None", "Succeeded UsedExisting", id="UseExisting leaves it to the older run"),
    ],
)  # fmt: skip
def test_a_conflict_of_keys_ends_as_told(here: Cluster, tmp_path: Path, on_conflict: str, old: str, new: str) -> None:
    name = on_conflict.lower()
    desk = Desk(here, tmp_path, name, key="${inputs.ticket}", onConflict=on_conflict)
    desk.run(f"{name}-a", ticket="T-1")
    desk.becomes(f"{name}-a", "Running")
    wait_for("another second", lambda: _second(desk.cluster) > _created(desk, f"{name}-a"))
    desk.run(f"{name}-b", ticket="T-1")

    def outcome(run: str) -> str:
        status = desk.status(run)
        return f"{status.get('phase')} {status.get('reason')}"

    wait_for("both to be as they should", lambda: (outcome(f"{name}-a"), outcome(f"{name}-b")) == (old, new))
    desk.release(f"{name}-a", f"{name}-b")
    for run in (f"{name}-a", f"{name}-b"):
        desk.becomes(run, "Succeeded", "Cancelled", "Failed")


def test_the_oldest_makes_room_for_the_newest(here: Cluster, tmp_path: Path) -> None:
    desk = Desk(here, tmp_path, "room", maxWorkflows=1, queuing={"overflow": "CancelOldest"})
    desk.run("room-a")
    desk.becomes("room-a", "Running")
    wait_for("another second", lambda: _second(desk.cluster) > _created(desk, "room-a"))
    desk.run("room-b")
    assert desk.becomes("room-a", "Cancelled")["reason"] == "MadeRoom"
    desk.becomes("room-b", "Running")
    desk.release("room-b")
    desk.becomes("room-b", "Succeeded")


def test_a_run_too_many_is_rejected(here: Cluster, tmp_path: Path) -> None:
    desk = Desk(here, tmp_path, "reject-all", maxWorkflows=1, queuing={"overflow": "Reject"})
    desk.run("full-a")
    desk.becomes("full-a", "Running")
    desk.run("full-b")
    assert desk.becomes("full-b", "Failed")["reason"] == "QueueFull"
    desk.release("full-a")
    desk.becomes("full-a", "Succeeded")


def test_the_one_with_the_highest_priority_is_next(here: Cluster, tmp_path: Path) -> None:
    desk = Desk(here, tmp_path, "urgent", maxWorkflows=1, queuing={"strategy": "Priority"})
    desk.run("urgent-a")
    desk.becomes("urgent-a", "Running")
    desk.run("urgent-b")
    desk.run("urgent-c", priority=10)
    desk.becomes("urgent-b", "Queued"), desk.becomes("urgent-c", "Queued")
    desk.release("urgent-a")
    desk.becomes("urgent-c", "Running")
    assert desk.status("urgent-b")["phase"] == "Queued"
    desk.release("urgent-b", "urgent-c")
    desk.becomes("urgent-b", "Succeeded")


def test_activities_beyond_max_activities_wait_for_a_slot(here: Cluster, tmp_path: Path) -> None:
    desk = Desk(here, tmp_path, "slots", maxActivities=1)
    desk.run("slots-a")
    desk.becomes("slots-a", "Running")
    desk.run("slots-b")
    waits = desk.becomes("slots-b", "Waiting")
    activity = waits["activities"]["hold"]
    assert (activity["phase"], activity["reason"]) == ("Queued", "AwaitingSlot")
    assert "maxActivities" in activity["message"]
    assert "attempt" not in activity
    desk.release("slots-a")
    desk.becomes("slots-b", "Running")
    desk.release("slots-b")
    desk.becomes("slots-b", "Succeeded")


def test_a_new_operator_knows_who_holds_what(place: tuple[Cluster, Operator], tmp_path: Path) -> None:
    cluster, operator = place
    desk = Desk(cluster, tmp_path, "again", maxWorkflows=1)
    desk.run("again-a", "again-b")
    desk.becomes("again-a", "Running"), desk.becomes("again-b", "Queued")
    operator.kill()
    operator.start("cluster_handlers")
    desk.run("again-c")
    desk.becomes("again-c", "Queued")
    assert desk.status("again-b")["phase"] == "Queued"
    desk.release("again-a", "again-b", "again-c")
    for name in ("again-a", "again-b", "again-c"):
        desk.becomes(name, "Succeeded")


def _created(desk: Desk, name: str) -> str:
    found = desk.cluster.find("workflowruns", name)
    assert found is not None
    return str(found["metadata"]["creationTimestamp"])


def _second(cluster: Cluster) -> str:
    """Return the API server's second: of an object that is only tried."""
    made = cluster.kubectl(
        "create", "configmap", "tick", "--dry-run=server", "-o", "jsonpath={.metadata.creationTimestamp}"
    )
    return made.stdout
