# SPDX-License-Identifier: Apache-2.0
"""What happens when something fails for good: fallback, strategy, undoing, `finally`; and what people can do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesaga.api.action import Verb
from kubesaga.api.names import Deed
from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Failed, Unknown
from kubesaga.testing.builders import definition
from kubesaga.testing.play import HANGS, Play, good, wrong


def step(name: str, *, undo: bool = True, **more: Any) -> dict[str, Any]:
    """Return an activity that is a handler, with its undo."""
    if undo:
        more["compensation"] = {"handler": f"un{name}", **more.pop("with_undo", {})}
    return {"name": name, "handler": name, **more}


def ways(**handling: Any) -> dict[str, Any]:
    """Return an errorHandling; `activity` is a part of its activityError. Nothing is tried again."""
    return {
        "errorHandling": {"activityError": {"retry": {"maxAttempts": 1}, **handling.pop("activity", {})}, **handling}
    }


SAGA = definition(step("a"), step("b"), step("c", undo=False))
AUDITED = definition(step("a"), step("b"), finally_=[{"name": "audit", "handler": "audit"}])
ALL_AT_ONCE = definition(step("a", dependsOn=[]), step("b", dependsOn=[]), step("c", undo=False, dependsOn=["a", "b"]))

OUTCOME_UNKNOWN = Unknown(message="nobody knows")


@pytest.mark.parametrize(
    ("spec", "script", "ended", "log", "phases"),
    [
        pytest.param(SAGA, {}, "Succeeded AllSucceeded", ["do a#1", "do b#1", "do c#1"],
                     {"a": "Succeeded", "b": "Succeeded", "c": "Succeeded"}, id="a run that succeeds undoes nothing"),
        pytest.param(SAGA, {"c": wrong()}, "Compensated ActivityFailed", ["do a#1", "do b#1", "do c#1", "undo b#1", "undo a#1"],
                     {"a": "Compensated", "b": "Compensated", "c": "Failed"}, id="what has succeeded is undone backwards"),
        pytest.param(SAGA, {"b": wrong()}, "Compensated ActivityFailed", ["do a#1", "do b#1", "undo a#1"],
                     {"a": "Compensated", "b": "Failed"}, id="what has failed is not undone"),
        pytest.param(SAGA, {"a": wrong()}, "Failed ActivityFailed", ["do a#1"], {"a": "Failed"},
                     id="a run with nothing to undo has just failed"),
        pytest.param(definition(step("a"), step("b", when="inputs.no"), step("c"), inputs=[{"name": "no", "type": "boolean", "default": False}]),
                     {"c": wrong()}, "Compensated ActivityFailed", ["do a#1", "do c#1", "undo a#1"],
                     {"a": "Compensated", "b": "Skipped", "c": "Failed"}, id="what was skipped is not undone"),
        pytest.param(SAGA, {"c": OUTCOME_UNKNOWN, "b": OUTCOME_UNKNOWN}, "Compensated ActivityFailed", ["do a#1", "do b#1", "undo b#1", "undo a#1"],
                     {"a": "Compensated", "b": "Compensated"}, id="what may have had its effect is undone too"),
        pytest.param(SAGA, {"b": Failed(reason=Reason.HTTP_FAILED, in_doubt=True)}, "Compensated ActivityFailed",
                     ["do a#1", "do b#1", "undo b#1", "undo a#1"], {"a": "Compensated", "b": "Compensated"},
                     id="so is what failed, but may have had its effect"),
        pytest.param(definition(step("a"), step("b"), compensation={"inDoubt": "Leave"}), {"b": OUTCOME_UNKNOWN}, "Compensated ActivityFailed",
                     ["do a#1", "do b#1", "undo a#1"], {"a": "Compensated", "b": "OutcomeUnknown"}, id="unless inDoubt is Leave"),
        pytest.param(definition(step("a", errorHandling={"retry": {"maxAttempts": 2}}), step("b"), compensation={"inDoubt": "Leave"}),
                     {"a": [OUTCOME_UNKNOWN, good()], "b": wrong()}, "Compensated ActivityFailed",
                     ["do a#1", "do a#2", "do b#1", "undo a#1"], {"a": "Compensated", "b": "Failed"},
                     id="what succeeded after an attempt in doubt is undone in any case"),
        pytest.param(definition(step("a", errorHandling={"retry": {"maxAttempts": 2}}), step("b")),
                     {"a": [OUTCOME_UNKNOWN, wrong()]}, "Compensated ActivityFailed",
                     ["do a#1", "do a#2", "undo a#1"], {"a": "Compensated"},
                     id="an attempt in doubt stays in doubt when the next one fails"),
        pytest.param(definition(step("a", set={"x": "${output.none}"})), {}, "Compensated ActivityFailed", ["do a#1", "undo a#1"],
                     {"a": "Compensated"}, id="what was done, but whose output cannot be used, is undone"),
        pytest.param(ALL_AT_ONCE, {"c": wrong()}, "Compensated ActivityFailed", ["do a#1", "do b#1", "do c#1", "undo b#1", "undo a#1"],
                     {"a": "Compensated", "b": "Compensated", "c": "Failed"}, id="the order of completion counts, not that of the spec"),
        pytest.param(definition(step("a"), step("b"), step("c", undo=False), compensation={"strategy": "Parallel"}), {"c": wrong()},
                     "Compensated ActivityFailed", ["do a#1", "do b#1", "do c#1", "undo a#1", "undo b#1"],
                     {"a": "Compensated", "b": "Compensated", "c": "Failed"}, id="in parallel everything is undone at once"),
        pytest.param(SAGA, {"c": wrong(), "undo b": [wrong(retryable=True), good()]}, "CompensationFailed ActivityFailed",
                     ["do a#1", "do b#1", "do c#1", "undo b#1", "undo a#1"],
                     {"a": "Compensated", "b": "Succeeded", "c": "Failed"}, id="an undo that fails does not keep the others from running"),
        pytest.param(definition(step("a", with_undo={"retry": {"maxAttempts": 2}}), "b"), {"b": wrong(), "undo a": [wrong(retryable=True), good()]},
                     "Compensated ActivityFailed", ["do a#1", "do b#1", "undo a#1", "undo a#2"], {"a": "Compensated", "b": "Failed"},
                     id="an undo is tried again"),
        pytest.param(AUDITED, {"b": wrong()}, "Compensated ActivityFailed", ["do a#1", "do b#1", "undo a#1", "do audit#1"],
                     {"a": "Compensated", "b": "Failed", "audit": "Succeeded"}, id="finally runs after undoing"),
        pytest.param(AUDITED, {"audit": wrong()}, "Failed FinallyFailed", ["do a#1", "do b#1", "do audit#1"],
                     {"a": "Succeeded", "b": "Succeeded", "audit": "Failed"}, id="a failing finally undoes nothing"),
        pytest.param(AUDITED, {"b": wrong(), "undo a": wrong()}, "CompensationFailed ActivityFailed", ["do a#1", "do b#1", "undo a#1"],
                     {"a": "Succeeded", "b": "Failed"}, id="finally waits while undoing has failed"),
        pytest.param(definition(step("a"), step("b", undo=False), timeout="10s"), {"b": HANGS}, "Compensated DeadlineExceeded",
                     ["do a#1", "do b#1", "stop do b#1", "undo a#1"], {"a": "Compensated", "b": "Cancelled"}, id="a run that takes too long is undone"),
        pytest.param(definition(step("a"), step("b", timeout="5s")), {"b": HANGS}, "Compensated ActivityFailed",
                     ["do a#1", "do b#1", "stop do b#1", "undo b#1", "undo a#1"], {"a": "Compensated", "b": "Compensated"},
                     id="an attempt that was cut off by its timeout is in doubt"),
        pytest.param(definition(step("a"), step("b"), outputs={"x": "${workflow.none}"}), {}, "Failed ExpressionFailed", ["do a#1", "do b#1"],
                     {"a": "Succeeded", "b": "Succeeded"}, id="outputs that cannot be evaluated undo nothing"),
        # strategies
        pytest.param(definition(step("a"), step("b"), **ways(workflowError={"strategy": "Abort"})), {"b": wrong()}, "Failed ActivityFailed",
                     ["do a#1", "do b#1"], {"a": "Succeeded", "b": "Failed"}, id="Abort undoes nothing"),
        pytest.param(definition(step("a"), step("b", errorHandling={"strategy": "Abort"}), step("c")), {"b": wrong()}, "Failed ActivityFailed",
                     ["do a#1", "do b#1"], {"a": "Succeeded", "b": "Failed"}, id="an activity's own strategy comes first"),
        pytest.param(definition(step("a"), step("b"), **ways(workflowError={"strategy": "Abort"}, activity={"strategy": "Compensate"})),
                     {"b": wrong()}, "Compensated ActivityFailed", ["do a#1", "do b#1", "undo a#1"], {"a": "Compensated", "b": "Failed"},
                     id="then that of all activities, then the Workflow's"),
        pytest.param(definition(step("a"), step("b"), step("c"), **ways(workflowError={"strategy": "Continue"})), {"b": wrong()},
                     "Succeeded PartialFailure", ["do a#1", "do b#1", "do c#1"], {"a": "Succeeded", "b": "Failed", "c": "Succeeded"},
                     id="Continue goes on without what failed"),
        pytest.param(definition(step("a"), step("b", errorHandling={"strategy": "Continue"}), step("c")), {"b": OUTCOME_UNKNOWN, "c": wrong()},
                     "Compensated ActivityFailed", ["do a#1", "do b#1", "do c#1", "undo b#1", "undo a#1"],
                     {"a": "Compensated", "b": "Compensated", "c": "Failed"}, id="what was continued over in doubt is undone later all the same"),
        pytest.param(definition(step("a"), step("b"), timeout="10s", **ways(workflowError={"strategy": "Continue"})), {"b": HANGS},
                     "Failed DeadlineExceeded", ["do a#1", "do b#1", "stop do b#1"], {"a": "Succeeded", "b": "Cancelled"},
                     id="a run that takes too long cannot be continued"),
        # fallbacks
        pytest.param(definition(step("a", errorHandling={"fallback": {"activity": "skip"}}), step("b")), {"a": wrong()}, "Succeeded AllSucceeded",
                     ["do a#1", "do b#1"], {"a": "Skipped", "b": "Succeeded"}, id="a fallback skip lets the run go on"),
        pytest.param(definition(step("a", errorHandling={"fallback": {"handler": "other"}}), step("b")), {"a": wrong()}, "Succeeded AllSucceeded",
                     ["do a#1", "fallback a#1", "do b#1"], {"a": "Succeeded", "b": "Succeeded"}, id="a fallback stands in"),
        pytest.param(definition(step("a", errorHandling={"fallback": {"handler": "other"}}), step("b")), {"a": wrong(), "b": wrong()},
                     "Compensated ActivityFailed", ["do a#1", "fallback a#1", "do b#1", "undo a#1"], {"a": "Compensated", "b": "Failed"},
                     id="what a fallback did is undone as the activity is"),
        pytest.param(definition(step("a"), step("b", errorHandling={"fallback": {"handler": "other"}})), {"b": wrong(), "fallback b": wrong()},
                     "Compensated ActivityFailed", ["do a#1", "do b#1", "fallback b#1", "undo a#1"], {"a": "Compensated", "b": "Failed"},
                     id="a fallback that fails goes on to the strategy"),
        pytest.param(definition(step("a", errorHandling={"retry": {"maxAttempts": 2}, "fallback": {"handler": "o", "retry": {"maxAttempts": 2}}})),
                     {"a": wrong(retryable=True), "fallback a": [wrong(retryable=True), good()]}, "Succeeded AllSucceeded",
                     ["do a#1", "do a#2", "fallback a#1", "fallback a#2"], {"a": "Succeeded"}, id="first the retries, then the fallback, with its own"),
        pytest.param(definition(step("a", undo=False), step("b", undo=False), **ways(activity={"fallback": {"activity": "skip"}})),
                     {"a": wrong(), "b": wrong()}, "Succeeded AllSucceeded", ["do a#1", "do b#1"], {"a": "Skipped", "b": "Skipped"},
                     id="a fallback can be the default of all activities"),
        pytest.param(definition(step("a", errorHandling={"fallback": {"activity": "skip"}}), step("b")), {"a": OUTCOME_UNKNOWN, "b": wrong()},
                     "Compensated ActivityFailed", ["do a#1", "do b#1", "undo a#1"], {"a": "Compensated", "b": "Failed"},
                     id="what was skipped in doubt is undone"),
        pytest.param(definition("a", finally_=[{"name": "audit", "handler": "audit", "errorHandling": {"fallback": {"handler": "o"}}}],
                                **ways(workflowError={"strategy": "Abort"})),
                     {"a": wrong(), "audit": wrong()}, "Failed ActivityFailed", ["do a#1", "do audit#1", "fallback audit#1"],
                     {"a": "Failed", "audit": "Succeeded"}, id="a fallback stands in for an activity of finally, also in a run that failed"),
        pytest.param(definition("a", finally_=[{"name": "audit", "handler": "audit", "errorHandling": {"retry": {"maxAttempts": 2}}}]),
                     {"a": wrong(), "audit": [wrong(retryable=True), good()]}, "Failed ActivityFailed", ["do a#1", "do audit#1", "do audit#2"],
                     {"a": "Failed", "audit": "Succeeded"}, id="an activity of finally is tried again, also in a run that failed"),
        # the list form
        pytest.param(definition("a", "b", "c", compensation={"activities": [{"name": "un_a", "for": "a", "handler": "x"}, {"name": "un_b", "for": "b", "handler": "x"}]}),
                     {"c": wrong()}, "Compensated ActivityFailed", ["do a#1", "do b#1", "do c#1", "undo b#1", "undo a#1"],
                     {"a": "Compensated", "b": "Compensated", "c": "Failed"}, id="listed undos are those of the activities they name"),
        pytest.param(definition("a", compensation={"activities": [{"name": "revert", "handler": "x"}, {"name": "clear", "handler": "x"}]}),
                     {"a": wrong()}, "Compensated ActivityFailed", ["do a#1", "undo clear#1", "undo revert#1"], {"a": "Failed"},
                     id="those that name none always run, in reverse order of the list"),
    ],
)  # fmt: skip
def test_a_run_ends(
    spec: Any, script: Mapping[str, Any], ended: str, log: Sequence[str], phases: Mapping[str, str]
) -> None:
    play = Play(spec, script).go()
    assert (play.ended, play.log, play.phases) == (ended, list(log), phases)


# --- shutdown and deletion --------------------------------------------------------------------------------------------

HANGING = definition(step("a"), step("b"), step("c"), finally_=[{"name": "audit", "handler": "audit"}])
STOPPED = ["do a#1", "do b#1", "stop do b#1"]
UNDONE = [*STOPPED, "undo b#1", "undo a#1", "do audit#1"]
NO_UNDO = definition(
    step("a"), step("b"), step("c"), compensation={"onCancel": False}, finally_=[{"name": "audit", "handler": "audit"}]
)
ABANDONING = definition(
    step("a"), step("b"), deletionPolicy="Abandon", finally_=[{"name": "audit", "handler": "audit"}]
)
PLAIN = definition("a", "b", finally_=[{"name": "audit", "handler": "audit"}])


@pytest.mark.parametrize(
    ("spec", "asked", "ended", "log"),
    [
        pytest.param(HANGING, "Cancel", "Cancelled Cancelled", UNDONE, id="a cancelled run is stopped and undone"),
        pytest.param(NO_UNDO, "Cancel", "Cancelled Cancelled", [*STOPPED, "do audit#1"], id="unless compensation.onCancel is false"),
        pytest.param(NO_UNDO, "Compensate", "Compensated CompensationRequested", UNDONE, id="Compensate undoes in any case"),
        pytest.param(PLAIN, "Compensate", "Cancelled CompensationRequested", [*STOPPED, "do audit#1"],
                     id="with nothing to undo that is the same as Cancel"),
        pytest.param(HANGING, "Terminate", "Terminated Terminated", STOPPED, id="Terminate stops everything, and nothing runs after it"),
        pytest.param(HANGING, "delete", "Cancelled Deleted", UNDONE, id="a deleted run is stopped and undone"),
        pytest.param(NO_UNDO, "delete", "Cancelled Deleted", UNDONE, id="a deletion has its own policy"),
        pytest.param(ABANDONING, "delete", "Terminated Deleted", STOPPED, id="which may be to abandon it"),
        pytest.param(HANGING, "delete namespace", "Terminated Deleted", STOPPED, id="in a namespace that is being deleted it is abandoned"),
    ],
)  # fmt: skip
def test_a_run_that_is_ended_from_outside(spec: Any, asked: str, ended: str, log: list[str]) -> None:
    play = Play(spec, {"b": HANGS}).go(until="do b#1")
    ask(play, asked)
    play.go()
    assert (play.ended, play.log) == (ended, log)


def ask(play: Play, asked: str) -> None:
    if asked.startswith("delete"):
        play.deleting = True
        play.namespace_ending = asked == "delete namespace"
    else:
        play.spec = {"shutdown": asked}


@pytest.mark.parametrize(
    ("until", "script", "asked", "ended", "log"),
    [
        pytest.param("undo a#1", {"b": wrong(), "undo a": HANGS}, "Cancel", "CompensationFailed ActivityFailed",
                     ["do a#1", "do b#1", "undo a#1", "stop undo a#1"], id="Cancel while undoing changes nothing: here the undo takes too long"),
        pytest.param("undo a#1", {"b": wrong(), "undo a": HANGS}, "Terminate", "Terminated Terminated",
                     ["do a#1", "do b#1", "undo a#1", "stop undo a#1"], id="Terminate stops undos too"),
        pytest.param("undo a#1", {"b": wrong(), "undo a": HANGS}, "delete namespace", "Terminated Deleted",
                     ["do a#1", "do b#1", "undo a#1", "stop undo a#1"], id="and so does the end of the namespace"),
        pytest.param("do audit#1", {"audit": HANGS}, "Cancel", "Failed FinallyFailed", ["do a#1", "do b#1", "do audit#1", "stop do audit#1"],
                     id="once finally has begun it is too late to cancel"),
        pytest.param("fallback b#1", {"b": wrong(), "fallback b": HANGS}, "Cancel", "Cancelled Cancelled",
                     ["do a#1", "do b#1", "fallback b#1", "stop fallback b#1", "undo b#1", "undo a#1", "do audit#1"],
                     id="a fallback is stopped as its activity would be, and is in doubt"),
    ],
)  # fmt: skip
def test_a_run_that_is_ended_late(
    until: str, script: Mapping[str, Any], asked: str, ended: str, log: list[str]
) -> None:
    spec = definition(
        step("a"), step("b", errorHandling={"fallback": {"handler": "o"}} if "fallback b" in script else {}),
        timeout="1h", finally_=[{"name": "audit", "handler": "audit"}],
    )  # fmt: skip
    play = Play(spec, script).go(until=until)
    ask(play, asked)
    play.go()
    assert (play.ended, play.log) == (ended, log)


def test_a_cancel_that_comes_as_everything_has_been_done_is_too_late() -> None:
    play = Play(definition(step("a"))).go(until="do a#1")
    play.spec = {"shutdown": "Cancel"}
    assert play.go().ended == "Succeeded AllSucceeded"


def test_a_suspended_run_undoes_nothing_until_it_is_resumed() -> None:
    play = Play(SAGA, {"c": wrong()}).go(until="do c#1")
    play.spec = {"suspend": True}
    play.go()
    assert (str(play.status.phase), play.log) == ("Paused", ["do a#1", "do b#1", "do c#1"])
    play.spec = {}
    assert play.go().ended == "Compensated ActivityFailed"


# --- WorkflowActions --------------------------------------------------------------------------------------------------

MANUAL = definition(
    step("a"), step("b"), compensation={"mode": "Manual"}, finally_=[{"name": "audit", "handler": "audit"}]
)


def test_in_mode_manual_undoing_waits_to_be_decided() -> None:
    play = Play(MANUAL, {"b": wrong()}).go()
    assert (play.ended, play.log) == ("Waiting ActivityFailed", ["do a#1", "do b#1"])
    assert play.condition("Compensated") == "Unknown AwaitingDecision"


@pytest.mark.parametrize(
    ("asked", "ended", "log"),
    [
        pytest.param(Verb.COMPENSATE, "Compensated ActivityFailed", ["undo a#1", "do audit#1"], id="Compensate undoes"),
        pytest.param(Verb.REJECT, "Failed CompensationRejected", ["do audit#1"], id="Reject leaves everything as it is"),
        pytest.param("Compensate", "Compensated ActivityFailed", ["undo a#1", "do audit#1"], id="shutdown: Compensate is a decision too"),
        pytest.param("delete", "Compensated ActivityFailed", ["undo a#1", "do audit#1"], id="and so is a deletion"),
        pytest.param("Cancel", "Waiting ActivityFailed", [], id="Cancel is none"),
        pytest.param("Terminate", "Terminated Terminated", [], id="Terminate ends it"),
    ],
)  # fmt: skip
def test_the_decision_is(asked: Verb | str, ended: str, log: list[str]) -> None:
    play = Play(MANUAL, {"b": wrong()}).go()
    if isinstance(asked, Verb):
        play.command(asked, by="anna")
    else:
        ask(play, asked)
    play.go()
    assert (play.ended, play.log[2:]) == (ended, log)
    if isinstance(asked, Verb):
        assert play.answers["action-1"].applied
        (record,) = play.status.actions or []
        assert (record.verb, record.by, record.uid) == (asked, "anna", "action-1")


PARKED = {"c": wrong(), "undo a": [wrong(), good()], "undo b": [wrong(), wrong(), good()]}


@pytest.mark.parametrize(
    ("commands", "ended", "log"),
    [
        pytest.param([(Verb.RETRY, None)], "CompensationFailed ActivityFailed", ["undo b#2", "undo a#2"],
                     id="Retry tries all that failed again, in order"),
        pytest.param([(Verb.RETRY, None), (Verb.RETRY, None)], "Compensated ActivityFailed", ["undo b#2", "undo a#2", "undo b#3"],
                     id="as often as it takes"),
        pytest.param([(Verb.RETRY, "a"), (Verb.SKIP, "b")], "Compensated ActivityFailed", ["undo a#2"], id="each may be answered for itself"),
        pytest.param([(Verb.SKIP, "a")], "CompensationFailed ActivityFailed", [], id="Skip leaves one out; the other has still failed"),
        pytest.param([(Verb.SKIP, "a"), (Verb.SKIP, "b")], "Compensated ActivityFailed", [], id="Skip all, and nothing is left to undo"),
        pytest.param([(Verb.ABANDON, None)], "Failed CompensationAbandoned", [], id="Abandon ends the run as failed"),
    ],
)  # fmt: skip
def test_a_run_whose_undos_failed_is_helped_by(
    commands: list[tuple[Verb, str | None]], ended: str, log: list[str]
) -> None:
    play = Play(SAGA, PARKED).go()
    assert (play.ended, play.condition("Compensated"), play.condition("Stalled")) == (
        "CompensationFailed ActivityFailed", "False UndoFailed", "True ActivityFailed",
    )  # fmt: skip
    for verb, activity in commands:
        play.command(verb, activity)
        play.go()
    assert (play.ended, play.log[5:]) == (ended, log)
    assert all(answer.applied for answer in play.answers.values())


@pytest.mark.parametrize(
    ("spec", "script", "verb", "activity", "told"),
    [
        pytest.param(SAGA, {"c": HANGS}, Verb.COMPENSATE, None, "does not wait for a decision (it is Running)", id="Compensate on a run that runs"),
        pytest.param(SAGA, {"c": HANGS}, Verb.RETRY, None, "the run is Running; Retry is for one that is CompensationFailed", id="Retry on a run that runs"),
        pytest.param(SAGA, {}, Verb.RETRY, None, "the run has finished: it is Succeeded", id="anything on a run that has finished"),
        pytest.param(SAGA, PARKED, Verb.REJECT, None, "does not wait for a decision (it is CompensationFailed)", id="Reject when undoing has failed"),
        pytest.param(SAGA, PARKED, Verb.SKIP, None, "say whose undo is to be left out; these have failed: b, a", id="Skip of nothing in particular"),
        pytest.param(SAGA, PARKED, Verb.SKIP, "c", "no undo of c has failed; these have: b, a", id="Skip of an undo that has not failed"),
        pytest.param(MANUAL, {"b": wrong()}, Verb.ABANDON, None, "the run is Waiting; Abandon is for one", id="Abandon before undoing has begun"),
        pytest.param(PLAIN, {"b": HANGS}, Verb.COMPENSATE, None, "set its spec.shutdown to Compensate", id="Compensate of a run that has no undos"),
    ],
)  # fmt: skip
def test_an_action_that_does_not_fit_is_refused(
    spec: Any, script: Mapping[str, Any], verb: Verb, activity: str | None, told: str
) -> None:
    play = Play(spec, {name: list(lines) if isinstance(lines, list) else lines for name, lines in script.items()})
    play.go(until="do c#1") if script.get("c") is HANGS else play.go(until="do b#1") if script.get(
        "b"
    ) is HANGS else play.go()
    before = play.status
    play.command(verb, activity)
    play.step()
    answer = play.answers["action-1"]
    assert not answer.applied
    assert told in answer.message
    assert (play.status.phase, play.status.actions) == (before.phase, before.actions)


def test_an_action_is_applied_once_though_its_answer_is_lost() -> None:
    play = Play(SAGA, {"c": wrong(), "undo b": wrong()}).go()
    play.command(Verb.RETRY, uid="x")
    play.go()
    play.command(Verb.RETRY, uid="x")  # it is seen again: nobody could tell it that it was applied
    play.go()
    assert play.log.count("undo b#2") == 1
    assert "undo b#3" not in play.log
    assert play.answers["x"].applied
    assert len(play.status.actions or []) == 1


def test_an_action_for_another_run_of_that_name_is_refused() -> None:
    play = Play(MANUAL, {"b": wrong()}).go()
    play.command(Verb.COMPENSATE, target_uid="another")
    play.step()
    assert not play.answers["action-1"].applied
    assert "another uid" in play.answers["action-1"].message


# --- details ----------------------------------------------------------------------------------------------------------


def test_undoing_that_takes_too_long_stops_and_waits() -> None:
    spec = definition(step("a"), step("b"), "c", compensation={"timeout": "1m"})
    play = Play(spec, {"c": wrong(), "undo b": [HANGS, good()]}).go()
    assert play.ended == "CompensationFailed ActivityFailed"
    assert play.log == ["do a#1", "do b#1", "do c#1", "undo b#1", "stop undo b#1"]
    assert play.condition("Compensated") == "False CompensationTimeout"
    play.command(Verb.RETRY)
    play.go()
    assert (play.ended, play.log[5:]) == ("Compensated ActivityFailed", ["undo b#2", "undo a#1"])


def test_a_finally_that_outlasts_the_time_of_undoing_does_not_make_undoing_late() -> None:
    spec = definition(
        step("a"),
        step("b"),
        compensation={"timeout": "1m"},
        timeout="1h",
        finally_=[{"name": "audit", "handler": "audit"}],
    )
    play = Play(spec, {"b": wrong(), "audit": HANGS}).go()
    assert (play.ended, play.status.compensation and play.status.compensation.late) == (
        "Compensated ActivityFailed",
        None,
    )


def test_the_time_of_undoing_counts_from_its_start_not_from_the_question() -> None:
    spec = definition(step("a"), "b", compensation={"mode": "Manual", "timeout": "1m"})
    play = Play(spec, {"b": wrong()}).go()
    play.now = play.now.replace(hour=play.now.hour + 2)
    play.command(Verb.COMPENSATE)
    assert play.go().ended == "Compensated ActivityFailed"


def test_what_an_undo_is_given_is_resolved_when_it_runs() -> None:
    undo = {"params": {"agent": "${activities.a.output.agent}", "who": "${workflow.who}", "why": "${run.reason}"}}
    spec = definition(
        step("a", with_undo=undo, set={"who": "${output.agent}"}),
        {**step("b", undo=False), "set": {"who": "${output.agent}"}},
        "c",
    )
    play = Play(spec, {"a": good({"agent": "A-1"}), "b": good({"agent": "A-2"}), "c": wrong()}).go()
    assert play.inputs["undo a#1"] == {"agent": "A-1", "who": "A-2", "why": "ActivityFailed"}


def test_an_undo_that_cannot_be_given_what_it_needs_fails_visibly_and_can_be_retried() -> None:
    undo = {"params": {"agent": "${activities.a.output.agent}"}}
    play = Play(definition(step("a", with_undo=undo), "b"), {"b": wrong()}).go()
    assert play.ended == "CompensationFailed ActivityFailed"
    compensation = play.status.activities["a"].compensation
    assert compensation is not None
    assert compensation.error is not None
    assert compensation.error.reason is Reason.EXPRESSION_FAILED
    assert "agent" in compensation.error.message
    play.command(Verb.RETRY)
    assert play.go().ended == "CompensationFailed ActivityFailed"


def test_the_status_shows_what_is_being_undone() -> None:
    play = Play(SAGA, {"c": wrong(), "undo b": HANGS}).go(until="undo b#1")
    assert (str(play.status.phase), play.status.current_activity) == ("Compensating", "b")
    assert play.phases == {"a": "Succeeded", "b": "Compensating", "c": "Failed"}
    assert play.condition("Compensated") == "Unknown InProgress"
    assert play.condition("Reconciling") == "True ActivityFailed"


def test_keys_and_pods_of_deeds_differ() -> None:
    from kubesaga.api.names import idempotency_key, pod_name

    keys = {idempotency_key("u", "a", deed) for deed in Deed}
    pods = {pod_name("order-1", "u", "a", 1, deed) for deed in Deed}
    assert keys == {"u/a/do", "u/a/undo", "u/a/fallback"}
    assert len(pods) == 3
    assert any("undo-a" in name for name in pods)


# --- whatever happens -------------------------------------------------------------------------------------------------

ENDS = st.sampled_from(
    [good(), wrong(), wrong(retryable=True), OUTCOME_UNKNOWN, Failed(reason=Reason.HTTP_FAILED, in_doubt=True), HANGS]
)
HANDLING = st.sampled_from(
    [
        {},
        {"fallback": {"activity": "skip"}},
        {"fallback": {"handler": "o"}},
        {"strategy": "Continue"},
        {"strategy": "Abort"},
    ]
)
ASKED = st.sampled_from(["", "", "Cancel", "Compensate", "Terminate", "delete", "delete namespace"])


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_happens_a_run_comes_to_rest_and_undoes_backwards_what_it_did(data: st.DataObject) -> None:
    names = ["a", "b", "c", "d"][: data.draw(st.integers(1, 4))]
    activities = [
        step(name, undo=data.draw(st.booleans()), timeout="1m", errorHandling=data.draw(HANDLING), dependsOn=data.draw(st.lists(st.sampled_from(names[:at]), unique=True)) if at else [])
        for at, name in enumerate(names)
    ]  # fmt: skip
    retry = {"errorHandling": {"activityError": {"retry": {"maxAttempts": 2, "backoff": {"initial": "1s"}}}}}
    spec = definition(*activities, finally_=[{"name": "audit", "handler": "audit"}], timeout="10m", **retry)
    deeds = [f"{deed} {name}".removeprefix("do ") for name in names for deed in Deed]
    script = {deed: data.draw(st.lists(ENDS, min_size=1, max_size=2)) for deed in deeds if data.draw(st.booleans())}
    play = Play(spec, script)
    if asked := data.draw(ASKED):
        play.go(until=f"do {data.draw(st.sampled_from(names))}#1")
        ask(play, asked)
    play.go()
    assert play.status.finished or str(play.status.phase) == "CompensationFailed"
    begun = [line.split()[:2] for line in play.log if not line.startswith("stop")]
    first = next((at for at, (deed, _) in enumerate(begun) if deed == "undo"), len(begun))
    assert all(deed == "undo" or name == "audit#1" for deed, name in begun[first:]), (
        "nothing is done any more once undoing has begun"
    )
    undone = [name.partition("#")[0] for deed, name in begun if deed == "undo"]
    orders = [play.status.activities[name].completion_order for name in undone]
    assert None not in orders, "only what was done is undone"
    assert orders == sorted(orders, key=lambda order: -(order or 0)), "and that backwards"
    assert all(play.log.count(line) == 1 for line in play.log), "no attempt is begun or stopped twice"
    if str(play.status.phase) == "Compensated":
        left = [
            name
            for name, known in play.status.activities.items()
            if str(known.phase) == "Succeeded" and name != "audit"
        ]
        assert not any(spec.steps[name].undo for name in left), "what could be undone has been"
