# SPDX-License-Identifier: Apache-2.0
"""What a pass decides, row by row."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kubesaga.api.conditions import is_true
from kubesaga.api.deed import ActivityPhase, ActivityStatus, Stopping
from kubesaga.api.reasons import Reason
from kubesaga.api.run import RunPhase, TriggerStatus
from kubesaga.engine.attempt import Observation, Stage, Succeeded, Unknown
from kubesaga.engine.decision import Decision, Release, Start, Stop, Tidy
from kubesaga.engine.reconcile import reconcile
from kubesaga.engine.snapshot import Limits, Snapshot, Unusable
from kubesaga.testing.builders import (
    definition,
    is_running,
    pod,
    running,
    snapshot,
    status,
    succeeded,
    waits,
    went_well,
    went_wrong,
)
from kubesaga.testing.clock import START
from kubesaga.testing.paths import PathEvaluator

TWO = definition("reserve", "pay")
ONE_POD = definition(pod("pack"))


def decide(snap: Snapshot, after: float = 0) -> Decision:
    return reconcile(snap, START + timedelta(seconds=after), PathEvaluator())


def deeds(decision: Decision) -> list[str]:
    """Return the effects in a few words, in order."""
    words = []
    for effect in decision.effects:
        match effect:
            case Start(attempt=started):
                words.append(f"start {started.id.activity}#{started.id.number}")
            case Stop(attempt=which):
                words.append(f"stop {which.activity}#{which.number}")
            case Release(attempt=which):
                words.append(f"release {which.activity}#{which.number}")
            case Tidy():
                words.append("tidy")
    return words


def phases(decision: Decision) -> dict[str, str]:
    return {name: str(activity.phase) for name, activity in decision.status.activities.items()}


STOPPING = Stopping(phase=ActivityPhase.CANCELLED, reason=Reason.TERMINATED, message="stop", since=START)
TIMED_OUT = Stopping(phase=ActivityPhase.FAILED, reason=Reason.ATTEMPT_TIMEOUT, message="late", since=START)
DAG = definition(
    {"name": "a", "handler": "a", "dependsOn": []},
    {"name": "b", "handler": "b", "dependsOn": []},
    {"name": "c", "handler": "c", "dependsOn": ["a", "b"]},
)
WITH_FINALLY = definition(
    "work", **{"finally": [{"name": "audit", "handler": "audit"}, {"name": "tell", "handler": "t"}]}
)
BOTH_FINAL = {"audit": succeeded(order=2), "tell": succeeded(order=3)}

ROWS: list[Any] = [
    pytest.param(snapshot(TWO), 0, "Running", {"reserve": "Running"}, ["start reserve#1"],
                 id="a new run starts its first activity, and only that"),
    pytest.param(snapshot(TWO, {"reserve": running()}), 0, "Running", {"reserve": "Running"}, ["start reserve#1"],
                 id="an attempt that is recorded and not there is started again under the same name"),
    pytest.param(snapshot(TWO, {"reserve": running()}, {"reserve": is_running()}), 0, "Running",
                 {"reserve": "Running"}, [], id="an attempt at work is left alone"),
    pytest.param(snapshot(TWO, {"reserve": running()}, {"reserve": went_well()}), 0, "Running",
                 {"reserve": "Succeeded", "pay": "Running"}, ["release reserve#1", "start pay#1"],
                 id="success and the next start are one decision"),
    pytest.param(snapshot(TWO, {"reserve": running()}, {"reserve": went_wrong()}), 0, "Failed",
                 {"reserve": "Failed"}, ["release reserve#1", "tidy"], id="a failed activity fails the run, the next is not started"),
    pytest.param(snapshot(TWO, {"reserve": succeeded(), "pay": running()}, {"pay": went_well()}), 0, "Succeeded",
                 {"reserve": "Succeeded", "pay": "Succeeded"}, ["release pay#1", "tidy"], id="the last success ends the run"),
    pytest.param(snapshot(TWO, {"reserve": running()}, {"reserve": went_well({"success": False, "message": "sold out"})}), 0,
                 "Failed", {"reserve": "Failed"}, ["release reserve#1", "tidy"], id="an output that says success: false is a failure"),
    pytest.param(snapshot(DAG), 0, "Running", {"a": "Running", "b": "Running"}, ["start a#1", "start b#1"],
                 id="activities that depend on nothing start together"),
    pytest.param(snapshot(DAG, {"a": running(), "b": running()}, {"a": went_well(), "b": is_running()}), 0, "Running",
                 {"a": "Succeeded", "b": "Running"}, ["release a#1"], id="a join waits for all it depends on"),
    pytest.param(snapshot(DAG, {"a": running(), "b": running()}, {"a": went_wrong(), "b": is_running()}), 0, "Running",
                 {"a": "Failed", "b": "Running"}, ["release a#1"],
                 id="after a failure nothing new starts, and what runs goes on to its end"),
    pytest.param(snapshot(DAG, status({"a": ActivityStatus(phase=ActivityPhase.FAILED), "b": running()},
                                      reason=Reason.ACTIVITY_FAILED), {"b": went_well()}), 0, "Failed",
                 {"a": "Failed", "b": "Succeeded"}, ["release b#1", "tidy"],
                 id="the run fails once the last of its activities has ended"),
    pytest.param(snapshot(TWO, spec={"suspend": True}), 0, "Paused", {}, [], id="a run that is suspended from the start starts nothing"),
    pytest.param(snapshot(TWO, {"reserve": running()}, {"reserve": is_running()}, spec={"suspend": True}), 0, "Running",
                 {"reserve": "Running"}, [], id="what runs when a run is suspended goes on"),
    pytest.param(snapshot(TWO, {"reserve": running()}, {"reserve": went_well()}, spec={"suspend": True}), 0, "Paused",
                 {"reserve": "Succeeded"}, ["release reserve#1"], id="a suspended run is Paused once nothing runs"),
    pytest.param(snapshot(TWO, status({"reserve": succeeded()}, RunPhase.PAUSED)), 0, "Running",
                 {"reserve": "Succeeded", "pay": "Running"}, ["start pay#1"], id="a run that is resumed goes on where it was"),
    pytest.param(snapshot(TWO, spec={"shutdown": "Terminate"}), 0, "Terminated", {}, ["tidy"],
                 id="a run terminated before it began runs nothing"),
    pytest.param(snapshot(TWO, {"reserve": running()}, {"reserve": is_running()}, spec={"shutdown": "Terminate"}), 0, "Running",
                 {"reserve": "Running"}, ["stop reserve#1"], id="Terminate orders what runs to stop"),
    pytest.param(snapshot(TWO, {"reserve": running(stopping=STOPPING)}, {"reserve": is_running()}, spec={"shutdown": "Terminate"}),
                 1, "Running", {"reserve": "Running"}, ["stop reserve#1"], id="an order to stop is repeated until it is confirmed"),
    pytest.param(snapshot(TWO, {"reserve": running(stopping=STOPPING)}, {"reserve": Observation(stage=Stage.ENDED, outcome=Unknown(), held=True)},
                          spec={"shutdown": "Terminate"}), 1, "Terminated", {"reserve": "Cancelled"}, ["release reserve#1", "tidy"],
                 id="a run is Terminated once everything has stopped"),
    pytest.param(snapshot(TWO, {"reserve": running(stopping=STOPPING)}, {"reserve": Observation(stage=Stage.ENDED, outcome=Succeeded(), held=True)},
                          spec={"shutdown": "Terminate"}), 1, "Terminated", {"reserve": "Succeeded"}, ["release reserve#1", "tidy"],
                 id="what succeeded before it could be stopped has succeeded"),
    pytest.param(snapshot(TWO, {"reserve": running(stopping=STOPPING)}, {"reserve": is_running()}, spec={"shutdown": "Terminate"}),
                 120, "Terminated", {"reserve": "Cancelled"}, ["stop reserve#1", "release reserve#1", "tidy"],
                 id="a run does not wait for ever for an attempt to stop"),
    pytest.param(snapshot(TWO, {"reserve": running()}, {"reserve": is_running()}, deleting=True, claimed=True), 0, "Running",
                 {"reserve": "Running"}, ["stop reserve#1"], id="a run that is deleted stops what runs first"),
    pytest.param(snapshot(TWO, status({"reserve": running(stopping=STOPPING)}, reason=Reason.DELETED), deleting=True, claimed=True), 1, "Cancelled",
                 {"reserve": "Cancelled"}, ["tidy"], id="a deleted run is let go once it has stopped"),
    pytest.param(snapshot(definition({"name": "slow", "handler": "s", "timeout": "5s"}), {"slow": running()}, {"slow": is_running()}),
                 4.9, "Running", {"slow": "Running"}, [], id="an attempt has its whole timeout"),
    pytest.param(snapshot(definition({"name": "slow", "handler": "s", "timeout": "5s"}), {"slow": running()}, {"slow": is_running()}),
                 5, "Running", {"slow": "Running"}, ["stop slow#1"], id="an attempt that is late is stopped"),
    pytest.param(snapshot(definition({"name": "slow", "handler": "s", "timeout": "5s"}), {"slow": running(stopping=TIMED_OUT)},
                          {"slow": went_wrong()}), 6, "Failed", {"slow": "Failed"}, ["release slow#1", "tidy"],
                 id="a late attempt that has stopped fails by its timeout"),
    pytest.param(snapshot(definition("slow", timeout="5s"), {"slow": running()}, {"slow": is_running()}), 5, "Running",
                 {"slow": "Running"}, ["stop slow#1"], id="a run past its deadline stops what runs"),
    pytest.param(snapshot(definition("a", "b", timeout="5s"), {"a": running()}, {"a": went_well()}), 5, "Failed",
                 {"a": "Succeeded"}, ["release a#1", "tidy"], id="a run past its deadline starts nothing more"),
    pytest.param(snapshot(WITH_FINALLY, {"work": running()}, {"work": went_well()}), 0, "Running",
                 {"work": "Succeeded", "audit": "Running"}, ["release work#1", "start audit#1"],
                 id="finally begins when everything else has ended well"),
    pytest.param(snapshot(WITH_FINALLY, {"work": running()}, {"work": went_wrong()}), 0, "Running",
                 {"work": "Failed", "audit": "Running"}, ["release work#1", "start audit#1"], id="finally also begins after a failure"),
    pytest.param(snapshot(WITH_FINALLY, {"work": succeeded(), "audit": running()}, {"audit": went_wrong()}), 0, "Running",
                 {"work": "Succeeded", "audit": "Failed", "tell": "Running"}, ["release audit#1", "start tell#1"],
                 id="finally goes on after one of its activities failed"),
    pytest.param(snapshot(WITH_FINALLY, {"work": succeeded(), "audit": ActivityStatus(phase=ActivityPhase.FAILED), "tell": running()},
                          {"tell": went_well()}), 0, "Failed", {"work": "Succeeded", "audit": "Failed", "tell": "Succeeded"},
                 ["release tell#1", "tidy"], id="a failure in finally alone fails the run"),
    pytest.param(snapshot(WITH_FINALLY, {"work": running()}, {"work": is_running()}, spec={"shutdown": "Terminate"}), 0, "Running",
                 {"work": "Running"}, ["stop work#1"], id="Terminate does not begin finally"),
    pytest.param(snapshot(TWO, {"reserve": running(worker="operator-before")}), 0, "Running", {"reserve": "Running"},
                 ["start reserve#1"], id="a handler's attempt whose operator died is started again"),
    pytest.param(snapshot(TWO, {"reserve": running(worker="operator-before", interruptions=3)}), 0, "Failed",
                 {"reserve": "OutcomeUnknown"}, ["tidy"], id="an attempt that took the operator down too often is not started again"),
    pytest.param(snapshot(ONE_POD, {"pack": running(worker=None)}, {"pack": waits(Reason.IMAGE_PULL_BACK_OFF)}), 1, "Running",
                 {"pack": "Running"}, [], id="a pod that waits for its image waits visibly"),
    pytest.param(snapshot(ONE_POD, {"pack": running(worker=None)}, {"pack": waits(Reason.IMAGE_PULL_BACK_OFF)}), 300, "Running",
                 {"pack": "Running"}, ["stop pack#1"], id="a pod that does not start in time is stopped"),
    pytest.param(snapshot(ONE_POD, {"pack": running(worker=None)}, {"pack": is_running()}), 3000, "Running",
                 {"pack": "Running"}, [], id="a pod that has started may run as long as it needs"),
    pytest.param(snapshot(TWO, {"reserve": succeeded()}, {"reserve": is_running()}), 0, "Running",
                 {"reserve": "Succeeded", "pay": "Running"}, ["stop reserve#1", "release reserve#1", "start pay#1"],
                 id="an attempt that runs though its end is recorded is stopped and let go"),
    pytest.param(snapshot(TWO, status({"reserve": succeeded()}, RunPhase.SUCCEEDED)), 0, "Succeeded", {"reserve": "Succeeded"},
                 ["tidy"], id="a finished run is tidied up"),
    pytest.param(snapshot(TWO, status({"reserve": succeeded()}, RunPhase.SUCCEEDED), marked_finished=True), 0, "Succeeded",
                 {"reserve": "Succeeded"}, [], id="a finished and tidied run is left alone"),
    pytest.param(snapshot(TWO, status({"reserve": running()}, RunPhase.FAILED), marked_finished=True), 0, "Failed",
                 {"reserve": "Running"}, [], id="a finished run never starts anything again"),
    pytest.param(snapshot(Unusable(reason=Reason.WORKFLOW_NOT_FOUND, message="none")), 0, "Failed", {}, ["tidy"],
                 id="a run of a missing Workflow fails at once"),
    pytest.param(snapshot(Unusable(reason=Reason.REVISION_NOT_FOUND, message="gone"), {"reserve": running()}, {"reserve": is_running()}), 0,
                 "Failed", {"reserve": "OutcomeUnknown"}, ["stop reserve#1", "release reserve#1", "tidy"],
                 id="a run whose revision was deleted stops what it had under way"),
]  # fmt: skip


@pytest.mark.parametrize(("snap", "after", "phase", "activities", "effects"), ROWS)
def test_a_pass(snap: Snapshot, after: float, phase: str, activities: dict[str, str], effects: list[str]) -> None:
    decision = decide(snap, after)
    assert (str(decision.status.phase), phases(decision), deeds(decision)) == (phase, activities, effects)


@pytest.mark.parametrize(("snap", "after", "phase", "activities", "effects"), ROWS)
def test_a_pass_over_its_own_result_changes_nothing_more(
    snap: Snapshot, after: float, phase: str, activities: dict[str, str], effects: list[str]
) -> None:
    """Level-triggered: the same world and the new status give the same status (unless its own start is now observed)."""
    decision = decide(snap, after)
    again = decide(snap.with_status(decision.status), after)
    assert again.status.wire() == decision.status.wire()


@pytest.mark.parametrize(
    ("snap", "after", "wake"),
    [
        pytest.param(snapshot(TWO), 0, None, id="without deadlines there is nothing to wake for"),
        pytest.param(snapshot(definition("a", timeout="1m")), 0, 60, id="the run's deadline"),
        pytest.param(
            snapshot(definition({"name": "a", "handler": "a", "timeout": "5s"}, timeout="1m")), 0, 5,
            id="the attempt's deadline, when it is the earlier",
        ),
        pytest.param(snapshot(ONE_POD), 0, 300, id="the time a pod has to start"),
        pytest.param(
            snapshot(TWO, {"reserve": running()}, {"reserve": is_running()}, spec={"shutdown": "Terminate"}), 10, 130,
            id="the time an attempt has to stop",
        ),
        pytest.param(snapshot(TWO, {"reserve": running()}, {"reserve": went_wrong()}), 0, None, id="a finished run never wakes"),
    ],
)  # fmt: skip
def test_when_to_look_again(snap: Snapshot, after: float, wake: float | None) -> None:
    wanted = None if wake is None else START + timedelta(seconds=wake)
    assert decide(snap, after).wake_at == wanted


def test_a_run_reports_how_far_it_is() -> None:
    decision = decide(snapshot(TWO, {"reserve": running()}, {"reserve": went_well()}), 1)
    told = decision.status
    assert (told.progress, told.current_activity, told.duration) == ("1/2", "pay", None)


def test_a_finished_run_reports_its_duration_and_conditions() -> None:
    decision = decide(snapshot(TWO, {"reserve": succeeded(), "pay": running()}, {"pay": went_well()}), 252)
    told = decision.status
    assert (told.progress, told.current_activity, told.duration) == ("2/2", None, "4m12s")
    truths = {name: is_true(told.conditions, name) for name in ("Completed", "Succeeded", "Reconciling", "Stalled")}
    assert truths == {"Completed": True, "Succeeded": True, "Reconciling": False, "Stalled": False}


def test_a_failed_run_is_stalled_and_says_why() -> None:
    told = decide(snapshot(TWO, {"reserve": running()}, {"reserve": went_wrong(message="sold out")})).status
    assert (told.reason, told.message) == (Reason.ACTIVITY_FAILED, "reserve: HandlerFailed: sold out")
    assert is_true(told.conditions, "Stalled")


def test_outputs_and_variables_flow_from_activity_to_activity() -> None:
    flow = definition(
        {"name": "assign", "handler": "assign", "set": {"agent": "${output.agent_id}"}},
        {"name": "tell", "handler": "tell", "params": {"who": "${workflow.agent}", "ticket": "${inputs.ticket}"}},
        inputs=[{"name": "ticket", "required": True}],
        outputs={"agent": "${workflow.agent}"},
    )
    given = {"inputs": {"ticket": "T-1"}}
    first = decide(snapshot(flow, spec=given)).status
    second = decide(snapshot(flow, first, {"assign": went_well({"agent_id": "A-4"})}, spec=given)).status
    assert second.activities["tell"].input == {"who": "A-4", "ticket": "T-1"}
    third = decide(snapshot(flow, second, {"tell": went_well()}, spec=given)).status
    assert (third.phase, third.outputs, third.variables) == (
        "Succeeded",
        {"agent": "A-4"},
        {"ticket": "T-1", "agent": "A-4"},
    )


def test_a_value_that_is_missing_at_run_time_fails_the_activity_visibly() -> None:
    flow = definition(
        "assign", {"name": "tell", "handler": "tell", "params": {"who": "${activities.assign.output.agent}"}}
    )
    told = decide(snapshot(flow, {"assign": running()}, {"assign": went_well({})})).status
    assert (told.activities["tell"].phase, told.activities["tell"].attempt) == ("Failed", None)
    assert told.reason is Reason.ACTIVITY_FAILED
    assert "ExpressionFailed" in (told.message or "")


def test_completion_order_is_recorded_for_those_that_succeeded() -> None:
    told = decide(snapshot(DAG, {"a": running(), "b": running()}, {"a": went_well(), "b": went_well()})).status
    assert (told.activities["a"].completion_order, told.activities["b"].completion_order) == (1, 2)


def test_a_repeated_start_is_the_same_to_the_letter_though_variables_have_changed() -> None:
    flow = definition({"name": "pay", "handler": "pay", "params": {"sum": "${workflow.sum}"}}, variables={"sum": 1})
    first = decide(snapshot(flow))
    changed = first.status.model_copy(update={"variables": {"sum": 2}})
    again = decide(snapshot(flow, changed))
    assert again.effects == first.effects


def test_an_output_that_would_burst_the_record_fails_the_activity() -> None:
    told = decide(
        snapshot(TWO, {"reserve": running()}, {"reserve": went_well({"x": "y" * 5000})}, limits=Limits(max_run_bytes=4000))
    ).status  # fmt: skip
    assert told.activities["reserve"].error is not None
    assert told.activities["reserve"].error.reason is Reason.OUTPUT_TOO_LARGE
    assert told.activities["reserve"].output is None


def test_a_spec_changed_after_the_start_is_reported_and_not_followed() -> None:
    begun = decide(snapshot(TWO, spec={"event": '{"a": 1}'})).status
    told = decide(snapshot(TWO, begun, {"reserve": is_running()}, spec={"event": '{"a": 2}'})).status
    assert is_true(told.conditions, "SpecChanged")
    assert told.inputs == begun.inputs


def test_values_of_a_pods_environment_are_text() -> None:
    env = [
        {"name": "N", "value": "${inputs.n}"},
        {"name": "T", "value": "${inputs.t}"},
        {"name": "S", "value": "$${HOME}"},
    ]
    flow = definition(
        {"name": "pack", "pod": {"image": "x", "env": env}}, inputs=[{"name": "n", "type": "number"}, {"name": "t"}]
    )
    told = decide(snapshot(flow, spec={"inputs": {"n": 3, "t": "three"}})).status
    assert told.activities["pack"].env == {"N": "3", "T": "three", "S": "${HOME}"}


def test_text_that_only_looks_like_an_expression_stops_nobody() -> None:
    flow = definition({"name": "pack", "pod": {"image": "x", "args": ["echo '${'"]}}, description="costs ${")
    assert not flow.has_expressions


LARGE = "y" * 3000


@pytest.mark.parametrize(
    ("activity", "reason"),
    [
        pytest.param(
            {"params": {"a": "${inputs.x}", "b": "${inputs.x}"}}, "InvalidInput", id="params that repeat a large input"
        ),
        pytest.param(
            {"set": {"a": "${inputs.x}", "b": "${inputs.x}"}},
            "OutputTooLarge",
            id="variables that repeat a large input",
        ),
    ],
)
def test_no_value_makes_the_record_larger_than_the_api_server_takes(activity: dict[str, Any], reason: str) -> None:
    flow = definition({"name": "a", "handler": "a", **activity}, inputs=[{"name": "x"}])
    given: dict[str, Any] = {"spec": {"inputs": {"x": LARGE}}, "limits": Limits(max_run_bytes=10_000)}
    told = decide(snapshot(flow, **given)).status
    told = decide(snapshot(flow, told, {"a": went_well()}, **given)).status if told.phase == "Running" else told
    assert (told.phase, told.activities["a"].error and told.activities["a"].error.reason) == ("Failed", reason)


def test_outputs_of_a_run_are_bounded_too() -> None:
    flow = definition("a", inputs=[{"name": "x"}], outputs={"a": "${inputs.x}", "b": "${inputs.x}"})
    given: dict[str, Any] = {"spec": {"inputs": {"x": LARGE}}, "limits": Limits(max_run_bytes=10_000)}
    told = decide(snapshot(flow, decide(snapshot(flow, **given)).status, {"a": went_well()}, **given)).status
    assert (told.phase, told.reason) == ("Failed", "OutputTooLarge")


def test_inputs_of_a_run_are_bounded() -> None:
    told = decide(
        snapshot(
            definition("a", inputs=[{"name": "x"}]), spec={"inputs": {"x": LARGE}}, limits=Limits(max_run_bytes=4000)
        )
    ).status
    assert (told.phase, told.reason) == ("Failed", "InvalidInput")


def test_an_interrupted_attempt_that_fails_may_have_had_its_effect_before() -> None:
    decision = decide(snapshot(TWO, {"reserve": running(interruptions=1)}, {"reserve": went_wrong()}))
    assert decision.status.activities["reserve"].in_doubt
    decision = decide(snapshot(TWO, {"reserve": running()}, {"reserve": went_wrong()}))
    assert not decision.status.activities["reserve"].in_doubt


def test_an_attempt_that_cannot_begin_says_why_and_is_tried_again_without_being_charged() -> None:
    spec = definition(pod("pack"))
    full = Observation(stage=Stage.WAITING, reason=Reason.QUOTA_EXCEEDED, message="no room", begun=False, held=True)
    snap = snapshot(spec, {"pack": running(worker=None)}, {"pack": full})
    decision = decide(snap, 3600)
    assert (phases(decision), deeds(decision)) == ({"pack": "Running"}, ["start pack#1"])
    known = decision.status.activities["pack"]
    assert (known.reason, known.message, known.attempt, known.failures) == (Reason.QUOTA_EXCEEDED, "no room", 1, None)
    assert decision.wake_at == START + timedelta(seconds=3610)


TRIGGER = TriggerStatus(name="created", event_id="e-1")


@pytest.mark.parametrize(
    ("snap", "recorded"),
    [
        pytest.param(snapshot(TWO, trigger=TRIGGER), TRIGGER, id="of a run that starts"),
        pytest.param(snapshot(Unusable(reason=Reason.WORKFLOW_NOT_FOUND, message="gone"), trigger=TRIGGER), TRIGGER, id="of a run that is refused"),
        pytest.param(snapshot(TWO), None, id="not of a run that somebody created"),
        pytest.param(snapshot(TWO, {"reserve": running()}, trigger=TRIGGER), None, id="not of a run that has been seen before: marks can be changed"),
    ],
)  # fmt: skip
def test_what_a_trigger_made_a_run_of_is_recorded(snap: Snapshot, recorded: TriggerStatus | None) -> None:
    assert decide(snap).status.trigger == recorded
