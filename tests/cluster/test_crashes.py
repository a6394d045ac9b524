# SPDX-License-Identifier: Apache-2.0
"""The operator killed with SIGKILL in the middle of things, and back again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.cluster.cluster import UNTIL_STOPPED, Cluster, Operator, busybox, document
from tests.cluster.kubelet import twice
from tests.cluster.waiting import wait_for


@pytest.fixture
def operator(cluster: Cluster, tmp_path: Path) -> Operator:
    """An operator that is not started yet."""
    return Operator(cluster, tmp_path)


def test_a_pod_activity_survives_a_kill_with_no_second_pod(cluster: Cluster, operator: Operator) -> None:
    script = 'until test -e /tmp/go; do sleep 0.1; done; echo "{\\"n\\": 1}" > /dev/termination-log'
    second = busybox(
        'echo "{\\"n\\": $N}" > /dev/termination-log',
        env=[{"name": "N", "value": "${string(activities.a.output.n + 1)}"}],
    )
    spec = {"activities": [{"name": "a", "pod": busybox(script)}, {"name": "b", "pod": second}]}

    def once(run: str) -> None:
        operator.start()
        cluster.run(run, spec)
        name = cluster.wait_activity(run, "a", phase="Running")["podName"]
        uid = cluster.wait_pod(name, "Running")["metadata"]["uid"]
        operator.kill()
        cluster.kubectl("exec", name, "--", "touch", "/tmp/go")
        cluster.wait_pod(name, "Succeeded")  # while nobody looks
        operator.start()
        status = cluster.finished(run)
        assert (status["phase"], status["activities"]["b"]["output"]) == ("Succeeded", {"n": 2})
        pods = cluster.list("pods", f"kubesaga.dev/run={run}")
        assert len(pods) == 2
        assert uid in [pod["metadata"]["uid"] for pod in pods]

    with operator:
        twice("killed", once)


def begun(calls: Path) -> int:
    """Count the calls that are written down to the end of their line."""
    return calls.read_text().count("\n") if calls.exists() else 0


def test_a_handler_is_started_again_under_the_same_key(cluster: Cluster, operator: Operator, tmp_path: Path) -> None:
    calls, gate = tmp_path / "calls", tmp_path / "gate"
    with operator:
        operator.start("cluster_handlers")
        params = {"calls": str(calls), "gate": str(gate)}
        cluster.run("killed", {"activities": [{"name": "a", "handler": "test:hold", "params": params}]})
        wait_for("the handler to begin", lambda: begun(calls) == 1)
        operator.kill()
        operator.start("cluster_handlers")
        wait_for("the handler to begin again", lambda: begun(calls) == 2)
        gate.touch()
        status = cluster.wait_phase("killed", "Succeeded", "Failed")
        assert (status["phase"], status["activities"]["a"]["interruptions"]) == ("Succeeded", 1)
        assert len(set(calls.read_text().splitlines())) == 1, "both starts bear the same key and attempt"


def test_a_restart_neither_shortens_nor_repeats_the_wait_before_another_attempt(
    cluster: Cluster, operator: Operator, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    with operator:
        operator.start("cluster_handlers")
        retry = {"errorHandling": {"retry": {"maxAttempts": 2, "backoff": {"initial": "6s", "jitter": 0}}}}
        flaky = {"name": "it", "handler": "test:flaky", "params": {"calls": str(calls), "until": 2}, **retry}
        cluster.run("waits", {"activities": [flaky]})
        waiting = cluster.wait_phase("waits", "Waiting")["activities"]["it"]
        due = waiting["nextAttemptTime"]
        operator.kill()
        operator.start("cluster_handlers")
        back = time.time()
        assert cluster.status("waits")["activities"]["it"].get("nextAttemptTime", due) == due
        status = cluster.wait_phase("waits", "Succeeded", "Failed")
        first, second = (float(line.split()[2]) for line in calls.read_text().splitlines())
        assert (status["phase"], status["activities"]["it"]["attempt"]) == ("Succeeded", 2)
        assert second - first >= 6, "it is not shortened"
        assert second < max(first + 6, back) + 6, "it is not repeated"


def test_many_kills_in_a_row_lose_nothing(cluster: Cluster, operator: Operator) -> None:
    steps = [{"name": f"s{number}", "pod": busybox("sleep 1")} for number in range(4)]

    def once(chain: str) -> None:
        operator.start()
        cluster.apply(document("Workflow", chain, {"activities": steps}))
        runs = [f"{chain}-{number}" for number in range(3)]
        for run in runs:
            cluster.run(run, chain)
        for _ in range(4):
            operator.kill()
            operator.start()
        for run in runs:
            assert cluster.finished(run)["phase"] == "Succeeded"
        assert len(cluster.list("pods", f"kubesaga.dev/workflow={chain}")) == 12

    with operator:
        twice("chain", once)


def test_a_run_deleted_while_the_operator_is_gone_is_let_go_when_it_is_back(
    cluster: Cluster, operator: Operator
) -> None:
    with operator:
        operator.start()
        cluster.run("gone", {"activities": [{"name": "a", "pod": busybox(UNTIL_STOPPED)}]})
        cluster.wait_activity("gone", "a", phase="Running")
        operator.kill()
        cluster.kubectl("delete", "workflowruns.kubesaga.dev", "gone", "--wait=false")
        assert cluster.find("workflowruns", "gone") is not None
        operator.start()
        wait_for("the run to be gone", lambda: cluster.find("workflowruns", "gone") is None)
        wait_for("its pod to be gone", lambda: not cluster.list("pods"))


def test_a_namespace_that_is_deleted_does_not_hang(cluster: Cluster, shared_cluster: Cluster, tmp_path: Path) -> None:
    with shared_cluster.in_new_namespace() as doomed:
        # Rights and Lease are elsewhere, as those of an operator that serves the whole cluster.
        with Operator(doomed, tmp_path, as_admin=True, lease_namespace=cluster.namespace) as operator:
            operator.start()
            doomed.run("inside", {"activities": [{"name": "a", "pod": busybox(UNTIL_STOPPED)}]})
            doomed.wait_activity("inside", "a", phase="Running")
            doomed.kubectl("delete", "namespace", doomed.namespace, "--wait=false")
            wait_for("the run to be gone", lambda: doomed.find("workflowruns", "inside") is None)
            wait_for("its pod to be gone", lambda: not doomed.list("pods"))


def test_a_graceful_stop_is_quick_and_clean(cluster: Cluster, operator: Operator) -> None:
    with operator:
        operator.start()
        assert operator.stop() == 0
        lease = cluster.find("leases", "kubesaga-controller")
        assert lease is not None
        assert not lease["spec"].get("holderIdentity"), "the Lease is given back"


def test_a_standby_waits_is_ready_and_takes_over(cluster: Cluster, operator: Operator, tmp_path: Path) -> None:
    folder = tmp_path / "standby"
    folder.mkdir()
    with operator, Operator(cluster, folder, identity="operator-1") as standby:
        # Short, but not so short that a busy machine makes the first one lose it before it is killed.
        operator.start(lease_duration="10")
        standby.launch(lease_duration="10")
        wait_for("the standby to see who leads", lambda: "operator-0 holds the Lease" in standby.log())
        wait_for("the standby to be ready", lambda: standby.get("/readyz")[0] == 200)
        assert (operator.leads, standby.leads) == (True, False)
        operator.kill()
        wait_for("the standby to lead", lambda: standby.leads)
        _, status = cluster.carried_out("after", {"activities": [{"name": "a", "pod": busybox("true")}]})
        assert status["phase"] == "Succeeded"
