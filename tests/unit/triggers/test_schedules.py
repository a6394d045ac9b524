# SPDX-License-Identifier: Apache-2.0
"""Which ticks get a run: after downtimes, changes, suspension and clocks that are set; and beside live runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kubesaga.api.triggers import ConcurrencyPolicy, ScheduleStatus, Trigger
from kubesaga.engine.validation.triggers import trigger_schedule
from kubesaga.triggers.schedules import ASTRAY, Decision, LeaveOut, LiveRun, Plan, Start, decide, plan

HOURLY = "0 * * * * UTC"


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-01-{text}").replace(tzinfo=UTC)


def planned(
    known: ScheduleStatus | None, now: datetime, *, suspended: bool = False, since: datetime | None = None, **fields: Any
) -> Plan:  # fmt: skip
    trigger = Trigger.model_validate({"name": "t", "schedule": "0 * * * *", **fields})
    return plan(trigger, trigger_schedule(trigger), known, now=now, since=since or now, suspended=suspended)


def record(considered: str, **more: Any) -> ScheduleStatus:
    return ScheduleStatus(**{"schedule": HOURLY, "considered": at(considered), **more})


def told(ticks: tuple[datetime, ...]) -> list[str]:
    return [f"{tick:%d %H:%M}" for tick in ticks]


@pytest.mark.parametrize(
    ("known", "now", "fields", "ticks", "next_"),
    [
        pytest.param(record("01 09:00"), "01 09:30", {}, [], "01 10:00", id="nothing is due"),
        pytest.param(record("01 09:00"), "01 10:00", {}, ["01 10:00"], "01 11:00", id="on the very moment"),
        pytest.param(record("01 09:00"), "01 10:00:05", {}, ["01 10:00"], "01 11:00", id="a moment later"),
        pytest.param(record("01 10:00"), "01 10:00:05", {}, [], "01 11:00", id="its run is there"),
        pytest.param(record("01 09:00"), "01 15:20", {}, ["01 15:00"], "01 16:00", id="after a downtime the latest, by default"),
        pytest.param(record("01 09:00"), "01 15:20", {"catchUp": "None"}, [], "01 16:00", id="None: what is late is left out"),
        pytest.param(record("01 09:00"), "01 15:00:59", {"catchUp": "None"}, ["01 15:00"], "01 16:00", id="None: what is on time is not"),
        pytest.param(record("01 09:00"), "01 12:20", {"catchUp": "All"}, ["01 10:00", "01 11:00", "01 12:00"], "01 13:00", id="All: one each"),
        pytest.param(record("01 09:00"), "01 12:20", {"catchUp": "All", "startingDeadline": "90m"}, ["01 11:00", "01 12:00"], "01 13:00", id="All within the deadline"),
        pytest.param(record("01 09:00"), "01 12:20", {"startingDeadline": "10m"}, [], "01 13:00", id="the latest is beyond the deadline"),
        pytest.param(record("01 09:00"), "01 12:20", {"startingDeadline": "20m"}, ["01 12:00"], "01 13:00", id="the latest is at the deadline"),
        pytest.param(record("01 09:00"), "01 12:20", {"catchUp": "All", "concurrencyPolicy": "Forbid"}, ["01 12:00"], "01 13:00", id="All, one at a time: the newest"),
        pytest.param(record("01 09:00"), "01 12:20", {"catchUp": "All", "concurrencyPolicy": "Replace"}, ["01 12:00"], "01 13:00", id="All, replaced: the newest"),
        pytest.param(record("01 12:00"), "01 10:30", {}, [], "01 13:00", id="a clock that was set back makes nothing due"),
        pytest.param(record("03 12:00"), "01 10:30", {}, [], "01 11:00", id="a record from far ahead is not heeded"),
        pytest.param(record("01 09:00", schedule="0 12 * * * UTC"), "01 12:20", {}, [], "01 13:00", id="another expression: nothing of it was missed"),
        pytest.param(record("01 09:00"), "01 12:20", {"timeZone": "Asia/Kolkata"}, [], "01 12:30", id="another zone: nothing of it was missed"),
        pytest.param(record("01 09:00", suspended=True), "01 12:20", {}, [], "01 13:00", id="suspended meanwhile: not made up for"),
    ],
)  # fmt: skip
def test_due(known: ScheduleStatus, now: str, fields: dict[str, Any], ticks: list[str], next_: str) -> None:
    found = planned(known, at(now), **fields)
    assert told(found.ticks) == ticks
    assert found.status.next == at(next_)


def test_a_new_schedule_counts_from_where_it_is_told_to() -> None:
    assert told(planned(None, at("01 12:20"), since=at("01 11:30")).ticks) == ["01 12:00"]
    assert told(planned(None, at("01 12:20"), since=at("01 12:20")).ticks) == []
    assert told(planned(None, at("01 12:20"), since=at("02 00:00")).ticks) == [], (
        "made by a clock that is ahead of ours"
    )


def test_while_suspended_nothing_is_due_and_nothing_changes() -> None:
    first = planned(record("01 09:00"), at("01 12:20"), suspended=True)
    assert first.ticks == ()
    assert (first.status.suspended, first.status.next) == (True, None)
    assert planned(first.status, at("05 00:00"), suspended=True).status == first.status, "no write while it lasts"


def test_all_is_bounded() -> None:
    found = planned(record("01 00:00"), at("31 00:00"), catchUp="All")
    assert len(found.ticks) == 100
    assert found.ticks[-1] == at("31 00:00")
    assert found.status.message == "at least 1 tick up to 2026-01-26T20:00:00.000Z came too late to get a run."


def test_ticks_that_get_no_run_are_told_of_until_one_does() -> None:
    late = planned(record("01 09:00"), at("01 15:20"), catchUp="None")
    written = late.recorded([], [])
    assert written.message == "6 ticks up to 2026-01-01T15:00:00.000Z came too late to get a run."
    assert planned(written, at("01 15:50"), catchUp="None").status == written, "no write while nothing happens"
    good = planned(written, at("01 16:00"), catchUp="None")
    assert good.recorded([at("01 16:00")], []).message is None


def test_what_happened_is_recorded() -> None:
    found = planned(record("01 09:00", last=at("01 09:00")), at("01 11:00"), catchUp="All")
    assert found.recorded([at("01 10:00")], ["11:00 failed."]).last == at("01 10:00")
    assert found.recorded([], ["no."]).last == at("01 09:00"), "the last that got a run"
    assert found.recorded([], ["no."]).message == "no."
    assert found.status.considered == at("01 11:00")


# --- each tick once -------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(["pass", "dies", "away"]), st.integers(1, 4 * 3600), st.integers(-3, 3)), max_size=25
)
"""What happens, after how many seconds, and by how many hours the clock is set on or back before it."""
SELDOM = st.sampled_from(["30 2 * * *", "15 */2 * * *", "0,30 2,14 * * *"])
"""Few enough that 100 ticks, the bound of catchUp: All, are more than can be missed here."""


@given(steps=STEPS, expression=SELDOM, zone=st.sampled_from(["UTC", "Europe/Berlin"]))
def test_each_tick_gets_one_run_over_downtimes_crashes_and_clocks_that_are_set(
    steps: list[tuple[str, int, int]], expression: str, zone: str
) -> None:
    """Passes come or do not, and die between making the runs and writing the record."""
    trigger = Trigger.model_validate({"name": "t", "schedule": expression, "timeZone": zone, "catchUp": "All"})
    schedule = trigger_schedule(trigger)
    began = now = furthest = datetime(2026, 10, 24, 20, 0, 30, tzinfo=UTC)
    known: ScheduleStatus | None = None
    runs: set[datetime] = set()
    for what, seconds, hours in [*steps, ("pass", 1, 0)]:
        now += timedelta(seconds=seconds, hours=hours)
        assume(now > began and (known is None or known.considered - now <= ASTRAY))
        if what == "away":
            continue
        found = plan(trigger, schedule, known, now=now, since=began, suspended=False)
        assert known is None or all(tick > known.considered for tick in found.ticks), "a recorded tick is over"
        runs.update(found.ticks)  # a set, as the names of runs are
        furthest = max(furthest, now)
        if what == "pass":
            known = found.recorded(found.ticks, [])
    assert sorted(runs) == list(schedule.latest(1000, after=began, until=furthest))


@given(jump=st.integers(1, 3650))
def test_a_clock_far_ahead_does_not_stop_a_schedule_for_long(jump: int) -> None:
    wrong = planned(record("01 09:00"), at("01 09:30") + timedelta(days=jump)).status
    mended = planned(wrong, at("01 10:30")).status
    assert mended.next is not None
    assert mended.next - at("01 10:30") <= ASTRAY + timedelta(hours=1)


# --- beside live runs -----------------------------------------------------------------------------------------------

OLD, ENDING, OWN = (
    LiveRun(name="old", ending=False), LiveRun(name="ending", ending=True), LiveRun(name="own", ending=False)
)  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "live", "decision"),
    [
        pytest.param(None, [OLD], Start(), id="Allow is the default"),
        pytest.param("Allow", [OLD], Start(), id="Allow: beside it"),
        pytest.param("Forbid", [], Start(), id="Forbid: nothing is live"),
        pytest.param("Forbid", [OLD], LeaveOut(because_of="old"), id="Forbid: left out"),
        pytest.param("Forbid", [ENDING], LeaveOut(because_of="ending"), id="Forbid: what is ending is live"),
        pytest.param("Forbid", [OWN], Start(), id="Forbid: its own run, of a pass that died"),
        pytest.param("Replace", [], Start(), id="Replace: nothing is live"),
        pytest.param("Replace", [OLD], Start(cancel=("old",)), id="Replace: cancelled"),
        pytest.param(
            "Replace", [ENDING, OLD], Start(cancel=("old",)), id="Replace: what is ending was told to already"
        ),
        pytest.param("Replace", [OWN, ENDING], Start(), id="Replace: its own run is not cancelled"),
    ],
)
def test_beside_live_runs(policy: str | None, live: list[LiveRun], decision: Decision) -> None:
    assert decide(ConcurrencyPolicy(policy) if policy else None, live, "own") == decision
