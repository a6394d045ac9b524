# SPDX-License-Identifier: Apache-2.0
"""WorkflowActions on a real cluster, with the rights that the chart gives: what the server, the watch and the collector do.

What a command does to a run is the engine's, and tested there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.cluster import Cluster, Operator, busybox, document
from tests.cluster.waiting import wait_for

KIND = "workflowactions.kubesaga.dev"


def act(name: str, run: str, action: str = "Retry") -> dict[str, Any]:
    """Return a WorkflowAction."""
    return document("WorkflowAction", name, {"targetRef": {"name": run}, "action": action})


def actions(cluster: Cluster, labels: str = "") -> dict[str, dict[str, Any]]:
    """Return the WorkflowActions by name."""
    listed = json.loads(cluster.kubectl("get", KIND, "--selector", labels, "--output", "json").stdout)
    return {item["metadata"]["name"]: item for item in listed["items"]}


def done(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return a WorkflowAction once it is done with."""
    return wait_for(f"{name} to be done with", lambda: actions(cluster, "kubesaga.dev/finished=true").get(name))


def test_a_command_to_a_run_that_does_not_exist_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    with Operator(cluster, tmp_path) as operator:
        operator.start()
        cluster.apply(act("early", "nowhere"))
        found = done(cluster, "early")
    assert found["status"]["phase"] == "Refused"
    assert found["status"]["message"] == f"there is no WorkflowRun 'nowhere' in namespace '{cluster.namespace}'"
    assert "ownerReferences" not in found["metadata"]


@pytest.mark.parametrize("action", ["Approve", "retry"])
def test_the_server_refuses_a_verb_that_is_not_known(cluster: Cluster, action: str) -> None:
    refused = cluster.apply(act("odd", "any", action), check=False)
    assert refused.returncode != 0
    assert 'supported values: "Compensate", "Reject", "Retry", "Skip", "Abandon"' in refused.stderr


def test_an_answer_that_was_not_marked_before_a_kill_is_marked_after_it_and_goes_with_its_run(
    cluster: Cluster, tmp_path: Path
) -> None:
    with Operator(cluster, tmp_path) as operator:
        operator.start()
        cluster.run("short", {"activities": [{"name": "a", "pod": busybox("true")}]})
        cluster.wait_phase("short", "Succeeded")
        operator.kill()
        cluster.apply(act("gap", "short"))
        answer = {"status": {"phase": "Applied", "message": "before the kill"}}
        cluster.kubectl("patch", KIND, "gap", "--subresource=status", "--type=merge", "--patch", json.dumps(answer))
        operator.start()
        found = done(cluster, "gap")
        assert found["status"] == answer["status"]
        assert [owner["name"] for owner in found["metadata"]["ownerReferences"]] == ["short"]
        cluster.kubectl("delete", "workflowruns.kubesaga.dev", "short")
        wait_for("the collector", lambda: actions(cluster) == {})
