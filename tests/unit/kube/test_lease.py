# SPDX-License-Identifier: Apache-2.0
"""Leader election, by rows, against a real server and a clock that only sleeping moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.kube.conftest import Clock
from tests.unit.kube.server import ApiServer, until

from kubesaga.kube.client import KubeClient
from kubesaga.kube.lease import Elector, LeaseTiming
from kubesaga.kube.transport import Timeouts

KEY = ("leases", "ops", "kubesaga")
Step = Callable[[], Awaitable[object]]


class Enough(Exception):
    """The test has seen what it wanted to see."""


class Story:
    """What happens elsewhere while the elector sleeps: one step a sleep, then the test is over."""

    def __init__(self, clock: Clock, *steps: Step | None, then: type[Exception] = Enough) -> None:
        self._clock = clock
        self._steps = list(steps)
        self._then = then

    async def sleep(self, seconds: float) -> None:
        if not self._steps:
            raise self._then
        await self._clock.sleep(seconds)
        step = self._steps.pop(0)
        if step is not None:
            await step()


def lease(holder: str | None, **spec: Any) -> dict[str, Any]:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2029", "acquireTime": "2029"} | spec
    return {
        "metadata": {"name": "kubesaga", "namespace": "ops"},
        "spec": {k: v for k, v in spec.items() if v is not None},
    }


def elector(client: KubeClient, clock: Clock, lost: list[float] | None = None, **more: Any) -> Elector:
    options: dict[str, Any] = {"identity": "me", "sleep": clock.sleep, "now": clock.now, "clock": clock}
    return Elector(
        client,
        namespace="ops",
        name="kubesaga",
        on_lost=lambda: None if lost is None else lost.append(clock()),
        **(options | more),
    )


def spec(server: ApiServer) -> dict[str, Any]:
    return server.objects[KEY]["spec"]  # type: ignore[no-any-return]


# Taking it


@pytest.mark.parametrize(
    ("record", "seconds", "transitions"),
    [
        pytest.param(None, 0, 0, id="a Lease that is not there is made"),
        pytest.param(lease(""), 0, 1, id="a released one is taken at once"),
        pytest.param(lease(None, leaseTransitions=3), 0, 4, id="one without a holder is taken at once"),
        pytest.param(lease("me", leaseTransitions=3), 0, 3, id="our own from before a restart is taken back at once"),
        pytest.param(
            lease("other", leaseTransitions=3), 15, 4, id="one that is not renewed is taken after its duration"
        ),
        pytest.param(lease("other", leaseDurationSeconds=40), 40, 1, id="a longer promise of its holder is respected"),
        pytest.param(lease("other", leaseDurationSeconds=1), 15, 1, id="a shorter one is not believed"),
        pytest.param(
            lease("other", renewTime="2020-01-01T00:00:00.000000Z"), 15, 1, id="wall clocks do not matter: an old date"
        ),
        pytest.param(
            lease("other", renewTime="2099-01-01T00:00:00.000000Z"),
            15,
            1,
            id="wall clocks do not matter: a future date",
        ),
    ],
)
async def test_when_it_is_taken(
    server: ApiServer, client: KubeClient, clock: Clock, record: dict[str, Any] | None, seconds: float, transitions: int
) -> None:
    if record is not None:
        await server.put("leases", record)
    started = clock()
    candidate = elector(client, clock)
    await candidate.acquire()
    assert clock() - started == seconds
    assert candidate.valid_for() == 10.0
    moment = clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert spec(server) == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": moment,
        "renewTime": moment,
        "leaseTransitions": transitions,
    }


async def test_a_holder_that_renews_is_waited_for(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    async def renewed() -> None:
        await server.put("leases", lease("other", renewTime=str(clock())))

    await renewed()
    started = clock()
    story = Story(clock, *[renewed] * 10, *[None] * 20)
    await elector(client, clock, sleep=story.sleep).acquire()
    assert clock() - started == 20 + 15


async def test_a_lease_that_somebody_deleted_is_not_free_before_its_holders_time_is_over(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    """The holder finds out at its next renewal, and until then it works."""

    async def delete() -> None:
        await server.remove("leases", "ops", "kubesaga")

    await server.put("leases", lease("other"))
    started = clock()
    story = Story(clock, None, delete, *[None] * 20)
    await elector(client, clock, sleep=story.sleep).acquire()
    assert clock() - started == 15


async def test_a_holder_that_makes_its_deleted_lease_again_is_waited_for(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    async def delete() -> None:
        await server.remove("leases", "ops", "kubesaga")

    async def make() -> None:
        await server.put("leases", lease("other", acquireTime="2031"))

    await server.put("leases", lease("other"))
    started = clock()
    story = Story(clock, None, delete, make, *[None] * 20)
    await elector(client, clock, sleep=story.sleep).acquire()
    assert clock() - started == 6 + 15


@pytest.mark.parametrize(
    ("method", "faults"),
    [
        pytest.param("GET", [(503, b"down")] * 2, id="the server is down"),
        pytest.param("GET", [(403, b"not you")] * 2, id="we are not allowed (yet)"),
        pytest.param("PATCH", [(409, b"changed")] * 2, id="somebody else writes at the same time"),
        pytest.param("PATCH", ["refuse"] * 2, id="the connection breaks"),
    ],
)
async def test_what_stands_in_the_way_is_tried_again(
    server: ApiServer, client: KubeClient, clock: Clock, method: str, faults: list[Any]
) -> None:
    await server.put("leases", lease(""))
    server.fail(method, *faults)
    candidate = elector(client, clock)
    await candidate.acquire()
    assert clock.slept == [2.0, 2.0]
    assert spec(server)["holderIdentity"] == "me"


async def test_taking_it_is_recognised_although_the_answer_was_lost(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    await server.put("leases", lease("", leaseTransitions=3))
    server.fail("PATCH", "lose")
    await elector(client, clock).acquire()
    assert clock.slept == [2.0]
    assert spec(server)["leaseTransitions"] == 4, "one change of hands is counted once"


async def test_only_one_of_many_takes_it(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    await server.put("leases", lease(""))
    story = Story(clock)
    candidates = [elector(client, clock, identity=f"c{number}", sleep=story.sleep) for number in range(8)]
    results = await asyncio.gather(*(candidate.acquire() for candidate in candidates), return_exceptions=True)
    assert results.count(None) == 1
    assert [candidate.valid_for() > 0 for candidate in candidates].count(True) == 1


async def test_certainty_counts_from_before_the_write(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    def slow_now() -> Any:
        clock.advance(3)
        return clock.now()

    candidate = elector(client, clock, now=slow_now)
    await candidate.acquire()
    assert candidate.valid_for() == 7.0


# Keeping it


async def test_it_is_renewed_every_two_seconds(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    holder = elector(client, clock, sleep=Story(clock, *[None] * 10).sleep)
    await holder.acquire()
    acquired = spec(server)["acquireTime"]
    with pytest.raises(Enough):
        await holder.run()
    assert clock.slept == [2.0] * 10
    assert holder.valid_for() == 10.0
    assert spec(server)["renewTime"] == clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert (spec(server)["acquireTime"], spec(server)["leaseTransitions"]) == (acquired, 0)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param((503, b"down"), id="the server is down"),
        pytest.param("refuse", id="the connection breaks"),
        pytest.param("lose", id="the answer is lost"),
        pytest.param((409, b"changed"), id="the version was another"),
    ],
)
async def test_trouble_shorter_than_the_deadline_is_survived(
    server: ApiServer, client: KubeClient, clock: Clock, fault: Any
) -> None:
    lost: list[float] = []
    holder = elector(client, clock, lost, sleep=Story(clock, *[None] * 6).sleep)
    await holder.acquire()
    server.fail("PATCH", fault, fault, fault)
    with pytest.raises(Enough):
        await holder.run()
    assert (lost, holder.valid_for()) == ([], 10.0)


async def test_trouble_longer_than_the_deadline_loses_it_on_time(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    lost: list[float] = []
    holder = elector(client, clock, lost)
    await holder.acquire()
    started = clock()
    server.fail("PATCH", *[(503, b"down")] * 50)
    server.fail("GET", *[(503, b"down")] * 50)
    await holder.run()
    assert lost == [started + 10.0], "told once, before anybody else may take it"
    assert holder.valid_for() == 0.0


async def test_certainty_runs_out_while_the_server_is_down(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    seen: list[float] = []

    async def look() -> None:
        seen.append(holder.valid_for())

    holder = elector(client, clock, sleep=Story(clock, *[look] * 5).sleep)
    await holder.acquire()
    server.fail("PATCH", *[(503, b"down")] * 50)
    server.fail("GET", *[(503, b"down")] * 50)
    await holder.run()
    assert seen == [8.0, 6.0, 4.0, 2.0, 0.0]


async def test_a_frozen_process_writes_nothing_when_it_wakes(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    async def freeze() -> None:
        clock.advance(60)

    lost: list[float] = []
    holder = elector(client, clock, lost, sleep=Story(clock, None, freeze).sleep)
    await holder.acquire()
    before = len(server.requests)
    await holder.run()
    assert (len(lost), holder.valid_for()) == (1, 0.0)
    assert len(server.requests) == before + 1, "the one renewal from before the freeze"


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(lease("other"), id="another holds it"),
        pytest.param(lease(""), id="somebody has emptied it"),
        pytest.param(lease("me", acquireTime="2031"), id="a newer process of our own name holds it"),
    ],
)
async def test_a_lease_in_other_hands_is_lost_at_once(
    server: ApiServer, client: KubeClient, clock: Clock, record: dict[str, Any]
) -> None:
    async def take() -> None:
        await server.put("leases", record)

    lost: list[float] = []
    holder = elector(client, clock, lost, sleep=Story(clock, None, take, None).sleep)
    await holder.acquire()
    started = clock()
    await holder.run()
    assert lost == [started + 4.0], "the renewal conflicts, and it is seen at once whose it is"
    assert spec(server) == record["spec"], "and nothing is written"


@pytest.mark.parametrize(
    ("holder", "told"),
    [
        pytest.param("me", True, id="two processes of one identity"),
        pytest.param("other", False, id="one of each"),
    ],
)
async def test_two_processes_of_one_identity_are_told_of(
    server: ApiServer, client: KubeClient, clock: Clock, caplog: pytest.LogCaptureFixture, holder: str, told: bool
) -> None:
    async def take() -> None:
        await server.put("leases", lease(holder, acquireTime="2031"))

    candidate = elector(client, clock, sleep=Story(clock, take).sleep)
    await candidate.acquire()
    await candidate.run()
    assert ("replicas need an identity each (KUBESAGA_IDENTITY)" in caplog.text) == told


@pytest.mark.parametrize("hours", [pytest.param(1, id="forward"), pytest.param(-1, id="back")])
async def test_a_wall_clock_that_is_set_changes_nothing(
    server: ApiServer, client: KubeClient, clock: Clock, hours: int
) -> None:
    moved = [timedelta()]

    async def set_clock() -> None:
        moved[0] = timedelta(hours=hours)

    story = Story(clock, None, set_clock, *[None] * 8)
    holder = elector(client, clock, now=lambda: clock.now() + moved[0], sleep=story.sleep)
    await holder.acquire()
    waiting = asyncio.create_task(elector(client, clock, identity="other").acquire())
    with pytest.raises(Enough):
        await holder.run()
    assert (spec(server)["holderIdentity"], holder.valid_for() > 0, waiting.done()) == ("me", True, False)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_lease_that_was_only_touched_stays_ours(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    async def annotate() -> None:
        await server.put("leases", server.objects[KEY])

    holder = elector(client, clock, sleep=Story(clock, annotate, None, None).sleep)
    await holder.acquire()
    with pytest.raises(Enough):
        await holder.run()
    assert holder.valid_for() == 10.0


async def test_a_lease_that_was_deleted_is_made_again(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    async def delete() -> None:
        await server.remove("leases", "ops", "kubesaga")

    holder = elector(client, clock, sleep=Story(clock, delete, None, None).sleep)
    await holder.acquire()
    with pytest.raises(Enough):
        await holder.run()
    assert (spec(server)["holderIdentity"], holder.valid_for()) == ("me", 10.0)


async def test_a_request_that_hangs_leaves_time_for_another(server: ApiServer, connect: Any, clock: Clock) -> None:
    patient = connect(server.url, timeouts=Timeouts(connect=3600, request=3600))
    timing = LeaseTiming(duration=0.6, renew_deadline=0.4, retry_period=0.01)
    holder = elector(patient, clock, timing=timing, sleep=Story(clock, *[None] * 6).sleep)
    server.fail("GET", "hang")
    server.fail("POST", "hang")
    await holder.acquire()
    server.fail("PATCH", "hang")
    with pytest.raises(Enough):
        await holder.run()
    assert holder.valid_for() == pytest.approx(0.4)


# Letting go


async def test_a_released_lease_is_free_at_once(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    first, second = elector(client, clock), elector(client, clock, identity="other")
    await first.acquire()
    await first.release()
    assert (spec(server)["holderIdentity"], first.valid_for()) == ("", 0.0)
    await second.acquire()
    assert (clock.slept, spec(server)["leaseTransitions"]) == ([], 1)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        pytest.param(None, "", id="it is found and released"),
        pytest.param(lease("other"), "other", id="unless another has it by now"),
        pytest.param(lease("me", acquireTime="2031"), "me", id="unless a newer process of our name has it"),
    ],
)
async def test_after_a_renewal_that_was_cut_off(
    server: ApiServer, client: KubeClient, clock: Clock, record: dict[str, Any] | None, expected: str
) -> None:
    holder = elector(client, clock)
    await holder.acquire()
    server.fail("PATCH", "hang")
    renewal = asyncio.create_task(holder.run())
    await until(lambda: server.requests[-1].method == "PATCH")
    renewal.cancel()
    await server.put("leases", record or server.objects[KEY])
    await holder.release()
    assert spec(server)["holderIdentity"] == expected


@pytest.mark.parametrize(
    ("record", "method"),
    [
        pytest.param(lease(""), "PATCH", id="one that is there"),
        pytest.param(None, "POST", id="one that is made"),
    ],
)
async def test_who_is_stopped_in_the_middle_of_taking_it_gives_it_back(
    server: ApiServer, client: KubeClient, clock: Clock, record: dict[str, Any] | None, method: str
) -> None:
    """The server does what it was asked for, also when nobody waits for its answer any more."""
    if record is not None:
        await server.put("leases", record)
    server.fail(method, "hold")
    candidate = elector(client, clock)
    taking = asyncio.create_task(candidate.acquire())
    await until(lambda: any(request.method == method for request in server.requests))
    taking.cancel()
    await asyncio.wait({taking})
    assert taking.cancelled()
    release = asyncio.create_task(candidate.release())
    server.go_on.set()
    await release
    await until(lambda: KEY in server.objects)
    assert (spec(server)["holderIdentity"], candidate.valid_for()) == ("", 0.0)


@pytest.mark.parametrize(
    ("fault", "taken_by", "expected"),
    [
        pytest.param("lose", None, "", id="it was taken, and is given back"),
        pytest.param("refuse", None, "late", id="it was not taken, and stays as it was"),
        pytest.param("lose", "other", "other", id="it was taken, and another has it by now"),
        pytest.param((409, b"changed"), "other", "other", id="another was faster"),
    ],
)
async def test_who_is_stopped_after_taking_it_without_an_answer_looks_whose_it_is(
    server: ApiServer, client: KubeClient, clock: Clock, fault: Any, taken_by: str | None, expected: str
) -> None:
    async def stop() -> None:
        if taken_by is not None:
            await server.put("leases", lease(taken_by))
        raise Enough

    await server.put("leases", lease("late"))
    candidate = elector(client, clock, sleep=Story(clock, *[None] * 8, stop).sleep)
    server.fail("PATCH", fault)
    with pytest.raises(Enough):
        await candidate.acquire()
    await candidate.release()
    assert (spec(server)["holderIdentity"], candidate.valid_for()) == (expected, 0.0)


async def test_who_is_stopped_in_the_middle_of_taking_it_in_vain_leaves_it_as_it_was(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    await server.put("leases", lease("late"))
    server.fail("PATCH", "hang")
    timing = LeaseTiming(duration=0.6, renew_deadline=0.4, retry_period=0.01)
    candidate = elector(client, clock, timing=timing)
    taking = asyncio.create_task(candidate.acquire())
    await until(lambda: server.requests and server.requests[-1].method == "PATCH")
    taking.cancel()
    await asyncio.wait({taking})
    await candidate.release()
    assert (spec(server)["holderIdentity"], candidate.valid_for()) == ("late", 0.0)


async def test_a_candidate_that_only_waited_asks_nothing_when_it_is_stopped(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    await server.put("leases", lease("other"))
    candidate = elector(client, clock, sleep=Story(clock, None).sleep)
    with pytest.raises(Enough):
        await candidate.acquire()
    before = len(server.requests)
    await candidate.release()
    assert len(server.requests) == before


async def test_what_is_not_ours_is_not_released(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    await server.put("leases", lease("other"))
    await elector(client, clock).release()
    assert server.requests == []


async def test_a_failing_release_is_no_error(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    holder = elector(client, clock)
    await holder.acquire()
    server.fail("PATCH", (503, b"down"))
    await holder.release()
    assert (spec(server)["holderIdentity"], holder.valid_for()) == ("me", 0.0)


# What it says of itself


FORBIDDEN = (403, {"kind": "Status", "reason": "Forbidden", "code": 403, "message": "not you"})


@pytest.mark.parametrize(
    ("record", "method", "faults", "looks", "told"),
    [
        pytest.param(lease("other", leaseDurationSeconds=3600), "GET", [], 30, None, id="waiting for another is no trouble"),
        pytest.param(lease(""), "GET", [FORBIDDEN] * 7, 7, None, id="nor is a server that refuses for a while"),
        pytest.param(lease(""), "GET", [FORBIDDEN] * 9, 9, "not you", id="one that refuses for longer than the duration is"),
        pytest.param(lease(""), "PATCH", [FORBIDDEN] * 10, 10, "not you", id="and so is a Lease that can only be read"),
        pytest.param(lease(""), "GET", ["refuse"] * 18, 9, "get leases", id="or a server that is not reached, twice a look"),
        pytest.param(
            lease("other"), "GET", [FORBIDDEN] * 6 + [(200, lease("other"))] + [FORBIDDEN] * 6, 13, None,
            id="only failures in a row count",
        ),
    ],
)  # fmt: skip
async def test_what_keeps_it_from_the_lease(
    server: ApiServer,
    client: KubeClient,
    clock: Clock,
    record: dict[str, Any],
    method: str,
    faults: list[Any],
    looks: int,
    told: str | None,
) -> None:
    await server.put("leases", record)
    server.fail(method, *faults)
    candidate = elector(client, clock, sleep=Story(clock, *[None] * (looks - 1)).sleep)
    with pytest.raises(Enough):
        await candidate.acquire()
    trouble = candidate.trouble()
    assert trouble is None if told is None else told in (trouble or "")


async def test_trouble_is_over_with_the_first_success(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    await server.put("leases", lease(""))
    server.fail("GET", *[FORBIDDEN] * 12)
    seen: list[str | None] = []

    async def look() -> None:
        seen.append(candidate.trouble())

    candidate = elector(client, clock, sleep=Story(clock, *[look] * 12).sleep)
    await candidate.acquire()
    assert [told is None for told in seen] == [True] * 7 + [False] * 5
    assert candidate.trouble() is None


# What cannot work


@pytest.mark.parametrize(
    "timing", [(10, 10, 2), (15, 2, 2), (15, 10, 0)], ids=["duration", "renew deadline", "retry period"]
)
def test_timings_that_cannot_work_are_refused(timing: tuple[float, float, float]) -> None:
    duration, deadline, retry = timing
    with pytest.raises(ValueError, match="duration > renew deadline > retry period > 0"):
        LeaseTiming(duration=duration, renew_deadline=deadline, retry_period=retry)


async def test_a_candidate_needs_a_name(client: KubeClient, clock: Clock) -> None:
    with pytest.raises(ValueError, match="identity"):
        elector(client, clock, identity="")
