# SPDX-License-Identifier: Apache-2.0
"""Runs on a real Kubernetes: API server, scheduler, kubelet and pods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.cluster import UNTIL_STOPPED, Cluster, Operator, busybox, document
from tests.cluster.waiting import PATIENCE, wait_for

TAKES_LONG = {
    "noimage": {"pod": {"image": "registry.invalid/none:1", "command": ["true"]}},
    "toobig": {"pod": busybox("true"), "resources": {"requests": {"cpu": "900"}}},
    # Without a trap: it is killed once its grace period is over.
    "late": {"pod": busybox("sleep 1000 & wait"), "timeout": "3s"},
}
"""Activities whose end is a matter of time. They begin before all others and are looked at after them."""


@pytest.fixture(scope="module")
def place(shared_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Operator]]:
    """One namespace and one operator for all tests here; each uses names of its own."""
    with (
        shared_cluster.in_new_namespace() as cluster,
        Operator(cluster, tmp_path_factory.mktemp("operator")) as operator,
    ):
        # Time enough for a busy kubelet to start a pod, or to say why it cannot.
        operator.start("cluster_handlers", pod_start_timeout="60")
        for name, activity in TAKES_LONG.items():
            cluster.run(f"fails-{name}", {"activities": [{"name": "it", **activity}]})
        yield cluster, operator


@pytest.fixture
def here(place: tuple[Cluster, Operator]) -> Cluster:
    """The cluster."""
    return place[0]


def test_a_pod_runs_and_its_output_comes_back(here: Cluster) -> None:
    pod = busybox('echo "{\\"score\\": 7}" > /dev/termination-log')
    limits = {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"cpu": "100m", "memory": "32Mi"}}
    spec = {
        "activities": [{"name": "score", "pod": pod, "resources": limits}],
        "outputs": {"s": "${activities.score.output.score}"},
    }
    here.apply(document("Workflow", "scoring", {"description": "Score", **spec}))
    run, status = here.carried_out("scoring-1", "scoring")
    assert (status["phase"], status["outputs"], status["progress"]) == ("Succeeded", {"s": 7}, "1/1")
    (pod,) = here.list("pods", f"kubesaga.dev/run={run}")
    name = pod["metadata"]["name"]
    here.wait_pod(name, "Succeeded")
    wait_for("the pod to be let go", lambda: "finalizers" not in (here.find("pods", name) or {})["metadata"])
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "100m", "memory": "32Mi"}
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_values_flow_through_a_dag_and_a_condition_skips_a_branch(here: Cluster) -> None:
    spec = {
        "inputs": [{"name": "weight", "type": "integer", "default": 30}],
        "variables": {"carrier": "none"},
        "activities": [
            {"name": "weigh", "handler": "test:echo", "params": {"kg": "${inputs.weight}"}, "set": {"kg": "${output.kg}"}},
            {"name": "parcel", "handler": "test:echo", "dependsOn": ["weigh"], "when": "workflow.kg < 20"},
            {"name": "freight", "dependsOn": ["weigh"], "when": "workflow.kg >= 20", "set": {"carrier": "freight"},
             "pod": busybox('echo "{\\"kg\\": $KG}" > /dev/termination-log', env=[{"name": "KG", "value": "${string(workflow.kg)}"}])},
            {"name": "ship", "handler": "test:echo", "dependsOn": ["parcel", "freight"],
             "params": {"by": "${workflow.carrier}", "parcel": "${activities.parcel.phase}"}},
        ],
        "outputs": {"by": "${activities.ship.output.by}", "parcel": "${activities.ship.output.parcel}"},
    }  # fmt: skip
    _, status = here.carried_out("dag-1", spec, inputs={"weight": 42})
    assert (status["phase"], status["outputs"]) == ("Succeeded", {"by": "freight", "parcel": "Skipped"})
    assert status["activities"]["freight"]["output"] == {"kg": 42}


def test_null_in_an_output_is_kept(here: Cluster) -> None:
    here.run(
        "null-1", {"activities": [{"name": "a", "handler": "test:null"}], "outputs": {"it": "${activities.a.output.y}"}}
    )
    status = here.finished("null-1")
    assert status["outputs"] == {"it": {"z": None}}
    assert status["activities"]["a"]["output"] == {"x": None, "y": {"z": None}}


@pytest.mark.parametrize(
    ("name", "activity", "reason", "told"),
    [
        pytest.param(
            "oom",
            {"pod": busybox("exec dd if=/dev/zero of=/dev/null bs=64M count=1"), "resources": {"limits": {"memory": "16Mi"}}},
            "OOMKilled", "16Mi", id="a container over its memory limit is OOMKilled",
        ),
        pytest.param("exit", {"pod": busybox("echo sold out > /dev/termination-log; exit 3")}, "ContainerFailed", "sold out",
                     id="an exit code other than 0 is a failure, with the container's last words"),
        pytest.param("badname", {"pod": {"image": "Not A Name"}}, "InvalidImageName", "", id="an impossible image name fails at once"),
        pytest.param("large", {"pod": busybox("head -c 5000 /dev/zero | tr '\\0' 1 > /dev/termination-log")}, "OutputTooLarge", "",
                     id="a termination message that was cut off is no output"),
        pytest.param("says", {"pod": busybox('echo "{\\"success\\": false, \\"message\\": \\"no stock\\"}" > /dev/termination-log')},
                     "ReportedFailure", "no stock", id="an output that says success: false is a failure"),
        pytest.param("raise", {"handler": "test:raise", "params": {"text": "no stock"}}, "HandlerFailed", "ValueError: no stock",
                     id="a handler that raises fails with what it raised"),
        pytest.param("set", {"handler": "test:odd", "params": {"what": "set"}}, "OutputInvalid", "", id="a handler that returns a set fails"),
        pytest.param("huge", {"handler": "test:odd", "params": {"what": "10 MB"}}, "OutputTooLarge", "", id="a handler that returns 10 MB fails"),
        pytest.param("block", {"handler": "test:block", "params": {"seconds": 20}, "timeout": "2s"}, "AttemptTimeout", "2s",
                     id="a handler that blocks is given up, and the operator goes on"),
        pytest.param("nobody", {"handler": "test:ech"}, "HandlerNotFound", "test:echo", id="an unknown handler fails, naming the nearest"),
        pytest.param("metadata", {"http": {"url": "http://169.254.169.254/latest/meta-data"}}, "EgressDenied", "",
                     id="the cloud's metadata address is refused"),
        pytest.param("apiserver", {"http": {"url": "https://kubernetes.default.svc/api"}}, "EgressDenied", "", id="the API server is refused"),
        pytest.param("loop", {"http": {"url": "http://127.0.0.1:8080/"}}, "EgressDenied", "", id="loopback is refused"),
        pytest.param("name", {"http": {"url": "http://localhost:8080/"}}, "EgressDenied", "loopback", id="and so it is by its name"),
        pytest.param("missing", {"handler": "test:echo", "params": {"x": "${event.data.none}"}}, "ExpressionFailed", "event.data",
                     id="a value that is missing at run time fails visibly"),
        pytest.param("bomb", {"handler": "test:echo", "params": {"x": "${[1,2,3,4,5,6,7,8,9].map(a, ['x'].map(b, b+b))" + "[0]" * 0 + ".size() / 0}"}},
                     "ExpressionFailed", "", id="an expression that cannot be evaluated fails"),
    ],
)  # fmt: skip
def test_an_attempt_that_fails_says_why(
    here: Cluster, name: str, activity: dict[str, object], reason: str, told: str
) -> None:
    run, status = here.carried_out(f"fails-{name}", {"activities": [{"name": "it", **activity}]})
    error = status["activities"]["it"]["error"]
    if reason == "OOMKilled" and error["reason"] == "ContainerFailed":
        # A kubelet that hears of a container's end before it hears that there was no memory left for it calls this an
        # ordinary end by SIGKILL, and nobody can know better. What can be said is that there was a limit.
        reason = "ContainerFailed"
        assert "exit code 137" in error["message"]
    assert_failed(here, run, status, reason, told)


def assert_failed(here: Cluster, run: str, status: dict[str, Any], reason: str, told: str) -> None:
    error = status["activities"]["it"]["error"]
    assert (status["phase"], status["reason"], error["reason"]) == ("Failed", "ActivityFailed", reason)
    assert told in error["message"]
    wait_for("the finalizer to be gone", lambda: "finalizers" not in (here.find("workflowruns", run) or {})["metadata"])


def test_a_failed_activity_is_tried_again_under_one_key(here: Cluster, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    retry = {"errorHandling": {"retry": {"maxAttempts": 3, "backoff": {"initial": "500ms"}}}}
    flaky = {"name": "it", "handler": "test:flaky", "params": {"calls": str(calls), "until": 3}, **retry}
    here.run("retry-1", {"activities": [flaky], "outputs": {"n": "${activities.it.output.attempt}"}})
    status = here.finished("retry-1")
    it = status["activities"]["it"]
    assert (status["outputs"], it["attempt"], it["failures"], len(it["attempts"])) == ({"n": 3}, 3, 2, 2)
    assert len({line.split()[0] for line in calls.read_text().splitlines()}) == 1


def test_a_pod_is_tried_again_as_another_pod(here: Cluster) -> None:
    retry = {"errorHandling": {"retry": {"maxAttempts": 2, "backoff": {"initial": "200ms"}}}}
    script = 'test "$KUBESAGA_ATTEMPT" = 2 && echo "{\\"n\\": 2}" > /dev/termination-log'
    run, status = here.carried_out("retry-2", {"activities": [{"name": "it", "pod": busybox(script), **retry}]})
    it = status["activities"]["it"]
    assert (status["phase"], it["output"], it["attempt"]) == ("Succeeded", {"n": 2}, 2)
    pods = here.list("pods", f"kubesaga.dev/run={run}")
    assert len(pods) == 2
    for pod in pods:
        # The end of a container is known before its pod's phase is.
        here.wait_pod(pod["metadata"]["name"], "Succeeded" if pod["metadata"]["name"] == it["podName"] else "Failed")


def test_what_cannot_help_is_not_tried_again(here: Cluster) -> None:
    here.run("retry-3", {"errorHandling": {}, "activities": [{"name": "it", "handler": "test:hopeless"}]})
    it = here.wait_phase("retry-3", "Failed")["activities"]["it"]
    assert (it["attempt"], it["error"]["reason"], it["error"]["message"]) == (1, "NotRetryable", "no such customer")


def test_a_pod_that_waits_says_so_while_it_waits(here: Cluster) -> None:
    here.run("waits-1", {"activities": [{"name": "it", "pod": {"image": "registry.invalid/none:1"}}]})
    waiting = here.wait_activity("waits-1", "it", reason="ImagePullBackOff")
    assert waiting["phase"] == "Running"
    here.patch_run("waits-1", shutdown="Terminate")
    here.wait_phase("waits-1", "Terminated")


def test_a_pod_deleted_by_hand_is_seen(here: Cluster) -> None:
    here.run("deleted-1", {"activities": [{"name": "it", "pod": busybox(UNTIL_STOPPED)}]})
    name = here.wait_activity("deleted-1", "it", phase="Running")["podName"]
    here.wait_pod(name, "Running")
    here.kubectl("delete", "pod", name, "--wait=false")
    status = here.wait_phase("deleted-1", "Failed")
    # A busy kubelet now and then removes a container before it has looked how it ended: then that is said.
    assert status["activities"]["it"]["error"]["reason"] in ("PodDeleted", "OutcomeUnknown")
    wait_for("the pod to be gone", lambda: here.find("pods", name) is None)


def test_a_foreign_pod_under_our_name_is_neither_used_nor_touched(here: Cluster) -> None:
    from kubesaga.api.names import pod_name

    here.run("foreign-1", {"activities": [{"name": "it", "pod": busybox("true")}]}, suspend=True)
    here.wait_phase("foreign-1", "Paused")
    uid = here.find("workflowruns", "foreign-1")["metadata"]["uid"]  # type: ignore[index]
    name = pod_name("foreign-1", uid, "it", 1)
    container = {"name": "x", "image": "docker.io/library/busybox:1.35", "command": ["sleep", "300"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}}
    here.apply(pod)
    here.patch_run("foreign-1", suspend=False)
    status = here.wait_phase("foreign-1", "Failed")
    assert status["activities"]["it"]["error"]["reason"] == "ForeignPod"
    assert "deletionTimestamp" not in here.find("pods", name)["metadata"]  # type: ignore[index]


def test_suspend_holds_what_is_next_and_resume_goes_on(here: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    params = {"calls": str(tmp_path / "calls"), "gate": str(gate)}
    here.run(
        "suspend-1",
        {
            "activities": [
                {"name": "a", "handler": "test:hold", "params": params},
                {"name": "b", "handler": "test:echo"},
            ]
        },
    )
    here.wait_activity("suspend-1", "a", phase="Running")
    here.patch_run("suspend-1", suspend=True)
    gate.touch()
    status = here.wait_phase("suspend-1", "Paused")
    assert (status["activities"]["a"]["phase"], "b" in status["activities"]) == ("Succeeded", False)
    here.patch_run("suspend-1", suspend=False)
    assert here.wait_phase("suspend-1", "Succeeded")["progress"] == "2/2"


def test_terminate_stops_the_pod_and_runs_nothing_more(here: Cluster) -> None:
    spec = {
        "activities": [{"name": "a", "pod": busybox(UNTIL_STOPPED)}],
        "finally": [{"name": "f", "handler": "test:echo"}],
    }
    here.run("terminate-1", spec)
    name = here.wait_activity("terminate-1", "a", phase="Running")["podName"]
    here.wait_pod(name, "Running")
    here.patch_run("terminate-1", shutdown="Terminate")
    status = here.wait_phase("terminate-1", "Terminated")
    assert (status["activities"]["a"]["phase"], "f" in status["activities"]) == ("Cancelled", False)
    wait_for("the pod to be gone", lambda: here.find("pods", name) is None)


def test_finally_runs_after_a_failure_and_after_the_deadline(here: Cluster) -> None:
    spec = {
        "timeout": "3s",
        "activities": [{"name": "a", "pod": busybox(UNTIL_STOPPED)}],
        "finally": [{"name": "f", "handler": "test:echo", "params": {"why": "${run.reason}"}}],
    }
    here.run("finally-1", spec)
    status = here.wait_phase("finally-1", "Failed")
    assert (status["reason"], status["activities"]["f"]["output"]) == ("DeadlineExceeded", {"why": "DeadlineExceeded"})


def test_editing_and_deleting_a_workflow_touches_no_live_run(here: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    params = {"calls": str(tmp_path / "calls"), "gate": str(gate)}
    first = {"name": "a", "handler": "test:hold", "params": params}
    here.apply(
        document(
            "Workflow", "edited", {"activities": [first, {"name": "b", "handler": "test:echo", "params": {"v": 1}}]}
        )
    )
    here.run("edited-1", "edited")
    here.wait_activity("edited-1", "a", phase="Running")
    here.apply(
        document(
            "Workflow", "edited", {"activities": [first, {"name": "b", "handler": "test:echo", "params": {"v": 2}}]}
        )
    )
    here.kubectl("delete", "workflows.kubesaga.dev", "edited")
    gate.touch()
    status = here.wait_phase("edited-1", "Succeeded")
    assert status["activities"]["b"]["output"] == {"v": 1}


def test_an_invalid_workflow_says_which_field_and_its_runs_fail_at_once(here: Cluster) -> None:
    spec = {
        "activities": [
            {"name": "a", "handler": "x", "dependsOn": ["b"]},
            {"name": "b", "handler": "x", "dependsOn": ["a"]},
        ]
    }
    here.apply(document("Workflow", "cyclic", spec))

    def judged() -> dict[str, object] | None:
        conditions = (here.find("workflows", "cyclic") or {}).get("status", {}).get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == "Ready"), None)

    ready = wait_for("a judgement", judged)
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert "a -> b -> a" in str(ready["message"]) or "b -> a -> b" in str(ready["message"])
    here.run("cyclic-1", "cyclic")
    assert here.wait_phase("cyclic-1", "Failed")["reason"] == "InvalidSpec"


def test_a_run_of_a_missing_workflow_fails_at_once(here: Cluster) -> None:
    here.run("missing-1", "nowhere")
    status = here.wait_phase("missing-1", "Failed")
    assert status["reason"] == "WorkflowNotFound"
    assert "nowhere" in status["message"]


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        pytest.param({}, "spec.inputs.ticket_id", id="a required input that is missing"),
        pytest.param({"ticket_id": 7}, "must be of type string", id="an input of the wrong type"),
        pytest.param({"ticket_id": "T", "tiket": 1}, "spec.inputs.tiket", id="an input that does not exist"),
    ],
)
def test_inputs_are_checked_before_anything_starts(here: Cluster, inputs: dict[str, object], told: str) -> None:
    name = f"inputs-{abs(hash(told)) % 10**6}"
    here.run(
        name,
        {"inputs": [{"name": "ticket_id", "required": True}], "activities": [{"name": "a", "handler": "test:echo"}]},
        inputs=inputs,
    )
    status = here.wait_phase(name, "Failed")
    assert (status["reason"], status.get("activities")) == ("InvalidInput", {})
    assert told in status["message"]


def test_deleting_a_live_run_stops_it_first(here: Cluster) -> None:
    here.run("live-1", {"activities": [{"name": "a", "pod": busybox(UNTIL_STOPPED)}]})
    name = here.wait_activity("live-1", "a", phase="Running")["podName"]
    here.wait_pod(name, "Running")
    here.kubectl("delete", "workflowruns.kubesaga.dev", "live-1", f"--timeout={PATIENCE}s")
    wait_for("its pod to be gone", lambda: here.find("pods", name) is None)


def test_the_operator_tells_what_it_does(place: tuple[Cluster, Operator]) -> None:
    cluster, operator = place
    cluster.run("metrics-1", {"activities": [{"name": "a", "handler": "test:echo"}]})
    cluster.wait_phase("metrics-1", "Succeeded")
    # Told after the status is written, and so after it can be read.
    wait_for("the run to be counted", lambda: "kubesaga_runs_finished_total{" in operator.get("/metrics")[1])
    status, text = operator.get("/metrics")
    assert status == 200
    for series in ("kubesaga_runs_finished_total", "kubesaga_pass_duration_seconds_count", "kubesaga_api_requests_total",
                   "kubesaga_queue_depth", "kubesaga_runs", "kubesaga_activities_ended_total", "kubesaga_leader 1.0"):  # fmt: skip
        assert series in text, series
    assert (operator.get("/healthz")[0], operator.get("/readyz")[0]) == (200, 200)
    lines = wait_for("a line", lambda: [line for line in operator.log().splitlines() if '"metrics-1"' in line])
    line = lines[0]
    for field in ('"timestamp"', '"workflow_id"', '"activity"', '"message"'):
        assert field in line


@pytest.mark.parametrize(
    ("name", "reason", "told"),
    [
        pytest.param("late", "AttemptTimeout", "3s", id="a pod that takes too long is stopped"),
        pytest.param("noimage", "ImagePullBackOff", "", id="an image that does not exist fails once the pod has had its time to start"),
        pytest.param("toobig", "Unschedulable", "", id="a pod that no node can take fails once it has had its time"),
    ],
)  # fmt: skip
def test_an_attempt_that_took_too_long_says_why(here: Cluster, name: str, reason: str, told: str) -> None:
    run = f"fails-{name}"
    assert_failed(here, run, here.wait_phase(run, "Failed"), reason, told)


def test_a_run_waits_for_room_in_the_quota_and_says_so(cluster: Cluster, tmp_path: Path) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    with Operator(cluster, tmp_path) as operator:
        operator.start()
        cluster.apply(quota)
        wait_for("the quota to hold", lambda: "exceeded quota" in cluster.refusal())
        cluster.run("full", {"activities": [{"name": "a", "pod": busybox("true")}]})
        waiting = cluster.wait_activity("full", "a", phase="Running", reason="QuotaExceeded")
        assert "exceeded quota: none" in waiting["message"]
        cluster.kubectl("delete", "resourcequota", "none")
        status = cluster.finished("full")
    assert (status["phase"], status["activities"]["a"]["attempt"]) == ("Succeeded", 1)
