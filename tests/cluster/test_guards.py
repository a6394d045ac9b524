# SPDX-License-Identifier: Apache-2.0
"""Circuit breakers, bulkheads and rate limits on a real Kubernetes: shared by runs, kept over restarts, shown, closed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.cluster import Cluster, Operator, document
from tests.cluster.waiting import wait_for


@pytest.fixture(scope="module")
def place(shared_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Operator]]:
    """One namespace and one operator."""
    with shared_cluster.in_new_namespace() as cluster, Operator(cluster, tmp_path_factory.mktemp("guards")) as operator:
        operator.start("cluster_handlers")
        yield cluster, operator


@pytest.fixture
def here(place: tuple[Cluster, Operator]) -> Cluster:
    """The cluster."""
    return place[0]


def activity(cluster: Cluster, name: str, handler: str, **guards: Any) -> None:
    """Apply an Activity that is a handler."""
    cluster.apply(document("Activity", name, {"class": "System", "handler": handler, **guards}))
    ready = wait_for("the Activity to be looked at", lambda: _status(cluster, name).get("conditions"))
    assert ready[0]["status"] == "True", ready


def workflow(cluster: Cluster, name: str, uses: str, **more: Any) -> None:
    """Apply a Workflow of one activity `a`, which is tried once."""
    once = {"errorHandling": {"activityError": {"retry": {"maxAttempts": 1}}}}
    cluster.apply(document("Workflow", name, {**once, "activities": [{"name": "a", "uses": uses, **more}]}))


def _status(cluster: Cluster, name: str) -> dict[str, Any]:
    return (cluster.find("activities", name) or {}).get("status") or {}


def breaker(cluster: Cluster, name: str) -> str | None:
    """Return the state of an Activity's one breaker."""
    found = _status(cluster, name).get("circuitBreakers") or [{}]
    return found[0].get("state")


def ended(cluster: Cluster, run: str, what: str) -> dict[str, Any]:
    """Create a run; return its activity once it has finished."""
    cluster.run(run, what)
    return dict(cluster.finished(run)["activities"]["a"])


def test_a_breaker_opens_is_shared_outlives_the_operator_and_is_closed_by_hand(
    place: tuple[Cluster, Operator],
) -> None:
    cluster, operator = place
    activity(cluster, "bank.pay", "test:raise", circuitBreaker={"threshold": 2, "reset": "1h"})
    workflow(cluster, "pay", "bank:pay", params={"text": "no money"})
    workflow(cluster, "pay-too", "bank:pay", params={"text": "no money"})
    for run in ("pay-1", "pay-2"):
        assert ended(cluster, run, "pay")["error"]["reason"] == "HandlerFailed"
    wait_for("the breaker to be open", lambda: breaker(cluster, "bank.pay") == "Open")
    refused = ended(cluster, "pay-3", "pay-too")
    assert (refused["error"]["reason"], refused.get("attempt")) == ("CircuitOpen", None), "another Workflow's run"
    assert "Open" in cluster.kubectl("get", "kact", "bank.pay").stdout
    events = cluster.kubectl("get", "events", "--field-selector", "involvedObject.kind=Activity").stdout
    assert "CircuitOpened" in events
    operator.kill()
    operator.start("cluster_handlers")
    assert ended(cluster, "pay-4", "pay")["error"]["reason"] == "CircuitOpen", "a new operator knows"
    action = {
        "targetRef": {"kind": "Activity", "name": "bank.pay"},
        "action": "ResetBreaker",
        "comment": "bank is back",
    }
    cluster.apply(document("WorkflowAction", "reset", action))
    told = wait_for("the action to be answered", lambda: (cluster.find("workflowactions", "reset") or {}).get("status"))
    assert told["phase"] == "Applied", told
    assert breaker(cluster, "bank.pay") == "Closed"
    assert ended(cluster, "pay-5", "pay")["error"]["reason"] == "HandlerFailed", "it is called again"


def test_a_single_call_decides_when_the_time_is_over(here: Cluster, tmp_path: Path) -> None:
    activity(here, "shop.order", "test:flaky", circuitBreaker={"threshold": 1, "reset": "2s"})
    workflow(here, "order", "shop:order", params={"calls": str(tmp_path / "calls"), "until": 2})
    assert ended(here, "order-1", "order")["phase"] == "Failed"
    wait_for("the breaker to be open", lambda: breaker(here, "shop.order") == "Open")
    due = datetime.fromisoformat(_status(here, "shop.order")["circuitBreakers"][0]["nextProbeAt"])
    workflow(here, "order", "shop:order", params={"calls": str(tmp_path / "calls"), "until": 1})
    tried: list[dict[str, Any]] = []

    def probe() -> bool:
        tried.append(ended(here, f"order-again-{len(tried)}", "order"))
        return tried[-1]["phase"] == "Succeeded"

    wait_for("a call to be let through", probe)
    assert datetime.fromisoformat(tried[-1]["startTime"]) >= due
    assert {one["error"]["reason"] for one in tried[:-1]} <= {"CircuitOpen"}
    wait_for("the breaker to be closed", lambda: breaker(here, "shop.order") == "Closed")


def test_a_bulkhead_lets_one_in_has_one_wait_and_turns_one_away(here: Cluster, tmp_path: Path) -> None:
    bulkhead = {"maxConcurrent": 1, "maxQueueSize": 1, "timeout": "5m"}
    activity(here, "desk.hold", "test:hold", bulkhead=bulkhead)
    params = {"calls": str(tmp_path / "calls"), "gate": f"{tmp_path}/${{run.name}}"}
    for name in ("hold", "hold-too"):
        workflow(here, name, "desk:hold", params=params)
    here.run("hold-1", "hold")
    here.wait_activity("hold-1", "a", phase="Running")
    here.run("hold-2", "hold-too")
    waits = here.wait_activity("hold-2", "a", phase="Queued")
    assert waits["reason"] == "BulkheadFull"
    assert ended(here, "hold-3", "hold")["error"]["reason"] == "BulkheadRejected"
    shown = wait_for("the numbers to be shown", lambda: (_status(here, "desk.hold").get("bulkheads") or [{}])[0])
    assert shown["limit"] == 1
    wait_for("them to be right", lambda: _numbers(here, "desk.hold") == (1, 1))
    (tmp_path / "hold-1").touch()
    here.wait_activity("hold-2", "a", phase="Running")
    (tmp_path / "hold-2").touch()
    assert here.finished("hold-2")["phase"] == "Succeeded"


def _numbers(cluster: Cluster, name: str) -> tuple[int, int]:
    (shown,) = _status(cluster, name)["bulkheads"]
    return shown.get("running", 0), shown.get("queued", 0)


def test_a_raised_bulkhead_lets_in_who_waits(here: Cluster, tmp_path: Path) -> None:
    activity(here, "desk.live", "test:hold", bulkhead={"maxConcurrent": 1})
    workflow(here, "live", "desk:live", params={"calls": str(tmp_path / "calls"), "gate": str(tmp_path / "gate")})
    here.run("live-1", "live")
    here.wait_activity("live-1", "a", phase="Running")
    here.run("live-2", "live")
    here.wait_activity("live-2", "a", phase="Queued")
    activity(here, "desk.live", "test:hold", bulkhead={"maxConcurrent": 2})
    here.wait_activity("live-2", "a", phase="Running")
    (tmp_path / "gate").touch()
    assert here.finished("live-2")["phase"] == "Succeeded"


def test_no_more_begin_in_a_period_than_the_rate_limit_lets(here: Cluster) -> None:
    activity(here, "mail.send", "test:echo", rateLimit={"limit": 2, "period": "4s"})
    workflow(here, "mail", "mail:send", params={"to": "${run.name}"})
    for number in range(5):
        here.run(f"mail-{number}", "mail")
    begins = sorted(
        datetime.fromisoformat(here.finished(f"mail-{number}")["activities"]["a"]["startTime"]) for number in range(5)
    )
    gaps = [(later - earlier).total_seconds() for earlier, later in zip(begins, begins[2:], strict=False)]
    assert min(gaps) >= 4, gaps
    assert max(gaps) < 20, gaps
