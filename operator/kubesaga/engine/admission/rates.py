# SPDX-License-Identifier: Apache-2.0
"""The rate limit: in no window of `period`, wherever it begins, are there more than `limit` begins.

Two begins less than `period` apart share a window. Up to 100 a period each begin is remembered by itself, and the limit
is exact. Beyond, begins in the same hundredth of the period are remembered as one number, at the moment of the last of
them: a place is free again up to a hundredth of the period late, never early.

The state is stored seldom, and begins are many. So begins are *reserved* before they are used: what is stored says how
many may begin until the next write. Whoever reads it after a crash counts all of them as begun (`recovered`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from kubesaga.engine.admission.milliseconds import MILLISECOND, ceil_ms, floor_ms
from kubesaga.engine.guarding import Rate

_SLICES: Final = 100
_MOST_SLICES: Final = 2 * _SLICES
"""Only changes of the settings lead above `_SLICES` by more than one."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

RESERVED_FOR: Final = timedelta(seconds=10)
"""How long reserved begins may be used. After a crash, they count as begun at the end of that time at the latest."""

_AHEAD_FOR: Final = timedelta(seconds=2)
"""For what time begins are reserved ahead: writes are a second apart, and take time."""


@dataclass(frozen=True, slots=True, order=True)
class Slice:
    """Begins that count as one moment's."""

    moment: datetime
    """When the last of them was, in whole milliseconds."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RateState:
    """What has to be remembered of a rate limit."""

    slices: tuple[Slice, ...] = ()
    """Oldest first."""
    reserved: int = 0
    """How many more may begin until the next write."""
    reserved_until: datetime | None = None
    """Before when they must begin."""


UNUSED: Final = RateState()


def settled(settings: Rate, state: RateState, now: datetime) -> RateState:
    """Return the state without what does not count any more, and with nothing in the future should the clock be set back.

    To be kept instead of the old one: a begin that is in the future would count for longer than the period.
    """
    latest, start = ceil_ms(now), now - settings.period
    if state.slices and (state.slices[0].moment <= start or state.slices[-1].moment > latest):
        state = replace(state, slices=_not_after(latest, (one for one in state.slices if one.moment > start)))
    if state.reserved_until is None:
        return state
    if state.reserved_until <= now or not state.reserved:
        return replace(state, reserved=0, reserved_until=None)
    return replace(state, reserved_until=min(state.reserved_until, latest + RESERVED_FOR))


def used(settings: Rate, state: RateState, now: datetime) -> int:
    """Return how many begins the window that ends now holds."""
    start = now - settings.period
    return sum(one.count for one in state.slices if one.moment > start)


def room(settings: Rate, state: RateState, now: datetime) -> int:
    """Return how many may begin now, as far as the limit goes."""
    return max(0, settings.limit - used(settings, state, now))


def granted(settings: Rate, state: RateState, now: datetime) -> int:
    """Return how many may begin now: those for which there is room, and that were reserved."""
    if state.reserved_until is None or state.reserved_until <= now:
        return 0
    return min(state.reserved, room(settings, state, now))


def next_time(settings: Rate, state: RateState, now: datetime) -> datetime | None:
    """Return when the next may begin; None: there is room now."""
    state = settled(settings, state, now)
    left = used(settings, state, now)
    if left < settings.limit:
        return None
    for one in state.slices:
        left -= one.count
        if left < settings.limit:
            return one.moment + settings.period
    raise AssertionError("a limit is above zero")


def begun(settings: Rate, state: RateState, now: datetime) -> RateState:
    """Return the state after something began now; it takes what was reserved."""
    state = settled(settings, state, now)
    moment, slices = ceil_ms(now), state.slices
    last = slices[-1] if slices else None
    if last is not None and (moment <= last.moment or (settings.limit > _SLICES and _same(settings, last, moment))):
        slices = (*slices[:-1], Slice(max(moment, last.moment), last.count + 1))
    else:
        slices = (*slices, Slice(moment, 1))
    return replace(state, slices=_few(slices), reserved=max(0, state.reserved - 1))


def withdrawn(settings: Rate, state: RateState, began: datetime) -> RateState:
    """Return the state after what had begun then turned out not to have begun at all."""
    moment = ceil_ms(began)
    for index, one in enumerate(state.slices):
        if one.moment == moment or (settings.limit > _SLICES and _same(settings, one, moment)):
            rest = (Slice(one.moment, one.count - 1),) if one.count > 1 else ()
            return replace(state, slices=(*state.slices[:index], *rest, *state.slices[index + 1 :]))
    return state


def moved(settings: Rate, state: RateState, began: datetime, now: datetime) -> RateState:
    """Return the state after what was let through then has been recorded as begun now."""
    without = withdrawn(settings, state, began)
    return replace(begun(settings, without, now), reserved=without.reserved)


def ahead(settings: Rate) -> int:
    """Return how many begins are worth reserving before anybody asks; 0 for limits where a crash could cost too much.

    A twentieth of the limit, for bursts, and what is used in two seconds at a steady pace, if that is more.
    """
    steady = int(settings.limit * min(1.0, _AHEAD_FOR / settings.period))
    return max(settings.limit // 20, steady)


def reserve(settings: Rate, state: RateState, now: datetime, wanted: int) -> RateState:
    """Return the state to be stored so that `wanted` may begin; it holds only once that write has succeeded.

    Nothing that was reserved is given up: it may be in use while the write is under way. What is reserved need not have
    room now: it is room that becomes free before the next write.
    """
    state = settled(settings, state, now)
    reserved = max(state.reserved, min(wanted, settings.limit))
    return replace(state, reserved=reserved, reserved_until=floor_ms(now) + RESERVED_FOR if reserved else None)


def confirmed(state: RateState, before: RateState, after: RateState) -> RateState:
    """Return the state after a reservation was stored that made `after` of `before`.

    What began while the write was under way has taken from what was reserved before, and is part of what is stored.
    """
    left = max(0, state.reserved + after.reserved - before.reserved)
    return replace(state, reserved=left, reserved_until=after.reserved_until if left else None)


def recovered(state: RateState, now: datetime) -> RateState:
    """Return the state as whoever reads it after a crash must take it: what was reserved has begun, as late as possible."""
    latest, slices = ceil_ms(now), state.slices
    if state.reserved and state.reserved_until is not None:
        slices = (*slices, Slice(state.reserved_until, state.reserved))
    return RateState(slices=_not_after(latest, sorted(slices)))


def merged(ours: RateState, theirs: RateState) -> RateState:
    """Return a state that counts what either of two counts; begins that both have in the same slice count once."""
    counts: dict[datetime, int] = {}
    for one in (*ours.slices, *theirs.slices):
        counts[one.moment] = max(one.count, counts.get(one.moment, 0))
    return replace(ours, slices=_few(tuple(Slice(moment, count) for moment, count in sorted(counts.items()))))


def _same(settings: Rate, last: Slice, moment: datetime) -> bool:
    width = max(settings.period / _SLICES, MILLISECOND)
    return (last.moment - _EPOCH) // width == (moment - _EPOCH) // width


def _not_after(latest: datetime, slices: Iterable[Slice]) -> tuple[Slice, ...]:
    """Return slices with nothing later than `latest`: what was, counts as that moment's."""
    result: list[Slice] = []
    for one in slices:
        moment = min(one.moment, latest)
        if result and result[-1].moment == moment:
            result[-1] = Slice(moment, result[-1].count + one.count)
        else:
            result.append(Slice(moment, one.count))
    return _few(tuple(result))


def _few(slices: tuple[Slice, ...]) -> tuple[Slice, ...]:
    """Return at most `_MOST_SLICES`; the oldest count as the moment of the next one then."""
    while len(slices) > _MOST_SLICES:
        slices = (Slice(slices[1].moment, slices[0].count + slices[1].count), *slices[2:])
    return slices


def encoded(state: RateState) -> str:
    """Return the slices as `MILLISECONDSxCOUNT MILLISECONDSxCOUNT …`."""
    return " ".join(f"{(one.moment - _EPOCH) // MILLISECOND}x{one.count}" for one in state.slices)


def decoded(text: str) -> tuple[Slice, ...]:
    """Return the slices of `encoded`. Raises ValueError."""
    slices: list[Slice] = []
    for word in text.split():
        moment, _, count = word.partition("x")
        slices.append(Slice(_EPOCH + int(moment) * MILLISECOND, int(count)))
    if any(one.count < 1 for one in slices) or any(a.moment > b.moment for a, b in pairwise(slices)):
        raise ValueError(f"{text!r} does not tell begins in order")
    return _few(tuple(slices))
