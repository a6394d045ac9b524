# SPDX-License-Identifier: Apache-2.0
"""What a pod says of its attempt: a pure reading of its status, the same for Kubernetes 1.20 and the newest.

The order of the questions is the order of certainty. Exit code 0 of the container is success, whatever else befell the
pod. Then what the node or the control plane did to the pod (lost, evicted), because a container that was killed for it
ends with an exit code that says nothing. Then what the container itself did. A deleted pod has ended only once its
kubelet has said so, or once nothing of it can have begun.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from kubesaga.api.fields import parse_time
from kubesaga.api.names import POD_FINALIZER
from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Failed, Observation, Outcome, Stage, Succeeded, Unknown
from kubesaga.executors.pod_manifest import CONTAINER
from kubesaga.executors.pod_output import read_output, tail

Part = dict[str, Any]
"""A pod, or a part of one, as it is on the wire."""

_NOT_PULLED: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable",
     "SignatureValidationFailed"}
)  # fmt: skip
_NOT_MADE: Final = frozenset(
    {"CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError", "PostStartHookError"}
)
_NOT_STARTED: Final = frozenset({"StartError", "ContainerCannotRun"})
"""The runtimes' words for a container whose command could not be executed: containerd's, Docker's."""
_LOST_TRACK: Final = "ContainerStatusUnknown"
"""The kubelet's word for a container it cannot find, whether it ran or was never made."""

_EVICTED: Final = frozenset({"Evicted", "Preempting", "Preempted", "Shutdown", "NodeShutdown", "Terminated"})
"""Reasons that the kubelet gives a whole pod, those of all versions of graceful node shutdown included."""
_NODE_LOST: Final = frozenset({"NodeLost", "DeletionByTaintManager", "DeletionByPodGC"})
"""The node controller's word for a pod, and the DisruptionTarget reasons of a node that does not answer any more."""
_CUT_OFF: Final = frozenset({Reason.OOM_KILLED, Reason.EVICTED, Reason.POD_DELETED})
_KILLED: Final = 137
"""Exit code of what was ended by SIGKILL: 128 and the signal's number."""
_SIGNALS: Final = {130: "SIGINT", 134: "SIGABRT", _KILLED: "SIGKILL", 139: "SIGSEGV", 143: "SIGTERM"}


def observe_pod(pod: Part, *, max_output_bytes: int) -> Observation:
    """Return how far the attempt of this pod is. Total: every pod object has an observation."""
    outcome = _outcome(pod, max_output_bytes)
    if isinstance(outcome, Failed) and _is_cut_off(pod, outcome):
        outcome = replace(outcome, in_doubt=True)
    if outcome is None:
        seen = _under_way(pod)
    else:
        told = "" if isinstance(outcome, Succeeded) else outcome.message
        seen = Observation(stage=Stage.ENDED, outcome=outcome, message=told)
    metadata = pod["metadata"]
    return replace(seen, pod_name=metadata["name"], held=POD_FINALIZER in (metadata.get("finalizers") or ()))


def may_still_run(pod: Part) -> bool:
    """Tell whether a container of the pod, one that a mesh put beside ours included, is not known to have ended."""
    status = pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return False
    containers = status.get("containerStatuses") or ()
    return not containers or any((container.get("state") or {}).get("terminated") is None for container in containers)


def _outcome(pod: Part, max_output_bytes: int) -> Outcome | None:
    end = _end(pod)
    phase = _status(pod).get("phase")
    if phase == "Succeeded" or (end is not None and end.get("exitCode") == 0):
        return read_output((end or {}).get("message") or "", max_output_bytes)
    if (done_to_it := _infrastructure(pod, over=end is not None or phase == "Failed")) is not None:
        return done_to_it
    if end is not None:
        return _failed_container(pod, end)
    if phase == "Failed":
        return _never_ran(pod)
    waiting = _state(pod, "waiting") or {}
    if waiting.get("reason") == "InvalidImageName":
        told = waiting.get("message") or "the image's name is not valid"
        return Failed(reason=Reason.INVALID_IMAGE_NAME, message=tail(told), retryable=False)
    return _deleted(pod) if _is_deleted(pod) else None


def _is_cut_off(pod: Part, failed: Failed) -> bool:
    """Tell whether a container that had begun did not come to an end of its own: it may have had its effect."""
    if failed.reason is Reason.NODE_LOST:
        return (pod.get("spec") or {}).get("nodeName") is not None
    killed = failed.reason is Reason.CONTAINER_FAILED and (_end(pod) or {}).get("exitCode") in _SIGNALS
    begun = _state(pod, "running") is not None or _ever_ran(pod, _end(pod) or {})
    return begun and (killed or failed.reason in _CUT_OFF)


def _end(pod: Part) -> Part | None:
    """Return how the container ended, if it did.

    The kubelet may show the end as `lastState` beside a container that waits for a restart that never comes, and it may
    overwrite a known end with one that it does not know.
    """
    if _state(pod, "running") is not None:
        return None
    now, before = _state(pod, "terminated"), (_main(pod).get("lastState") or {}).get("terminated")
    ends = [end for end in (now, before) if end is not None]
    known = next((end for end in ends if end.get("reason") != _LOST_TRACK), None)
    if known is not None or now is not None:
        return known or now
    return before if _status(pod).get("phase") == "Failed" else None


def _infrastructure(pod: Part, *, over: bool) -> Failed | None:
    """Return what the node or the control plane did to a pod, if that is why it is over."""
    status = _status(pod)
    reason, message = status.get("reason") or "", status.get("message") or ""
    if status.get("phase") == "Unknown" or reason in _NODE_LOST or _given_up_with_its_node(pod):
        node = (pod.get("spec") or {}).get("nodeName") or "of the pod"
        told = message or f"node {node} does not answer; whether the container still runs there is not known"
        return Failed(reason=Reason.NODE_LOST, message=tail(told))
    if over and reason in _EVICTED:
        return Failed(reason=Reason.EVICTED, message=tail(f"{reason}: {message}" if message else reason))
    disruption = _condition(pod, "DisruptionTarget")
    if over and disruption.get("status") == "True" and (_end(pod) or {}).get("reason") != "OOMKilled":
        cause = disruption.get("reason") or "DisruptionTarget"
        told = f"{cause}: {disruption.get('message') or 'the control plane took the pod off its node'}"
        return Failed(reason=Reason.NODE_LOST if cause in _NODE_LOST else Reason.EVICTED, message=tail(told))
    return None


def _given_up_with_its_node(pod: Part) -> bool:
    """Tell whether the control plane deleted the pod because its node is silent.

    The node controller sets the condition Ready of a silent node's pods to False and leaves the kubelet's last words, a
    container that runs and is ready, as they are; minutes later it deletes the pod. A living kubelet keeps both equal.
    """
    vouched_for = _state(pod, "running") is not None and _main(pod).get("ready") is True
    return _is_deleted(pod) and vouched_for and _condition(pod, "Ready").get("status") == "False"


def _failed_container(pod: Part, end: Part) -> Outcome:
    reason, message = end.get("reason") or "", (end.get("message") or "").strip()
    if reason == "OOMKilled":
        return Failed(reason=Reason.OOM_KILLED, message=_over_memory(pod))
    if reason in _NOT_STARTED:
        return Failed(reason=Reason.CONTAINER_CANNOT_RUN, message=tail(message or reason))
    if reason == _LOST_TRACK:
        if not _ever_ran(pod, end):
            return _never_ran(pod)
        return Unknown(message=f"the node lost track of the container, so its exit code is not known: {tail(message)}")
    code = end.get("exitCode")
    told = f"exit code {code} ({_SIGNALS[code]})" if code in _SIGNALS else f"exit code {code}"
    if _is_deleted(pod) and not _ended_before_deletion(pod, end):
        return Failed(reason=Reason.POD_DELETED, message=f"the pod was deleted, and its container ended with {told}")
    if code == _KILLED and (limit := _memory_limit(pod)) is not None:
        # Not said to be out of memory. A kubelet that hears of the end first, and of its cause a moment later, never says it.
        told += f", usually because the container went over its memory limit of {limit}"
    said = tail(message or _status(pod).get("message") or "")
    return Failed(reason=Reason.CONTAINER_FAILED, message=told + (f": {said}" if said else ""))


def _never_ran(pod: Part) -> Failed:
    """The pod is over and its container never ran: it was deleted before, or the node did not take it."""
    if _is_deleted(pod):
        return Failed(reason=Reason.POD_DELETED, message="the pod was deleted before its container started")
    status = _status(pod)
    told = ": ".join(part for part in (status.get("reason"), status.get("message")) if part) or "it gave no reason"
    return Failed(reason=Reason.UNSCHEDULABLE, message=tail(f"the node did not take the pod: {told}"))


def _deleted(pod: Part) -> Outcome | None:
    """Return the end of a deleted pod whose container never reported one; None while that may still come.

    A kubelet that has the pod may be starting the container just now. It lowers the grace period to 0 when nothing of
    the pod is left; so does a deletion by force. A pod without a node was never started and will not be.
    """
    confirmed = pod["metadata"].get("deletionGracePeriodSeconds") == 0
    if _state(pod, "running") is not None or (_main(pod).get("lastState") or {}).get("terminated") is not None:
        told = "the pod was deleted by force; how its container ended is not known"
        return Unknown(message=told) if confirmed else None
    return _never_ran(pod) if confirmed or not (pod.get("spec") or {}).get("nodeName") else None


def _under_way(pod: Part) -> Observation:
    if _state(pod, "running") is not None:
        return Observation(stage=Stage.RUNNING)
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        reason = Reason.UNSCHEDULABLE if scheduled.get("reason") == "Unschedulable" else None
        return Observation(stage=Stage.WAITING, reason=reason, message=tail(scheduled.get("message") or ""))
    waiting = _state(pod, "waiting") or {}
    word, message = waiting.get("reason") or "", waiting.get("message") or ""
    reason = _reason_of_wait(word)
    told = f"{word}: {message}" if reason is not None and message else message or (word if reason is not None else "")
    return Observation(stage=Stage.WAITING, reason=reason, message=tail(told))


def _reason_of_wait(word: str) -> Reason | None:
    if word in _NOT_PULLED:
        return Reason.IMAGE_PULL_BACK_OFF
    if word in _NOT_MADE:
        return Reason.CONTAINER_CANNOT_RUN
    return Reason.CONFIG_ERROR if word == "CreateContainerConfigError" else None


def _status(pod: Part) -> Part:
    return pod.get("status") or {}


def _main(pod: Part) -> Part:
    containers = _status(pod).get("containerStatuses") or ()
    return next((container for container in containers if container.get("name") == CONTAINER), {})


def _state(pod: Part, name: str) -> Part | None:
    """Return the main container's state if it is the one named: running, waiting or terminated."""
    return (_main(pod).get("state") or {}).get(name)


def _condition(pod: Part, type_: str) -> Part:
    conditions = _status(pod).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == type_), {})


def _is_deleted(pod: Part) -> bool:
    return pod["metadata"].get("deletionTimestamp") is not None


def _ever_ran(pod: Part, end: Part) -> bool:
    """Tell whether a container that the kubelet lost track of has left any trace of having been there."""
    main = _main(pod)
    traces = (main.get("containerID"), (main.get("lastState") or {}).get("terminated"), end.get("startedAt"))
    return any(traces)


def _ended_before_deletion(pod: Part, end: Part) -> bool:
    """Tell whether the container ended on its own. `deletionTimestamp` is the request's time plus the grace period."""
    if not end.get("finishedAt"):
        return False
    metadata = pod["metadata"]
    grace = timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    return parse_time(end["finishedAt"]) < parse_time(metadata["deletionTimestamp"]) - grace


def _memory_limit(pod: Part) -> str | None:
    containers: list[Part] = (pod.get("spec") or {}).get("containers") or []
    main: Part = next((container for container in containers if container.get("name") == CONTAINER), {})
    limit: str | None = ((main.get("resources") or {}).get("limits") or {}).get("memory")
    return limit


def _over_memory(pod: Part) -> str:
    limit = _memory_limit(pod)
    told = f"its memory limit of {limit}" if limit else "the memory its node had left (it has no limit of its own)"
    return f"the container used more than {told} and was killed"
