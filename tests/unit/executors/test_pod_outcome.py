# SPDX-License-Identifier: Apache-2.0
"""What is read from a pod: one row for each way that a pod can be, on old and new Kubernetes."""

from __future__ import annotations

import copy
import json

import pytest
from tests.unit.executors.pod_objects import (
    LOST_TRACK,
    PULL_FAILED,
    beside,
    deleted,
    ended,
    lost_track,
    made,
    not_ready,
    running,
    unready,
    unscheduled,
    v1_20,
    v1_36,
    waiting,
)

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Failed, Observation, Stage, Succeeded, Unknown
from kubesaga.executors.pod_outcome import may_still_run, observe_pod

LIMIT = 65536
NO_NODE = "0/5 nodes are available: 5 Insufficient cpu."
BAD_NAME = 'Failed to apply default image tag "Not A Name": couldn\'t parse image reference'
NO_PROGRAM = (
    'failed to create shim task: runc create failed: exec: "/no/such": stat /no/such: no such file or directory'
)
VANISHED = "The container could not be located when the pod was deleted.  The container used to be Running"
NOT_LOCATED = "The container could not be located when the pod was terminated"
PERHAPS_MEMORY = ", usually because the container went over its memory limit of 64Mi"
LOW_ON_MEMORY = "The node was low on resource: memory. Container main was using 80Mi, which exceeds its request of 0."


def observe(pod) -> Observation:
    return observe_pod(pod, max_output_bytes=LIMIT)


def unlimited(pod):
    """The pod without a limit of its memory."""
    pod = copy.deepcopy(pod)
    del pod["spec"]["containers"][0]["resources"]
    return pod


MAY_HAVE_HAD_ITS_EFFECT = {
    "a signal has a name",
    "SIGKILL alone is not out of memory, but there is a limit to look at",
    "SIGKILL with the last log lines",
    "SIGKILL before it was deleted",
    "SIGKILL without a limit has some other cause",
    "a deadline that somebody else set",
    "out of memory names the limit",
    "out of memory where another exit code hides it",
    "out of memory that only the last state tells of",
    "out of memory while being deleted",
    "killed because it was deleted",
    "the same once the kubelet is done with it",
    "evicted while it ran (1.36)",
    "preempted by the kubelet",
    "preempted by the scheduler",
    "evicted through the API (kubectl drain)",
    "its node shut down",
    "out of memory is said though the node disrupted it as well",
    "the node controller lost its node",
    "nobody knows its phase",
    "deleted while its node was silent (1.20)",
    "deleted while its node was silent (1.36)",
    "collected after its node was removed",
    "the node came back and had killed it",
}
"""The rows below whose container had begun and did not come to an end of its own."""


def rows(*table):
    return [pytest.param(*row[1:], id=row[0]) for row in table]


@pytest.mark.parametrize(
    ("pod", "reason", "message"),
    rows(
        ("a pod just made waits", made(), None, ""),
        ("an unschedulable pod says why", unscheduled(NO_NODE), Reason.UNSCHEDULABLE, NO_NODE),
        ("a pod on its node waits", v1_20("Pending"), None, ""),
        ("a container being made waits (1.20)", v1_20("Pending", waiting("ContainerCreating")), None, ""),
        ("a container being made waits (1.36)", v1_36("Pending", waiting("ContainerCreating")), None, ""),
        (
            "a failed pull is told with its cause",
            v1_20("Pending", waiting("ErrImagePull", PULL_FAILED)),
            Reason.IMAGE_PULL_BACK_OFF,
            "ErrImagePull: " + PULL_FAILED,
        ),
        (
            "a pull backing off waits (1.20)",
            v1_20("Pending", waiting("ImagePullBackOff", 'Back-off pulling image "nope:1"')),
            Reason.IMAGE_PULL_BACK_OFF,
            'ImagePullBackOff: Back-off pulling image "nope:1"',
        ),
        (
            "a pull backing off waits (1.36)",
            v1_36("Pending", waiting("ImagePullBackOff", 'Back-off pulling image "nope:1": ErrImagePull: not found')),
            Reason.IMAGE_PULL_BACK_OFF,
            'ImagePullBackOff: Back-off pulling image "nope:1": ErrImagePull: not found',
        ),
        (
            "an image that may not be pulled waits to be brought",
            v1_20("Pending", waiting("ErrImageNeverPull", "not present with pull policy of Never")),
            Reason.IMAGE_PULL_BACK_OFF,
            "ErrImageNeverPull: not present with pull policy of Never",
        ),
        (
            "a missing Secret may still come",
            v1_20("Pending", waiting("CreateContainerConfigError", 'secret "nope" not found')),
            Reason.CONFIG_ERROR,
            'CreateContainerConfigError: secret "nope" not found',
        ),
        (
            "a container that cannot be made is tried again by the kubelet",
            v1_36("Pending", waiting("CreateContainerError", "context deadline exceeded")),
            Reason.CONTAINER_CANNOT_RUN,
            "CreateContainerError: context deadline exceeded",
        ),
        (
            "a pod that is deleted while its kubelet may be starting it waits for the kubelet",
            deleted(v1_36("Pending", waiting("ContainerCreating"))),
            None,
            "",
        ),
        (
            "a container the kubelet will start again is not over",
            v1_36("Pending", waiting("ContainerCreating"), last=lost_track(VANISHED)),
            None,
            "",
        ),
    ),
)
def test_waiting(pod, reason, message):
    assert observe(pod) == Observation(
        stage=Stage.WAITING, reason=reason, message=message, pod_name=pod["metadata"]["name"], held=True
    )


@pytest.mark.parametrize(
    "pod",
    rows(
        ("a running container (1.20)", v1_20("Running", running())),
        ("a running container (1.36)", v1_36("Running", running())),
        ("a deleted pod runs until its container has ended", deleted(v1_20("Running", running()))),
        (
            "a pod taken off a living node runs until its container has ended",
            deleted(v1_36("Running", running(), disruption=("DeletionByTaintManager", "Taint manager: deleting"))),
        ),
        ("a silent node may come back", not_ready(v1_20("Running", running()))),
        ("a container that was started again", v1_36("Running", running(), last=ended(1))),
        ("being evicted is not over", v1_20("Running", running(), reason="Evicted", message=LOW_ON_MEMORY)),
        ("its kubelet says that it is not ready any more", deleted(unready(v1_36("Running", running())))),
        ("a mesh's end is not ours", beside(v1_36("Running", running()), ended(1))),
    ),
)
def test_running(pod):
    assert observe(pod) == Observation(stage=Stage.RUNNING, pod_name=pod["metadata"]["name"], held=True)


@pytest.mark.parametrize(
    ("pod", "output"),
    rows(
        ("no message is no output", v1_20("Succeeded", ended(0)), None),
        ("blanks are no output", v1_20("Succeeded", ended(0, " \n")), None),
        ("a JSON object is the output", v1_20("Succeeded", ended(0, '{"score": 7}\n')), {"score": 7}),
        ("the same on 1.36", v1_36("Succeeded", ended(0, '{"score": 7}\n')), {"score": 7}),
        ("text is a message", v1_20("Succeeded", ended(0, "all done\n")), {"message": "all done"}),
        ("a JSON number is text", v1_20("Succeeded", ended(0, "7")), {"message": "7"}),
        ("a JSON list is text", v1_20("Succeeded", ended(0, "[1, 2]")), {"message": "[1, 2]"}),
        ("half JSON is text", v1_20("Succeeded", ended(0, '{"a": ')), {"message": '{"a": '.strip()}),
        ("success: false is the engine's", v1_20("Succeeded", ended(0, '{"success": false}')), {"success": False}),
        ("a pod that succeeded without a word of its container", v1_20("Succeeded"), None),
        ("a phase that lags behind", v1_36("Running", ended(0, '{"a": 1}')), {"a": 1}),
        ("a mesh that goes on", beside(v1_36("Running", ended(0, '{"a": 1}')), running()), {"a": 1}),
        ("a mesh that failed", beside(v1_36("Failed", ended(0)), ended(1)), None),
        ("deleted after success", deleted(v1_20("Succeeded", ended(0, '{"a": 1}'))), {"a": 1}),
        ("finished its work within the grace period", deleted(v1_20("Succeeded", ended(0), reason=None)), None),
        (
            "evicted after success",
            v1_36("Failed", ended(0, '{"a": 1}'), reason="Evicted", message=LOW_ON_MEMORY),
            {"a": 1},
        ),
        (
            "a child ran out of memory and was coped with",
            v1_36("Succeeded", ended(0, "ok", "OOMKilled")),
            {"message": "ok"},
        ),
        (
            "an end that is known is not forgotten for one that is not",
            v1_36("Failed", lost_track(NOT_LOCATED), last=ended(0, '{"a": 1}')),
            {"a": 1},
        ),
        (
            "an object as large as a message can be",
            v1_20("Succeeded", ended(0, json.dumps({"a": "x" * 4087}))),
            {"a": "x" * 4087},
        ),
    ),
)
def test_success(pod, output):
    seen = observe(pod)
    assert (seen.stage, seen.outcome, seen.message) == (Stage.ENDED, Succeeded(output=output), "")


@pytest.mark.parametrize(
    ("message", "reason", "told"),
    rows(
        ("text cut off by the kubelet", "x" * 4096, Reason.OUTPUT_TOO_LARGE, "was cut off"),
        ("JSON cut off by the kubelet", '"}' + "x" * 4093 + "}", Reason.OUTPUT_TOO_LARGE, "was cut off"),
        ("digits cut off by the kubelet are no number", "1" * 4096, Reason.OUTPUT_TOO_LARGE, "was cut off"),
        ("cut off within a character", "\ufffd" + "x" * 4095, Reason.OUTPUT_TOO_LARGE, "was cut off"),
        ("a number that JSON does not have", '{"a": NaN}', Reason.OUTPUT_INVALID, "no JSON number"),
        ("a number that no reader agrees on", '{"a": 1e999}', Reason.OUTPUT_INVALID, "no JSON number"),
        ("too deep to be walked through", '{"a":' * 300 + "1" + "}" * 300, Reason.OUTPUT_INVALID, "levels"),
    ),
)
def test_an_output_that_cannot_be_kept(message, reason, told):
    outcome = observe(v1_20("Succeeded", ended(0, message))).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.retryable) == (reason, False)
    assert told in outcome.message


@pytest.mark.parametrize("message", ['{"a": "12345678901234567890"}', "x" * 32], ids=["an object", "text"])
def test_an_output_over_the_administrators_limit(message):
    outcome = observe_pod(v1_20("Succeeded", ended(0, message)), max_output_bytes=20).outcome
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.OUTPUT_TOO_LARGE


@pytest.mark.parametrize(
    ("pod", "reason", "message"),
    rows(
        ("an exit code", v1_20("Failed", ended(3)), Reason.CONTAINER_FAILED, "exit code 3"),
        (
            "an exit code with the last log lines",
            v1_20("Failed", ended(3, "bad luck\nworse\n")),
            Reason.CONTAINER_FAILED,
            "exit code 3: bad luck\nworse",
        ),
        (
            "a phase that lags behind a failure",
            v1_36("Running", ended(1, "no")),
            Reason.CONTAINER_FAILED,
            "exit code 1: no",
        ),
        ("a signal has a name", v1_20("Failed", ended(139)), Reason.CONTAINER_FAILED, "exit code 139 (SIGSEGV)"),
        (
            "SIGKILL alone is not out of memory, but there is a limit to look at",
            v1_20("Failed", ended(137)),
            Reason.CONTAINER_FAILED,
            f"exit code 137 (SIGKILL){PERHAPS_MEMORY}",
        ),
        (
            "SIGKILL with the last log lines",
            v1_36("Failed", ended(137, "page 12 of 40\n")),
            Reason.CONTAINER_FAILED,
            f"exit code 137 (SIGKILL){PERHAPS_MEMORY}: page 12 of 40",
        ),
        (
            "SIGKILL before it was deleted",
            deleted(v1_20("Failed", ended(137, finished="2026-11-22T01:42:49Z"))),
            Reason.CONTAINER_FAILED,
            f"exit code 137 (SIGKILL){PERHAPS_MEMORY}",
        ),
        (
            "SIGKILL without a limit has some other cause",
            unlimited(v1_20("Failed", ended(137, "bye"))),
            Reason.CONTAINER_FAILED,
            "exit code 137 (SIGKILL): bye",
        ),
        (
            "a deadline that somebody else set",
            v1_20("Failed", ended(143), reason="DeadlineExceeded", message="Pod was active too long"),
            Reason.CONTAINER_FAILED,
            "exit code 143 (SIGTERM): Pod was active too long",
        ),
        (
            "out of memory names the limit",
            v1_20("Failed", ended(137, reason="OOMKilled")),
            Reason.OOM_KILLED,
            "the container used more than its memory limit of 64Mi and was killed",
        ),
        (
            "out of memory where another exit code hides it",
            v1_36("Failed", ended(1, reason="OOMKilled")),
            Reason.OOM_KILLED,
            "the container used more than its memory limit of 64Mi and was killed",
        ),
        (
            "out of memory that only the last state tells of",
            v1_36("Failed", lost_track(NOT_LOCATED), last=ended(137, reason="OOMKilled")),
            Reason.OOM_KILLED,
            "the container used more than its memory limit of 64Mi and was killed",
        ),
        (
            "out of memory while being deleted",
            deleted(v1_20("Failed", ended(137, reason="OOMKilled", finished="2026-11-22T01:43:00Z"))),
            Reason.OOM_KILLED,
            "the container used more than its memory limit of 64Mi and was killed",
        ),
        (
            "no such command",
            v1_20("Failed", ended(128, NO_PROGRAM, "StartError")),
            Reason.CONTAINER_CANNOT_RUN,
            NO_PROGRAM,
        ),
        (
            "no such command, by Docker",
            v1_20("Failed", ended(127, NO_PROGRAM, "ContainerCannotRun")),
            Reason.CONTAINER_CANNOT_RUN,
            NO_PROGRAM,
        ),
        (
            "failed before it was deleted",
            deleted(v1_20("Failed", ended(3, "no", finished="2026-11-22T01:42:49Z"))),
            Reason.CONTAINER_FAILED,
            "exit code 3: no",
        ),
        (
            "killed because it was deleted",
            deleted(v1_20("Failed", ended(137, finished="2026-11-22T01:43:24Z"))),
            Reason.POD_DELETED,
            "the pod was deleted, and its container ended with exit code 137 (SIGKILL)",
        ),
        (
            "the same once the kubelet is done with it",
            deleted(v1_20("Failed", ended(137, finished="2026-11-22T01:43:24Z")), at="2026-11-22T01:42:54Z", grace=0),
            Reason.POD_DELETED,
            "the pod was deleted, and its container ended with exit code 137 (SIGKILL)",
        ),
        (
            "deleted before it had a node",
            deleted(unscheduled(NO_NODE), at="2026-11-22T01:42:54Z", grace=0),
            Reason.POD_DELETED,
            "the pod was deleted before its container started",
        ),
        (
            "deleted before it had a node, by a server that grants it time",
            deleted(unscheduled(NO_NODE)),
            Reason.POD_DELETED,
            "the pod was deleted before its container started",
        ),
        (
            "deleted before its image came (1.20)",
            deleted(v1_20("Pending", waiting("ImagePullBackOff")), at="2026-11-22T01:42:54Z", grace=0),
            Reason.POD_DELETED,
            "the pod was deleted before its container started",
        ),
        (
            "deleted before its image came (1.36)",
            deleted(v1_36("Failed", lost_track(NOT_LOCATED))),
            Reason.POD_DELETED,
            "the pod was deleted before its container started",
        ),
        (
            "evicted while it ran (1.20)",
            v1_20("Failed", reason="Evicted", message=LOW_ON_MEMORY),
            Reason.EVICTED,
            f"Evicted: {LOW_ON_MEMORY}",
        ),
        (
            "evicted while it ran (1.36)",
            v1_36(
                "Failed",
                lost_track(NOT_LOCATED),
                last=lost_track(VANISHED),
                reason="Evicted",
                message=LOW_ON_MEMORY,
                disruption=("TerminationByKubelet", LOW_ON_MEMORY),
            ),
            Reason.EVICTED,
            f"Evicted: {LOW_ON_MEMORY}",
        ),
        (
            "preempted by the kubelet",
            v1_20("Failed", ended(137), reason="Preempting", message="Preempted in order to admit critical pod"),
            Reason.EVICTED,
            "Preempting: Preempted in order to admit critical pod",
        ),
        (
            "preempted by the scheduler",
            deleted(v1_36("Failed", ended(143), disruption=("PreemptionByScheduler", "preempting to accommodate"))),
            Reason.EVICTED,
            "PreemptionByScheduler: preempting to accommodate",
        ),
        (
            "evicted through the API (kubectl drain)",
            deleted(v1_36("Failed", ended(143), disruption=("EvictionByEvictionAPI", "Eviction API: evicting"))),
            Reason.EVICTED,
            "EvictionByEvictionAPI: Eviction API: evicting",
        ),
        (
            "its node shut down",
            v1_36(
                "Failed",
                ended(143),
                reason="Terminated",
                message="Pod was terminated in response to imminent node shutdown.",
            ),
            Reason.EVICTED,
            "Terminated: Pod was terminated in response to imminent node shutdown.",
        ),
        (
            "its node shut down (1.20)",
            v1_20("Failed", reason="Shutdown", message="Node is shutting, evicting pods"),
            Reason.EVICTED,
            "Shutdown: Node is shutting, evicting pods",
        ),
        (
            "out of memory is said though the node disrupted it as well",
            v1_36("Failed", ended(137, reason="OOMKilled"), disruption=("TerminationByKubelet", "x")),
            Reason.OOM_KILLED,
            "the container used more than its memory limit of 64Mi and was killed",
        ),
        (
            "the node controller lost its node",
            deleted(v1_20("Running", running(), reason="NodeLost", message="Node node-1 is unresponsive")),
            Reason.NODE_LOST,
            "Node node-1 is unresponsive",
        ),
        (
            "nobody knows its phase",
            v1_20("Unknown", running()),
            Reason.NODE_LOST,
            "node node-1 does not answer; whether the container still runs there is not known",
        ),
        (
            "deleted while its node was silent (1.20)",
            deleted(not_ready(v1_20("Running", running()))),
            Reason.NODE_LOST,
            "node node-1 does not answer; whether the container still runs there is not known",
        ),
        (
            "deleted while its node was silent (1.36)",
            deleted(not_ready(v1_36("Running", running(), disruption=("DeletionByTaintManager", "Taint manager")))),
            Reason.NODE_LOST,
            "node node-1 does not answer; whether the container still runs there is not known",
        ),
        (
            "collected after its node was removed",
            deleted(
                v1_36("Failed", running(), disruption=("DeletionByPodGC", "PodGC: node no longer exists")), grace=0
            ),
            Reason.NODE_LOST,
            "DeletionByPodGC: PodGC: node no longer exists",
        ),
        (
            "the node came back and had killed it",
            deleted(v1_36("Failed", ended(143), disruption=("DeletionByTaintManager", "Taint manager: deleting"))),
            Reason.NODE_LOST,
            "DeletionByTaintManager: Taint manager: deleting",
        ),
        (
            "the node had no room after all",
            v1_20("Failed", reason="OutOfcpu", message="Pod Node didn't have enough resource: cpu"),
            Reason.UNSCHEDULABLE,
            "the node did not take the pod: OutOfcpu: Pod Node didn't have enough resource: cpu",
        ),
        (
            "the node did not take it and gave no reason",
            v1_20("Failed"),
            Reason.UNSCHEDULABLE,
            "the node did not take the pod: it gave no reason",
        ),
    ),
)
def test_failure(pod, reason, message, request):
    seen = observe(pod)
    assert seen.stage is Stage.ENDED
    in_doubt = request.node.callspec.id in MAY_HAVE_HAD_ITS_EFFECT
    assert seen.outcome == Failed(reason=reason, message=message, retryable=True, in_doubt=in_doubt)
    assert seen.message == message


def test_an_image_name_that_is_none_can_never_succeed():
    seen = observe(v1_20("Pending", waiting("InvalidImageName", BAD_NAME)))
    assert seen.outcome == Failed(reason=Reason.INVALID_IMAGE_NAME, message=BAD_NAME, retryable=False)


@pytest.mark.parametrize(
    "pod",
    rows(
        ("the kubelet lost a container that ran", v1_36("Failed", lost_track(VANISHED), last=lost_track(VANISHED))),
        (
            "the kubelet lost it, and the pod failed (1.20)",
            v1_20("Failed", waiting("ContainerCreating"), last=lost_track(VANISHED)),
        ),
        ("deleted by force while it ran", deleted(v1_20("Running", running()), grace=0)),
        (
            "lost while it was being deleted (1.20)",
            deleted(v1_20("Running", waiting("ContainerCreating"), last=lost_track(VANISHED)), grace=0),
        ),
    ),
)
def test_an_end_that_nobody_knows(pod):
    seen = observe(pod)
    assert seen.stage is Stage.ENDED
    assert isinstance(seen.outcome, Unknown)
    assert "not known" in seen.outcome.message


@pytest.mark.parametrize(
    ("finalizers", "held"),
    [
        (["kubesaga.dev/outcome"], True),
        (["other/one", "kubesaga.dev/outcome"], True),
        (["other/one"], False),
        (None, False),
    ],
)
def test_held_is_our_finalizer(finalizers, held):
    pod = v1_20("Succeeded", ended(0))
    pod["metadata"]["finalizers"] = finalizers
    assert observe(pod).held is held


def test_a_long_message_keeps_its_end_within_a_kibibyte():
    message = observe(v1_20("Failed", ended(1, "é" * 2000 + "the cause"))).message
    assert message.startswith("exit code 1: …é")
    assert message.endswith("the cause")
    assert len(message.encode()) <= 1024 + len("exit code 1: ")


def test_lost_track_is_the_kubelets_word():
    """The fixtures say what the code looks for."""
    assert lost_track("x")["terminated"]["reason"] == LOST_TRACK


@pytest.mark.parametrize(
    ("pod", "may"),
    rows(
        ("a pod just made", made(), True),
        ("a pod that waits", v1_20("Pending", waiting("InvalidImageName")), True),
        ("a pod that runs", v1_20("Running", running()), True),
        ("a pod that succeeded", v1_20("Succeeded", ended(0)), False),
        ("a pod that failed before anything of it ran", v1_20("Failed"), False),
        ("a phase that lags behind", v1_36("Running", ended(0)), False),
        ("a mesh that goes on", beside(v1_36("Running", ended(0)), running()), True),
    ),
)
def test_whether_anything_of_a_pod_may_still_run(pod, may):
    assert may_still_run(pod) is may
