# SPDX-License-Identifier: Apache-2.0
"""Sleeps and waitFors, played by the pure engine: when they end and how, and what becomes of each Signal."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kubesaga.api.action import Verb
from kubesaga.api.deed import ActivityPhase
from kubesaga.api.reasons import Reason
from kubesaga.api.run import RunPhase
from kubesaga.engine.reconcile import reconcile
from kubesaga.engine.snapshot import Unusable
from kubesaga.testing.builders import definition, snapshot
from kubesaga.testing.clock import START
from kubesaga.testing.paths import PathEvaluator
from kubesaga.testing.play import HANGS, Play, wrong
from kubesaga.testing.unguarded import open_ledger

PAID = {"name": "paid", "waitFor": {"timeout": "1h"}}
ENDLESS = {"name": "paid", "waitFor": {}}
NAP = {"name": "nap", "sleep": {"for": "10m"}}
HOUR = timedelta(hours=1)


def after(play: Play) -> timedelta:
    """Return how long the clock was moved."""
    return play.now - START


def one(play: Play, name: str) -> Any:
    """Return the status of an activity."""
    return play.status.activities[name]


# --- sleep ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sleep", "inputs", "length"), [
    pytest.param({"for": "10m"}, {}, timedelta(minutes=10), id="a duration"),
    pytest.param({"for": "${inputs.pause}"}, {"pause": "90s"}, timedelta(seconds=90), id="a duration that is an input"),
    pytest.param({"until": "2026-01-01T00:00:30Z"}, {}, timedelta(seconds=30), id="a time"),
    pytest.param({"until": "2026-01-01T02:00:30+02:00"}, {}, timedelta(seconds=30), id="a time of another zone"),
    pytest.param({"until": "${inputs.when}"}, {"when": "2026-01-01T01:00:00Z"}, HOUR, id="a time that is an input"),
    pytest.param({"until": "2020-01-01T00:00:00Z"}, {}, timedelta(0), id="a time that has passed"),
])  # fmt: skip
def test_a_sleep_lasts_for(sleep: dict[str, str], inputs: dict[str, str], length: timedelta) -> None:
    play = Play(definition({"name": "nap", "sleep": sleep}, "b", inputs=[{"name": name} for name in inputs]))
    play.spec = {"inputs": inputs}
    play.go()
    assert (play.ended, after(play), play.log) == ("Succeeded AllSucceeded", length, ["do b#1"])
    assert (one(play, "nap").output, one(play, "nap").attempt) == (None, None)


def test_meanwhile_the_run_waits_and_says_until_when() -> None:
    play = Play(definition(NAP))
    decision = play.step()
    assert (play.status.phase, play.status.current_activity) == (RunPhase.WAITING, "nap")
    nap = one(play, "nap")
    assert (nap.phase, nap.reason, nap.message) == (
        ActivityPhase.WAITING,
        Reason.SLEEPING,
        "until 2026-01-01T00:10:00.000Z",
    )
    assert decision.wake_at == nap.until == START + timedelta(minutes=10)
    assert decision.effects == ()


def test_its_end_stays_where_it_is_however_often_it_is_looked_at() -> None:
    play = Play(definition(NAP))
    play.step()
    for minutes in (3, 9):
        play.now = START + timedelta(minutes=minutes)
        assert play.step().wake_at == START + timedelta(minutes=10)
    play.now = START + timedelta(days=3)
    play.step()
    assert play.ended == "Succeeded AllSucceeded"


@pytest.mark.parametrize(("sleep", "pause", "told"), [
    pytest.param({"for": "${inputs.pause}"}, "soon", "sleep.for: 'soon' is not a duration", id="a duration that is none"),
    pytest.param({"for": "${inputs.n}"}, "", "sleep.for: must be a string, a duration such as 90s", id="a number"),
    pytest.param({"until": "${inputs.n}"}, "", "sleep.until: must be a string, a time such as 2026-", id="a number for a time"),
    pytest.param({"until": "${inputs.pause}"}, "2026-11-22T10:00:00", "sleep.until: '2026-11-22T10:00:00' is not a time with its zone", id="a time without a zone"),
    pytest.param({"until": "${inputs.pause}"}, "2026-02-30T10:00:00Z", "is not a time with its zone", id="a day that there is not"),
])  # fmt: skip
def test_what_is_no_time_when_it_is_known_fails_the_activity(sleep: dict[str, str], pause: str, told: str) -> None:
    inputs = [{"name": "pause", "default": pause}, {"name": "n", "type": "integer", "default": 3}]
    play = Play(definition({"name": "nap", "sleep": sleep}, inputs=inputs)).go()
    assert play.ended == "Failed ActivityFailed"
    assert one(play, "nap").error.reason is Reason.INVALID_INPUT
    assert told in one(play, "nap").error.message


def test_a_sleep_after_what_can_be_undone_counts_in_the_timeout_of_the_run() -> None:
    undoable = {"name": "reserve", "handler": "reserve", "compensation": {"handler": "unreserve"}}
    play = Play(definition(undoable, {"name": "nap", "sleep": {"for": "2h"}}, timeout="30m")).go()
    assert play.ended == "Compensated DeadlineExceeded"
    assert (play.log, after(play)) == (["do reserve#1", "undo reserve#1"], timedelta(minutes=30))
    assert (one(play, "nap").phase, one(play, "nap").error.reason) == ("Cancelled", Reason.DEADLINE_EXCEEDED)


def test_who_waits_holds_no_slot() -> None:
    one_at_a_time = {"maxActivities": 1}
    what = definition({**NAP, "dependsOn": []}, {**PAID, "dependsOn": []}, {"name": "b", "handler": "b", "dependsOn": []}, concurrency=one_at_a_time)  # fmt: skip
    play = Play(what, ledger=open_ledger()).go("do b#1")
    assert play.phases == {"nap": "Waiting", "paid": "Waiting", "b": "Running"}


# --- waitFor --------------------------------------------------------------------------------------------------------


def test_a_signal_ends_the_wait_and_is_its_output() -> None:
    play = Play(definition(PAID, {"name": "ship", "handler": "ship", "params": {"of": "${activities.paid.output.by}"}}))
    play.step()
    paid = one(play, "paid")
    assert (play.status.phase, paid.reason, paid.message) == (
        RunPhase.WAITING, Reason.AWAITING_SIGNAL, "for a Signal until 2026-01-01T01:00:00.000Z"
    )  # fmt: skip
    play.command(Verb.SIGNAL, "paid", uid="u1", value={"by": "card"}, by="ann")
    play.go()
    assert (play.ended, after(play)) == ("Succeeded AllSucceeded", timedelta(0))
    assert (one(play, "paid").output, play.inputs["do ship#1"]) == ({"by": "card"}, {"of": "card"})
    assert [(act.verb, act.activity, act.uid, act.by) for act in play.status.actions or []] == [
        ("Signal", "paid", "u1", "ann")
    ]
    assert (play.answers["u1"].applied, play.answers["u1"].message) == (True, "paid has it")
    assert play.status.signals is None


def test_the_end_of_the_wait_and_the_record_of_the_signal_are_one_write() -> None:
    play = Play(definition(PAID, "b"))
    play.step()
    play.command(Verb.SIGNAL, "paid", uid="u1")
    status = play.step().status
    assert (status.activities["paid"].phase, [act.uid for act in status.actions or []]) == ("Succeeded", ["u1"])


def test_a_signal_that_comes_early_is_kept_and_ends_the_wait_at_once() -> None:
    play = Play(definition(NAP, PAID, "b"))
    play.step()
    play.command(Verb.SIGNAL, "paid", uid="u1", value=[1, None])
    play.step()
    assert play.answers["u1"].message == "kept until paid waits for it"
    assert [(kept.activity, kept.value, kept.uid) for kept in play.status.signals or []] == [("paid", [1, None], "u1")]
    play.go()
    assert (play.ended, one(play, "paid").output, play.status.signals) == ("Succeeded AllSucceeded", [1, None], None)
    assert after(play) == timedelta(minutes=10)


def test_a_signal_to_a_run_that_is_still_queued_waits_with_it() -> None:
    play = Play(definition(ENDLESS, concurrency={"maxWorkflows": 1}))
    play.spec = {"suspend": True}
    play.command(Verb.SIGNAL, "paid", uid="u1", value=7)
    play.command(Verb.RETRY, uid="u2")
    play.step()
    assert (play.status.phase, list(play.answers)) == (RunPhase.PAUSED, ["u2"])
    play.spec = {}
    play.go()
    assert (play.ended, one(play, "paid").output, play.answers["u1"].applied) == ("Succeeded AllSucceeded", 7, True)


@pytest.mark.parametrize(("what", "run", "more", "told"), [
    pytest.param([PAID], {}, {"activity": "payed"}, "spec.activity: there is no activity payed; did you mean paid?", id="nobody of that name"),
    pytest.param([NAP, "a"], {}, {"activity": "nap"}, "spec.activity: nap is no waitFor, so no Signal is for it; there are no activities that wait", id="a sleep"),
    pytest.param([PAID, NAP], {"first": True}, {"activity": "paid"}, "spec.activity: paid waits no more: it is Succeeded", id="a wait that is over"),
    pytest.param(["a", PAID], {"first": True}, {"activity": "paid"}, "spec.activity: there is a Signal for paid already, and it takes one", id="a second one"),
    pytest.param([PAID], {}, {"activity": "paid", "target_uid": "x"}, "spec.targetRef.uid: the run of this name has another uid", id="another run"),
    pytest.param([PAID], {}, {"activity": "paid", "problem": "spec.value: is 70,000 bytes"}, "spec.value: is 70,000 bytes", id="one that is wrong by itself"),
    pytest.param([PAID], {}, {"activity": "paid", "value": "x" * 930_000}, "spec.value: the run's record would be 9300", id="more than a run can hold"),
])  # fmt: skip
def test_a_signal_is_refused_for(what: list[Any], run: dict[str, Any], more: dict[str, Any], told: str) -> None:
    play = Play(definition(*what), {"a": HANGS})
    play.step()
    if run.get("first"):
        play.command(Verb.SIGNAL, "paid", uid="first")
        play.step()
        assert play.answers["first"].applied
    play.command(Verb.SIGNAL, uid="u1", **more)
    play.step()
    assert not play.answers["u1"].applied
    assert play.answers["u1"].message.startswith(told)


def test_two_signals_at_the_same_moment_are_one_and_a_refusal() -> None:
    play = Play(definition(PAID, NAP))
    play.step()
    play.command(Verb.SIGNAL, "paid", uid="u1", value=1)
    play.command(Verb.SIGNAL, "paid", uid="u2", value=2)
    play.step()
    assert {uid: answer.applied for uid, answer in play.answers.items()} == {"u1": True, "u2": False}
    assert (one(play, "paid").output, play.status.signals) == (1, None)


def test_a_signal_that_is_told_again_is_the_same_one() -> None:
    play = Play(definition(PAID, {"name": "again", "waitFor": {}}))
    play.step()
    for _ in range(2):
        play.command(Verb.SIGNAL, "paid", uid="u1", value=1)
        play.step()
    assert (play.answers["u1"].applied, len(play.status.actions or [])) == (True, 1)
    assert play.phases == {"paid": "Succeeded", "again": "Waiting"}


def test_a_finished_run_takes_no_signal() -> None:
    play = Play(definition("a", PAID), {"a": wrong()}).go()
    play.command(Verb.SIGNAL, "paid", uid="u1")
    play.step()
    assert (play.answers["u1"].applied, play.answers["u1"].message) == (False, "the run has finished: it is Failed")


def test_a_run_that_cannot_succeed_any_more_takes_no_signal_but_for_finally() -> None:
    undoable = {"name": "reserve", "handler": "reserve", "compensation": {"handler": "unreserve"}}
    final = {"name": "seen", "waitFor": {}}
    play = Play(definition(undoable, "b", PAID, **{"finally": [final]}), {"b": wrong(), "undo reserve": HANGS})
    play.go("undo reserve#1")
    play.command(Verb.SIGNAL, "paid", uid="u1")
    play.command(Verb.SIGNAL, "seen", uid="u2")
    play.step()
    assert (
        play.answers["u1"].message
        == "spec.activity: paid does not wait: the run cannot succeed any more (ActivityFailed)"
    )
    assert play.answers["u2"].message == "kept until seen waits for it"


def test_a_signal_that_says_that_it_failed_is_a_failure() -> None:
    play = Play(definition(PAID))
    play.step()
    play.command(Verb.SIGNAL, "paid", value={"success": False, "message": "the card was refused"})
    play.go()
    error = one(play, "paid").error
    assert (play.ended, error.reason, error.message) == (
        "Failed ActivityFailed", Reason.REPORTED_FAILURE, "the card was refused"
    )  # fmt: skip


# --- the end of a waitFor's time ------------------------------------------------------------------------------------

TIMED_OUT = "no Signal came to paid within 1h"


@pytest.mark.parametrize(("more", "ended", "phase", "log"), [
    pytest.param({}, "Failed ActivityFailed", "Failed", [], id="the run fails"),
    pytest.param({"errorHandling": {"strategy": "Continue"}}, "Succeeded PartialFailure", "Failed", ["do b#1"], id="Continue: the run goes on"),
    pytest.param({"errorHandling": {"fallback": {"activity": "skip"}}}, "Succeeded AllSucceeded", "Skipped", ["do b#1"], id="skip: it is skipped"),
    pytest.param({"errorHandling": {"fallback": {"handler": "ask"}}}, "Succeeded AllSucceeded", "Succeeded", ["fallback paid#1", "do b#1"], id="its fallback stands in"),
])  # fmt: skip
def test_when_no_signal_comes_in_time(more: dict[str, Any], ended: str, phase: str, log: list[str]) -> None:
    play = Play(definition({**PAID, **more}, "b")).go()
    assert (play.ended, play.phases["paid"], play.log, after(play)) == (ended, phase, log, HOUR)
    error = one(play, "paid").error
    assert (error.reason, error.message) == (Reason.WAIT_TIMEOUT, TIMED_OUT)


def test_nothing_is_retried_though_the_workflow_retries_everything() -> None:
    retry = {"errorHandling": {"activityError": {"retry": {"maxAttempts": 5, "when": "inputs.yes"}}}}
    play = Play(definition(PAID, inputs=[{"name": "yes", "type": "boolean", "default": True}], **retry)).go()
    assert (play.ended, after(play), one(play, "paid").attempts) == ("Failed ActivityFailed", HOUR, None)


def test_while_its_fallback_runs_it_takes_no_signal() -> None:
    play = Play(definition({**PAID, "errorHandling": {"fallback": {"handler": "ask"}}}), {"fallback paid": HANGS})
    play.go("fallback paid#1")
    paid = one(play, "paid")
    assert (paid.phase, paid.reason, paid.waits) == ("Waiting", Reason.FALLING_BACK, False)
    play.command(Verb.SIGNAL, "paid", uid="u1")
    play.step()
    assert play.answers["u1"].message == "spec.activity: paid waits no more: it is Waiting"


def test_a_signal_that_was_there_before_anybody_looked_beats_the_clock() -> None:
    play = Play(definition(PAID))
    play.step()
    play.now = START + 2 * HOUR
    play.command(Verb.SIGNAL, "paid", value="late news")
    play.go()
    assert (play.ended, one(play, "paid").output) == ("Succeeded AllSucceeded", "late news")


def test_without_a_timeout_it_waits_as_long_as_the_run_may_take() -> None:
    play = Play(definition(ENDLESS))
    assert play.step().wake_at is None
    assert one(play, "paid").message == "for a Signal"
    limited = Play(definition(ENDLESS, timeout="3h")).go()
    assert (limited.ended, after(limited)) == ("Failed DeadlineExceeded", 3 * HOUR)


# --- what else may happen to a run that waits -----------------------------------------------------------------------

BESIDE = [{**NAP, "dependsOn": []}, {**ENDLESS, "dependsOn": []}]
RESERVE = {"name": "reserve", "handler": "reserve", "dependsOn": [], "compensation": {"handler": "unreserve"}}


@pytest.mark.parametrize(("change", "ended", "reason"), [
    pytest.param({"spec": {"shutdown": "Cancel"}}, "Cancelled Cancelled", Reason.CANCELLED, id="cancelled"),
    pytest.param({"spec": {"shutdown": "Compensate"}}, "Compensated CompensationRequested", Reason.COMPENSATION_REQUESTED, id="undone"),
    pytest.param({"spec": {"shutdown": "Terminate"}}, "Terminated Terminated", Reason.TERMINATED, id="terminated"),
    pytest.param({"deleting": True}, "Cancelled Deleted", Reason.DELETED, id="deleted"),
])  # fmt: skip
def test_a_run_that_waits_ends_at_once_when_it_is(change: dict[str, Any], ended: str, reason: Reason) -> None:
    play = Play(definition(RESERVE, *BESIDE))
    play.step()
    play.step()
    for name, value in change.items():
        setattr(play, name, value)
    play.go()
    assert (play.ended, after(play)) == (ended, timedelta(0))
    assert {name: (one(play, name).phase, one(play, name).error.reason) for name in ("nap", "paid")} == {
        "nap": ("Cancelled", reason), "paid": ("Cancelled", reason)
    }  # fmt: skip
    assert one(play, "reserve").phase == ("Succeeded" if "Terminated" in ended else "Compensated")


def test_what_waits_beside_an_activity_that_fails_is_given_up() -> None:
    play = Play(definition({"name": "a", "handler": "a", "dependsOn": []}, *BESIDE), {"a": wrong()}).go()
    assert (play.ended, after(play)) == ("Failed ActivityFailed", timedelta(0))
    assert play.phases == {"a": "Failed", "nap": "Cancelled", "paid": "Cancelled"}
    assert one(play, "nap").error.message == "the run failed while this waited"


def test_a_suspended_run_takes_its_signal_and_starts_nothing_after_it() -> None:
    play = Play(definition(PAID, "b"))
    play.step()
    play.spec = {"suspend": True}
    play.command(Verb.SIGNAL, "paid", value=1)
    play.go()
    assert (play.status.phase, play.phases, play.log) == (RunPhase.PAUSED, {"paid": "Succeeded"}, [])
    play.spec = {}
    play.go()
    assert (play.ended, play.log) == ("Succeeded AllSucceeded", ["do b#1"])


def test_a_run_whose_revision_is_gone_counts_its_waits_as_cancelled() -> None:
    play = Play(definition(*BESIDE))
    play.step()
    gone = Unusable(reason=Reason.REVISION_NOT_FOUND, message="gone")
    status = reconcile(snapshot(gone, play.status), play.now, PathEvaluator()).status
    phases = {name: str(activity.phase) for name, activity in status.activities.items()}
    assert (status.phase, status.reason, phases) == (
        "Failed", Reason.REVISION_NOT_FOUND, {"nap": "Cancelled", "paid": "Cancelled"}
    )  # fmt: skip


def test_waits_of_finally_end_like_others() -> None:
    play = Play(definition("a", timeout="1h", **{"finally": [NAP, {"name": "seen", "waitFor": {}}]})).go()
    assert (play.ended, play.phases["nap"], play.phases["seen"]) == ("Failed FinallyFailed", "Succeeded", "Cancelled")
    assert after(play) == HOUR


def test_variables_are_set_from_what_a_signal_brings() -> None:
    play = Play(definition({**PAID, "set": {"who": "${output.by}"}}, outputs={"who": "${workflow.who}"}))
    play.command(Verb.SIGNAL, "paid", value={"by": "ann"})
    play.go()
    assert play.status.outputs == {"who": "ann"}


def test_a_replay_takes_over_what_was_waited_for_and_waits_anew_for_what_was_not() -> None:
    first = Play(definition(NAP, PAID, "b"), {"b": wrong()})
    first.command(Verb.SIGNAL, "paid", value=5)
    first.go()
    again = first.replay().go()
    assert (again.ended, again.log, one(again, "paid").output, after(again)) == (
        "Succeeded AllSucceeded", ["do b#1"], 5, timedelta(0)
    )  # fmt: skip
    alone = first.replay(activity="nap", mode="Activity").go()
    assert (alone.ended, after(alone)) == ("Succeeded AllSucceeded", timedelta(minutes=10))
