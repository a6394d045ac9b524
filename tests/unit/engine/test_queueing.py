# SPDX-License-Identifier: Apache-2.0
"""What becomes of a run, and of its deeds, that wait for a slot: by the engine and the ledger, without a cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from kubesaga.api.limits import Bulkhead, CircuitBreaker, Concurrency, Guarded
from kubesaga.api.names import Deed
from kubesaga.api.reasons import Reason
from kubesaga.api.run import WorkflowRunStatus
from kubesaga.engine.admission.ledger import Ledger
from kubesaga.engine.admission.rules import OperatorLimits
from kubesaga.engine.admission.standing import Place, Standing
from kubesaga.engine.admission.verdict import Refused, Verdict
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.definition import Definition, Step, StepKey, deeds_of
from kubesaga.engine.guarding import GuardKey, GuardOwner, settings_of
from kubesaga.engine.snapshot import Listener, Reply, Source
from kubesaga.testing.builders import KEY, definition
from kubesaga.testing.clock import START
from kubesaga.testing.play import HANGS, Play, wrong
from kubesaga.testing.unguarded import Unguarded, open_ledger

DO_A: StepKey = (Deed.DO, "a")


def limited(*activities: Any, **concurrency: Any) -> Definition:
    """Return a Workflow with limits."""
    given = {"activities": list(activities or ("a", "b"))}
    return definition(*given["activities"], concurrency=concurrency)


class Other:
    """Another run of the same Workflow, under way, that holds its slots until it leaves."""

    def __init__(self, ledger: Ledger, name: str = "order-0", *, guard: GuardKey | None = None, **more: Any) -> None:
        self.ledger, self.key = ledger, RunKey(namespace=KEY.namespace, name=name)
        ledger.configure(KEY.namespace, "order", None, START)
        held = {DO_A: Place(since=START, guard=guard)}
        values = {"started": True, "held": held, "created": START - timedelta(hours=1), **more}
        ledger.put(Standing(key=self.key, uid=f"uid-{name}", version="1", workflow="order", **values), START)

    def leave(self, now: datetime) -> None:
        """Be over."""
        self.ledger.drop(self.key, now)


def waiting(what: Definition, script: dict[str, Any] | None = None, **more: Any) -> tuple[Play, Other, Ledger]:
    """Return a run that was played as far as it goes beside another one, which holds one slot of each kind."""
    woken: list[RunKey] = []
    once = more.pop("once", False)
    ledger = more.pop("ledger", None) or open_ledger(woken.append)
    other = Other(ledger, **more)
    ledger.configure(KEY.namespace, "order", what.spec.concurrency, START)
    play = Play(what, script, ledger=ledger)
    play.step()
    return play if once else play.go(), other, ledger


# --- runs -----------------------------------------------------------------------------------------------------------


def test_a_run_waits_for_its_turn_and_then_starts_anew_from_nothing() -> None:
    play, other, _ = waiting(limited(maxWorkflows=1))
    status = play.status
    assert (status.phase, status.start_time, status.activities) == ("Queued", None, {})
    assert status.queue is not None
    assert (status.queue.blocked_by, status.queue.since) == ("maxWorkflows", START)
    assert status.workflow_revision == "order-r1", "it will work from the Workflow as it was when it came"
    assert play.condition("Completed") == "False AwaitingSlot"
    play.now += timedelta(minutes=10)
    other.leave(play.now)
    play.go()
    assert (play.ended, play.log) == ("Succeeded AllSucceeded", ["do a#1", "do b#1"])
    assert (play.status.queue, play.status.start_time) == (None, START + timedelta(minutes=10))
    assert play.status.duration == "0s", "waiting is not running"


def test_who_waits_is_not_written_down_again_and_again() -> None:
    play, _, _ = waiting(limited(maxWorkflows=1))
    before = play.status
    play.now += timedelta(minutes=1)
    play.step()
    assert play.status == before


@pytest.mark.parametrize(
    ("spec", "deleting", "ended"),
    [
        pytest.param({"shutdown": "Cancel"}, False, "Cancelled Cancelled", id="cancelled"),
        pytest.param({"shutdown": "Compensate"}, False, "Cancelled Cancelled", id="told to be undone, with nothing done"),
        pytest.param({"shutdown": "Terminate"}, False, "Terminated Terminated", id="terminated"),
        pytest.param({}, True, "Cancelled Deleted", id="deleted"),
    ],
)  # fmt: skip
def test_a_run_that_waits_ends_at_once_when_it_is(spec: dict[str, Any], deleting: bool, ended: str) -> None:
    play, other, ledger = waiting(limited(maxWorkflows=1))
    play.spec, play.deleting = spec, deleting
    play.go()
    assert (play.ended, play.log, play.status.queue) == (ended, [], None)
    other.leave(play.now)
    assert not ledger.runs.waiting
    assert not ledger.runs.holders


def test_a_run_that_waits_too_long_fails_with_queue_timeout() -> None:
    play, _, _ = waiting(limited(maxWorkflows=1, queuing={"timeout": "30s"}))
    play.go()
    assert play.ended == "Failed QueueTimeout"
    assert play.now == START + timedelta(seconds=30)
    assert play.status.message == "it waited 30s for maxWorkflows (concurrency.queuing.timeout)"
    assert play.status.start_time is None


def test_the_operator_s_timeout_holds_where_the_workflow_says_nothing() -> None:
    ledger = open_ledger(limits=OperatorLimits(max_workflows=1, timeout=timedelta(seconds=5)))
    play, _, _ = waiting(limited(), ledger=ledger)
    play.go()
    assert play.ended == "Failed QueueTimeout"
    assert play.status.message == "it waited 5s for operatorMaxWorkflows (concurrency.queuing.timeout)"


def test_a_run_that_is_suspended_while_it_waits_leaves_the_queue_and_comes_back_to_its_place() -> None:
    play, other, ledger = waiting(limited(maxWorkflows=1))
    play.spec = {"suspend": True}
    play.go()
    assert (play.status.phase, play.status.start_time) == ("Paused", None)
    assert not ledger.runs.waiting
    play.spec = {}
    play.go()
    assert play.status.phase == "Queued"
    other.leave(play.now)
    assert play.go().ended == "Succeeded AllSucceeded"


def test_a_limit_that_is_taken_away_lets_everybody_start() -> None:
    play, _, ledger = waiting(limited(maxWorkflows=1))
    ledger.configure(KEY.namespace, "order", None, play.now)
    assert play.go().ended == "Succeeded AllSucceeded"


@pytest.mark.parametrize(
    ("on_conflict", "ended"),
    [
        pytest.param("Queue", "Queued None", id="Queue: it waits"),
        pytest.param("Reject", "Failed KeyConflict", id="Reject: it fails"),
        pytest.param("UseExisting", "Succeeded UsedExisting", id="UseExisting: it ends well, having done nothing"),
        pytest.param("Replace", "Queued None", id="Replace: it waits until the other has ended"),
    ],
)  # fmt: skip
def test_a_run_whose_key_another_has(on_conflict: str, ended: str) -> None:
    what = definition("a", inputs=[{"name": "ticket", "default": "T-1"}],
                      concurrency={"key": "${inputs.ticket}", "onConflict": on_conflict})  # fmt: skip
    play, other, ledger = waiting(what, business_key="T-1")
    assert (play.ended, play.log) == (ended, [])
    if ended.startswith("Queued"):
        assert play.status.queue is not None
        assert play.status.queue.blocked_by == "key"
        assert "order-0 has the same key, T-1" in (play.status.message or "")
        other.leave(play.now)
        assert play.go().ended == "Succeeded AllSucceeded"
        assert play.status.concurrency_key == "T-1"
    assert not ledger.runs.waiting


SIGNALLED = {"name": "reply", "waitFor": {"event": "ticket:comment:updated"}}
COMMENT = {"type": "ticket:comment:updated", "source": "desk", "id": "c-1"}


def signalling(*activities: Any, event: dict[str, Any] | None = None, **queuing: Any) -> tuple[Play, Other]:
    """Return a run that an event made, behind another one of its key, which may take the event."""
    what = definition(
        *(activities or (SIGNALLED,)), concurrency={"key": "K", "onConflict": "Signal", "queuing": queuing}
    )  # fmt: skip
    ledger = open_ledger()
    other = Other(ledger, business_key="K")
    ledger.configure(KEY.namespace, "order", what.spec.concurrency, START)
    play = Play(what, ledger=ledger)
    play.spec = {"event": json.dumps(event or COMMENT)}
    play.listeners = (
        Listener(key=other.key, uid="uid-order-0", created=START, definition=what, inputs={}, event=None),
    )  # fmt: skip
    play.go()
    return play, other


def test_signal_the_live_run_of_the_key_is_offered_the_event_and_the_new_one_ends_well_once_it_has_taken_it() -> None:
    play, _ = signalling()
    assert (play.ended, play.offered, play.status.start_time) == ("Queued None", ["order-0"], None)
    assert [each.activities for each in play.status.recipients or ()] == [["reply"]], (
        "written down before it is offered"
    )
    play.replies = {"uid-order-0": Reply(applied=True, message="reply has it")}
    play.go()
    assert (play.ended, play.offered, play.log) == ("Succeeded UsedExisting", [], [])
    assert play.status.message == "the run order-0, of the same key, has taken its event: reply has it"


def test_signal_a_run_whose_event_was_not_wanted_waits_for_its_turn() -> None:
    play, other = signalling()
    play.replies = {"uid-order-0": Reply(applied=False, message="reply waits for no event any more")}
    play.go()
    assert (play.ended, play.offered) == ("Queued None", [])
    assert [each.answer for each in play.status.recipients or ()] == ["Refused"]
    other.leave(play.now)
    play.go()
    assert (play.status.phase, play.status.current_activity) == ("Waiting", "reply"), "it starts"


def test_signal_nothing_starts_before_the_other_has_said_whether_it_took_the_event() -> None:
    play, other = signalling()
    other.leave(play.now)
    play.go()
    assert (play.ended, play.offered) == ("Queued None", ["order-0"])
    play.replies = {"uid-order-0": Reply(applied=True, message="reply has it")}
    assert play.go().ended == "Succeeded UsedExisting"


@pytest.mark.parametrize(("activities", "event"), [
    pytest.param(("a",), COMMENT, id="waits for no event"),
    pytest.param((SIGNALLED,), {**COMMENT, "type": "ticket:created"}, id="waits for another one"),
])  # fmt: skip
def test_signal_a_run_waits_for_its_turn_where_the_live_one(activities: Any, event: dict[str, Any]) -> None:
    play, other = signalling(*activities, event=event)
    assert (play.ended, play.status.recipients) == ("Queued None", None)
    other.leave(play.now)
    play.go()
    assert play.status.start_time is not None


def test_signal_a_run_that_waits_too_long_for_the_answer_fails() -> None:
    play, _ = signalling(timeout="30s")
    assert (play.ended, play.now) == ("Failed QueueTimeout", START + timedelta(seconds=30))
    assert play.offered == []


def test_a_replay_waits_for_its_turn_among_the_runs_of_its_workflow() -> None:
    """It names no Workflow itself, and what it is a run of stands in its status only once it has begun."""
    what, ledger = limited("a", maxWorkflows=1), open_ledger()
    other = Other(ledger)
    ledger.configure(KEY.namespace, "order", what.spec.concurrency, START)
    play = Play(what, ledger=ledger)
    play.spec = {"workflowRef": None, "replayOf": {"run": "order-old"}}
    old = WorkflowRunStatus(phase="Failed", workflow_revision="order-r1", start_time=START, completion_time=START)
    play.source = Source(name="order-old", uid="uid-old", workflow="order", event=None, status=old)
    play.go()
    assert (play.ended, play.status.queue is not None) == ("Queued None", True)
    assert play.status.replay is not None
    assert (play.status.replay.workflow, play.status.replay.redone) == ("order", [])
    other.leave(play.now)
    play.go()
    assert (play.ended, play.status.replay.run, play.status.replay.redone) == (
        "Succeeded AllSucceeded",
        "order-old",
        ["a"],
    )


def test_signal_a_replay_gives_the_event_of_old_to_nobody() -> None:
    what = definition(SIGNALLED, concurrency={"key": "K", "onConflict": "Signal"})
    ledger = open_ledger()
    other = Other(ledger, business_key="K")
    ledger.configure(KEY.namespace, "order", what.spec.concurrency, START)
    play = Play(what, ledger=ledger)
    play.spec = {"workflowRef": None, "replayOf": {"run": "order-old"}}
    old = WorkflowRunStatus(phase="Failed", workflow_revision="order-r1", start_time=START, completion_time=START)
    play.source = Source(name="order-old", uid="uid-old", workflow="order", event=json.dumps(COMMENT), status=old)
    play.listeners = (
        Listener(key=other.key, uid="uid-order-0", created=START, definition=what, inputs={}, event=None),
    )
    play.go()
    assert (play.ended, play.status.recipients) == ("Queued None", None)


def test_signal_a_run_without_a_live_one_of_its_key_starts() -> None:
    what = definition("a", concurrency={"key": "K", "onConflict": "Signal"})
    play, _, _ = waiting(what, business_key="other")
    assert play.ended == "Succeeded AllSucceeded"


def test_a_run_without_a_key_is_in_nobody_s_way() -> None:
    what = definition("a", inputs=[{"name": "ticket", "default": ""}], concurrency={"key": "${inputs.ticket}"})
    play, _, _ = waiting(what, business_key="")
    assert (play.ended, play.status.concurrency_key) == ("Succeeded AllSucceeded", None)


def test_a_key_that_cannot_be_found_out_fails_the_run_and_names_the_field() -> None:
    what = definition("a", inputs=[{"name": "t", "type": "object"}], concurrency={"key": "${inputs.t.id}"})
    play, _, _ = waiting(what)
    assert play.ended == "Failed ExpressionFailed"
    assert (play.status.message or "").startswith("concurrency.key: ")


def test_a_newer_run_of_the_key_takes_the_place_of_one_that_is_under_way() -> None:
    undone = {"name": "a", "handler": "a", "compensation": {"handler": "un"}}
    what = definition(undone, "b", concurrency={"key": "K", "onConflict": "Replace"})
    ledger = open_ledger()
    play = Play(what, {"b": HANGS}, ledger=ledger).go(until="do b#1")
    newer = Standing(
        key=RunKey(namespace=KEY.namespace, name="order-2"), uid="uid-2", version="1", workflow="order", queued=True,
        created=START + timedelta(seconds=1), business_key="K", started=False,
    )  # fmt: skip
    ledger.put(newer, play.now)
    play.go()
    assert (play.ended, play.log) == ("Cancelled Replaced", ["do a#1", "do b#1", "stop do b#1", "undo a#1"])
    assert "order-2 has the same key, K" in (play.status.message or "")
    assert ("uid-2", None) in ledger.runs.holders, "its turn"


# --- attempts -------------------------------------------------------------------------------------------------------


def test_an_activity_waits_for_a_slot_without_having_begun() -> None:
    play, other, _ = waiting(limited(maxActivities=1))
    known = play.status.activities["a"]
    assert (play.status.phase, known.phase, known.reason, known.attempt) == ("Waiting", "Queued", "AwaitingSlot", None)
    assert known.queued_time == START
    assert play.log == []
    play.now += timedelta(minutes=1)
    other.leave(play.now)
    play.go()
    assert (play.ended, play.log) == ("Succeeded AllSucceeded", ["do a#1", "do b#1"])
    assert play.status.activities["a"].start_time == START + timedelta(minutes=1), "its time counts from its start"
    assert play.status.activities["a"].queued_time is None


def test_an_activity_that_waits_too_long_fails_and_its_fallback_stands_in() -> None:
    a = {"name": "a", "handler": "a", "errorHandling": {"fallback": {"activity": "skip"}}}
    play, _, _ = waiting(limited(a, maxActivities=1, queuing={"timeout": "30s"}))
    play.go()
    known = play.status.activities["a"]
    assert (known.phase, play.ended) == ("Skipped", "Succeeded AllSucceeded")
    assert known.error is not None
    assert (known.error.reason, known.attempt) == ("QueueTimeout", None)


def test_the_wait_between_attempts_holds_no_slot_and_the_next_attempt_waits_for_one() -> None:
    retry = {"errorHandling": {"activityError": {"retry": {"maxAttempts": 2, "backoff": {"jitter": 0}}}}}
    what = definition("a", concurrency={"maxActivities": 1}, **retry)
    ledger = open_ledger()
    play = Play(what, {"a": [wrong(retryable=True), HANGS]}, ledger=ledger)
    play.step(), play.step()
    assert play.status.activities["a"].phase == "Retrying"
    assert not ledger.attempts.holders
    other = Other(ledger)
    ledger.configure(KEY.namespace, "order", what.spec.concurrency, play.now)
    play.now += timedelta(seconds=5)
    play.step()
    assert (play.status.activities["a"].phase, play.log) == ("Queued", ["do a#1"])
    other.leave(play.now)
    play.step()
    assert (play.status.activities["a"].attempt, play.log) == (2, ["do a#1", "do a#2"])


@pytest.mark.parametrize(
    ("change", "ended", "phase"),
    [
        pytest.param({"spec": {"shutdown": "Cancel"}}, "Cancelled Cancelled", "Cancelled", id="a cancelled run's is cancelled"),
        pytest.param({"spec": {"shutdown": "Terminate"}}, "Terminated Terminated", "Cancelled", id="a terminated run's is cancelled"),
        pytest.param({"deleting": True}, "Cancelled Deleted", "Cancelled", id="a deleted run's is cancelled"),
        pytest.param({"spec": {"suspend": True}}, "Paused None", "Pending", id="a paused run's waits for nothing"),
    ],
)  # fmt: skip
def test_an_activity_in_the_queue(change: dict[str, Any], ended: str, phase: str) -> None:
    play, _, ledger = waiting(limited(maxActivities=1))
    for name, value in change.items():
        setattr(play, name, value)
    play.go()
    assert (play.ended, play.status.activities["a"].phase, play.log) == (ended, phase, [])
    assert not ledger.attempts.waiting


def test_one_that_waits_when_another_fails_the_run_was_never_begun() -> None:
    what = definition({"name": "x", "handler": "x", "dependsOn": []}, {"name": "y", "handler": "y", "dependsOn": []},
                      concurrency={"maxActivities": 1})  # fmt: skip
    play = Play(what, {"x": wrong()}, ledger=open_ledger()).go()
    assert (play.ended, play.log) == ("Failed ActivityFailed", ["do x#1"])
    assert play.status.activities["y"].phase == "Cancelled"


def test_an_undo_waits_for_a_slot_for_as_long_as_undoing_may_take() -> None:
    undone = {"name": "a", "handler": "a", "compensation": {"handler": "un"}}
    what = definition(undone, "b", concurrency={"maxActivities": 1, "queuing": {"timeout": "1s"}})
    ledger = open_ledger()
    play = Play(what, {"b": HANGS}, ledger=ledger).go(until="do b#1")
    other = Other(ledger)
    ledger.configure(KEY.namespace, "order", what.spec.concurrency, play.now)
    play.spec = {"shutdown": "Cancel"}
    play.step(), play.step()
    undo = play.status.activities["a"].compensation
    assert undo is not None
    assert (undo.phase, play.status.phase, play.status.activities["a"].phase) == ("Queued", "Compensating", "Succeeded")
    play.now += timedelta(minutes=1)
    play.step()
    other.leave(play.now)
    play.go()
    assert (play.ended, play.log[-1]) == ("Cancelled Cancelled", "undo a#1")


# --- guards ---------------------------------------------------------------------------------------------------------

OWNER = GuardOwner(kind="Activity", namespace=KEY.namespace, name="desk")
GUARD = GuardKey(owner=OWNER, caller=KEY.namespace)


def guarded(what: Definition, *, rejected: bool = False, **fields: Any) -> Definition:
    """Return a definition whose activity `a` stands behind a guard."""
    settings = settings_of(Guarded(**fields))
    a = what.steps["a"]
    stand_in = Step(name="a", deed=Deed.FALLBACK, work=a.work, kind=a.kind) if rejected else None
    a = replace(a, guard=OWNER, guard_settings=settings, rejected=stand_in)
    steps = {**what.steps, "a": a}
    return replace(what, steps=steps, main=tuple(steps.values()), deeds=deeds_of(steps.values(), what.undos))


def test_a_call_waits_at_its_bulkhead() -> None:
    what = guarded(definition("a", "b"), bulkhead=Bulkhead(max_concurrent=1))
    play, other, _ = waiting(what, guard=GUARD, once=True)
    known = play.status.activities["a"]
    assert (known.phase, known.reason) == ("Queued", "BulkheadFull")
    assert known.guard == "Activity/shop/desk//"
    other.leave(play.now)
    assert play.go().log == ["do a#1", "do b#1"]


def test_a_call_that_waits_too_long_at_its_bulkhead_fails() -> None:
    what = guarded(definition("a"), bulkhead=Bulkhead(max_concurrent=1, timeout="30s"))
    play, _, _ = waiting(what, guard=GUARD)
    play.go()
    error = play.status.activities["a"].error
    assert error is not None
    assert (play.ended, error.reason) == ("Failed ActivityFailed", "BulkheadTimeout")
    assert play.now == START + timedelta(seconds=30)


def test_a_call_beyond_the_queue_is_rejected_at_once() -> None:
    what = guarded(definition("a"), bulkhead=Bulkhead(max_concurrent=1, max_queue_size=0))
    play, _, _ = waiting(what, guard=GUARD)
    error = play.status.activities["a"].error
    assert error is not None
    assert (play.now, error.reason, error.retryable) == (START, "BulkheadRejected", False)
    assert play.log == []


def test_the_bulkhead_s_own_fallback_stands_in_for_a_call_that_it_rejects() -> None:
    what = guarded(definition("a", "b"), rejected=True, bulkhead=Bulkhead(max_concurrent=1, max_queue_size=0))
    play, _, _ = waiting(what, guard=GUARD)
    assert (play.ended, play.log) == ("Succeeded AllSucceeded", ["fallback a#1", "do b#1"])


def test_a_call_behind_an_open_breaker_fails_without_an_attempt() -> None:
    class Open(Unguarded):
        def verdict(self, *_: Any) -> Verdict:
            return Refused(reason=Reason.CIRCUIT_OPEN, message="it is open", until=None)

    what = guarded(definition("a"), circuit_breaker=CircuitBreaker())
    play = Play(what, ledger=Ledger(OperatorLimits(), Open(), lambda _key: None)).go()
    error = play.status.activities["a"].error
    assert error is not None
    assert (play.ended, error.reason, play.log) == ("Failed ActivityFailed", "CircuitOpen", [])


def test_a_breaker_s_timeout_bounds_the_call() -> None:
    what = guarded(definition("a"), circuit_breaker=CircuitBreaker(timeout="60s"))
    play = Play(what, {"a": HANGS}, ledger=open_ledger()).go()
    error = play.status.activities["a"].error
    assert error is not None
    assert (play.log, error.reason) == (["do a#1", "stop do a#1"], "AttemptTimeout")
    assert error.message == "the attempt took longer than 1m"
    assert play.now == START + timedelta(seconds=60)


def test_no_limits_cost_no_questions() -> None:
    ledger = open_ledger()
    play = Play(definition("a", "b", concurrency=Concurrency().wire()), ledger=ledger).go()
    assert play.ended == "Succeeded AllSucceeded"
    assert not ledger.runs.holders


@pytest.mark.parametrize(
    ("url", "host"),
    [
        pytest.param("http://Desk.shop/tickets?x=1", "desk.shop", id="a host"),
        pytest.param("https://desk.shop:8443/tickets", "desk.shop:8443", id="a host and a port"),
        pytest.param("http://somebody:secret@desk.shop/", "desk.shop", id="whoever asks"),
        pytest.param("http://desk.shop:port/", "", id="no address at all, which the executor will say"),
    ],
)  # fmt: skip
def test_an_http_call_s_guard_is_kept_apart_by_host(url: str, host: str) -> None:
    what = guarded(definition({"name": "a", "http": {"url": url}}), bulkhead=Bulkhead())
    play = Play(what, {"a": HANGS}, ledger=open_ledger())
    play.step()
    assert play.status.activities["a"].guard == f"Activity/shop/desk//{host}"
