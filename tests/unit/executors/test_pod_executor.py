# SPDX-License-Identifier: Apache-2.0
"""The pod executor against a server that answers, refuses, loses answers and lets others interfere; with a real informer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from tests.unit.executors.pod_objects import PULL_FAILED, RUN, UID, attempt_of, beside, ended, made, running, waiting
from tests.unit.executors.pod_server import PodServer

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Failed, Observation, RunKey, Stage, Succeeded, Unknown
from kubesaga.executors.pods import PodExecutor
from kubesaga.kube.errors import ApiError, Conflict, Forbidden, Invalid, NotFound, ServerUnavailable, TooManyRequests
from kubesaga.kube.informer import Informer
from kubesaga.kube.resources import PODS

ATTEMPT = attempt_of()
NAME = made(ATTEMPT)["metadata"]["name"]
NO_ACCOUNT = (
    'pods "x" is forbidden: error looking up service account support/default: serviceaccount "default" not found'
)


class World:
    """A server, an informer that watches it, and an executor."""

    def __init__(self) -> None:
        self.server = PodServer()
        self.woken: list[RunKey] = []
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Start the operator, or start it again: with nothing in memory."""
        await self.end()
        client: object = self.server
        self.informer = Informer(client, PODS, clock=lambda: 0.0, sleep=asyncio.sleep, random=lambda: 0.0)
        self.executor = PodExecutor(client, self.informer, self.woken.append)
        self._task = asyncio.create_task(self.informer.run())
        await self.informer.wait_synced()
        await self.settle()
        self.woken.clear()

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def settle(self) -> None:
        """Let the watch tell everything."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def start(self, attempt=ATTEMPT) -> None:
        await self.executor.start(attempt)
        await self.settle()

    async def started(self) -> None:
        await self.start()
        self.server.becomes("Running", running())
        await self.settle()
        self.woken.clear()
        self.server.calls.clear()

    async def stop(self) -> None:
        await self.executor.stop(ATTEMPT.id, RUN, "time is up")
        await self.settle()

    async def release(self) -> None:
        await self.executor.release(ATTEMPT.id, RUN)
        await self.settle()

    @property
    def seen(self) -> Observation | None:
        return self.executor.observe(RUN, UID).get(ATTEMPT.id)

    @property
    def outcome(self):
        assert self.seen is not None
        return self.seen.outcome


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.begin()
    yield world
    await world.end()


# Start.


async def test_a_start_makes_one_pod_that_waits(world: World):
    await world.start()
    assert world.seen == Observation(stage=Stage.WAITING, pod_name=NAME, held=True)
    assert world.server.calls == [f"create {NAME}"]
    assert world.server.only()["metadata"]["finalizers"] == ["kubesaga.dev/outcome"]


async def test_a_start_that_is_repeated_asks_nothing(world: World):
    await world.start()
    await world.start()
    assert world.server.calls == [f"create {NAME}"]


async def test_a_start_right_after_the_first_finds_its_own_write_before_the_watch_tells(world: World):
    await world.executor.start(ATTEMPT)
    assert world.seen is not None


async def test_a_new_pod_wakes_nobody_and_its_progress_does(world: World):
    await world.start()
    assert world.woken == []
    world.server.becomes("Pending", waiting("ContainerCreating"))
    await world.settle()
    assert world.woken == []
    world.server.becomes("Running", running())
    await world.settle()
    assert world.woken == [RUN]
    world.server.becomes("Succeeded", ended(0, '{"score": 7}'))
    await world.settle()
    assert world.woken == [RUN, RUN]
    assert world.outcome == Succeeded(output={"score": 7})


async def test_a_lost_answer_is_repeated_and_the_pod_found(world: World):
    world.server.lose_answer("create")
    with pytest.raises(ServerUnavailable):
        await world.executor.start(ATTEMPT)
    uid = world.server.only()["metadata"]["uid"]
    await world.start()
    assert world.server.only()["metadata"]["uid"] == uid
    assert world.seen == Observation(stage=Stage.WAITING, pod_name=NAME, held=True)


async def test_a_lost_answer_and_a_restart_find_the_pod(world: World):
    world.server.lose_answer("create")
    with pytest.raises(ServerUnavailable):
        await world.executor.start(ATTEMPT)
    await world.begin()
    await world.start()
    assert [call for call in world.server.calls if "create" in call] == [f"create {NAME}"]
    assert world.seen is not None


async def test_a_pod_whose_labels_were_taken_before_it_was_found_gets_them_back(world: World):
    world.server.put(made(ATTEMPT, labels={"team": "support"}))
    await world.start()
    assert world.server.only()["metadata"]["labels"] == made(ATTEMPT)["metadata"]["labels"] | {"team": "support"}
    world.server.becomes("Running", running())
    await world.settle()
    assert world.seen is not None
    assert world.seen.stage is Stage.RUNNING


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(made(ATTEMPT, ownerReferences=[]), id="a pod that nobody owns"),
        pytest.param(made(attempt_of(image="evil:1")), id="a pod that says it is ours and asks for something else"),
        pytest.param(made(ATTEMPT, annotations={}), id="a pod that does not say which attempt it is"),
    ],
)
async def test_a_foreign_pod_is_never_used_nor_touched(world: World, foreign):
    world.server.during("create", lambda: world.server.put(foreign))
    await world.start()
    assert isinstance(world.outcome, Failed)
    assert (world.outcome.reason, world.outcome.retryable) == (Reason.FOREIGN_POD, False)
    assert NAME in world.outcome.message
    assert world.woken == [RUN]
    world.server.becomes("Succeeded", ended(0, '{"score": 7}'))
    before = world.server.only()
    await world.settle()
    assert isinstance(world.outcome, Failed), "what the foreign pod says is not used"
    await world.stop()
    await world.release()
    assert world.server.only() == before
    assert world.seen is None


async def test_a_foreign_pod_that_the_watch_told_of_first_is_forgotten(world: World):
    world.server.during("create", lambda: world.server.put(made(attempt_of(image="evil:1"))))
    await world.start()
    await world.release()
    assert world.seen is None
    assert world.executor.runs_at(RUN) == set()


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        pytest.param(Invalid(422, "Invalid", "spec.containers[0].image: Required"), False, id="an invalid pod"),
        pytest.param(ApiError(400, "BadRequest", 'admission webhook "x" denied the request'), False, id="a webhook"),
        pytest.param(ApiError(413, "RequestEntityTooLarge", "limit is 3145728"), False, id="a pod that is too large"),
        pytest.param(NotFound(404, "NotFound", 'namespaces "support" not found'), False, id="no namespace"),
        pytest.param(Forbidden(403, "Forbidden", 'violates PodSecurity "restricted:latest"'), False, id="PodSecurity"),
        pytest.param(
            Forbidden(
                403, "Forbidden", "is being terminated", details={"causes": [{"reason": "NamespaceTerminating"}]}
            ),
            False,
            id="a namespace that is being deleted",
        ),
        pytest.param(Forbidden(403, "Forbidden", "cannot create resource pods"), True, id="missing rights"),
    ],
)
async def test_a_refused_pod_is_an_end_with_the_servers_words(world: World, error, retryable):
    world.server.fail("create", error)
    await world.start()
    rejected = Failed(reason=Reason.POD_REJECTED, message=error.message, retryable=retryable)
    assert world.seen == Observation(stage=Stage.ENDED, outcome=rejected, message=error.message, held=True)
    assert world.woken == [RUN]
    await world.start()
    assert len(world.server.calls) == 1, "it is not asked again"
    await world.release()
    assert world.seen is None
    assert len(world.server.calls) == 1, "there is nothing to release in the cluster"


FULL = 'pods "x" is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2'


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(FULL, Reason.QUOTA_EXCEEDED, id="a quota that is used up"),
        pytest.param('pods "x" is forbidden: failed quota: few: must specify limits.cpu', Reason.QUOTA_EXCEEDED, id="a quota that asks for limits"),
        pytest.param('pods "x" is forbidden: maximum cpu usage per Container is 1, but limit is 2', Reason.LIMIT_RANGE, id="more than a LimitRange allows"),
        pytest.param('pods "x" is forbidden: [minimum memory usage per Pod is 1Gi, but request is 8]', Reason.LIMIT_RANGE, id="less than it asks for"),
        pytest.param('pods "x" is forbidden: cpu max limit to request ratio per Container is 2, but', Reason.LIMIT_RANGE, id="a ratio it does not allow"),
    ],
)  # fmt: skip
async def test_what_the_namespace_does_not_allow_now_is_waited_for(world: World, message, reason):
    world.server.fail("create", Forbidden(403, "Forbidden", message))
    await world.start()
    assert world.seen == Observation(stage=Stage.WAITING, reason=reason, message=message, begun=False, held=True)
    assert world.woken == [RUN]
    assert world.executor.runs_at(RUN) == {UID}
    await world.start()
    await world.settle()
    assert world.seen.begun, "asked again, the server has room"
    assert len(world.server.pods) == 1


async def test_what_is_still_not_allowed_wakes_nobody(world: World):
    for _ in range(2):
        world.server.fail("create", Forbidden(403, "Forbidden", FULL))
        await world.start()
    assert world.woken == [RUN]


async def test_what_could_not_begin_can_be_stopped(world: World):
    world.server.fail("create", Forbidden(403, "Forbidden", FULL))
    await world.start()
    await world.executor.stop(ATTEMPT.id, RUN, "Cancelled")
    told = "it was told to stop (Cancelled) before it could begin"
    assert world.seen.outcome == Failed(reason=Reason.POD_DELETED, message=told)
    await world.release()
    assert world.seen is None
    assert len(world.server.calls) == 1, "there is nothing to stop or release in the cluster"


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ServerUnavailable(500, "InternalError", "failed calling webhook"), id="a failing webhook"),
        pytest.param(ServerUnavailable(0, "Timeout", "no answer"), id="no answer"),
        pytest.param(TooManyRequests(429, "TooManyRequests", "slow down"), id="too many requests"),
        pytest.param(Conflict(409, "Conflict", "resourcequotas: the object has been modified"), id="a busy quota"),
    ],
)
async def test_what_may_be_otherwise_the_next_time_is_raised_and_repeated(world: World, error):
    world.server.fail("create", error)
    with pytest.raises(type(error)):
        await world.executor.start(ATTEMPT)
    assert world.seen is None
    await world.start()
    assert world.seen is not None


async def test_a_new_namespace_gets_its_account_a_moment_later(world: World):
    for _ in range(3):
        world.server.fail("create", Forbidden(403, "Forbidden", NO_ACCOUNT))
        with pytest.raises(Forbidden):
            await world.executor.start(ATTEMPT)
    await world.start()
    assert world.seen is not None
    assert world.seen.stage is Stage.WAITING


async def test_an_account_that_never_comes_is_an_end(world: World):
    for _ in range(8):
        world.server.fail("create", Forbidden(403, "Forbidden", NO_ACCOUNT))
        with pytest.raises(Forbidden):
            await world.executor.start(ATTEMPT)
    world.server.fail("create", Forbidden(403, "Forbidden", NO_ACCOUNT))
    await world.start()
    assert world.outcome == Failed(reason=Reason.POD_REJECTED, message=NO_ACCOUNT, retryable=True)


async def test_an_account_that_the_author_names_is_not_waited_for(world: World):
    world.server.fail("create", Forbidden(403, "Forbidden", NO_ACCOUNT))
    await world.start(attempt_of(service_account="tickets"))
    assert isinstance(world.outcome, Failed)


async def test_params_that_no_pod_can_carry_are_an_end_without_a_request(world: World):
    await world.start(attempt_of(input={"text": "x" * 140_000}))
    assert isinstance(world.outcome, Failed)
    assert world.outcome.reason is Reason.INVALID_INPUT
    assert world.server.calls == []


# Observe.


async def test_a_restarted_operator_sees_what_there_is(world: World):
    await world.started()
    world.server.becomes("Succeeded", ended(0, '{"score": 7}'))
    await world.begin()
    assert world.outcome == Succeeded(output={"score": 7})


async def test_an_executor_made_after_the_first_listing_sees_it_too(world: World):
    await world.started()
    late = PodExecutor(world.server, world.informer, world.woken.append)
    assert late.observe(RUN, UID) == world.executor.observe(RUN, UID)


async def test_runs_are_told_apart_by_uid_and_name(world: World):
    await world.started()
    assert world.executor.observe(RUN, "another-uid") == {}
    assert world.executor.observe(RunKey(namespace="other", name="ticket-1"), UID) == {}
    assert world.executor.runs_at(RUN) == {UID}
    assert world.executor.runs_at(RunKey(namespace="support", name="ticket-2")) == set()


async def test_labels_may_be_edited(world: World):
    await world.started()
    world.server.edit(labels={"app.kubernetes.io/managed-by": "kubesaga", "kubesaga.dev/attempt": "7"})
    world.server.becomes("Succeeded", ended(0))
    await world.settle()
    assert world.outcome == Succeeded()


async def test_the_cause_of_a_failed_pull_stays_and_is_told_once(world: World):
    await world.start()
    for _ in range(3):
        world.server.becomes("Pending", waiting("ErrImagePull", PULL_FAILED))
        world.server.becomes("Pending", waiting("ImagePullBackOff", 'Back-off pulling image "nope:1"'))
    await world.settle()
    assert world.seen is not None
    assert world.seen.message == f"ErrImagePull: {PULL_FAILED}"
    assert world.woken == [RUN]


async def test_a_pod_that_loses_the_label_of_the_watch_is_found_and_marked_again(world: World):
    await world.started()
    world.server.edit(labels={})
    await world.settle()
    assert (world.seen, world.woken) == (None, [RUN])
    await world.start()
    assert world.seen == Observation(stage=Stage.RUNNING, pod_name=NAME, held=True)
    assert not any("create" in call for call in world.server.calls)
    world.server.becomes("Succeeded", ended(0))
    await world.settle()
    assert world.outcome == Succeeded()


async def test_a_pod_that_loses_its_annotations_is_found_and_marked_again(world: World):
    await world.started()
    world.server.edit(annotations={})
    await world.settle()
    await world.start()
    assert world.seen == Observation(stage=Stage.RUNNING, pod_name=NAME, held=True)


async def test_a_pod_that_vanishes_though_it_was_held_is_never_made_again(world: World):
    await world.started()
    world.server.vanish()
    await world.settle()
    assert (world.seen, world.woken) == (None, [RUN])
    await world.start()
    assert isinstance(world.outcome, Unknown)
    assert world.seen is not None
    assert world.seen.held
    await world.start()
    assert not any("create" in call for call in world.server.calls)
    await world.release()
    assert world.seen is None


async def test_a_vanished_pod_is_looked_for_again_while_the_server_does_not_answer(world: World):
    await world.started()
    world.server.vanish()
    await world.settle()
    for _ in range(2):
        world.server.fail("get", ServerUnavailable(503, "ServiceUnavailable", "later"))
        with pytest.raises(ServerUnavailable):
            await world.executor.start(ATTEMPT)
    await world.start()
    assert isinstance(world.outcome, Unknown)
    assert world.server.pods == {}


async def test_another_pod_under_the_name_of_a_vanished_one_is_not_it(world: World):
    await world.started()
    world.server.vanish()
    world.server.put(made(ATTEMPT, uid="another", labels={}))
    await world.settle()
    await world.start()
    assert isinstance(world.outcome, Unknown)


async def test_the_end_of_a_pod_that_vanished_after_it_is_kept(world: World):
    await world.started()
    world.server.becomes("Succeeded", ended(0, '{"score": 7}'))
    world.server.vanish()
    await world.settle()
    assert world.outcome == Succeeded(output={"score": 7})
    await world.start()
    await world.release()
    assert world.seen is None
    assert not any("create" in call for call in world.server.calls)


async def test_the_finalizer_of_an_ended_pod_without_labels_is_still_taken_off(world: World):
    await world.started()
    world.server.becomes("Succeeded", ended(0))
    world.server.edit(labels={})
    await world.settle()
    assert world.outcome == Succeeded()
    await world.release()
    assert world.server.only()["metadata"]["finalizers"] == []


# Stop.


async def test_a_stop_deletes_the_pod_and_its_end_is_observed(world: World):
    await world.started()
    await world.stop()
    assert world.seen == Observation(stage=Stage.RUNNING, pod_name=NAME, held=True)
    await world.stop()
    assert world.server.calls == [f"delete {NAME}"], "one order is enough"
    world.server.becomes("Failed", ended(143, finished="2026-11-22T01:43:00Z"))
    await world.settle()
    assert isinstance(world.outcome, Failed)
    assert world.outcome.reason is Reason.POD_DELETED
    await world.release()
    assert world.server.pods == {}
    assert world.seen is None


async def test_a_pod_that_is_stopped_before_it_has_a_node_has_ended(world: World):
    await world.start()
    await world.stop()
    assert isinstance(world.outcome, Failed)
    assert world.outcome.reason is Reason.POD_DELETED


async def test_what_succeeds_after_the_order_has_succeeded(world: World):
    await world.started()
    await world.stop()
    world.server.becomes("Succeeded", ended(0, '{"score": 7}'))
    await world.settle()
    assert world.outcome == Succeeded(output={"score": 7})


async def test_stopping_what_is_not_there_is_no_error(world: World):
    await world.stop()
    assert world.server.calls == [f"get {NAME}"]


@pytest.mark.parametrize(
    "error",
    [NotFound(404, "NotFound", "gone"), Conflict(409, "Conflict", "the UID in the precondition does not match")],
    ids=["it is gone meanwhile", "another has its name meanwhile"],
)
async def test_stopping_what_is_not_there_any_more_is_no_error(world: World, error):
    await world.started()
    world.server.fail("delete", error)
    await world.stop()


async def test_a_pod_that_the_watch_has_not_told_of_is_stopped_too(world: World):
    world.server.put(made(ATTEMPT, labels={}))
    await world.stop()
    assert "deletionTimestamp" in world.server.only()["metadata"]


# Release.


async def finished(world: World) -> None:
    await world.started()
    world.server.becomes("Succeeded", ended(0, '{"score": 7}'))
    await world.settle()
    world.woken.clear()


async def test_a_release_takes_our_finalizer_and_leaves_the_pod(world: World):
    await finished(world)
    world.server.edit(finalizers=["first/one", "kubesaga.dev/outcome", "last/one"])
    await world.settle()
    await world.release()
    assert world.server.only()["metadata"]["finalizers"] == ["first/one", "last/one"]
    assert "deletionTimestamp" not in world.server.only()["metadata"]
    assert world.seen == Observation(
        stage=Stage.ENDED, outcome=Succeeded(output={"score": 7}), pod_name=NAME, held=False
    )
    assert world.woken == [], "our own deed is no news"


async def test_a_release_that_is_repeated_asks_nothing(world: World):
    await finished(world)
    await world.release()
    world.server.calls.clear()
    await world.release()
    assert world.server.calls == []


@pytest.mark.parametrize(
    "meanwhile",
    [
        pytest.param(lambda server: server.edit(finalizers=["new/one", "kubesaga.dev/outcome"]), id="a finalizer came"),
        pytest.param(lambda server: server.edit(finalizers=[]), id="somebody took ours"),
        pytest.param(lambda server: server.vanish(), id="the pod went"),
        pytest.param(lambda server: server.becomes("Succeeded", ended(0, "x")), id="the kubelet wrote"),
    ],
)
async def test_a_release_bears_what_others_do_meanwhile(world: World, meanwhile: Callable[[PodServer], None]):
    await finished(world)
    world.server.during("json_patch", lambda: meanwhile(world.server))
    await world.release()
    left = [finalizer for pod in world.server.pods.values() for finalizer in pod["metadata"]["finalizers"]]
    assert "kubesaga.dev/outcome" not in left
    assert left in ([], ["new/one"])


async def test_a_release_gives_up_on_a_server_that_always_refuses_and_can_be_repeated(world: World):
    await finished(world)
    for _ in range(5):
        world.server.fail("json_patch", Conflict(409, "Conflict", "try again"))
    with pytest.raises(Conflict):
        await world.executor.release(ATTEMPT.id, RUN)
    assert world.seen is not None
    assert world.seen.held
    await world.release()
    assert world.server.only()["metadata"]["finalizers"] == []


async def test_the_lost_answer_of_a_release_is_repeated(world: World):
    await finished(world)
    world.server.lose_answer("json_patch")
    with pytest.raises(ServerUnavailable):
        await world.executor.release(ATTEMPT.id, RUN)
    await world.settle()
    await world.release()
    assert world.server.only()["metadata"]["finalizers"] == []


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(
            lambda server: server.becomes("Pending", waiting("InvalidImageName", "bad")),
            id="it waits for ever for its image",
        ),
        pytest.param(
            lambda server: server.put(beside(server.only() | {"status": _status(server, ended(0))}, running())),
            id="a mesh's container outlives ours",
        ),
    ],
)
async def test_a_release_ends_what_may_still_run(world: World, prepare: Callable[[PodServer], None]):
    await world.started()
    prepare(world.server)
    await world.settle()
    assert world.seen is not None
    assert world.seen.stage is Stage.ENDED
    await world.release()
    assert world.server.calls == [f"delete {NAME}", f"json_patch {NAME}"]
    assert world.seen is None, "the pod is gone, and its release is not mistaken for a loss"


def _status(server: PodServer, state):
    status = server.only()["status"]
    return status | {"containerStatuses": [status["containerStatuses"][0] | {"state": state}]}


async def test_a_release_of_what_is_not_there_is_no_error(world: World):
    await world.release()
    assert world.seen is None


async def test_a_released_pod_that_is_collected_is_no_news(world: World):
    await finished(world)
    await world.release()
    world.server.vanish()
    await world.settle()
    assert world.woken == []
    assert world.executor.runs_at(RUN) == set()


async def test_the_collector_deletes_a_held_pod_of_a_run_that_is_gone_and_that_is_told(world: World):
    await finished(world)
    await world.server.delete(PODS, "support", NAME, uid=world.server.only()["metadata"]["uid"])
    await world.settle()
    assert world.woken == [RUN]
    assert world.executor.runs_at(RUN) == {UID}


async def test_nothing_stays_in_memory(world: World):
    for number in range(1, 4):
        attempt = attempt_of(number=number)
        await world.executor.start(attempt)
        await world.executor.stop(attempt.id, RUN, "over")
        await world.executor.release(attempt.id, RUN)
        await world.settle()
    assert world.server.pods == {}
    memory = world.executor._memory
    remembered = {name: getattr(memory, name) for name in vars(memory) if name not in ("_wake", "_max_output_bytes")}
    assert not any(remembered.values()), remembered
