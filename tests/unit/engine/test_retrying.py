# SPDX-License-Identifier: Apache-2.0
"""When a failed activity is tried again, row by row."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesaga.api.deed import ActivityPhase, ActivityStatus, Stopping
from kubesaga.api.failure import Retry
from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import AttemptId, Failed, Observation, Stage, Unknown
from kubesaga.engine.decision import Decision, Release, Start
from kubesaga.engine.reconcile import reconcile
from kubesaga.engine.retries import DEFAULT, RetryPolicy, policy_of
from kubesaga.engine.snapshot import Snapshot
from kubesaga.testing.builders import (
    UID,
    definition,
    is_running,
    pod,
    running,
    snapshot,
    status,
    succeeded,
    went_well,
    went_wrong,
)
from kubesaga.testing.clock import START
from kubesaga.testing.paths import PathEvaluator

STEADY = {"maxAttempts": 3, "backoff": {"initial": "10s", "jitter": 0}}


def retried(activity: str | dict[str, Any] = "pay", retry: dict[str, Any] = STEADY, **spec: Any) -> Any:
    """Return a definition of one activity that is tried again."""
    full = {"name": activity, "handler": activity} if isinstance(activity, str) else activity
    return definition({**full, "errorHandling": {"retry": retry}}, **spec)


def decide(snap: Snapshot, after: float = 0) -> Decision:
    return reconcile(snap, START + timedelta(seconds=after), PathEvaluator())


def told(decision: Decision, name: str = "pay") -> ActivityStatus:
    return decision.status.activities[name]


def ended(outcome: Any) -> Observation:
    return Observation(stage=Stage.ENDED, outcome=outcome, held=True)


def waiting(failures: int = 1, attempt: int = 1, due: float = 10) -> ActivityStatus:
    """Return the status of an activity that waits to be tried again."""
    failed = decide(snapshot(retried(), {"pay": running(attempt, failures=failures - 1 or None)}, None))
    assert failed.status.phase == "Running"
    return ActivityStatus(
        phase=ActivityPhase.RETRYING, attempt=attempt, start_time=START, failures=failures,
        next_attempt_time=START + timedelta(seconds=due), error={"reason": "HandlerFailed", "message": "no"},
    )  # fmt: skip


def test_a_failed_attempt_is_followed_by_another_after_a_wait() -> None:
    first = decide(snapshot(retried(), {"pay": running()}, {"pay": went_wrong(message="sold out")}))
    assert (first.status.phase, told(first).phase, first.wake_at) == (
        "Waiting",
        "Retrying",
        START + timedelta(seconds=10),
    )
    assert [type(effect) for effect in first.effects] == [Release]
    assert [(each.number, each.error.message) for each in told(first).attempts or []] == [(1, "sold out")]


def test_the_next_attempt_starts_when_the_wait_is_over_and_not_before() -> None:
    early, due = (
        decide(snapshot(retried(), {"pay": waiting()}), 9.9),
        decide(snapshot(retried(), {"pay": waiting()}), 10),
    )
    assert (told(early).phase, early.effects) == ("Retrying", ())
    (start,) = due.effects
    assert isinstance(start, Start)
    assert (start.attempt.id.number, start.attempt.idempotency_key) == (2, f"{UID}/pay/do")
    assert (told(due).phase, told(due).attempt, told(due).start_time) == ("Running", 2, START)


@pytest.mark.parametrize(
    ("retry", "recorded", "seen", "phase", "reason"),
    [
        pytest.param(STEADY, running(3, failures=2), went_wrong(), "Failed", "HandlerFailed", id="the last attempt allowed is the last"),
        pytest.param({"maxAttempts": 1}, running(), went_wrong(), "Failed", "HandlerFailed", id="one attempt is no retry"),
        pytest.param(STEADY, running(), ended(Failed(reason=Reason.HTTP_STATUS, retryable=False)), "Failed", "HttpStatus",
                     id="what cannot help is not tried again"),
        pytest.param(STEADY, running(3, failures=2), ended(Failed(reason=Reason.EVICTED)), "Retrying", "Evicted", id="an eviction is not charged"),
        pytest.param(STEADY, running(9, failures=2), ended(Failed(reason=Reason.NODE_LOST)), "Retrying", "NodeLost", id="nor is a lost node, however often"),
        pytest.param(STEADY, running(), ended(Unknown(message="?")), "Retrying", "OutcomeUnknown", id="what nobody knows the end of is tried again"),
        pytest.param(STEADY, running(3, failures=2), ended(Unknown(message="?")), "OutcomeUnknown", "OutcomeUnknown",
                     id="and stays unknown after the last attempt"),
        pytest.param({**STEADY, "when": "false"}, running(), went_wrong(), "Failed", "HandlerFailed", id="a condition that is false wants no other attempt"),
        pytest.param({**STEADY, "when": "true"}, running(), ended(Failed(reason=Reason.HTTP_STATUS, retryable=False)), "Retrying", "HttpStatus",
                     id="a condition that is true wants one whatever the executor says"),
        pytest.param({**STEADY, "when": "error.retryable"}, running(), went_wrong(), "Retrying", "HandlerFailed", id="a condition sees the error"),
        pytest.param({**STEADY, "when": "error.none"}, running(), went_wrong(), "Failed", "HandlerFailed", id="a condition that cannot be evaluated ends it visibly"),
        pytest.param({**STEADY, "budget": "5s"}, running(), went_wrong(), "Failed", "RetryBudgetExceeded", id="no attempt starts past the budget"),
        pytest.param({**STEADY, "budget": "10s"}, running(), went_wrong(), "Retrying", "HandlerFailed", id="one may start just at its end"),
        pytest.param(STEADY, running(), went_well({"success": False}), "Retrying", "ReportedFailure", id="a reported failure is tried again"),
        pytest.param(STEADY, running(stopping=Stopping(phase=ActivityPhase.FAILED, reason=Reason.ATTEMPT_TIMEOUT, since=START)), went_wrong(),
                     "Retrying", "AttemptTimeout", id="an attempt that took too long is tried again"),
        pytest.param(STEADY, running(stopping=Stopping(phase=ActivityPhase.CANCELLED, reason=Reason.DEADLINE_EXCEEDED, since=START)), went_wrong(),
                     "Cancelled", "DeadlineExceeded", id="one that was cancelled is not"),
    ],
)  # fmt: skip
def test_what_becomes_of_a_failed_attempt(
    retry: dict[str, Any], recorded: ActivityStatus, seen: Observation, phase: str, reason: str
) -> None:
    snap = snapshot(retried(retry=retry), {"pay": recorded})
    number = recorded.attempt or 1
    observed = {AttemptId(run_uid=UID, activity="pay", number=number): seen}
    result = told(
        decide(Snapshot(run=snap.run, definition=snap.definition, revision="r", observed=observed, worker=snap.worker))
    )
    assert (result.phase, result.error and result.error.reason) == (phase, reason)


def test_the_wait_that_a_server_asks_for_is_honoured() -> None:
    seen = ended(Failed(reason=Reason.HTTP_STATUS, message="429", retry_after=120))
    assert decide(snapshot(retried(), {"pay": running()}, {"pay": seen})).wake_at == START + timedelta(seconds=120)


def test_nothing_is_tried_again_in_a_run_that_is_failing() -> None:
    both = definition(
        {"name": "a", "handler": "a", "dependsOn": []},
        {"name": "pay", "handler": "pay", "dependsOn": [], "errorHandling": {"retry": STEADY}},
    )
    result = decide(snapshot(both, {"a": running(), "pay": waiting()}, {"a": went_wrong()}))
    assert (result.status.phase, told(result).phase, told(result).error and told(result).error.reason) == (
        "Failed",
        "Failed",
        "HandlerFailed",
    )


def test_a_run_past_its_deadline_waits_for_no_other_attempt() -> None:
    result = decide(snapshot(retried(timeout="5s"), {"pay": waiting()}), 5)
    assert (result.status.phase, result.status.reason, told(result).phase) == (
        "Failed",
        "DeadlineExceeded",
        "Cancelled",
    )


def test_terminate_ends_what_waits_at_once() -> None:
    result = decide(snapshot(retried(), {"pay": waiting()}, spec={"shutdown": "Terminate"}))
    assert (result.status.phase, told(result).phase) == ("Terminated", "Cancelled")


def test_a_suspended_run_starts_no_other_attempt_until_it_is_resumed() -> None:
    held = decide(snapshot(retried(), {"pay": waiting()}, spec={"suspend": True}), 60)
    assert (held.status.phase, told(held).phase, held.wake_at) == ("Paused", "Retrying", None)
    resumed = decide(snapshot(retried(), held.status), 61)
    assert (told(resumed).phase, told(resumed).attempt) == ("Running", 2)


def test_each_attempt_has_its_own_timeout() -> None:
    slow = retried({"name": "pay", "handler": "pay", "timeout": "30s"})
    again = running(2, attempt_start_time=START + timedelta(seconds=100))
    assert told(decide(snapshot(slow, status({"pay": again})), 129)).stopping is None
    assert told(decide(snapshot(slow, status({"pay": again})), 130)).stopping is not None


def test_a_pod_of_another_attempt_has_another_name() -> None:
    flow = retried(pod("pay"))
    one = told(decide(snapshot(flow))).pod_name
    two = told(decide(snapshot(flow, {"pay": waiting()}), 10)).pod_name
    assert one
    assert two
    assert (one[:-1], one[-1], two[-1]) == (two[:-1], "1", "2")


def test_a_success_after_failures_is_a_success_and_its_history_stays() -> None:
    after = running(2, failures=1, error={"reason": "HandlerFailed"}, attempts=[])
    snap = snapshot(retried(), {"pay": after})
    seen = {AttemptId(run_uid=UID, activity="pay", number=2): went_well({"id": 1})}
    result = decide(Snapshot(run=snap.run, definition=snap.definition, revision="r", observed=seen, worker=snap.worker))
    assert (result.status.phase, told(result).error, told(result).failures) == ("Succeeded", None, 1)


def test_activities_of_finally_are_tried_again_too() -> None:
    last = {"name": "audit", "handler": "audit", "errorHandling": {"retry": STEADY}}
    flow = definition("a", **{"finally": [last]})
    result = decide(snapshot(flow, {"a": succeeded(), "audit": running()}, {"audit": went_wrong()}))
    assert (result.status.phase, told(result, "audit").phase) == ("Waiting", "Retrying")


def test_policies_are_merged_field_by_field() -> None:
    own = Retry.model_validate({"backoff": {"initial": "5s"}})
    default = Retry.model_validate({"maxAttempts": 7, "backoff": {"initial": "1m", "multiplier": 3}})
    policy = policy_of(own, default)
    assert (policy.max_attempts, policy.initial, policy.multiplier, policy.jitter) == (
        7,
        timedelta(seconds=5),
        3,
        DEFAULT.jitter,
    )


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (5000, 60)])
def test_waits_double_up_to_a_minute_by_default(failures: int, seconds: float) -> None:
    assert RetryPolicy(jitter=0).pause(failures, "x") == timedelta(seconds=seconds)


@given(st.integers(1, 10_000), st.text(), st.floats(0, 1), st.floats(1, 100))
def test_a_wait_is_never_off_by_more_than_its_jitter_and_always_the_same(
    failures: int, seed: str, jitter: float, multiplier: float
) -> None:
    policy = RetryPolicy(jitter=jitter, multiplier=multiplier)
    plain = RetryPolicy(jitter=0, multiplier=multiplier).pause(failures, seed)
    pause = policy.pause(failures, seed)
    assert abs((pause - plain).total_seconds()) <= plain.total_seconds() * jitter + 1e-5
    assert pause == policy.pause(failures, seed)


def test_an_attempt_at_work_is_left_alone() -> None:
    assert decide(snapshot(retried(), {"pay": running()}, {"pay": is_running()})).effects == ()
