# SPDX-License-Identifier: Apache-2.0
"""A WorkflowAction reaches its run once, is answered once, and is marked, whatever fails in between."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from typing import Any

import pytest
from tests.unit.kube.server import ApiServer

from kubesaga.api.action import Verb
from kubesaga.api.fields import format_time
from kubesaga.api.names import API_VERSION, FINISHED_LABEL
from kubesaga.api.run import WorkflowRunSpec, WorkflowRunStatus
from kubesaga.controller.actuator import Actuator
from kubesaga.controller.announcer import Announcer
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.delivering.mailbox import Mailbox
from kubesaga.controller.kube_actions import KubeActions
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.loader import Loader
from kubesaga.controller.memory import MemoryRevisions
from kubesaga.controller.reconciler import Reconciler
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.command import Command
from kubesaga.engine.decision import Answer
from kubesaga.engine.snapshot import Limits, Run
from kubesaga.kube.client import KubeClient
from kubesaga.kube.errors import Forbidden, ServerUnavailable
from kubesaga.testing.builders import KEY, UID
from kubesaga.testing.clock import START, FakeClock
from kubesaga.testing.no_actions import NoActions
from kubesaga.testing.paths import PathEvaluator
from kubesaga.testing.unguarded import open_ledger

PLURAL = "workflowactions"
OWNER = {"apiVersion": API_VERSION, "kind": "WorkflowRun", "name": KEY.name, "uid": UID}
NOW = format_time(START)
APPLIED = {"phase": "Applied", "message": "done", "completionTime": NOW}


class Desk:
    """One life of the operator, as far as actions go: the memory, its queue, and the passes over runs that it asks for."""

    def __init__(self, server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
        self.server = server
        self.woken: list[RunKey] = []
        self.queue: deque[RunKey] = deque()
        self.actions = KubeActions(client, now=clock.now, wake=self.woken.append, look=self.queue.append)

    def stored(self, name: str = "fix") -> dict[str, Any]:
        """Return an action as it is stored now."""
        return copy.deepcopy(self.server.objects[PLURAL, KEY.namespace, name])

    async def create(self, name: str = "fix", **more: Any) -> None:
        """Let somebody create an action, and the watch tell of it."""
        await self.server.put(PLURAL, action(name, **more))
        self.hear(name)

    def hear(self, name: str = "fix") -> None:
        """Let the watch tell of an action as it is now."""
        if self.actions.saw(where(name), self.stored(name)):
            self.queue.append(where(name))

    async def work(self) -> None:
        """Do what is queued."""
        while self.queue:
            await self.actions.process(self.queue.popleft())

    def waiting(self, uid: str | None = UID) -> list[str]:
        """Return the names of what waits for the run."""
        return [command.name for command in self.actions.of_run(KEY, uid)]

    def only(self) -> Command:
        """Return the one command that waits."""
        (command,) = self.actions.of_run(KEY, UID)
        return command

    async def answer(self, command: Command, *, applied: bool = True, message: str = "done") -> None:
        """Answer as a pass does, and do what comes of it."""
        answer = Answer(command=command, applied=applied, message=message)
        await Actuator({}, Mailbox(self.actions)).perform(RUN, [answer])
        await self.work()

    def writes(self) -> int:
        """Return how many writes there were."""
        return sum(request.method == "PATCH" for request in self.server.requests)


RUN = Run(
    key=KEY, uid=UID, version="7", generation=1, created=START, spec=WorkflowRunSpec(), status=WorkflowRunStatus(),
    spec_digest="",
)  # fmt: skip


def where(name: str) -> RunKey:
    return RunKey(namespace=KEY.namespace, name=name)


def action(name: str = "fix", *, created: str = NOW, spec: Any = None, **more: Any) -> dict[str, Any]:
    """Return an action for the run; `more` is put into a spec that is right, but for `metadata` and `status`."""
    metadata = {"namespace": KEY.namespace, "name": name, "creationTimestamp": created, **more.pop("metadata", {})}
    status = {"status": more.pop("status")} if "status" in more else {}
    right = {"targetRef": {"kind": "WorkflowRun", "name": KEY.name}, "action": "Retry", **more}
    return {"apiVersion": API_VERSION, "kind": "WorkflowAction", "metadata": metadata, "spec": right if spec is None else spec} | status  # fmt: skip


@pytest.fixture
async def desk(server: ApiServer, client: KubeClient, clock: FakeClock) -> Desk:
    run = {"metadata": {"namespace": KEY.namespace, "name": KEY.name, "uid": UID}, "spec": {}}
    await server.put("workflowruns", run)
    return Desk(server, client, clock)


@pytest.fixture
async def next_life(server: ApiServer, client: KubeClient, clock: FakeClock) -> Desk:
    """An operator that starts later and lists what there is then (`hear`)."""
    return Desk(server, client, clock)


# --- what a run is told ---------------------------------------------------------------------------------------------


async def test_an_action_wakes_its_run_which_is_given_the_command(desk: Desk) -> None:
    await desk.create(action="Skip", activity="pay", requestedBy="ann")
    await desk.work()
    assert desk.woken == [KEY]
    uid = desk.stored()["metadata"]["uid"]
    assert desk.only() == Command(uid=uid, name="fix", verb=Verb.SKIP, activity="pay", by="ann")
    assert desk.writes() == 0


async def test_a_signal_brings_its_value_to_the_run(desk: Desk) -> None:
    await desk.create(action="Signal", activity="paid", value={"by": None, "n": [1, None]})
    await desk.work()
    assert (desk.only().verb, desk.only().value) == (Verb.SIGNAL, {"by": None, "n": [1, None]})


async def test_two_actions_wait_in_the_order_of_their_creation_and_then_of_their_names(desk: Desk) -> None:
    later = "2026-01-01T00:00:01Z"
    for name, created in (("a-late", later), ("c-early", NOW), ("b-early", NOW), ("z-late", later)):
        await desk.create(name, created=created)
    assert desk.waiting() == ["b-early", "c-early", "a-late", "z-late"]


async def test_what_was_answered_or_is_being_deleted_or_means_another_run_does_not_wait(desk: Desk) -> None:
    await desk.create("answered", status={"phase": "Refused"})
    await desk.create("withdrawn", metadata={"deletionTimestamp": NOW})
    await desk.create("elsewhere", targetRef={"name": "order-2"})
    assert desk.waiting() == []


async def test_an_action_that_is_deleted_before_it_was_answered_is_withdrawn(desk: Desk) -> None:
    await desk.create()
    desk.actions.lost(where("fix"), desk.stored())
    assert desk.waiting() == []
    assert desk.actions.versions() == {}


async def test_the_end_of_an_older_action_of_the_same_name_is_not_the_end_of_this_one(desk: Desk) -> None:
    await desk.create(metadata={"uid": "old"})
    old = desk.stored()
    await desk.server.remove(PLURAL, KEY.namespace, "fix")
    await desk.create(metadata={"uid": "new"})
    desk.actions.lost(where("fix"), old)
    assert desk.only().uid == "new"


@pytest.mark.parametrize(("uid", "problem"), [
    pytest.param(UID, None, id="this run"),
    pytest.param("another", f"spec.targetRef.uid: the run that bears the name now is another one; its uid is {UID}", id="another run"),
])  # fmt: skip
async def test_a_uid_in_the_target_means(desk: Desk, uid: str, problem: str | None) -> None:
    await desk.create(targetRef={"name": KEY.name, "uid": uid})
    assert desk.only().problem == problem


@pytest.mark.parametrize(("spec", "verb", "problem"), [
    pytest.param({"action": "Redo"}, Verb.RETRY, 'spec.action: "Redo" is not one of', id="an unknown verb"),
    pytest.param({"action": "Approve"}, Verb.RETRY, "Approve is not supported by this version", id="a verb of later"),
    pytest.param({"action": "Skip"}, Verb.SKIP, "spec.activity: is required with Skip", id="a Skip of nothing"),
    pytest.param({"action": "Abandon", "hurry": 1}, Verb.ABANDON, "spec.hurry: there is no such field", id="a new field"),
    pytest.param({}, Verb.RETRY, "spec.action: is required", id="no verb"),
])  # fmt: skip
async def test_the_run_is_told_what_is_wrong_with(
    desk: Desk, spec: Mapping[str, Any], verb: Verb, problem: str
) -> None:
    await desk.create(spec={"targetRef": {"name": KEY.name}, "requestedBy": "ann", **spec})
    await desk.work()
    assert desk.woken == [KEY]
    command = desk.only()
    assert (command.verb, command.by) == (verb, "ann")
    assert problem in str(command.problem)


# --- answers --------------------------------------------------------------------------------------------------------


async def test_an_answer_is_written_and_the_action_then_marked_and_given_to_its_run(desk: Desk) -> None:
    await desk.create()
    await desk.answer(desk.only())
    stored = desk.stored()
    assert stored["status"] == APPLIED
    assert stored["metadata"]["labels"] == {FINISHED_LABEL: "true"}
    assert stored["metadata"]["ownerReferences"] == [OWNER]
    assert desk.writes() == 2


async def test_a_refusal_is_written_and_marked_too(desk: Desk) -> None:
    await desk.create()
    await desk.answer(desk.only(), applied=False, message="the run is over")
    stored = desk.stored()
    assert stored["status"] == {"phase": "Refused", "message": "the run is over", "completionTime": NOW}
    assert stored["metadata"]["ownerReferences"] == [OWNER]


async def test_an_action_that_is_done_with_is_no_news_and_costs_no_memory(desk: Desk) -> None:
    await desk.create()
    before = desk.stored()
    await desk.answer(desk.only())
    for echo in (before, desk.stored()):
        assert not desk.actions.saw(where("fix"), echo)
        desk.actions.lost(where("fix"), echo)
    assert desk.actions.versions() == {}
    assert desk.waiting() == []


async def test_two_actions_are_answered_each_by_itself(desk: Desk) -> None:
    await desk.create("one")
    await desk.create("two", action="Abandon")
    first, second = desk.actions.of_run(KEY, UID)
    answers = [
        Answer(command=first, applied=True, message="done"),
        Answer(command=second, applied=False, message="too late"),
    ]
    await Actuator({}, Mailbox(desk.actions)).perform(RUN, answers)
    await desk.work()
    assert [desk.stored(name)["status"]["phase"] for name in ("one", "two")] == ["Applied", "Refused"]


async def test_owners_that_others_set_are_kept_and_ours_is_not_added_twice(desk: Desk) -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}
    await desk.create("theirs", metadata={"ownerReferences": [other]})
    await desk.create("ours", metadata={"ownerReferences": [OWNER]})
    for command in desk.actions.of_run(KEY, UID):
        await desk.answer(command)
    assert desk.stored("theirs")["metadata"]["ownerReferences"] == [other, OWNER]
    assert desk.stored("ours")["metadata"]["ownerReferences"] == [OWNER]


async def test_an_action_that_somebody_touched_meanwhile_is_read_again_and_answered(desk: Desk) -> None:
    await desk.create()
    await desk.server.put(PLURAL, {**desk.stored(), "metadata": {**desk.stored()["metadata"], "labels": {"a": "b"}}})
    await desk.answer(desk.only())
    assert desk.stored()["status"] == APPLIED
    assert desk.stored()["metadata"]["labels"] == {"a": "b", FINISHED_LABEL: "true"}


async def test_an_answer_that_is_there_is_never_written_over(desk: Desk) -> None:
    await desk.create()
    command = desk.only()
    await desk.server.put(PLURAL, {**desk.stored(), "status": APPLIED})
    await desk.answer(command, applied=False, message="there is nothing to try again")
    assert desk.stored()["status"] == APPLIED
    assert desk.stored()["metadata"]["labels"] == {FINISHED_LABEL: "true"}


async def test_an_answer_whose_confirmation_was_lost_is_found_out_by_repeating_it(desk: Desk, clock: FakeClock) -> None:
    await desk.create()
    command = desk.only()
    desk.server.fail("PATCH", "lose")
    with pytest.raises(ServerUnavailable):
        await desk.answer(command)
    clock.advance(60)
    assert desk.only() == command, "nobody knows whether it was answered"
    await desk.answer(command)
    assert desk.stored()["status"] == APPLIED
    assert desk.stored()["metadata"]["ownerReferences"] == [OWNER]


async def test_an_action_that_is_gone_needs_no_answer(desk: Desk) -> None:
    await desk.create()
    command = desk.only()
    await desk.server.remove(PLURAL, KEY.namespace, "fix")
    await desk.answer(command)
    assert desk.actions.versions() == {}


async def test_the_answer_to_an_action_is_not_given_to_another_one_of_its_name(desk: Desk) -> None:
    await desk.create(metadata={"uid": "old"})
    command = desk.only()
    await desk.server.remove(PLURAL, KEY.namespace, "fix")
    await desk.server.put(PLURAL, action(metadata={"uid": "new"}))
    await desk.answer(command)
    assert "status" not in desk.stored()
    assert desk.only().uid == "new", "it was read on the way"
    assert set(desk.woken) == {KEY}


# --- crashes and failures between answer and mark -------------------------------------------------------------------


async def test_an_answer_without_a_mark_is_marked_by_the_next_life_and_wakes_nobody(
    desk: Desk, next_life: Desk
) -> None:
    await desk.server.put(PLURAL, action(status=APPLIED))
    next_life.hear()
    await next_life.work()
    assert next_life.woken == []
    assert desk.stored()["status"] == APPLIED
    assert desk.stored()["metadata"]["labels"] == {FINISHED_LABEL: "true"}
    assert desk.stored()["metadata"]["ownerReferences"] == [OWNER]
    assert next_life.writes() == 1


async def test_a_command_that_died_with_the_operator_before_its_answer_waits_in_the_next_life(
    desk: Desk, next_life: Desk
) -> None:
    await desk.create()
    command = desk.only()
    next_life.hear()
    await next_life.work()
    assert next_life.woken == [KEY]
    assert next_life.only() == command, "the same uid, by which the run knows that it was applied already"


@pytest.mark.parametrize("fault", ["lose", "refuse"])
async def test_a_mark_that_failed_is_made_the_next_time(desk: Desk, fault: Any) -> None:
    await desk.server.put(PLURAL, action(status=APPLIED))
    desk.hear()
    desk.server.fail("PATCH", fault)
    with pytest.raises(ServerUnavailable):
        await desk.work()
    await desk.actions.process(where("fix"))
    assert desk.stored()["metadata"]["labels"] == {FINISHED_LABEL: "true"}
    assert desk.actions.versions() == {}


async def test_a_mark_on_an_old_copy_is_made_on_the_present_one(desk: Desk) -> None:
    await desk.server.put(PLURAL, action(status=APPLIED))
    desk.hear()
    await desk.server.put(PLURAL, {**desk.stored(), "metadata": {**desk.stored()["metadata"], "labels": {"a": "b"}}})
    await desk.work()
    assert desk.stored()["metadata"]["labels"] == {"a": "b", FINISHED_LABEL: "true"}
    assert desk.actions.versions() == {}


async def test_an_action_that_is_deleted_before_its_mark_is_forgotten(desk: Desk) -> None:
    await desk.server.put(PLURAL, action(status=APPLIED))
    desk.hear()
    await desk.server.remove(PLURAL, KEY.namespace, "fix")
    await desk.work()
    assert desk.actions.versions() == {}


async def test_the_mark_of_an_action_for_an_earlier_run_does_not_tie_it_to_this_one(desk: Desk) -> None:
    await desk.create(targetRef={"name": KEY.name, "uid": "earlier"})
    await desk.answer(desk.only(), applied=False, message=str(desk.only().problem))
    assert "ownerReferences" not in desk.stored()["metadata"]
    assert desk.stored()["metadata"]["labels"] == {FINISHED_LABEL: "true"}


# --- targets that are not there -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "told"), [
    pytest.param({}, "spec.targetRef: is required; spec.action: is required", id="nothing at all"),
    pytest.param([], "spec: must be an object, but is a list", id="no object"),
    pytest.param({"targetRef": "x", "action": "Retry"}, "spec.targetRef: must be an object", id="a name for a target"),
    pytest.param({"targetRef": {"name": "A B"}, "action": "Retry"}, "'A B' is not a name of", id="no object's name"),
    pytest.param({"targetRef": {"name": 7}, "action": "Retry"}, "must be a string", id="a number for a name"),
    pytest.param(
        {"targetRef": {"kind": "Activity", "name": KEY.name}, "action": "ResetBreaker"},
        "this operator keeps no circuit breakers", id="a guard where there are none",
    ),
    pytest.param(
        {"targetRef": {"kind": "Activity", "name": KEY.name}, "action": "Retry"},
        "spec.targetRef.kind: is Activity, but Retry is for a WorkflowRun", id="a kind that the verb is not for",
    ),
    pytest.param(
        {"targetRef": {"kind": "Job", "name": KEY.name}, "action": "Retry"},
        'spec.targetRef.kind: "Job" is not one of WorkflowRun, Activity, Workflow', id="a wrong kind",
    ),
])  # fmt: skip
async def test_refused_by_itself_is_an_action_whose_target_is(desk: Desk, spec: Any, told: str) -> None:
    await desk.create(spec=spec)
    assert desk.waiting() == []
    await desk.work()
    stored = desk.stored()
    assert stored["status"]["phase"] == "Refused"
    assert told in stored["status"]["message"]
    assert stored["metadata"]["labels"] == {FINISHED_LABEL: "true"}
    assert "ownerReferences" not in stored["metadata"]
    assert desk.woken == []


async def pass_over(key: RunKey, desk: Desk, client: KubeClient, clock: FakeClock) -> None:
    """Make a pass with everything that is real, as the queue does."""
    records = KubeRecords(client)

    async def nothing(*_: str) -> Any:
        return None

    loader = Loader(
        records, Definitions(nothing, MemoryRevisions(), PathEvaluator()), {}, Mailbox(desk.actions), namespace_ending=nothing,
        worker="w", limits=Limits(),
    )  # fmt: skip
    actuator = Actuator({}, Mailbox(desk.actions))
    reconciler = Reconciler(
        loader, records, actuator, Announcer(), evaluator=PathEvaluator(), ledger=open_ledger(), clock=clock
    )  # fmt: skip
    await reconciler.process(key)
    await desk.work()


@pytest.mark.parametrize(("spec", "told"), [
    pytest.param({}, "there is no WorkflowRun 'order-9' in namespace 'shop'", id="the run"),
    pytest.param({"action": "Redo"}, 'spec.action: "Redo" is not one of', id="what is wrong with it anyway"),
])  # fmt: skip
async def test_an_action_for_a_run_that_does_not_exist_is_refused_by_a_sentence_about(
    desk: Desk, client: KubeClient, clock: FakeClock, spec: dict[str, Any], told: str
) -> None:
    await desk.create(targetRef={"name": "order-9", "uid": "gone"}, **spec)
    await desk.work()
    (run,) = desk.woken
    await pass_over(run, desk, client, clock)
    stored = desk.stored()
    assert stored["status"]["phase"] == "Refused"
    assert told in stored["status"]["message"]
    assert stored["metadata"]["labels"] == {FINISHED_LABEL: "true"}
    assert "ownerReferences" not in stored["metadata"]


async def test_a_right_that_is_missing_is_an_error_and_no_answer(desk: Desk) -> None:
    await desk.create()
    desk.server.fail("PATCH", (403, {"kind": "Status", "reason": "Forbidden", "message": "no"}))
    with pytest.raises(Forbidden):
        await desk.answer(desk.only())
    assert desk.waiting() == ["fix"], "the pass is repeated"


# --- what the watch did not tell ------------------------------------------------------------------------------------


async def test_an_action_in_doubt_is_read_from_the_api_server(desk: Desk) -> None:
    await desk.server.put(PLURAL, action())
    desk.actions.doubt(where("fix"))
    await desk.actions.process(where("fix"))
    assert desk.woken == [KEY]
    assert desk.waiting() == ["fix"]


@pytest.mark.parametrize("how", ["deleted", "done with"])
async def test_an_action_in_doubt_is_forgotten_when_it_is(desk: Desk, how: str) -> None:
    await desk.create()
    if how == "deleted":
        await desk.server.remove(PLURAL, KEY.namespace, "fix")
    else:
        await desk.server.put(PLURAL, action(status=APPLIED, metadata={"labels": {FINISHED_LABEL: "true"}}))
    desk.actions.doubt(where("fix"))
    await desk.actions.process(where("fix"))
    assert desk.actions.versions() == {}
    assert desk.writes() == 0


async def test_an_older_copy_is_ignored(desk: Desk) -> None:
    await desk.create()
    old = desk.stored()
    await desk.server.put(PLURAL, {**desk.stored(), "status": APPLIED})
    desk.hear()
    assert not desk.actions.saw(where("fix"), old)
    assert desk.waiting() == []


# --- without a cluster ----------------------------------------------------------------------------------------------


async def test_without_a_cluster_there_are_no_actions_and_none_can_be_answered() -> None:
    nobody = NoActions()
    assert nobody.of_run(KEY, UID) == ()
    with pytest.raises(LookupError, match="no WorkflowAction 'fix' for shop/order-1"):
        await nobody.answer(Command(uid="u", name="fix", verb=Verb.RETRY), KEY, applied=True, message="")
