# SPDX-License-Identifier: Apache-2.0
"""Events for live runs, by the pure engine: who waits for one, what a messenger says of it, and which waitFor takes it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kubesaga.api.run import RecipientStatus, WorkflowRunStatus
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.command import Command
from kubesaga.engine.decision import Decision, Offer, Summons, Tidy
from kubesaga.engine.definition import Definition
from kubesaga.engine.messengers import MAX_RECIPIENTS, heard_by
from kubesaga.engine.reconcile import reconcile
from kubesaga.engine.snapshot import NO_DEFINITION, Listener, Reply, Snapshot
from kubesaga.testing.builders import KEY, UID, definition, snapshot
from kubesaga.testing.clock import START
from kubesaga.testing.paths import PathEvaluator

COMMENT = {
    "specversion": "1.0", "type": "ticket:comment:updated", "source": "desk", "id": "c-1",
    "data": {"ticket": {"id": "T-1"}, "mine": True, "text": "hello"},
}  # fmt: skip
REPLY = {"name": "reply", "waitFor": {"event": "ticket:comment:updated"}}
SECOND = {"name": "second", "waitFor": {"event": "ticket:*"}}
MESSENGER = {"deliver": True, "event": json.dumps(COMMENT)}


def waits(**more: Any) -> dict[str, Any]:
    """Return an activity that waits for an event."""
    return {"name": "reply", "waitFor": {"event": "ticket:comment:updated", **more}}


def listener(*activities: Any, name: str = "order-1", **more: Any) -> Listener:
    """Return a live run."""
    values = {"inputs": {}, "event": None, "created": START, **more}
    what = values.pop("definition", None) or definition(*(activities or (REPLY,)))
    return Listener(
        key=RunKey(namespace=KEY.namespace, name=name), uid=f"uid-{name}", definition=what, **values,
    )  # fmt: skip


def messenger(recorded: WorkflowRunStatus | None = None, **more: Any) -> Snapshot:
    """Return a messenger."""
    spec = {**MESSENGER, **more.pop("spec", {})}
    run = {name: more.pop(name) for name in ("deleting",) if name in more}
    return replace(snapshot(NO_DEFINITION, recorded, spec=spec, **run), **more)


def decide(what: Snapshot) -> Decision:
    """Return what the engine decides."""
    return reconcile(what, START, PathEvaluator())


def offered(decision: Decision) -> list[str] | None:
    """Return to whom an event is offered; None if nothing is said of it."""
    offers = [effect for effect in decision.effects if isinstance(effect, Offer)]
    return [each.run for each in offers[0].recipients] if offers else None


# --- who waits for it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activities", "names"), [
    pytest.param([waits()], ["reply"], id="who waits for its type"),
    pytest.param(["a", waits()], ["reply"], id="who will wait for its type later"),
    pytest.param([waits(), SECOND], ["reply", "second"], id="who waits for it twice: either may take it"),
    pytest.param([waits(event="ticket:*")], ["reply"], id="who waits for a family of types"),
    pytest.param([waits(event="ticket:created")], None, id="not who waits for another type"),
    pytest.param([{"name": "reply", "waitFor": {}}], None, id="not who waits for a Signal alone"),
    pytest.param(["a"], None, id="not who waits for nothing"),
    pytest.param([waits(when="received.data.mine")], ["reply"], id="whose condition holds"),
    pytest.param([waits(when="false")], None, id="not whose condition does not hold"),
    pytest.param([waits(when="received.data.absent")], None, id="not whose condition has no value"),
    pytest.param([waits(when="received.data.text")], None, id="not whose condition is neither true nor false"),
    pytest.param([waits(when="false"), SECOND], ["second"], id="of two waits the one whose condition holds"),
])  # fmt: skip
def test_an_event_is_for(activities: list[Any], names: list[str] | None) -> None:
    found, _ = heard_by(listener(*activities), COMMENT, PathEvaluator())
    assert (found.activities if found is not None else None) == names


@pytest.mark.parametrize("when", ["inputs.urgent", "event.data.urgent", "run.urgent"])
def test_a_condition_reads_the_run_s(when: str) -> None:
    own = {"specversion": "1.0", "type": "t", "source": "desk", "id": "1", "data": {"urgent": True}}
    run = listener(waits(when=when), inputs={"urgent": True}, event=json.dumps(own))
    found, fault = heard_by(run, COMMENT, PathEvaluator())
    if when.startswith("run"):
        assert (found, "order-1" in fault) == (None, True), "and what cannot be asked is told"
    else:
        assert (found is not None, fault) == (True, "")


def test_the_event_that_made_a_run_is_no_news_to_it() -> None:
    assert heard_by(listener(event=json.dumps(COMMENT)), COMMENT, PathEvaluator()) == (None, "")
    other = listener(event=json.dumps({**COMMENT, "id": "c-0"}))
    assert heard_by(other, COMMENT, PathEvaluator())[0] is not None


def test_an_event_without_id_and_source_is_news_also_to_a_run_that_no_event_made() -> None:
    """Who brings one by hand may leave them out."""
    event = {"type": "ticket:comment:updated"}
    assert heard_by(listener(), event, PathEvaluator())[0] is not None
    assert heard_by(listener(event=json.dumps(event)), event, PathEvaluator())[0] is not None


# --- the messenger --------------------------------------------------------------------------------------------------


def test_a_messenger_first_asks_who_is_there() -> None:
    decision = decide(messenger())
    assert (decision.summons, decision.status) == (Summons(), WorkflowRunStatus())


def test_it_writes_down_who_gets_its_event_and_then_gives_it() -> None:
    decision = decide(messenger(listeners=(listener(), listener("a", name="order-2"), listener(name="order-3"))))
    status = decision.status
    assert (status.phase, status.reason, status.message) == ("Running", "Delivering", "given to order-1, order-3")
    assert [each.run for each in status.recipients or ()] == offered(decision) == ["order-1", "order-3"]
    assert (status.workflow_revision, status.activities) == (None, {})


def test_it_ends_once_all_have_answered() -> None:
    first = decide(messenger(listeners=(listener(), listener(name="order-2")))).status
    one = decide(messenger(first, replies={"uid-order-1": Reply(applied=True, message="reply has it")}))
    assert (one.status.phase, offered(one)) == ("Running", ["order-2"])
    assert [each.answer for each in one.status.recipients or ()] == ["Applied", None]
    both = decide(messenger(one.status, replies={"uid-order-2": Reply(applied=False, message="it has finished")}))
    assert (both.status.phase, both.status.reason) == ("Succeeded", "Delivered")
    assert both.status.message == "taken by order-1; not by order-2: it has finished"
    assert (offered(both), Tidy() in both.effects) == ([], True)


@pytest.mark.parametrize(("listeners", "message"), [
    pytest.param((), "no live run took the event", id="nobody is there"),
    pytest.param((listener("a"),), "no live run took the event", id="nobody waits for it"),
    pytest.param((listener(created=START + timedelta(seconds=1)),), "no live run took the event", id="who waits is newer"),
    pytest.param(
        (listener(waits(when="received.data.absent")),),
        "no live run took the event; 1 could not be asked, such as order-1: spec.activities[0].waitFor.when",
        id="who waits cannot be asked",
    ),
])  # fmt: skip
def test_it_ends_well_at_once_where(listeners: tuple[Listener, ...], message: str) -> None:
    status = decide(messenger(listeners=listeners)).status
    assert (status.phase, status.reason, status.recipients) == ("Succeeded", "NotAwaited", None)
    assert (status.message or "").startswith(message)


def test_a_run_whose_revision_hears_of_such_events_by_its_key_does_not_hear_of_them_twice() -> None:
    """Its Workflow may have been edited, and other live runs may need the messenger."""
    signals = {"concurrency": {"key": "k", "onConflict": "Signal"}}
    said, timed = {"name": "said", "event": "ticket:comment:*"}, {"name": "nightly", "schedule": "0 2 * * *"}
    runs = (
        listener(definition=definition(REPLY, **signals, triggers=[said]), name="by-key"),
        listener(definition=definition(REPLY, **signals, triggers=[timed]), name="nothing-takes-it"),
        listener(definition=definition(REPLY, triggers=[said]), name="no-key"),
    )
    assert offered(decide(messenger(listeners=runs))) == ["nothing-takes-it", "no-key"]


def test_who_cannot_be_asked_while_others_are_is_told_once() -> None:
    broken = listener(waits(when="received.data.absent"), name="order-2")
    first = decide(messenger(listeners=(listener(), broken)))
    (note,) = first.notes
    assert note.message.startswith("1 could not be asked, such as order-2: spec.activities[0].waitFor.when")
    again = decide(messenger(first.status))
    assert (again.status, again.notes) == (first.status, ())


def test_a_repeated_pass_decides_the_same() -> None:
    first = decide(messenger(listeners=(listener(),)))
    again = decide(messenger(first.status))
    assert (again.status, again.effects) == (first.status, first.effects)


@pytest.mark.parametrize(("spec", "deleting", "ended"), [
    pytest.param({"shutdown": "Cancel"}, False, "Cancelled Cancelled", id="cancelled"),
    pytest.param({"shutdown": "Terminate"}, False, "Terminated Terminated", id="terminated"),
    pytest.param({}, True, "Cancelled Deleted", id="deleted"),
])  # fmt: skip
def test_a_messenger_that_is(spec: dict[str, Any], deleting: bool, ended: str) -> None:
    first = decide(messenger(listeners=(listener(),))).status
    decision = decide(messenger(first, spec=spec, deleting=deleting))
    assert (f"{decision.status.phase} {decision.status.reason}", offered(decision)) == (ended, [])


def test_one_that_is_suspended_does_nothing_until_it_is_not() -> None:
    paused = decide(messenger(spec={"suspend": True}))
    assert (paused.status.phase, paused.summons, offered(paused)) == ("Paused", None, None)
    assert decide(messenger(paused.status)).summons == Summons()


def test_an_event_for_too_many_is_refused_with_what_to_do() -> None:
    one = listener()
    crowd = tuple(replace(one, uid=str(number)) for number in range(MAX_RECIPIENTS + 1))
    status = decide(messenger(listeners=crowd)).status
    assert (status.phase, "narrow it down by waitFor.when" in (status.message or "")) == ("Failed", True)


# --- the run that waits ---------------------------------------------------------------------------------------------


def brought(*waiters: str, uid: str = "m-1") -> Command:
    """Return the event as a run is offered it."""
    first = decide(messenger(listeners=(listener(),)))
    (offer,) = [effect for effect in first.effects if isinstance(effect, Offer)]
    assert offer.recipients == (RecipientStatus(run="order-1", uid="uid-order-1", activities=["reply"]),)
    return replace(offer.command, uid=uid, target_uid=UID, waiters=waiters)


def passes(what: Definition, *commands: Command, recorded: WorkflowRunStatus | None = None) -> Decision:
    """Return what a pass over a run makes of events."""
    return decide(replace(snapshot(what, recorded), commands=commands))


def said(decision: Decision) -> list[tuple[bool, str]]:
    """Return the answers."""
    return [(effect.applied, effect.message) for effect in decision.effects if hasattr(effect, "applied")]


def test_it_takes_the_event_as_its_output_and_goes_on() -> None:
    what = definition(REPLY, "b")
    waiting = passes(what).status
    assert (waiting.phase, waiting.activities["reply"].reason) == ("Waiting", "AwaitingEvent")
    assert waiting.activities["reply"].message == "for the event ticket:comment:updated"
    decision = passes(what, brought("reply"), recorded=waiting)
    assert said(decision) == [(True, "reply has it")]
    assert decision.status.activities["reply"].output == COMMENT
    (record,) = decision.status.actions or ()
    assert (record.verb, record.activity, record.by, record.uid) == ("Signal", "reply", "WorkflowRun order-1", "m-1")


def test_one_that_is_early_is_kept() -> None:
    what = definition("a", REPLY)
    decision = passes(what, brought("reply"))
    assert said(decision) == [(True, "kept until reply waits for it")]
    assert [kept.value for kept in decision.status.signals or ()] == [COMMENT]


def test_one_that_comes_again_is_taken_once() -> None:
    what = definition("a", REPLY, SECOND)
    first = passes(what, brought("reply", "second")).status
    again = passes(what, brought("reply", "second"), recorded=first)
    assert said(again) == [(True, "kept until reply waits for it")]
    assert [kept.activity for kept in again.status.signals or ()] == ["reply"]


def test_who_waits_already_goes_before_who_stands_first() -> None:
    what = definition("a", REPLY, {**SECOND, "dependsOn": []})
    decision = passes(what, brought("reply", "second"), recorded=passes(what).status)
    assert decision.status.activities["second"].phase == "Succeeded"


def test_two_events_go_to_two_waits_and_a_third_is_refused() -> None:
    what = definition("a", REPLY, SECOND)
    decision = passes(what, *(brought("reply", "second", uid=f"m-{number}") for number in range(3)))
    assert [kept.activity for kept in decision.status.signals or ()] == ["reply", "second"]
    assert said(decision)[2] == (False, "reply and second wait for no event any more")
