# SPDX-License-Identifier: Apache-2.0
"""Sleeps and waitFors on a real cluster: the record, the watch and the WorkflowActions carry them, also over a kill.

When a wait ends, and how, is the engine's, and tested there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.cluster import Cluster, Operator, document
from tests.cluster.waiting import wait_for

from kubesaga.api.fields import parse_time

PAID = {"name": "paid", "waitFor": {"timeout": "10m"}}


@pytest.fixture
def operator(cluster: Cluster, tmp_path: Path) -> Operator:
    """An operator that is not started yet."""
    return Operator(cluster, tmp_path)


def signal(name: str, run: str, **more: Any) -> dict[str, Any]:
    """Return a Signal to the activity `paid` of a run."""
    return document(
        "WorkflowAction", name, {"targetRef": {"name": run}, "action": "Signal", "activity": "paid", **more}
    )


def send(cluster: Cluster, action: dict[str, Any]) -> None:
    """Create a WorkflowAction, as people are told to: `kubectl apply` would drop the nulls in its value."""
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(action))


def answer(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return what a WorkflowAction was told."""

    def look() -> dict[str, Any] | None:
        status: dict[str, Any] = (cluster.find("workflowactions", name) or {}).get("status", {})
        return status if "phase" in status else None

    return wait_for(f"an answer to {name}", look)


def test_a_sleep_ends_when_it_was_to_end_though_the_operator_was_killed_meanwhile(
    cluster: Cluster, operator: Operator
) -> None:
    with operator:
        operator.start()
        cluster.run("nap", {"activities": [{"name": "nap", "sleep": {"for": "8s"}}]})
        before = cluster.wait_activity("nap", "nap", phase="Waiting")
        assert (before["reason"], cluster.status("nap")["phase"]) == ("Sleeping", "Waiting")
        operator.kill()
        operator.start()
        status = cluster.finished("nap")
        nap = status["activities"]["nap"]
        assert (status["phase"], nap["until"]) == ("Succeeded", before["until"])
        assert parse_time(nap["completionTime"]) >= parse_time(nap["until"])
        assert (parse_time(nap["until"]) - parse_time(nap["startTime"])).total_seconds() == 8
        assert cluster.list("pods", "") == []


def test_a_signal_ends_a_wait_also_when_it_comes_while_no_operator_is_there(
    cluster: Cluster, operator: Operator
) -> None:
    value = {"amount": 1350, "note": None, "parts": [1, None, {"a": []}]}
    with operator:
        operator.start()
        cluster.run("late", {"activities": [PAID], "outputs": {"paid": "${activities.paid.output}"}})
        cluster.wait_activity("late", "paid", phase="Waiting")
        operator.kill()
        send(cluster, signal("pay", "late", value=value, requestedBy="ann"))
        operator.start()
        status = cluster.finished("late")
        assert (status["phase"], status["outputs"]) == ("Succeeded", {"paid": value})
        assert [(act["verb"], act["activity"], act["by"]) for act in status["actions"]] == [("Signal", "paid", "ann")]
        assert answer(cluster, "pay")["message"] == "paid has it"


def test_a_signal_that_comes_early_is_kept_over_a_kill(cluster: Cluster, operator: Operator) -> None:
    value = {"amount": 1350, "note": None}
    with operator:
        operator.start()
        cluster.run("early", {"activities": [{"name": "nap", "sleep": {"for": "6s"}}, PAID]})
        cluster.wait_activity("early", "nap", phase="Waiting")
        send(cluster, signal("pay", "early", value=value))
        assert answer(cluster, "pay")["message"] == "kept until paid waits for it"
        operator.kill()
        assert [kept["value"] for kept in cluster.status("early")["signals"]] == [value]
        send(cluster, signal("again", "early", value=2))
        operator.start()
        refused = answer(cluster, "again")
        assert (refused["phase"], "it takes one" in refused["message"]) == ("Refused", True)
        status = cluster.finished("early")
        assert (status["phase"], status["activities"]["paid"]["output"]) == ("Succeeded", value)
        assert "signals" not in status


def test_a_wait_whose_time_is_over_fails_and_what_was_done_is_undone(cluster: Cluster, operator: Operator) -> None:
    with operator:
        operator.start("cluster_handlers")
        reserve = {"name": "reserve", "handler": "test:echo", "params": {"n": 1}, "compensation": {"handler": "test:echo", "params": {"n": 2}}}  # fmt: skip
        cluster.run("vain", {"activities": [reserve, {"name": "paid", "waitFor": {"timeout": "3s"}}]})
        status = cluster.finished("vain")
        assert (status["phase"], status["reason"]) == ("Compensated", "ActivityFailed")
        error = status["activities"]["paid"]["error"]
        assert (error["reason"], error["message"]) == ("WaitTimeout", "no Signal came to paid within 3s")
        send(cluster, signal("pay", "vain"))
        assert answer(cluster, "pay")["message"] == "the run has finished: it is Compensated"


def test_the_server_refuses_what_is_no_signal(cluster: Cluster) -> None:
    refused = cluster.apply(signal("odd", "any", action="Retry", value=1), check=False)
    assert refused.returncode != 0
    refused = cluster.apply(
        document("Workflow", "odd", {"activities": [{"name": "a", "handler": "x", "sleep": {"for": "1s"}}]}),
        check=False,
    )
    assert refused.returncode != 0
