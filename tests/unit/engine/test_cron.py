# SPDX-License-Identifier: Apache-2.0
"""Cron: what can be written, when it ticks, and what happens when the clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesaga.engine.language.cron import ALIASES, schedule_of


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def told(moments: list[datetime]) -> list[str]:
    return [f"{moment:%m-%d %H:%M}" for moment in moments]


@pytest.mark.parametrize(
    ("expression", "zone", "after", "ticks"),
    [
        pytest.param("0 2 * * *", "UTC", "2026-01-01 00:00", ["01-01 02:00", "01-02 02:00"], id="daily, UTC"),
        pytest.param("0 2 * * *", "Europe/Berlin", "2026-01-01 00:00", ["01-01 01:00", "01-02 01:00"], id="daily, Berlin"),
        pytest.param("0 2 * * *", "UTC", "2026-01-01 02:00", ["01-02 02:00"], id="a tick is not after itself"),
        pytest.param("0 2 * * *", "UTC", "2026-01-01 01:59:59.999", ["01-01 02:00"], id="a moment before"),
        pytest.param("@daily", "UTC", "2026-01-01 12:00", ["01-02 00:00", "01-03 00:00"], id="@daily"),
        pytest.param("@Weekly", "UTC", "2026-01-01 12:00", ["01-04 00:00", "01-11 00:00"], id="@weekly is Sunday"),
        pytest.param("0 9 * * MON-FRI", "UTC", "2026-01-02 10:00", ["01-05 09:00"], id="names of days"),
        pytest.param("0 0 29 2 *", "UTC", "2026-01-01 00:00", ["02-29 00:00"], id="leap days only"),
        pytest.param("0 0 1 * 1", "UTC", "2026-01-02 00:00", ["01-05 00:00", "01-12 00:00"], id="day of month or of week"),
        pytest.param("0 0 L * *", "UTC", "2026-02-01 00:00", ["02-28 00:00", "03-31 00:00"], id="last day of the month"),
        pytest.param("0 0 * * 5L", "UTC", "2026-01-01 00:00", ["01-30 00:00"], id="last Friday of the month"),
        pytest.param("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", ["03-29 01:00", "03-30 00:30"], id="the skipped hour: when it ends"),
        pytest.param("0,30 2,3 * * *", "Europe/Berlin", "2026-03-28 12:00", ["03-29 01:00", "03-29 01:30", "03-30 00:00"], id="all ticks of the skipped hour are one"),
        pytest.param("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", ["10-25 00:30", "10-26 01:30"], id="the doubled hour: once, the first time"),
        pytest.param("30 2 * * *", "Europe/Berlin", "2026-10-25 01:10", ["10-26 01:30"], id="seen from the second of the doubled hours"),
        pytest.param("*/30 * * * *", "Europe/Berlin", "2026-10-24 23:59", ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30"], id="with a * in the doubled hours: as time passes"),
        pytest.param("*/30 * * * *", "Europe/Berlin", "2026-03-29 00:15", ["03-29 00:30", "03-29 01:00", "03-29 01:30"], id="with a * across the skipped hour"),
        pytest.param("0 * * * *", "Europe/Berlin", "2026-10-24 23:30", ["10-25 00:00", "10-25 01:00", "10-25 02:00"], id="hourly in the doubled hours: each hour that passes"),
        pytest.param("0 0 * * *", "Africa/Cairo", "2026-04-23 12:00", ["04-23 22:00", "04-24 21:00"], id="a midnight that is skipped"),
    ],
)  # fmt: skip
def test_it_ticks(expression: str, zone: str, after: str, ticks: list[str]) -> None:
    assert told(list(islice(schedule_of(expression, zone).ticks_after(at(after)), len(ticks)))) == ticks


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        pytest.param("* * * *", "has 4 fields; a cron expression has 5", id="four fields"),
        pytest.param("0 * * * * *", "has 6 fields", id="a field for seconds"),
        pytest.param("", "has 0 fields", id="nothing"),
        pytest.param("61 * * * *", "its minute cannot be read", id="minute 61"),
        pytest.param("* 24 * * *", "its hour cannot be read", id="hour 24"),
        pytest.param("* * * * 8", "its day-of-week cannot be read", id="day of week 8"),
        pytest.param("*/0 * * * *", "its minute cannot be read", id="every 0 minutes"),
        pytest.param("5-1 * * * *", "its minute cannot be read", id="a range backwards"),
        pytest.param("0 0 31 2 *", "no such day in these months", id="the 31st of February"),
        pytest.param("@reboot", "there is no @reboot; there are @hourly", id="@reboot"),
        pytest.param("TZ=UTC 0 * * * *", "write that into timeZone", id="a zone in the expression"),
    ],
)
def test_it_cannot_be_read(expression: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        schedule_of(expression)


@pytest.mark.parametrize("zone", ["Mars/Phobos", "Europe", "../etc/passwd", "europe"])
def test_there_is_no_such_zone(zone: str) -> None:
    with pytest.raises(LookupError, match=r"there is no time zone .*; write a name of the IANA database"):
        schedule_of("0 0 * * *", zone)


def test_every_alias_is_an_expression() -> None:
    assert {schedule_of(alias).expression for alias in ALIASES} == set(ALIASES.values())


def test_the_calendar_ends() -> None:
    assert schedule_of("@daily").next_after(datetime(9999, 12, 31, tzinfo=UTC)) is None


EXPRESSIONS = st.sampled_from(
    ["* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "0,15,59 1,2,3 * * *", "*/20 2 * * *", "0 */3 * * *", "0 0 * * *", "59 23 L * *", "0 2 * * SUN"]
)  # fmt: skip
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Africa/Cairo", "America/Santiago"]
)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))


@given(expression=EXPRESSIONS, zone=ZONES, start=MOMENTS, ahead=st.integers(0, 50))
def test_the_ticks_do_not_depend_on_where_the_search_begins(
    expression: str, zone: str, start: datetime, ahead: int
) -> None:
    schedule = schedule_of(expression, zone)
    ticks = list(islice(schedule.ticks_after(start), ahead + 5))
    assert all(a < b for a, b in pairwise([start, *ticks])), "in order, none twice"
    assert list(islice(schedule.ticks_after(ticks[ahead]), 4)) == ticks[ahead + 1 :]
    between = ticks[ahead] + (ticks[ahead + 1] - ticks[ahead]) / 2
    assert list(islice(schedule.ticks_after(between), 4)) == ticks[ahead + 1 :]


@given(expression=EXPRESSIONS, zone=ZONES, start=MOMENTS, hours=st.integers(0, 24 * 40), count=st.integers(1, 20))
def test_the_latest_ticks_are_the_last_of_all(
    expression: str, zone: str, start: datetime, hours: int, count: int
) -> None:
    schedule, until = (
        schedule_of(expression, zone),
        start + timedelta(hours=min(hours, 30 if "*" in expression[0] else hours)),
    )
    every: list[datetime] = []
    for tick in schedule.ticks_after(start):
        if tick > until:
            break
        every.append(tick)
    assert list(schedule.latest(count, after=start, until=until)) == every[-count:]
