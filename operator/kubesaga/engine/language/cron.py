# SPDX-License-Identifier: Apache-2.0
"""Cron expressions in IANA time zones, as a set of moments in UTC; evaluated by cronsim with the rules of Debian's cron.

What happens when clocks are changed:

- A tick at a fixed time (neither minute nor hour begins with `*`) in the hour that is skipped comes when that hour would
  have ended: `30 2 * * *` at 03:00. Several such ticks of one skipped hour are one.
- A tick at a fixed time in the hour that comes twice comes once, the first time.
- A schedule with `*` for its minute or hour goes by the time that really passes: `*/30 * * * *` every 30 minutes, also in
  both of the doubled hours and across the skipped one.

The moments depend on the expression and the zone alone, never on where the search begins (but on the Lord Howe Islands,
whose clocks move by half an hour, on those two days).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""Words that stand for an expression, as CronJob has them."""

_FIELDS: Final = 5
_FIRST_WINDOW: Final = timedelta(hours=2)
_LAST_YEAR: Final = 9900
"""Beyond this the calendar of Python ends."""
_SOME_DAY: Final = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The ticks of an expression in a zone."""

    expression: str
    """Five fields."""
    zone_name: str
    zone: tzinfo

    def __str__(self) -> str:
        return f"{self.expression} {self.zone_name}"

    def ticks_after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the ticks after a moment, in UTC and in order; an expression may have no more of them."""
        if moment.year > _LAST_YEAR:
            return
        before = moment
        for found in CronSim(self.expression, moment.astimezone(self.zone)):
            tick = found.astimezone(UTC)
            # In the second of the doubled hours cronsim names ticks of the first, and it names the end of a skipped
            # hour once for each tick in it.
            if tick > before:
                yield tick
                before = tick

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first tick after a moment; None: there is none in fifty years."""
        return next(self.ticks_after(moment), None)

    def latest(self, count: int, *, after: datetime, until: datetime) -> tuple[datetime, ...]:
        """Return the last `count` ticks after one moment and not after another, oldest first.

        However far the moments are apart it looks at a few hundred ticks and some empty stretches.
        """
        window = _FIRST_WINDOW
        while True:
            start = max(after, until - window) if until - after > window else after
            found: deque[datetime] = deque(maxlen=count)
            for tick in self.ticks_after(start):
                if tick > until:
                    break
                found.append(tick)
            if len(found) == count or start == after:
                return tuple(found)
            window *= 2


def schedule_of(expression: str, zone: str | None = None) -> Schedule:
    """Return a schedule. Raises ValueError with a sentence where the expression cannot be read, or never has a tick.

    Raises LookupError, with a sentence too, where there is no such zone.
    """
    return Schedule(expression=_expression(expression), zone_name=zone or "UTC", zone=zone_of(zone or "UTC"))


@lru_cache(maxsize=256)
def zone_of(name: str) -> tzinfo:
    """Return a time zone. Raises LookupError with a sentence."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise LookupError(
            f"there is no time zone {name}; write a name of the IANA database, such as Europe/Berlin"
        ) from None


@lru_cache(maxsize=1024)
def _expression(text: str) -> str:
    words = text.split()
    if len(words) == 1 and words[0].startswith("@"):
        if words[0].lower() not in ALIASES:
            raise ValueError(f"there is no {words[0]}; there are {', '.join(ALIASES)}")
        return ALIASES[words[0].lower()]
    if words and words[0].upper().startswith(("TZ=", "CRON_TZ=")):
        raise ValueError("names a time zone; write that into timeZone")
    if len(words) != _FIELDS:
        told = "minute, hour, day of month, month, day of week"
        raise ValueError(f"has {len(words)} fields; a cron expression has {_FIELDS}: {told}")
    expression = " ".join(words).upper()
    try:
        if next(CronSim(expression, _SOME_DAY), None) is None:
            raise ValueError("never has a tick: there is no such day")
    except CronSimError as error:
        field = str(error).removeprefix("Bad ")
        day = ", or there is no such day in these months" if field == "day-of-month" else ""
        raise ValueError(f"is no cron expression: its {field} cannot be read{day}") from None
    return expression
