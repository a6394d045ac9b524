# SPDX-License-Identifier: Apache-2.0
"""The circuit breaker: a table of sentences, and histories against a model that is written another way."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesaga.api.guard_status import BreakerPhase
from kubesaga.engine.admission.breaker import CLOSED, BreakerState, Call, after, clamped, is_probe, next_probe, phase
from kubesaga.engine.guarding import Breaker
from kubesaga.testing.clock import START

OPEN, HALF_OPEN, SHUT = BreakerPhase.OPEN, BreakerPhase.HALF_OPEN, BreakerPhase.CLOSED


def settings(threshold: int = 5, reset: float = 300) -> Breaker:
    return Breaker(threshold=threshold, timeout=timedelta(seconds=60), reset=timedelta(seconds=reset))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def call(succeeded: bool, began: float, ended: float) -> Call:
    return Call(succeeded=succeeded, began=at(began), ended=at(ended))


def story(calls: str, breaker: Breaker | None = None) -> BreakerState:
    """Return the state after calls that begin and end one after the other each second: `x` fails, `o` succeeds."""
    state = CLOSED
    for second, letter in enumerate(calls):
        state = after(breaker or settings(), state, call(letter == "o", second, second + 0.5))
    return state


@pytest.mark.parametrize(("calls", "failures", "shown"), [
    pytest.param("", 0, SHUT, id="it is closed"),
    pytest.param("xxxx", 4, SHUT, id="four failures leave it closed"),
    pytest.param("xxxxx", 5, OPEN, id="the fifth opens it"),
    pytest.param("xxxxo", 0, SHUT, id="a success zeroes the count"),
    pytest.param("xxxxoxxxx", 4, SHUT, id="and four more leave it closed"),
    pytest.param("xxxxoxxxxx", 5, OPEN, id="five in a row after a success open it"),
    pytest.param("oxoxoxoxoxox", 1, SHUT, id="half of all failing never opens it"),
    pytest.param("xxxxxx", 5, OPEN, id="a sixth failure, of before, changes nothing"),
    pytest.param("xxxxxo", 5, OPEN, id="nor does a success of before"),
])  # fmt: skip
def test_after_these_calls(calls: str, failures: int, shown: BreakerPhase) -> None:
    state = story(calls)
    assert (state.failures, phase(settings(), state, at(20))) == (failures, shown)


OPENED = BreakerState(failures=5, opened_at=at(0))


@pytest.mark.parametrize(("seconds", "reset", "shown"), [
    pytest.param(0, 300, OPEN, id="at once it is open"),
    pytest.param(299.999, 300, OPEN, id="to the last millisecond"),
    pytest.param(300, 300, HALF_OPEN, id="then half open"),
    pytest.param(9e6, 300, HALF_OPEN, id="until somebody tries"),
    pytest.param(60, 60, HALF_OPEN, id="a shorter reset holds for what is open already"),
    pytest.param(300, 600, OPEN, id="and so does a longer one"),
])  # fmt: skip
def test_time_makes_it_half_open(seconds: float, reset: float, shown: BreakerPhase) -> None:
    assert phase(settings(reset=reset), OPENED, at(seconds)) is shown


@pytest.mark.parametrize(("one", "expected"), [
    pytest.param(call(True, 300, 301), CLOSED, id="the probe succeeds: it closes"),
    pytest.param(call(False, 300, 301), BreakerState(failures=6, opened_at=at(301)), id="it fails: open again, from then on"),
    pytest.param(call(True, -1, 301), OPENED, id="one that began before the opening succeeds late: nothing"),
    pytest.param(call(False, -1, 301), OPENED, id="or fails late: nothing"),
    pytest.param(call(True, 299.999, 300), OPENED, id="one that slipped through while it was open: nothing"),
    pytest.param(call(True, 400, 10), OPENED, id="one over which the clock was set back: nothing"),
])  # fmt: skip
def test_what_decides_when_it_is_half_open(one: Call, expected: BreakerState) -> None:
    assert after(settings(), OPENED, one) == expected


@pytest.mark.parametrize(("streak", "threshold", "succeeded", "opens"), [
    pytest.param(4, 2, False, True, id="below the streak: the next failure opens it"),
    pytest.param(4, 2, True, False, id="below the streak, and a success: it stays closed"),
    pytest.param(4, 9, False, False, id="above: it takes as many as are said now"),
])  # fmt: skip
def test_a_threshold_that_is_changed(streak: int, threshold: int, succeeded: bool, opens: bool) -> None:
    state = BreakerState(failures=streak)
    assert phase(settings(threshold), state, at(0)) is SHUT, "a change of settings alone opens nothing"
    assert (after(settings(threshold), state, call(succeeded, 0, 1)).opened_at is not None) is opens


@pytest.mark.parametrize(("opened", "now", "until"), [
    pytest.param(0, 10, 300, id="in the past: nothing changes"),
    pytest.param(3600, 10, 310, id="in the future: for reset from now on, and not longer"),
])  # fmt: skip
def test_it_opened(opened: float, now: float, until: float) -> None:
    state = clamped(BreakerState(failures=5, opened_at=at(opened)), at(now))
    assert next_probe(settings(), state) == at(until)
    later = clamped(state, at(now + 100))
    assert next_probe(settings(), later) == at(until), "which does not move on"


def test_what_is_stored_in_milliseconds_recognizes_the_probe_that_began_before_the_restart() -> None:
    state = after(settings(1), CLOSED, Call(succeeded=False, began=at(0), ended=at(1) + timedelta(microseconds=987)))
    probe = next_probe(settings(1), state)
    assert probe is not None
    began = probe + timedelta(microseconds=432)
    stored = began.replace(microsecond=began.microsecond // 1000 * 1000)
    assert is_probe(settings(1), state, began)
    assert is_probe(settings(1), state, stored)


class Model:
    """A breaker as its description has it, with a list of results and a flag instead of numbers and moments."""

    def __init__(self, threshold: int, reset: int) -> None:
        self.threshold, self.reset = threshold, reset
        self.results: list[bool] = []
        self.open_until: int | None = None
        self.generation = 0

    def may(self, now: int, probing: bool) -> bool:
        return self.open_until is None or (now >= self.open_until and not probing)

    def ends(self, now: int, succeeded: bool, probe_of: int | None) -> None:
        """`probe_of`: the generation whose probe it is."""
        if self.open_until is None:
            self.results.append(succeeded)
            last = self.results[-self.threshold :]
            tripped = len(last) == self.threshold and not any(last)
        elif probe_of == self.generation:
            tripped = not succeeded
        else:
            return
        if tripped:
            self.open_until, self.generation = now + self.reset, self.generation + 1
        elif self.open_until is not None:
            self.open_until, self.results, self.generation = None, [], self.generation + 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 40)),
        st.tuples(st.just("begin"), st.just(0)),
        st.tuples(st.sampled_from(["fail", "fail", "succeed"]), st.integers(0, 20)),
    ),
    max_size=120,
)


@given(STEPS, st.integers(1, 4), st.integers(1, 50))
def test_any_history_is_the_models(steps: list[tuple[str, int]], threshold: int, reset: int) -> None:
    """Many calls are in flight, and end in any order."""
    breaker, model, state, now = settings(threshold, reset), Model(threshold, reset), CLOSED, 0
    flying: list[tuple[int, int | None]] = []
    for what, number in steps:
        shown = phase(breaker, state, at(now))
        assert (shown is SHUT) is (model.open_until is None)
        if what == "wait":
            now += number
        elif what == "begin":
            probing = any(is_probe(breaker, state, at(began)) for began, _ in flying)
            passes = shown is SHUT or (shown is HALF_OPEN and not probing)
            # A call of an earlier generation may have begun after the time of this probe only where it is the probe.
            assert passes is model.may(now, any(of == model.generation for _, of in flying if of is not None))
            if passes:
                flying.append((now, model.generation if shown is HALF_OPEN else None))
        elif flying:
            began, probe_of = flying.pop(number % len(flying))
            state = after(breaker, state, call(what == "succeed", began, now))
            model.ends(now, what == "succeed", probe_of)
        assert not any(shown is OPEN and of is not None and began == now for began, of in flying)


@given(st.data())
def test_one_probe_at_a_time_and_none_while_it_is_open(data: Any) -> None:
    breaker, now = settings(1, 10), 100
    state, flying = BreakerState(failures=1, opened_at=at(now)), []
    for _ in range(data.draw(st.integers(1, 60))):
        now += data.draw(st.integers(0, 6))
        shown = phase(breaker, state, at(now))
        if (
            shown is not SHUT
            and not any(is_probe(breaker, state, at(began)) for began in flying)
            and shown is HALF_OPEN
        ):
            flying.append(now)
        assert len(flying) <= 1
        if flying and data.draw(st.booleans()):
            state = after(breaker, state, call(False, flying.pop(), now))
            assert phase(breaker, state, at(now)) is OPEN
