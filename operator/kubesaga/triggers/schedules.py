# SPDX-License-Identifier: Apache-2.0
"""Which ticks of a schedule are due, and what the live runs make of one: pure, after what the status records.

The record is a moment, `considered`: every tick up to it has had its run or was left out for good. It is written after
the runs of its ticks are there, and a run's name is that of its tick, so that a crash in between makes no second run.
A clock that is set back makes no tick due again; one that is set on makes ticks due as if they had been missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from kubesaga.api.fields import format_time, parse_duration
from kubesaga.api.triggers import MAX_CATCH_UP, CatchUp, ConcurrencyPolicy, ScheduleStatus, Trigger
from kubesaga.engine.language.cron import Schedule

ON_TIME: Final = timedelta(minutes=1)
"""A run is on time if it starts before the next minute does, which is the finest that cron knows."""
ASTRAY: Final = timedelta(days=1)
"""A record that is further ahead of the clock was written by a clock that was wrong, and is not heeded: better two runs
of a tick, and that only if the first was deleted, than a schedule that sleeps for a year."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done for one schedule now."""

    ticks: tuple[datetime, ...]
    """The ticks that get a run, oldest first."""
    status: ScheduleStatus
    """What is recorded once they have; `recorded` makes it of what happened."""

    def recorded(self, started: Sequence[datetime], notes: Sequence[str]) -> ScheduleStatus:
        """Return the record after the ticks were seen to: which got a run, and what there is to say of the others."""
        told = " ".join(filter(None, (self.status.message, *notes)))[:1024]
        last = max(started) if started else self.status.last
        return self.status.model_copy(update={"last": last, "message": told or None})


def plan(
    trigger: Trigger,
    schedule: Schedule,
    known: ScheduleStatus | None,
    *,
    now: datetime,
    since: datetime,
    suspended: bool,
) -> Plan:
    """Return what is due. `known` is what the status records of this trigger, `since` where ticks count from if nothing."""
    begin = _begin(schedule, known, now=now, since=since, suspended=suspended)
    last = known.last if known is not None else None
    if suspended:
        status = ScheduleStatus(schedule=str(schedule), considered=begin, last=last, suspended=True)
        return Plan(ticks=(), status=status)
    passed = schedule.latest(MAX_CATCH_UP + 1, after=begin, until=now) if begin < now else ()
    chosen = _chosen(trigger, passed, now)
    considered = passed[-1] if passed else begin
    message = known.message if known is not None and not passed else _left_out(passed, chosen)
    status = ScheduleStatus(
        schedule=str(schedule), considered=considered, last=last, next=schedule.next_after(max(considered, now)),
        message=message,
    )  # fmt: skip
    return Plan(ticks=chosen, status=status)


def _begin(
    schedule: Schedule, known: ScheduleStatus | None, *, now: datetime, since: datetime, suspended: bool
) -> datetime:
    """Return the moment up to which there is nothing to do."""
    if known is None:
        return min(since, now)
    resumed = known.suspended is not None and not suspended
    if known.schedule != str(schedule) or resumed or known.considered > now + ASTRAY:
        return now
    return known.considered


def _chosen(trigger: Trigger, passed: tuple[datetime, ...], now: datetime) -> tuple[datetime, ...]:
    """Return those of the ticks that have passed which still get a run."""
    catch_up = trigger.catch_up or CatchUp.LATEST
    if trigger.starting_deadline is not None:
        deadline = parse_duration(trigger.starting_deadline)
        passed = tuple(tick for tick in passed if now - tick <= deadline)
    if catch_up is CatchUp.NONE:
        passed = tuple(tick for tick in passed if now - tick < ON_TIME)
    at_once = (trigger.concurrency_policy or ConcurrencyPolicy.ALLOW) is ConcurrencyPolicy.ALLOW
    return passed[-MAX_CATCH_UP if catch_up is CatchUp.ALL and at_once else -1 :]


def _left_out(passed: tuple[datetime, ...], chosen: tuple[datetime, ...]) -> str | None:
    missed = [tick for tick in passed if tick not in chosen]
    if not missed:
        return None
    count = f"{len(missed)} ticks" if len(missed) > 1 else "1 tick"
    if len(passed) > MAX_CATCH_UP:
        count = f"at least {count}"
    return f"{count} up to {format_time(missed[-1])} came too late to get a run."


# --- concurrency ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRun:
    """A run of the trigger that has not finished."""

    name: str
    ending: bool
    """It was told to end already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The tick gets its run, once these runs have been told to end."""

    cancel: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOut:
    """The tick gets no run."""

    because_of: str
    """The run that is live."""


Decision: TypeAlias = Start | LeaveOut


def decide(policy: ConcurrencyPolicy | None, live: Sequence[LiveRun], own: str) -> Decision:
    """Return what becomes of a tick whose run is called `own`, while these runs of the trigger are live.

    Its own run may be among them, where a crash came before the record: then it has begun, and nothing is changed.
    """
    others = [run for run in live if run.name != own]
    if policy in (None, ConcurrencyPolicy.ALLOW) or len(others) < len(live) or not others:
        return Start()
    if policy is ConcurrencyPolicy.FORBID:
        return LeaveOut(because_of=others[0].name)
    return Start(cancel=tuple(run.name for run in others if not run.ending))
