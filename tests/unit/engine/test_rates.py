# SPDX-License-Identifier: Apache-2.0
"""The rate limit: a table of sentences, and histories with crashes in which no window may hold more than the limit."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesaga.engine.admission import rates
from kubesaga.engine.admission.rates import RESERVED_FOR, UNUSED, RateState, Slice
from kubesaga.engine.guarding import Rate
from kubesaga.testing.clock import START


def limit(count: int, seconds: float = 60) -> Rate:
    return Rate(limit=count, period=timedelta(seconds=seconds))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def begins(rate: Rate, *times: float) -> RateState:
    state = UNUSED
    for time in times:
        state = rates.begun(rate, state, at(time))
    return state


@pytest.mark.parametrize(("rate", "times", "now", "room", "later"), [
    pytest.param(limit(1, 3600), [], 0, 1, None, id="nothing has begun: there is room"),
    pytest.param(limit(1, 3600), [0], 3599.999, 0, 3600, id="one an hour: not a millisecond early"),
    pytest.param(limit(1, 3600), [0], 3600, 1, None, id="one an hour: and not late"),
    pytest.param(limit(2), [0, 30], 59, 0, 60, id="the first is the next to be free"),
    pytest.param(limit(2), [0, 30], 60, 1, None, id="one is free, the other is not"),
    pytest.param(limit(3), [0, 0, 0], 10, 0, 60, id="three at once"),
    pytest.param(limit(1), [0, 10, 20], 30, 0, 80, id="a limit that was lowered: all of them count"),
    pytest.param(limit(5), [0, 10, 20], 30, 2, None, id="a limit that was raised"),
    pytest.param(limit(3, 15), [0, 10, 20], 22, 1, None, id="a period that was shortened"),
])  # fmt: skip
def test_there_is_room(rate: Rate, times: list[float], now: float, room: int, later: float | None) -> None:
    state = begins(limit(3), *times)
    assert rates.room(rate, state, at(now)) == room
    assert rates.next_time(rate, state, at(now)) == (None if later is None else at(later))


def test_a_hundred_are_counted_one_by_one_and_more_in_slices() -> None:
    exact, many = limit(100, 100), limit(100_000, 100)
    one_by_one, sliced = UNUSED, UNUSED
    for number in range(100):
        one_by_one = rates.begun(exact, one_by_one, at(number / 10))
    for number in range(5000):
        sliced = rates.begun(many, sliced, at(number / 50))
    assert len(one_by_one.slices) == 100
    assert len(sliced.slices) <= 101
    assert rates.used(many, sliced, at(99.9)) == 5000
    assert rates.next_time(limit(5000, 100), sliced, at(100)) == at(100.98), (
        "a hundredth of the period late, never early"
    )


def test_a_clock_that_is_set_back_does_not_make_a_begin_count_for_longer_than_the_period() -> None:
    rate = limit(1)
    state = rates.settled(rate, begins(rate, 3600), at(0))
    assert rates.next_time(rate, state, at(0)) == at(60)
    assert rates.room(rate, rates.settled(rate, state, at(30)), at(60)) == 1


def test_only_what_is_reserved_may_begin_and_only_for_a_while() -> None:
    rate = limit(5)
    assert rates.granted(rate, UNUSED, at(0)) == 0
    state = rates.reserve(rate, UNUSED, at(0), 2)
    assert rates.granted(rate, state, at(0)) == 2
    assert rates.granted(rate, rates.begun(rate, state, at(1)), at(1)) == 1
    assert rates.granted(rate, state, at(0) + RESERVED_FOR) == 0
    assert rates.settled(rate, state, at(0) + RESERVED_FOR) == UNUSED


def test_nothing_that_is_reserved_is_given_up_while_a_write_is_under_way() -> None:
    state = rates.reserve(limit(5), UNUSED, at(0), 4)
    assert rates.reserve(limit(2), state, at(1), 1).reserved == 4


def test_what_began_while_the_write_was_under_way_is_part_of_what_it_reserved() -> None:
    rate = limit(10)
    before = rates.reserve(rate, UNUSED, at(0), 4)
    after = rates.reserve(rate, before, at(1), 6)
    meanwhile = rates.begun(rate, rates.begun(rate, before, at(1)), at(1))
    assert rates.confirmed(meanwhile, before, after).reserved == 4


@pytest.mark.parametrize(("now", "moment"), [
    pytest.param(3, 3, id="soon: as late as they could have begun"),
    pytest.param(500, 10, id="after a long absence: when they had to have begun"),
])  # fmt: skip
def test_after_a_crash_what_was_reserved_has_begun(now: float, moment: float) -> None:
    state = rates.recovered(rates.reserve(limit(5), UNUSED, at(0), 2), at(now))
    assert state == RateState(slices=(Slice(at(moment), 2),))


@pytest.mark.parametrize(("rate", "count"), [
    pytest.param(limit(1, 3600), 0, id="one an hour: nothing, a crash would cost an hour"),
    pytest.param(limit(5, 1), 5, id="five a second: all of them, a crash costs a second"),
    pytest.param(limit(60), 3, id="one a second: what begins between two writes"),
    pytest.param(limit(100_000, 3600), 5000, id="a hundred thousand an hour: a twentieth"),
])  # fmt: skip
def test_reserved_ahead(rate: Rate, count: int) -> None:
    assert rates.ahead(rate) == count


@pytest.mark.parametrize(("began", "left"), [
    pytest.param(10, (0, 20), id="the one that had begun then"),
    pytest.param(15, (0, 10, 20), id="none, if there was no such begin"),
])  # fmt: skip
def test_withdrawn_is(began: float, left: tuple[float, ...]) -> None:
    rate = limit(3)
    state = rates.withdrawn(rate, begins(rate, 0, 10, 20), at(began))
    assert tuple(one.moment for one in state.slices) == tuple(at(time) for time in left)


@pytest.mark.parametrize("text", [
    pytest.param("5", id="no count"), pytest.param("5x0", id="a count of nothing"),
    pytest.param("9x1 5x1", id="a wrong order"), pytest.param("ax1", id="no moment"),
])  # fmt: skip
def test_what_cannot_be_read_as_begins(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not tell|invalid literal"):
        rates.decoded(text)


def most_in_a_window(times: list[datetime], period: timedelta) -> int:
    times = sorted(times)
    return max((sum(one <= other < one + period for other in times) for one in times), default=0)


class Life:
    """A rate limit in memory, what is stored of it, and a write that may be under way."""

    def __init__(self, rate: Rate) -> None:
        self.rate, self.now = rate, START
        self.state, self.stored = UNUSED, UNUSED
        self.sent: tuple[RateState, RateState] | None = None
        self.began: list[datetime] = []

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def begin(self, tries: int) -> None:
        for _ in range(tries):
            if rates.granted(self.rate, self.state, self.now):
                self.state = rates.begun(self.rate, self.state, self.now)
                self.began.append(self.now)

    def withdraw(self) -> None:
        if self.began and self.began[-1] == self.now:
            self.state = rates.withdrawn(self.rate, self.state, self.began.pop())

    def send(self, wanted: int) -> None:
        if self.sent is None:
            self.state = rates.settled(self.rate, self.state, self.now)
            self.sent = self.state, rates.reserve(self.rate, self.state, self.now, wanted)

    def is_stored(self) -> None:
        """The write has happened, and the answer is lost on its way."""
        if self.sent is not None:
            self.stored = self.sent[1]

    def is_answered(self) -> None:
        self.is_stored()
        if self.sent is not None:
            self.state, self.sent = rates.confirmed(self.state, *self.sent), None

    def fail(self) -> None:
        self.sent = None

    def crash(self) -> None:
        read = replace(self.stored, slices=rates.decoded(rates.encoded(self.stored)))
        self.state, self.sent = rates.recovered(read, self.now), None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0.0005, 40, allow_nan=False)),
        st.tuples(st.sampled_from(["begin", "send"]), st.integers(1, 12)),
        st.tuples(st.sampled_from(["withdraw", "is_stored", "is_answered", "is_answered", "fail", "crash"])),
    ),
    max_size=80,
)


@given(STEPS, st.integers(1, 6), st.floats(0.5, 60))
def test_no_window_holds_more_than_the_limit_whenever_it_crashes(
    steps: list[tuple[str, float]], count: int, seconds: float
) -> None:
    life = Life(limit(count, seconds))
    for what, *number in steps:
        getattr(life, what)(*number)
        assert most_in_a_window(life.began, life.rate.period) <= count


@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 300)), max_size=40), st.integers(101, 400), st.floats(1, 100)
)
def test_nor_where_begins_are_counted_in_slices(bursts: list[tuple[float, int]], count: int, seconds: float) -> None:
    rate, now, state, began = limit(count, seconds), START, UNUSED, []
    for pause, burst in bursts:
        now += timedelta(seconds=pause)
        for _ in range(min(burst, rates.room(rate, state, now))):
            state = rates.begun(rate, state, now)
            began.append(now)
        assert len(state.slices) <= 200
        assert all(one.moment < two.moment for one, two in pairwise(state.slices))
    assert most_in_a_window(began, rate.period) <= count


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 8), st.integers(1, 8)), max_size=40), st.floats(1, 60))
def test_nor_the_limit_of_the_moment_where_it_is_changed(bursts: list[tuple[float, int, int]], seconds: float) -> None:
    """At each begin, the window that ends there holds no more than the limit that is set then."""
    now, state, began = START, UNUSED, []
    for pause, burst, count in bursts:
        now, rate = now + timedelta(seconds=pause), limit(count, seconds)
        for _ in range(min(burst, rates.room(rate, state, now))):
            state = rates.begun(rate, state, now)
            began.append(now)
            assert sum(now - rate.period < one for one in began) <= count


@given(st.lists(st.floats(0, 10_000), max_size=30).map(sorted))
def test_what_is_stored_is_what_is_read(times: list[float]) -> None:
    state = begins(limit(100, 1e6), *times)
    assert rates.decoded(rates.encoded(state)) == state.slices


def test_two_records_of_the_same_begins_count_them_once_and_others_apart() -> None:
    rate = limit(100)
    both = rates.merged(begins(rate, 0, 0, 10), begins(rate, 0, 20))
    assert both.slices == (Slice(at(0), 2), Slice(at(10), 1), Slice(at(20), 1))


def test_what_was_let_through_counts_from_when_it_is_recorded() -> None:
    settings = Rate(limit=1, period=timedelta(seconds=10))
    state = rates.begun(settings, replace(rates.UNUSED, reserved=5, reserved_until=START + timedelta(minutes=1)), START)
    state = rates.moved(settings, state, START, START + timedelta(seconds=2))
    assert rates.next_time(settings, state, START + timedelta(seconds=3)) == START + timedelta(seconds=12)
    assert state.reserved == 4
