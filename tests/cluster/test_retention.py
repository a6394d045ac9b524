# SPDX-License-Identifier: Apache-2.0
"""What has been kept long enough goes from a real Kubernetes, pods and revisions with it, by the operator's own rights."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.cluster import Cluster, Operator, busybox, document
from tests.cluster.waiting import wait_for

ECHO = {"name": "a", "handler": "test:echo"}
FAILS = {"name": "a", "handler": "test:raise", "params": {"text": "no"}}
ONCE = {"errorHandling": {"activityError": {"retry": {"maxAttempts": 1}}}}


@pytest.fixture(scope="module")
def place(shared_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Operator]]:
    """One namespace and one operator, which looks often."""
    with (
        shared_cluster.in_new_namespace() as cluster,
        Operator(cluster, tmp_path_factory.mktemp("retention"), retention_interval="0.5") as operator,
    ):
        operator.start("cluster_handlers")
        yield cluster, operator


@pytest.fixture
def here(place: tuple[Cluster, Operator]) -> Cluster:
    """The cluster."""
    return place[0]


def runs(cluster: Cluster, prefix: str) -> list[str]:
    found = [run["metadata"]["name"] for run in cluster.list("workflowruns")]
    return sorted(name for name in found if name.startswith(prefix))


def revisions(cluster: Cluster, workflow: str) -> list[str]:
    told = cluster.kubectl("get", "controllerrevisions", "-l", f"kubesaga.dev/workflow={workflow}", "-o", "name").stdout
    return [line.rpartition("/")[2] for line in told.split()]


def apply_workflow(cluster: Cluster, name: str, **spec: Any) -> None:
    cluster.apply(document("Workflow", name, {**ONCE, "description": "Tests.", **spec}))


def test_a_run_goes_with_its_pod_when_its_time_is_over(here: Cluster) -> None:
    apply_workflow(here, "short", activities=[{"name": "a", "pod": busybox("true")}], ttlAfterFinished="2s")
    here.run("short-1", "short")
    # Gone already, it has no status any more; before that it must have had one.
    seen: list[str] = []

    def gone() -> bool:
        status = here.status("short-1")
        seen.append(status.get("phase", ""))
        return here.find("workflowruns", "short-1") is None

    wait_for("the run to be deleted", gone, otherwise=lambda: json.dumps(here.status("short-1")))
    assert "Succeeded" in seen, "it was there for two seconds"
    wait_for("its pod to be deleted", lambda: not here.list("pods", "kubesaga.dev/run=short-1"))


def test_a_run_with_a_spec_of_its_own_goes_by_that(here: Cluster) -> None:
    here.run("own-short", {"activities": [ECHO], "ttlAfterFinished": "2s"})
    here.run("own-ever", {"activities": [ECHO]})
    wait_for("the one to be deleted", lambda: runs(here, "own-") == ["own-ever"])
    assert here.wait_phase("own-ever", "Succeeded")


def test_one_run_of_each_kind_stays_with_limits_of_one(here: Cluster) -> None:
    both = {"successfulRunsHistoryLimit": 1, "failedRunsHistoryLimit": 1}
    activities = [{**ECHO, "when": "inputs.well"}, {**FAILS, "name": "b", "when": "!inputs.well"}]
    apply_workflow(here, "few", inputs=[{"name": "well", "type": "boolean"}], activities=activities, **both)
    for number in (1, 2, 3):
        for kind in ("well", "badly"):
            here.run(f"few-{kind}-{number}", "few", inputs={"well": kind == "well"})
        for kind in ("well", "badly"):
            last = f"few-{kind}-{number}"
            wait_for(f"{last} to be the only one", lambda last=last, kind=kind: runs(here, f"few-{kind}") == [last])
            here.finished(last)
            found = here.find("workflowruns", last)
            assert found is not None
            phase = found["status"]["phase"]
            assert found["metadata"].get("labels", {}).get("kubesaga.dev/phase", phase) == phase, "in one copy of it"


def test_revisions_go_beyond_the_limit_and_come_back_when_they_are_needed(
    here: Cluster, place: tuple[Cluster, Operator]
) -> None:
    def version(number: int) -> None:
        activities = [{**ECHO, "params": {"version": number}}]
        apply_workflow(here, "often", activities=activities, revisionHistoryLimit=1)
        current = lambda: (here.find("workflows", "often") or {}).get("status", {}).get("currentRevision")  # noqa: E731
        wait_for("the revision", lambda: current() not in known and current())
        known.append(current())

    known: list[str | None] = [None]
    version(0)
    here.run("often-0", "often")
    here.wait_phase("often-0", "Succeeded")
    for number in (1, 2, 3):
        version(number)
    # The one that a run names, the newest old one, and the current one.
    wait_for("the old ones to go", lambda: set(revisions(here, "often")) == {known[1], known[3], known[4]})
    here.kubectl("delete", "workflowruns.kubesaga.dev", "often-0")
    wait_for("its revision to go", lambda: set(revisions(here, "often")) == {known[3], known[4]})
    activities = [{**ECHO, "params": {"version": 0}}]
    apply_workflow(here, "often", activities=activities, revisionHistoryLimit=1)
    here.run("often-again", "often")
    assert here.wait_phase("often-again", "Succeeded")["workflowRevision"] == known[1]
    assert known[1] in revisions(here, "often")
    with urllib.request.urlopen(f"http://127.0.0.1:{place[1].port}/metrics") as answer:
        told = answer.read().decode()
    assert "kubesaga_revisions_deleted_total" in told
