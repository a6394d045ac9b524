# SPDX-License-Identifier: Apache-2.0
"""Pods for real: what the kubelet, the scheduler and the API server make of them, and what the executor makes of that."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.cluster import UNTIL_STOPPED, Cluster, busybox
from tests.cluster.kubelet import lost_by_kubelet, note_second_try
from tests.cluster.waiting import PATIENCE, wait_for

from kubesaga.api.names import API_VERSION, FINISHED_LABEL, MANAGED_BY, MANAGED_BY_LABEL
from kubesaga.api.reasons import Reason
from kubesaga.api.work import PodActivity, Resources
from kubesaga.api.workflow import Activity
from kubesaga.engine.attempt import Attempt, AttemptId, Failed, Observation, RunKey, Stage, Succeeded, Unknown
from kubesaga.executors.pod_identity import Identity, key_of
from kubesaga.executors.pod_manifest import build_pod
from kubesaga.executors.pods import PodExecutor
from kubesaga.kube.client import KubeClient, Object, Selection
from kubesaga.kube.connection import connect
from kubesaga.kube.errors import NotFound, ServerUnavailable
from kubesaga.kube.informer import Informer
from kubesaga.kube.resources import PODS, WORKFLOW_RUNS, Resource

pytestmark = pytest.mark.cluster

CONFIG_MAPS = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")


class LosesAnswers(KubeClient):
    """A client whose creations are carried out, and the answer does not come."""

    def __init__(self, client: KubeClient) -> None:
        super().__init__(client._transport)

    async def create(self, *words: Any, **more: Any) -> Object:
        await super().create(*words, **more)
        raise ServerUnavailable(0, "Closed", "server closed the connection")


class World:
    """An executor on the cluster, and one run that owns what it makes."""

    def __init__(self, client: KubeClient, namespace: str, uid: str) -> None:
        self.client = client
        self.run = RunKey(namespace=namespace, name="ticket-1")
        self.uid = uid
        self.changed = asyncio.Event()
        selection = Selection(namespace=namespace, labels=f"{MANAGED_BY_LABEL}={MANAGED_BY}")
        self.informer = Informer(
            client, PODS, selection, clock=time.monotonic, sleep=asyncio.sleep, random=random.random
        )
        self.executor = self.executor_on(client)
        self.informer.on_change(lambda *_: self.changed.set())

    def executor_on(self, client: KubeClient) -> PodExecutor:
        return PodExecutor(client, self.informer, lambda _: self.changed.set())

    def attempt(self, name: str, script: str = "true", **more: Any) -> Attempt:
        return Attempt(
            id=AttemptId(run_uid=self.uid, activity=name, number=1),
            run=self.run,
            workflow="tickets",
            activity=Activity(name=name, pod=PodActivity.model_validate(busybox(script) | more.pop("pod", {}))),
            **({"input": None} | more),
        )

    def seen(self, attempt: Attempt) -> Observation | None:
        return self.executor.observe(self.run, self.uid).get(attempt.id)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def stage(self, attempt: Attempt, stage: Stage) -> Observation:
        """Return what is seen of an attempt once it is that far. It must stay there until the test goes on."""

        def there() -> bool:
            seen = self.seen(attempt)
            assert seen is None or seen.stage is not Stage.ENDED or stage is Stage.ENDED, f"it has ended: {seen}"
            return seen is not None and seen.stage is stage

        await self.until(there)
        seen = self.seen(attempt)
        assert seen is not None
        return seen

    async def carried_out(self, attempt: Attempt) -> tuple[Attempt, Observation]:
        """Return the attempt and how it ended: the next attempt's if the kubelet lost its container (see `kubelet.twice`)."""
        await self.executor.start(attempt)
        seen = await self.stage(attempt, Stage.ENDED)
        if attempt.id.number == 1 and await self.lost(attempt):
            note_second_try(f"{attempt.id.activity}: {seen}")
            return await self.carried_out(replace(attempt, id=replace(attempt.id, number=2)))
        return attempt, seen

    async def lost(self, attempt: Attempt) -> bool:
        """Tell whether the kubelet says that it lost the attempt's container."""
        pod = await self.live(attempt)
        return pod is not None and lost_by_kubelet(pod)

    async def live(self, attempt: Attempt) -> Object | None:
        try:
            return await self.client.get(PODS, *self.key(attempt))
        except NotFound:
            return None

    def key(self, attempt: Attempt) -> tuple[str, str]:
        return key_of(Identity(run=attempt.run, attempt=attempt.id))


@pytest.fixture
async def world(kubeconfig: Path, cluster: Cluster) -> AsyncIterator[World]:
    client = await connect(str(kubeconfig), clock=time.monotonic, version="test")
    # Real, or the garbage collector would take its pods; marked as finished, so that no operator minds it.
    metadata = {"name": "ticket-1", "labels": {FINISHED_LABEL: "true"}}
    spec = {"workflowRef": {"name": "tickets"}}
    body = {"apiVersion": API_VERSION, "kind": "WorkflowRun", "metadata": metadata, "spec": spec}
    run = await client.create(WORKFLOW_RUNS, cluster.namespace, body)
    world = World(client, cluster.namespace, run["metadata"]["uid"])
    watch = asyncio.create_task(world.informer.run())
    await world.informer.wait_synced()
    yield world
    for attempt in world.executor.observe(world.run, world.uid):
        await world.executor.release(attempt, world.run)
    # In this order: a connection that is cut by the client's end is closed at once, one whose reader left is closed politely.
    await client.close()
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


async def test_a_pods_output_and_its_release(world: World):
    attempt = world.attempt("score", "echo \"{\\\"score\\\": 7, \\\"who\\\": \\\"$WHO\\\"}\" > /dev/termination-log",
                            pod={"env": [{"name": "WHO", "value": "${inputs.who}"}]}, env={"WHO": "Ann"})  # fmt: skip
    attempt, seen = await world.carried_out(attempt)
    assert seen.outcome == Succeeded(output={"score": 7, "who": "Ann"})
    assert seen.held
    await world.executor.release(attempt.id, world.run)
    left = await world.live(attempt)
    assert left is not None, "the pod stays until its run is deleted"
    assert "finalizers" not in left["metadata"]


async def test_a_failure_is_told_with_the_last_lines_of_the_log(world: World):
    _, seen = await world.carried_out(world.attempt("fail", "echo first; echo out of luck; exit 3"))
    assert seen.outcome == Failed(reason=Reason.CONTAINER_FAILED, message="exit code 3: first\nout of luck")


async def test_the_log_of_a_success_is_not_its_output(world: World):
    _, seen = await world.carried_out(world.attempt("chatty", "echo to the log"))
    assert seen.outcome == Succeeded(output=None)


async def test_a_container_over_its_memory_limit(world: World):
    limits = Resources.model_validate({"limits": {"memory": "16Mi"}})
    _, seen = await world.carried_out(world.attempt("hungry", "tail /dev/zero", resources=limits))
    assert isinstance(seen.outcome, Failed)
    if seen.outcome.reason is Reason.CONTAINER_FAILED:
        # A kubelet that hears of the end first, and then of the memory, knows an end by SIGKILL. The limit is told all the same.
        assert "exit code 137" in seen.outcome.message
    else:
        assert seen.outcome.reason is Reason.OOM_KILLED
    assert "16Mi" in seen.outcome.message


async def test_resources_are_the_containers_cgroup(world: World):
    script = """
        memory=$(cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max)
        cpu=$(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max)
        echo "{\\"memory\\": $memory, \\"cpu\\": $cpu}" > /dev/termination-log
    """
    both = Resources.model_validate(
        {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    )
    _, seen = await world.carried_out(world.attempt("bounded", script, resources=both))
    assert seen.outcome == Succeeded(output={"memory": 64 * 2**20, "cpu": 20_000})


async def test_data_with_dollar_signs_arrives_as_it_is_and_references_of_the_author_are_followed(world: World):
    data = "$(HOSTNAME) $$(KUBESAGA_RUN) $ $$ ${HOME} \\ 'quoted' \"twice\" grün"
    script = """
        test "$DATA" = "$EXPECTED" || { echo "DATA is $DATA"; exit 1; }
        echo "{\\"params\\": $KUBESAGA_PARAMS, \\"greeting\\": \\"$GREETING\\"}" > /dev/termination-log
    """
    expected = data.replace("$", "$$")
    env = [
        {"name": "DATA", "value": "${inputs.data}"},
        {"name": "EXPECTED", "value": expected},
        {"name": "GREETING", "value": "run $(KUBESAGA_RUN)"},
    ]
    _, seen = await world.carried_out(
        world.attempt("literal", script, pod={"env": env}, env={"DATA": data}, input={"data": data})
    )
    assert seen.outcome == Succeeded(output={"params": {"data": data}, "greeting": "run ticket-1"})


async def test_params_of_the_largest_size_arrive_and_larger_ones_are_refused_before(world: World):
    largest = 131_072 - len('KUBESAGA_PARAMS={"text":""}\0')
    script = 'echo "{\\"size\\": ${#KUBESAGA_PARAMS}}" > /dev/termination-log'
    _, seen = await world.carried_out(world.attempt("large", script, input={"text": "x" * largest}))
    assert seen.outcome == Succeeded(output={"size": largest + len('{"text":""}')})
    _, seen = await world.carried_out(world.attempt("larger", script, input={"text": "x" * (largest + 1)}))
    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.reason is Reason.INVALID_INPUT


async def test_an_output_that_the_kubelet_cuts_off_is_too_large(world: World):
    script = 'printf \'{"text": "%05000d"}\' 7 > /dev/termination-log'
    _, seen = await world.carried_out(world.attempt("verbose", script))
    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.reason is Reason.OUTPUT_TOO_LARGE


async def test_no_token_and_no_privileges_are_in_the_pod(world: World):
    script = """
        test -e /var/run/secrets/kubernetes.io/serviceaccount && exit 1
        grep -q '^CapEff:.0*$' /proc/self/status && grep -q '^NoNewPrivs:.1$' /proc/self/status \
            && grep -q '^Seccomp:.2$' /proc/self/status
    """
    _, seen = await world.carried_out(world.attempt("humble", script))
    assert seen.outcome == Succeeded()


async def test_a_command_that_is_not_there(world: World):
    _, seen = await world.carried_out(world.attempt("typo", pod={"command": ["/no/such"]}))
    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.reason is Reason.CONTAINER_CANNOT_RUN
    assert "/no/such" in seen.outcome.message


@pytest.mark.parametrize(
    ("pod", "reason", "told"),
    [
        pytest.param({"image": "nowhere.invalid/no:1"}, Reason.IMAGE_PULL_BACK_OFF, "nowhere.invalid", id="no image"),
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "k"}}}]},
            Reason.CONFIG_ERROR,
            'secret "absent" not found',
            id="no Secret",
        ),
    ],
)
async def test_why_a_pod_waits_is_seen_while_it_waits_and_it_can_be_stopped(world: World, pod, reason, told):
    attempt = world.attempt("waits", pod=pod)
    await world.executor.start(attempt)
    await world.until(lambda: (seen := world.seen(attempt)) is not None and told in seen.message)
    seen = world.seen(attempt)
    assert seen is not None
    assert (seen.stage, seen.reason) == (Stage.WAITING, reason)
    await world.executor.stop(attempt.id, world.run, "it waited long enough")
    seen = await world.stage(attempt, Stage.ENDED)
    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.reason is Reason.POD_DELETED
    await world.executor.release(attempt.id, world.run)
    assert await world.live(attempt) is None


async def test_a_pod_that_fits_no_node(world: World):
    attempt = world.attempt("huge", resources=Resources.model_validate({"requests": {"cpu": "9999"}}))
    await world.executor.start(attempt)
    await world.until(lambda: (seen := world.seen(attempt)) is not None and seen.reason is Reason.UNSCHEDULABLE)
    await world.executor.stop(attempt.id, world.run, "no node")
    seen = await world.stage(attempt, Stage.ENDED)
    assert isinstance(seen.outcome, Failed)
    await world.executor.release(attempt.id, world.run)
    assert await world.live(attempt) is None


async def test_an_image_name_that_is_none_ends_at_once_and_leaves_nothing_behind(world: World):
    attempt = world.attempt("typo", pod={"image": "Not A Name"})
    attempt, seen = await world.carried_out(attempt)
    assert isinstance(seen.outcome, Failed)
    assert (seen.outcome.reason, seen.outcome.retryable) == (Reason.INVALID_IMAGE_NAME, False)
    await world.executor.release(attempt.id, world.run)
    await world.until(lambda: world.key(attempt) not in world.informer.store)
    assert world.seen(attempt) is None


async def test_a_pod_that_somebody_deletes_has_failed_and_goes_after_its_release(world: World):
    attempt = world.attempt("slow", UNTIL_STOPPED)
    await world.executor.start(attempt)
    await world.stage(attempt, Stage.RUNNING)
    await world.client.delete(PODS, *world.key(attempt))
    seen = await world.stage(attempt, Stage.ENDED)
    if isinstance(seen.outcome, Unknown):
        assert await world.lost(attempt)
    else:
        assert isinstance(seen.outcome, Failed)
        assert (seen.outcome.reason, seen.outcome.retryable) == (Reason.POD_DELETED, True)
    assert await world.live(attempt) is not None, "it is held until its end is recorded"
    await world.executor.release(attempt.id, world.run)
    await world.until(lambda: world.key(attempt) not in world.informer.store)
    assert world.seen(attempt) is None


async def says_ready(cluster: Cluster, world: World, attempt: Attempt) -> None:
    """Wait until the script has said `ready`: before that its trap may not be set, though the container runs."""
    _, name = world.key(attempt)
    logs = ("logs", name)
    await asyncio.to_thread(wait_for, "the script", lambda: "ready" in cluster.kubectl(*logs, check=False).stdout)


async def test_a_pod_that_finishes_its_work_after_the_order_to_stop_has_succeeded(world: World, cluster: Cluster):
    script = 'trap \'echo "{\\"undone\\": false}" > /dev/termination-log; exit 0\' TERM; echo ready; sleep 1000 & wait'
    for name in ("tidy", "tidy-again", "tidy-once-more"):
        attempt = world.attempt(name, script)
        await world.executor.start(attempt)
        await world.stage(attempt, Stage.RUNNING)
        await says_ready(cluster, world, attempt)
        await world.executor.stop(attempt.id, world.run, "time is up")
        outcome = (await world.stage(attempt, Stage.ENDED)).outcome
        if not await world.lost(attempt):
            break
        note_second_try(f"{name}: {outcome}")
    assert outcome == Succeeded(output={"undone": False})


async def test_a_foreign_pod_under_our_name_is_never_used_nor_touched(world: World):
    attempt = world.attempt("score")
    theirs = build_pod(replace(attempt, input={"other": "content"}))
    assert isinstance(theirs, dict)
    theirs["metadata"] |= {"labels": {"app": "theirs"}, "finalizers": []}
    made = await world.client.create(PODS, world.run.namespace, theirs)
    _, seen = await world.carried_out(attempt)
    assert isinstance(seen.outcome, Failed)
    assert seen.outcome.reason is Reason.FOREIGN_POD
    await world.executor.stop(attempt.id, world.run, "over")
    await world.executor.release(attempt.id, world.run)
    left = await world.live(attempt)
    assert left is not None
    assert left["metadata"]["labels"] == {"app": "theirs"}
    assert (left["metadata"]["uid"], left["metadata"].get("deletionTimestamp")) == (made["metadata"]["uid"], None)


async def test_a_pod_whose_creation_was_not_answered_is_adopted(world: World):
    attempt = world.attempt("score", 'echo "{}" > /dev/termination-log')
    with pytest.raises(ServerUnavailable):
        await world.executor_on(LosesAnswers(world.client)).start(attempt)
    made = await world.live(attempt)
    assert made is not None
    again = world.executor_on(world.client)
    await again.start(attempt)
    seen = await world.stage(attempt, Stage.ENDED)
    assert seen.outcome == Succeeded(output={})
    left = await world.live(attempt)
    assert left is not None
    assert left["metadata"]["uid"] == made["metadata"]["uid"]


async def test_a_pod_that_loses_its_labels_is_followed_to_its_end(world: World, cluster: Cluster):
    attempt = world.attempt("slow", 'trap "exit 0" TERM; echo ready; sleep 1000 & wait')
    await world.executor.start(attempt)
    await world.stage(attempt, Stage.RUNNING)
    await world.client.merge_patch(PODS, *world.key(attempt), {"metadata": {"labels": {MANAGED_BY_LABEL: None}}})
    await world.until(lambda: world.seen(attempt) is None)
    await world.executor.start(attempt)
    await world.stage(attempt, Stage.RUNNING)
    await says_ready(cluster, world, attempt)
    await world.executor.stop(attempt.id, world.run, "over")
    outcome = (await world.stage(attempt, Stage.ENDED)).outcome
    assert outcome == Succeeded() or (isinstance(outcome, Unknown) and await world.lost(attempt))


async def test_other_finalizers_and_a_busy_kubelet_do_not_hinder_a_release(world: World):
    attempt = world.attempt("score")
    attempt, _ = await world.carried_out(attempt)
    for finalizers in (["example.com/before", "kubesaga.dev/outcome"], ["kubesaga.dev/outcome", "example.com/after"]):
        # The informer's copy may not have been told in time: then the release starts from an old list.
        await world.client.merge_patch(PODS, *world.key(attempt), {"metadata": {"finalizers": finalizers}})
    await world.executor.release(attempt.id, world.run)
    left = await world.live(attempt)
    assert left is not None
    assert left["metadata"]["finalizers"] == ["example.com/after"]
    await world.client.merge_patch(PODS, *world.key(attempt), {"metadata": {"finalizers": None}})


async def test_a_quota_is_waited_for(world: World, cluster: Cluster):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    cluster.apply(quota)
    await asyncio.to_thread(wait_for, "the quota to hold", lambda: "exceeded quota" in cluster.refusal())
    attempt = world.attempt("score")
    await world.executor.start(attempt)
    seen = world.executor.observe(world.run, attempt.id.run_uid)[attempt.id]
    assert (seen.stage, seen.reason, seen.begun) == (Stage.WAITING, Reason.QUOTA_EXCEEDED, False)
    assert "exceeded quota: none" in seen.message
    cluster.kubectl("delete", "resourcequota", "none")
    await asyncio.to_thread(wait_for, "the quota to be gone", lambda: "exceeded quota" not in cluster.refusal())
    _, seen = await world.carried_out(attempt)
    assert isinstance(seen.outcome, Succeeded)


async def test_a_deleted_run_takes_its_pods_along(world: World):
    attempt = world.attempt("score")
    attempt, _ = await world.carried_out(attempt)
    await world.executor.release(attempt.id, world.run)
    await world.client.delete(WORKFLOW_RUNS, world.run.namespace, world.run.name)
    await world.until(lambda: world.key(attempt) not in world.informer.store)
    assert world.executor.runs_at(world.run) == set()
