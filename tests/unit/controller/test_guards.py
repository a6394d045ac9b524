# SPDX-License-Identifier: Apache-2.0
"""Guards: what they say to calls, what of it is stored, and that neither a restart nor a conflict loses it."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.unit.controller.guarded import CONDITIONS, KEY, OWNER, Life, at, born, breaker, bulkhead, living, put, rate
from tests.unit.kube.server import ApiServer, until

from kubesaga.api.fields import format_time
from kubesaga.api.guard_status import GuardsStatus
from kubesaga.api.reasons import Reason
from kubesaga.controller.guards.guard import Guard
from kubesaga.engine.admission.verdict import PASS, Blocked, Pass, Refused
from kubesaga.engine.guarding import GuardKey, GuardOwner, GuardSettings
from kubesaga.kube.client import KubeClient
from kubesaga.testing.clock import FakeClock

INLINE = GuardOwner(kind="Workflow", namespace="shop", name="order", activity="pay")


@pytest.fixture(autouse=True)
async def stored(server: ApiServer) -> None:
    await put(server)


def until_of(life: Life, **more: Any) -> datetime | None:
    verdict = life.ask(**more)
    assert isinstance(verdict, Refused | Blocked), verdict
    return verdict.until


# --- the breaker ----------------------------------------------------------------------------------------------------


async def test_it_opens_at_the_threshold_is_stored_at_once_and_then_told(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(3)) as life:
        life.ends("xx")
        assert life.ask() == PASS
        assert life.posted == []
        life.ends("x")
        assert life.ask() == Refused(
            reason=Reason.CIRCUIT_OPEN, until=at(300),
            message="3 calls in a row have failed; the circuit breaker is open until 2026-01-01T00:05:00.000Z",
        )  # fmt: skip
        assert life.posted == [], "nothing is told that is not stored"
        await life.settle()
        (shown,) = life.shown()
        assert shown == {
            "key": "shop", "state": "Open", "failures": 3,
            "openedAt": format_time(at(0)), "nextProbeAt": format_time(at(300)),
        }  # fmt: skip
        told = "shop: 3 calls in a row have failed; it is open until 2026-01-01T00:05:00.000Z"
        assert life.posted == [(life.stored()["metadata"]["uid"], "CircuitOpened", told)]
        assert life.changed == [KEY]


async def test_a_single_call_tries_and_closes_it(server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
    async with living(server, client, clock, breaker(1)) as life:
        life.ends("x")
        await life.go_on(300)
        assert life.ask(under_way=[at(0), at(299)]) == PASS, "calls of before are no probes"
        life.guards.begun(KEY, clock.now())
        assert until_of(life, under_way=[at(0), at(300)]) is None, "nobody knows when the probe ends"
        await life.settle()
        assert life.shown()[0]["state"] == "HalfOpen"
        life.ends("o")
        assert life.ask() == PASS
        await life.settle()
        assert life.shown() == [{"key": "shop", "state": "Closed", "failures": 0}]
        assert [reason for _, reason, _ in life.posted] == ["CircuitOpened", "CircuitHalfOpen", "CircuitClosed"]


async def test_the_next_one_may_try_when_the_probe_has_said_nothing(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(1)) as life:
        life.ends("x")
        await life.go_on(300)
        life.guards.begun(KEY, clock.now())
        assert isinstance(life.ask(under_way=[at(300)]), Refused)
        assert life.ask(under_way=[]) == PASS, "it was cancelled, say"


async def test_a_probe_that_fails_opens_it_again(server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
    async with living(server, client, clock, breaker(1)) as life:
        life.ends("x")
        await life.go_on(300)
        life.ends("x")
        assert until_of(life) == at(600)
        await life.settle()
        assert life.posted[-1][2].startswith("shop: the call that tried has failed; it is open until")


async def test_an_open_breaker_is_open_after_a_restart_and_the_probe_of_before_is_the_probe(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(3)) as life:
        life.ends("xxx")
        await life.settle()
    clock.advance(100)
    async with living(server, client, clock, breaker(3)) as life:
        assert until_of(life) == at(300)
        await life.go_on(200)
        assert isinstance(life.ask(under_way=[at(300)]), Refused)
        assert life.ask() == PASS


async def test_a_streak_survives_a_restart(server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
    async with living(server, client, clock, breaker(3)) as life:
        life.ends("xx")
        await life.go_on(1)
    async with living(server, client, clock, breaker(3)) as life:
        life.ends("x")
        assert isinstance(life.ask(), Refused)


async def test_a_clock_that_is_set_back_does_not_keep_it_open_for_longer_than_reset(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    clock.advance(3600)
    async with living(server, client, clock, breaker(1)) as life:
        life.ends("x")
        clock.advance(-3600)
        assert until_of(life) == at(300)
        clock.advance(299)
        assert until_of(life) == at(300)
        clock.advance(1)
        assert life.ask() == PASS


async def test_before_it_queues_a_call_is_told_of_the_breaker_alone(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    both = GuardSettings(breaker=breaker(1).breaker, rate=rate(1).rate)
    async with living(server, client, clock, both) as life:
        assert life.guards.refusal(KEY, None, clock.now(), ()) is None
        assert isinstance(life.ask(), Blocked)
        life.ends("x")
        refused = life.guards.refusal(KEY, None, clock.now(), ())
        assert refused is not None
        assert refused == life.ask()
        assert refused.until == at(300)


@pytest.mark.parametrize("restored_first", [True, False])
async def test_what_was_recorded_of_a_breaker_that_is_not_set_any_more_is_forgotten(
    server: ApiServer, client: KubeClient, clock: FakeClock, restored_first: bool
) -> None:
    async with living(server, client, clock, breaker(1)) as life:
        life.ends("x")
        await life.settle()
    status = life.status()
    life = born(ApiServer(), client, clock)
    calls = [lambda: life.guards.restore(OWNER, status), lambda: life.guards.configure(OWNER, bulkhead())]
    for call in calls if restored_first else reversed(calls):
        call()
    life.guards.configure(OWNER, breaker(1))
    assert life.ask() == PASS


async def test_keys_are_apart(server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
    elsewhere = replace(KEY, caller="office")
    host = replace(KEY, host="desk.example:443")
    async with living(server, client, clock, breaker(1)) as life:
        life.ends("x", host)
        life.ends("o", KEY)
        assert isinstance(life.ask(host), Refused)
        assert life.ask(KEY) == life.ask(elsewhere) == PASS
        await life.go_on(5)
        assert [(one["key"], one["state"]) for one in life.shown()] == [
            ("office", "Closed"), ("shop", "Closed"), ("shop/desk.example:443", "Open"),
        ]  # fmt: skip
    async with living(server, client, clock, breaker(1)) as life:
        assert isinstance(life.ask(host), Refused)
        assert life.ask(KEY) == PASS


# --- live settings --------------------------------------------------------------------------------------------------


async def test_settings_are_live(server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
    async with living(server, client, clock, breaker(3)) as life:
        life.ends("x")
        life.guards.configure(OWNER, breaker(2))
        assert life.changed == [KEY], "who waits looks again"
        life.ends("x")
        assert until_of(life) == at(300)
        life.guards.configure(OWNER, breaker(2, reset=60))
        assert until_of(life) == at(60)
        life.guards.configure(OWNER, GuardSettings())
        assert life.ask(default=breaker(1)) == PASS, "it guards nothing any more"
        life.guards.configure(OWNER, breaker(2))
        assert life.ask() == PASS, "and begins anew when it does again"


@pytest.mark.parametrize(("live", "default", "expected"), [
    pytest.param(breaker(3), breaker(9), breaker(3), id="the live ones, where there are some"),
    pytest.param(None, breaker(9), breaker(9), id="the run's own, where the owner is gone"),
    pytest.param(GuardSettings(), breaker(9), None, id="none, where the owner has none any more"),
    pytest.param(None, None, None, id="none, where nobody has any"),
])  # fmt: skip
def test_the_settings_are(
    client: KubeClient,
    clock: FakeClock,
    live: GuardSettings | None,
    default: GuardSettings | None,
    expected: GuardSettings | None,
) -> None:
    life = born(ApiServer(), client, clock)
    life.guards.configure(OWNER, breaker(7))
    life.guards.configure(OWNER, live)
    assert life.guards.settings(KEY, default) == expected


async def test_a_guard_of_a_workflow_that_is_gone_works_with_what_its_runs_bring(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    key = GuardKey(owner=INLINE, caller="shop")
    async with living(server, client, clock) as life:
        assert life.ask(key, default=breaker(1)) == PASS
        await life.go_on(5)
        life.ends("x", key)
        assert isinstance(life.ask(key, default=breaker(1)), Refused)
        await life.settle()
        assert life.writes == 0


# --- the rate limit -------------------------------------------------------------------------------------------------


async def begin(life: Life) -> bool:
    """Begin a call as the ledger does: ask, wait for what is being recorded, ask again."""
    if not isinstance(life.ask(), Pass):
        await life.go_on(1)
    if not isinstance(life.ask(), Pass):
        return False
    life.guards.begun(KEY, life.clock.now())
    return True


async def test_once_an_hour_is_recorded_before_it_begins(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, rate(1)) as life:
        verdict = life.ask()
        assert isinstance(verdict, Blocked)
        assert verdict.message == "there is room under the rate limit; it begins when that is recorded"
        await life.settle()
        assert life.changed == [KEY]
        assert life.ask() == PASS
        life.guards.begun(KEY, clock.now())
        verdict = life.ask()
        assert isinstance(verdict, Blocked)
        assert (verdict.reason, verdict.until) == (Reason.RATE_LIMITED, at(3600))
        await life.go_on(1)
        (shown,) = life.shown("rateLimits")
        assert (shown["key"], shown["limit"], shown["used"], shown["fullUntil"]) == ("shop", 1, 1, format_time(at(3600)))  # fmt: skip
        clock.advance(3598.999)
        assert until_of(life) == at(3600)
        clock.advance(0.001)
        assert await begin(life)


async def test_one_that_asks_often_has_one_begin_reserved_and_many_have_twice_as_many_each_second(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, rate(10)) as life:
        begun = []
        for _ in range(4):
            for _ in range(20):
                life.ask()
            await life.go_on(1)
            begun.append(0)
            while isinstance(life.ask(), Pass):
                life.guards.begun(KEY, clock.now())
                begun[-1] += 1
        assert begun == [1, 2, 4, 3]


async def test_a_crash_after_the_reservation_costs_it_and_lets_nothing_more_through(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, rate(1)) as life:
        life.ask()
        await life.settle()
        life.guards.begun(KEY, clock.now())  # and the operator dies before this is stored
    clock.advance(2)
    async with living(server, client, clock, rate(1)) as life:
        assert until_of(life) == at(3602)


async def test_what_is_reserved_and_not_used_is_free_again(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, rate(1)) as life:
        life.ask()
        await life.settle()
        assert life.shown("rateLimits")[0]["reserved"] == 1
        await life.guards.close()
        assert life.shown("rateLimits") == []
    async with living(server, client, clock, rate(1)) as life:
        assert await begin(life)


async def test_a_call_that_did_not_begin_after_all_gives_its_place_back(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, rate(1)) as life:
        assert await begin(life)
        life.guards.withdrawn(KEY, clock.now())
        assert await begin(life)
        assert not await begin(life)


async def something_happens(life: Life, dice: random.Random, began: list[datetime]) -> None:
    (what,) = dice.choices(["ask", "wait", "settle", "fault", "edit"], weights=[9, 6, 3, 1, 2])
    match what:
        case "ask":
            for _ in range(dice.randrange(1, 6)):
                if isinstance(life.ask(), Pass):
                    life.guards.begun(KEY, life.clock.now())
                    began.append(life.clock.now())
        case "wait":
            await life.go_on(dice.choice([0.1, 1, 1, 3, 12]))
        case "settle":
            await life.settle()
        case "fault":
            life.server.fail("PATCH", "lose" if dice.random() < 0.5 else "refuse")
        case "edit":
            await life.server.put("activities", {**life.stored(), "spec": {"edited": dice.random()}})


@pytest.mark.parametrize("seed", range(4))
async def test_no_window_holds_more_than_the_limit_whenever_it_dies(
    server: ApiServer, client: KubeClient, clock: FakeClock, seed: int
) -> None:
    """With real requests: lost answers, refused ones, conflicts and SIGKILL at any moment."""
    dice, began, period = random.Random(seed), [], 8.0
    for _ in range(8):
        async with living(server, client, clock, rate(4, period)) as life:
            for _ in range(dice.randrange(1, 60)):
                await something_happens(life, dice, began)
        server._faults.clear()
    assert len(began) > 12, "it does let some through"
    for one in began:
        assert sum(one <= other < one + timedelta(seconds=period) for other in began) <= 4


async def test_a_hundred_rate_limits_of_one_owner_are_as_many_as_can_be_recorded(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, rate(1)) as life:
        keys = [replace(KEY, host=f"h{number}:80") for number in range(101)]
        for key in keys:
            life.ask(key)
        await life.settle()
        passed = [key for key in keys if isinstance(life.ask(key), Pass)]
        assert len(passed) == len(life.shown("rateLimits")) == 100
        (refused,) = (verdict for key in keys if isinstance(verdict := life.ask(key), Blocked))
        assert refused.message.startswith("100 other rate limits of the same owner are in use")


# --- storing --------------------------------------------------------------------------------------------------------


async def test_what_is_not_pressing_is_written_once_a_second(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(100)) as life:
        for _ in range(50):
            life.ends("x")
            await life.go_on(0.1)
        await life.settle()
        assert 5 <= life.writes <= 6
        await life.go_on(1)
        assert life.shown()[0]["failures"] == 50


async def test_nothing_is_written_where_nothing_has_changed(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(3)) as life:
        life.ends("o")
        await life.go_on(10)
        assert life.writes == 1, "that there is a breaker"
        for _ in range(20):
            life.ends("xo")
        await life.go_on(10)
        assert life.writes == 1


async def test_bulkheads_are_shown_each_five_seconds(server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
    async with living(server, client, clock, bulkhead(10)) as life:
        for number in range(100):
            life.guards.seen(KEY, number % 7, number)
            await life.go_on(0.1)
        await life.go_on(5)
        assert 2 <= life.writes <= 4
        assert life.shown("bulkheads") == [{"key": "shop", "running": 1, "queued": 99, "limit": 10}]


async def test_only_our_fields_are_written_and_a_conflict_is_read_again(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(1)) as life:
        life.ends("o")
        await life.go_on(10)
        other = [*CONDITIONS, {"type": "Stalled", "status": "False"}]
        await server.put("activities", {**life.stored(), "status": {**life.status(), "conditions": other}})
        life.ends("x")
        await life.settle()
        assert life.shown()[0]["state"] == "Open"
        assert life.status()["conditions"] == other
        patches = [request.json for request in server.requests if request.method == "PATCH"]
        assert all(set(patch["status"]) == {"circuitBreakers"} for patch in patches)
        assert all(patch["metadata"]["resourceVersion"] for patch in patches)


async def test_what_another_leader_stored_last_is_joined_on_the_safe_side(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(3)) as old, living(server, client, clock, breaker(3)) as new:
        new.ends("x")
        old.ends("xxx")
        await old.settle()
        await new.go_on(1)
        assert isinstance(new.ask(), Refused)
        assert new.shown()[0]["state"] == "Open"


async def test_a_write_whose_answer_was_lost_is_found_out(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(1)) as life:
        life.ask()
        await life.go_on(5)
        server.fail("PATCH", "lose")
        life.ends("x")
        await life.settle()
        assert life.posted == [], "nobody knows whether it is stored"
        await life.go_on(1)
        assert [reason for _, reason, _ in life.posted] == ["CircuitOpened"]
        assert life.writes == 2


async def test_a_write_that_fails_is_repeated_and_holds_up_no_other(
    server: ApiServer, client: KubeClient, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    other = GuardOwner(kind="Activity", namespace="shop", name="mail")
    await put(server, other)
    async with living(server, client, clock, breaker(1)) as life:
        life.guards.configure(other, breaker(1))
        server.fail("PATCH", (403, {"kind": "Status", "reason": "Forbidden", "message": "no"}))
        life.ends("x")
        await life.settle()
        assert "the state of the guards of Activity shop/pay could not be stored, 1 times" in caplog.text
        life.ends("x", GuardKey(owner=other, caller="shop"))
        await life.settle()
        assert life.shown(owner=other)[0]["state"] == "Open"
        assert "circuitBreakers" not in life.status()
        await life.go_on(1)
        assert life.shown()[0]["state"] == "Open"


async def test_one_that_fails_again_and_again_is_repeated_more_and_more_seldom(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(1)) as life:
        refused = (403, {"kind": "Status", "reason": "Forbidden", "message": "no"})
        server.fail("PATCH", *[refused] * 100)
        for _ in range(100):
            life.ends("x" if isinstance(life.ask(), Pass) else "o")
            life.guards.reset(OWNER)
            await life.go_on(1)
        assert 7 <= life.writes <= 9, "after 1, 2, 4, 8, 16, 30, 30 s, whatever changes meanwhile"


async def test_what_is_not_stored_yet_is_stored_on_closing(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(3)) as life:
        life.ends("o")
        await life.go_on(5)
        life.ends("xx")
    assert life.shown()[0]["failures"] == 0
    await life.guards.close()
    assert life.shown()[0]["failures"] == 2


async def test_what_was_being_written_when_it_was_told_to_stop_is_stored_on_closing(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(1)) as life:
        server.fail("PATCH", "hang")
        life.ends("x")
        await until(lambda: life.writes == 1)
    assert "circuitBreakers" not in life.status()
    await life.guards.close()
    assert life.shown()[0]["state"] == "Open"
    assert [reason for _, reason, _ in life.posted] == ["CircuitOpened"]


async def test_an_api_server_that_does_not_answer_does_not_keep_the_operator_from_ending(
    server: ApiServer, client: KubeClient, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with living(server, client, clock, breaker(1)) as life:
        life.ends("x")
        await life.settle()
        life.ends("xo")
    clock.advance(300)
    life.ends("o")
    server.fail("PATCH", (403, {"kind": "Status", "reason": "Forbidden", "message": "no"}))
    await life.guards.close()
    assert "the last state of the guards of Activity shop/pay was not stored" in caplog.text


async def test_guards_of_an_object_that_is_gone_work_on_in_memory(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    both = GuardSettings(breaker=breaker(2).breaker, rate=rate(2).rate)
    async with living(server, client, clock, both) as life:
        life.ends("x")
        await server.remove("activities", "shop", "pay")
        life.guards.configure(OWNER, None)
        await life.go_on(5)
        life.ask(default=both)
        await life.go_on(1)
        for _ in range(2):
            assert life.ask(default=both) == PASS
            life.guards.begun(KEY, clock.now())
        assert isinstance(life.ask(default=both), Blocked)
        life.ends("x")
        assert isinstance(life.ask(default=both), Refused)
        requests = len(server.requests)
        await life.go_on(60)
        assert len(server.requests) == requests, "nobody looks for it again"
        await put(server)
        life.guards.configure(OWNER, both)
        await life.go_on(1)
        assert life.shown()[0]["state"] == "Open"


async def test_a_status_that_cannot_be_read_is_written_anew(
    server: ApiServer, client: KubeClient, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {"conditions": CONDITIONS, "circuitBreakers": [{"key": "shop", "state": "Ajar"}]}
    await put(server, status=broken)
    async with living(server, client, clock, breaker(1)) as life:
        assert "what the status of Activity shop/pay says of guards cannot be read" in caplog.text
        assert life.ask() == PASS
        await life.go_on(5)
        assert life.shown() == [{"key": "shop", "state": "Closed", "failures": 0}]


async def test_the_lists_are_bounded_and_the_open_ones_stay(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(1)) as life:
        for number in range(150):
            key = replace(KEY, host=f"h{number:03}:80")
            life.ask(key)
            if number % 2:
                life.ends("x", key)
        await life.go_on(5)
        shown = life.shown()
        assert len(shown) == 100
        assert sum(one["state"] == "Open" for one in shown) == 75
        GuardsStatus.model_validate({name: life.status()[name] for name in ("circuitBreakers",)})


async def test_guards_that_nobody_asks_and_that_remember_nothing_leave_the_memory(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(2)) as life:
        for number in range(3000):
            key = replace(KEY, host=f"h{number}:80")
            life.ask(key)
            if number == 0:
                life.ends("xx", key)
            if number % 100 == 0:
                clock.advance(60)
        assert len(remembered(life)) <= 1100
        assert isinstance(life.ask(replace(KEY, host="h0:80")), Refused | Pass)
        assert replace(KEY, host="h0:80") in {guard.key for guard in remembered(life)}, "it is not closed"


# --- events, metrics ------------------------------------------------------------------------------------------------


def remembered(life: Life) -> list[Guard]:
    """Return all guards in memory."""
    return [guard for record in life.guards._records.values() for guard in record.guards.values()]


async def test_hosts_that_all_fail_do_not_fill_the_memory(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    life = born(server, client, clock)
    life.guards.configure(OWNER, breaker(1))
    for number in range(1200):
        life.ends("x", replace(KEY, host=f"h{number}:80"))
    assert len(remembered(life)) == 1000


async def test_events_are_silent_where_monitoring_is_off(
    server: ApiServer, client: KubeClient, clock: FakeClock
) -> None:
    async with living(server, client, clock, breaker(1, told=False, measured=False)) as life:
        life.ends("x")
        await life.settle()
        assert life.shown()[0]["state"] == "Open"
        assert life.posted == []


def counted(life: Life) -> float | None:
    labels = {"kind": "Activity", "namespace": "shop", "name": "pay", "reason": "CircuitOpen"}
    return life.metrics.registry.get_sample_value("kubesaga_guard_rejections_total", labels)


@pytest.mark.parametrize(("measured", "states", "rejections"), [
    pytest.param(True, [("Activity", "shop", "pay", "shop")], 1.0, id="on"),
    pytest.param(False, [], None, id="off"),
])  # fmt: skip
async def test_metrics_are(
    server: ApiServer, client: KubeClient, clock: FakeClock, measured: bool, states: Any, rejections: float | None
) -> None:
    async with living(server, client, clock, breaker(1, measured=measured)) as life:
        for letters, seconds, value in (("o", 0, 0.0), ("x", 0, 2.0), ("", 300, 1.0)):
            life.ends(letters)
            clock.advance(seconds)
            assert list(life.guards.breaker_samples()) == [(labels, value) for labels in states]
        life.guards.rejected(KEY, Reason.CIRCUIT_OPEN)
        assert counted(life) == rejections


async def test_metrics_of_bulkheads(server: ApiServer, client: KubeClient, clock: FakeClock) -> None:
    async with living(server, client, clock, bulkhead()) as life:
        life.guards.seen(KEY, 10, 3)
        labels = ("Activity", "shop", "pay", "shop")
        assert list(life.guards.bulkhead_samples(queued=False)) == [(labels, 10.0)]
        assert list(life.guards.bulkhead_samples(queued=True)) == [(labels, 3.0)]
