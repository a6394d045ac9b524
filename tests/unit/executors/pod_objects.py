# SPDX-License-Identifier: Apache-2.0
"""Pod objects as a kubelet leaves them: `v1_20` after what Kubernetes 1.20 was seen to write, `v1_36` with what came since."""

from __future__ import annotations

import copy
from typing import Any

from kubesaga.api.work import PodActivity, Resources
from kubesaga.api.workflow import Activity
from kubesaga.engine.attempt import Attempt, AttemptId, RunKey
from kubesaga.executors.pod_manifest import build_pod

Pod = dict[str, Any]

RUN = RunKey(namespace="support", name="ticket-1")
UID = "1f202704-7910-4de0-b311-6028999476cd"
CONTAINER_ID = "containerd://212bf78114736259bbdc30eb6d8e9e7aaada6b554619a3c1ed8e11a194b43f23"
STARTED, FINISHED = "2026-11-22T01:42:41Z", "2026-11-22T01:42:49Z"
LOST_TRACK = "ContainerStatusUnknown"
PULL_FAILED = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/library/nope:1": failed to resolve '
    'reference "docker.io/library/nope:1": docker.io/library/nope:1: not found'
)


def attempt_of(
    name: str = "score",
    number: int = 1,
    *,
    input: Any = None,
    rendered: dict[str, str] | None = None,
    resources: dict[str, Any] | None = None,
    service_account: str | None = None,
    workflow: str = "tickets",
    run: RunKey = RUN,
    **pod: Any,
) -> Attempt:
    """An attempt of a pod activity."""
    container = PodActivity.model_validate({"image": "busybox:1.35"} | pod)
    return Attempt(
        id=AttemptId(run_uid=UID, activity=name, number=number),
        run=run,
        workflow=workflow,
        activity=Activity(name=name, pod=container),
        input=input,
        env=rendered or {},
        resources=Resources.model_validate(resources) if resources else None,
        service_account=service_account,
    )


def made(attempt: Attempt | None = None, **metadata: Any) -> Pod:
    """The pod as the API server has it right after its creation."""
    pod = build_pod(attempt or attempt_of(resources={"limits": {"memory": "64Mi"}}))
    assert isinstance(pod, dict)
    pod["metadata"] |= {
        "uid": "pod-uid",
        "resourceVersion": "1",
        "creationTimestamp": "2026-11-22T01:42:38Z",
    } | metadata
    pod["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
    return pod


def condition(type_: str, status: str, reason: str | None = None, message: str | None = None) -> Pod:
    given = {"type": type_, "status": status, "lastProbeTime": None, "lastTransitionTime": "2026-11-22T01:42:38Z"}
    return given | {name: text for name, text in (("reason", reason), ("message", message)) if text}


def unscheduled(message: str) -> Pod:
    pod = made()
    pod["status"]["conditions"] = [condition("PodScheduled", "False", "Unschedulable", message)]
    return pod


def v1_20(phase: str, state: Pod | None = None, *, last: Pod | None = None, **status: Any) -> Pod:
    """A pod on a node: `state` and `last` are its container's, `status` are other fields of the pod's status."""
    pod = made()
    pod["spec"]["nodeName"] = "node-1"
    running = state is not None and "running" in state
    ready = ("True", None) if running else ("False", "PodCompleted" if phase == "Succeeded" else "ContainersNotReady")
    pod["status"] = {
        "phase": phase,
        "conditions": [
            condition("Initialized", "True"),
            condition("Ready", *ready),
            condition("ContainersReady", *ready),
            condition("PodScheduled", "True"),
        ],
        "hostIP": "10.0.0.2",
        "startTime": "2026-11-22T01:42:38Z",
        "qosClass": "BestEffort",
    } | status
    if state is not None:
        began = running or (state.get("terminated") or {}).get("containerID")
        main = {"name": "main", "state": state, "lastState": last or {}, "ready": running, "restartCount": 0}
        main |= {
            "image": "docker.io/library/busybox:1.35",
            "imageID": "sha256:1283" if began else "",
            "started": running,
        }
        pod["status"]["containerStatuses"] = [main | ({"containerID": CONTAINER_ID} if began else {})]
    return pod


def v1_36(phase: str, state: Pod | None = None, *, disruption: tuple[str, str] | None = None, **more: Any) -> Pod:
    """The same with the conditions and fields that newer servers write. `disruption`: reason, message."""
    pod = v1_20(phase, state, **more)
    pod["metadata"]["generation"] = 1
    status = pod["status"]
    status["observedGeneration"] = 1
    status["hostIPs"] = [{"ip": "10.0.0.2"}]
    began = state is not None and "waiting" not in state
    status["conditions"].insert(0, condition("PodReadyToStartContainers", "True" if began else "False"))
    for entry in status["conditions"]:
        entry["observedGeneration"] = 1
    if disruption is not None:
        status["conditions"].append(condition("DisruptionTarget", "True", *disruption))
    for container in status.get("containerStatuses", ()):
        container |= {"resources": {}, "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}}}
    return pod


def running() -> Pod:
    return {"running": {"startedAt": STARTED}}


def waiting(reason: str, message: str | None = None) -> Pod:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def ended(code: int, message: str | None = None, reason: str | None = None, finished: str = FINISHED) -> Pod:
    """A container that ran and ended."""
    end = {"exitCode": code, "reason": reason or ("Completed" if code == 0 else "Error")}
    end |= {"startedAt": STARTED, "finishedAt": finished, "containerID": CONTAINER_ID}
    return {"terminated": end | ({"message": message} if message is not None else {})}


def lost_track(message: str) -> Pod:
    """A container that the kubelet cannot find; its times are null."""
    return {
        "terminated": {"exitCode": 137, "reason": LOST_TRACK, "message": message, "startedAt": None, "finishedAt": None}
    }


def deleted(pod: Pod, *, at: str = "2026-11-22T01:43:24Z", grace: int = 30) -> Pod:
    """The pod after a deletion. `at` is when the grace period ends; grace 0: the kubelet has confirmed (or by force)."""
    pod = copy.deepcopy(pod)
    pod["metadata"] |= {"deletionTimestamp": at, "deletionGracePeriodSeconds": grace}
    return pod


def not_ready(pod: Pod) -> Pod:
    """The pod after the node controller found its node silent."""
    pod = copy.deepcopy(pod)
    next(entry for entry in pod["status"]["conditions"] if entry["type"] == "Ready")["status"] = "False"
    return pod


def unready(pod: Pod) -> Pod:
    """The pod after its kubelet found its container not ready."""
    pod = not_ready(pod)
    pod["status"]["containerStatuses"][0]["ready"] = False
    return pod


def beside(pod: Pod, state: Pod) -> Pod:
    """The pod with a container that a service mesh put into it."""
    pod = copy.deepcopy(pod)
    proxy = {"name": "istio-proxy", "state": state, "lastState": {}, "ready": True, "restartCount": 0}
    pod["spec"]["containers"].append({"name": "istio-proxy", "image": "istio/proxyv2"})
    pod["status"]["containerStatuses"].insert(0, proxy)
    return pod
