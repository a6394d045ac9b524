# SPDX-License-Identifier: Apache-2.0
"""A trigger stops itself after as many failed runs in a row as its trigger allows, and goes on when the Workflow changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from kubesaga.api.run import RunPhase
from kubesaga.api.triggers import FailureRecord, ScheduleStatus, Trigger, TriggerState
from kubesaga.triggers.failures import Ended, Streak, enough_of, streak_of

NIGHTLY = Trigger.model_validate({"name": "nightly", "schedule": "0 2 * * *", "failureLimit": 3})
CREATED = Trigger.model_validate({"name": "created", "event": "ticket:created", "failureLimit": 3})
NEVER = Trigger.model_validate({"name": "nightly", "schedule": "0 2 * * *"})
F, C, S, X, T = RunPhase.FAILED, RunPhase.COMPENSATED, RunPhase.SUCCEEDED, RunPhase.CANCELLED, RunPhase.TERMINATED


def day(number: int) -> datetime:
    return datetime(2026, 1, number, 2, tzinfo=UTC)


def ended(*phases: RunPhase, first: int = 2) -> list[Ended]:
    """Return runs that ended one a day, from `first` on."""
    return [Ended(phase=phase, completed=day(number)) for number, phase in enumerate(phases, first)]


def known(*failed: int, since: int | None = 1, stopped: int | None = None) -> ScheduleStatus:
    return ScheduleStatus(
        schedule="x", considered=day(1), counted_from=day(since) if since else None,
        failed=[day(number) for number in failed] or None, stopped_generation=stopped,
    )  # fmt: skip


def of_events(record: ScheduleStatus | None) -> TriggerState | None:
    """Return the same of a trigger about events."""
    if record is None:
        return None
    return TriggerState(
        counted_from=record.counted_from, failed=record.failed, stopped_generation=record.stopped_generation
    )


def look(before: FailureRecord | None, runs: Sequence[Ended], trigger: Trigger = NIGHTLY) -> Streak:
    return streak_of(trigger, before, runs, generation=7, now=day(20))


@pytest.mark.parametrize(
    ("before", "runs", "failures", "stops"),
    [
        pytest.param(known(), [], 0, False, id="that nothing has come of yet"),
        pytest.param(known(), ended(F, F), 2, False, id="that failed less often than it may"),
        pytest.param(known(), ended(F, C, F), 3, True, id="that failed as often as it may"),
        pytest.param(known(), ended(F, F, S, F), 1, False, id="that succeeded in between"),
        pytest.param(known(), ended(F, X, F, T, F), 3, True, id="that was stopped by people in between"),
        pytest.param(known(2, 3), ended(F, first=4), 3, True, id="whose first failures are deleted by now"),
        pytest.param(known(2, 3), ended(F, F), 2, False, id="whose failures are seen a second time"),
        pytest.param(known(2, 3), ended(S, first=4), 0, False, id="that succeeded at last"),
        pytest.param(known(since=4), ended(F, F, F), 0, False, id="that failed before the limit was set"),
        pytest.param(known(since=None), ended(F, F, F), 0, False, id="whose limit is new"),
        pytest.param(None, ended(F, F, F), 0, False, id="that is new"),
        pytest.param(known(2, 3, 4, stopped=7), ended(S, first=5), 3, True, id="that has stopped, whatever comes after"),
        pytest.param(known(2, 3, 4, stopped=6), ended(F, F, F), 0, False, id="that had stopped before the Workflow was changed"),
    ],
)  # fmt: skip
def test_a_trigger(before: ScheduleStatus | None, runs: list[Ended], failures: int, stops: bool) -> None:
    found = look(before, runs)
    assert (len(found.failed), found.stopped) == (failures, 7 if stops else None)
    assert found.counted_from is not None
    assert look(of_events(before), runs, CREATED) == found, "and it is the same for one about events"


@pytest.mark.parametrize(("runs", "kept"), [
    pytest.param([], 0, id="none"),
    pytest.param(ended(S, S, S), 1, id="successes"),
    pytest.param(ended(F, C, S, F, X), 2, id="failures before and after a success"),
    pytest.param(ended(X, T), 0, id="runs that people stopped"),
    pytest.param(ended(S, F, F, F), 4, id="failures after a success"),
    pytest.param([Ended(phase=F, completed=day(1) + timedelta(hours=hour)) for hour in range(99)], 50, id="more failures than any limit"),
])  # fmt: skip
def test_of_many_runs_few_say_it_all(runs: list[Ended], kept: int) -> None:
    few = enough_of(runs)
    assert len(few) == kept
    assert look(known(), few) == look(known(), runs)
    assert look(known(2, 3), few) == look(known(2, 3), runs)


def test_the_order_in_which_runs_come_to_be_seen_makes_no_difference() -> None:
    runs = ended(F, S, F)
    for order in permutations(runs):
        record = known()
        for run in order:
            record = look(record, [run]).recorded(record)
        assert record.failed == [day(4)]


def test_without_a_limit_nothing_is_recorded() -> None:
    record = look(known(2, 3, 4, stopped=7), ended(F), NEVER).recorded(known(2, 3, 4, stopped=7))
    assert (record.counted_from, record.failed, record.stopped_generation) == (None, None, None)


def test_a_trigger_that_has_stopped_says_so() -> None:
    record = look(known(2, 3), ended(F, first=4)).recorded(known())
    assert record.message == (
        "It has stopped itself: the last 3 runs have failed (failureLimit). Change the Workflow to let it go on."
    )
    assert look(TriggerState(counted_from=day(1)), ended(F, F, F)).recorded(TriggerState()).message == record.message
