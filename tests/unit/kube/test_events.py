# SPDX-License-Identifier: Apache-2.0
"""Kubernetes Events: what is posted, counted together, held back and dropped; and that nobody ever waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tests.unit.kube.conftest import Clock
from tests.unit.kube.server import ApiServer, until

from kubesaga.kube.client import KubeClient
from kubesaga.kube.events import MESSAGE_LIMIT, EventPoster, Reference, reference_to

RUN = Reference(api_version="kubesaga.dev/v1alpha1", kind="WorkflowRun", name="t-123", namespace="support", uid="u-1")


def poster(client: KubeClient, clock: Clock, **more: Any) -> EventPoster:
    return EventPoster(client, clock=clock, now=clock.now, sleep=clock.sleep, instance="pod-0", **more)


@asynccontextmanager
async def running(poster: EventPoster) -> AsyncIterator[None]:
    task = asyncio.create_task(poster.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def posted(events: EventPoster, count: int) -> None:
    await until(lambda: events.tally.posted == count)


async def failed(events: EventPoster, count: int) -> None:
    await until(lambda: events.tally.failed == count)


def stored(server: ApiServer) -> list[dict[str, Any]]:
    return [obj for key, obj in server.objects.items() if key[0] == "events"]


async def test_an_event_says_what_happened_to_whom(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    events = poster(client, clock)
    events.post(RUN, "Warning", "ActivityFailed", "charge-card failed: 402")
    async with running(events):
        await until(lambda: events.tally.posted)
    (event,) = stored(server)
    name = event["metadata"]["name"]
    assert name.startswith("t-123.")
    assert event["metadata"]["namespace"] == "support"
    moment = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert {name: event[name] for name in event if name != "metadata"} == {
        "apiVersion": "v1",
        "kind": "Event",
        "involvedObject": {
            "apiVersion": "kubesaga.dev/v1alpha1",
            "kind": "WorkflowRun",
            "name": "t-123",
            "namespace": "support",
            "uid": "u-1",
        },
        "type": "Warning",
        "reason": "ActivityFailed",
        "message": "charge-card failed: 402",
        "count": 1,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "source": {"component": "kubesaga"},
        "reportingComponent": "kubesaga",
        "reportingInstance": "pod-0",
    }


async def test_an_object_without_a_namespace_has_its_events_in_default(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    events = poster(client, clock)
    events.post(Reference(api_version="v1", kind="Namespace", name="support"), "Normal", "Seen", "hello")
    async with running(events):
        await until(lambda: events.tally.posted)
    assert stored(server)[0]["metadata"]["namespace"] == "default"


def test_a_reference_is_made_from_the_object() -> None:
    metadata = {"name": "t-123", "namespace": "support", "uid": "u-1", "resourceVersion": "5"}
    assert reference_to({"apiVersion": RUN.api_version, "kind": RUN.kind, "metadata": metadata}) == RUN


# Counting together


async def test_the_same_news_while_waiting_is_one_request(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    events = poster(client, clock)
    for _ in range(5):
        events.post(RUN, "Normal", "Started", "a")
    events.post(RUN, "Normal", "Started", "b")
    async with running(events):
        await until(lambda: events.tally.posted == 2)
    assert [(event["message"], event["count"]) for event in stored(server)] == [("a", 5), ("b", 1)]
    assert len(server.requests) == 2


async def test_the_same_news_later_is_counted_into_the_first(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    events = poster(client, clock)
    async with running(events):
        for number in range(1, 4):
            events.post(RUN, "Normal", "Retrying", "a")
            await posted(events, number)
            clock.advance(599)
    (event,) = stored(server)
    assert event["count"] == 3
    assert event["firstTimestamp"] < event["lastTimestamp"]


async def test_after_ten_minutes_it_is_a_new_event(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    events = poster(client, clock)
    async with running(events):
        events.post(RUN, "Normal", "Retrying", "a")
        await until(lambda: events.tally.posted == 1)
        clock.advance(600)
        events.post(RUN, "Normal", "Retrying", "a")
        await until(lambda: events.tally.posted == 2)
    assert [event["count"] for event in stored(server)] == [1, 1]


async def test_an_event_from_before_a_restart_is_counted_on(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    for number in range(1, 4):
        restarted = poster(client, clock)
        restarted.post(RUN, "Normal", "Started", "a")
        async with running(restarted):
            await posted(restarted, 1)
        assert [event["count"] for event in stored(server)] == [number]


async def test_an_event_that_has_expired_is_made_again(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    events = poster(client, clock)
    async with running(events):
        events.post(RUN, "Normal", "Retrying", "a")
        await until(lambda: events.tally.posted == 1)
        server.objects.clear()
        events.post(RUN, "Normal", "Retrying", "a")
        await until(lambda: events.tally.posted == 2)
    assert [event["count"] for event in stored(server)] == [1]


@pytest.mark.parametrize(
    ("other", "reason", "message"),
    [
        pytest.param(Reference(api_version="v1", kind="Pod", name="t-123", namespace="support"), "r", "m", id="kind"),
        pytest.param(RUN, "other", "m", id="reason"),
        pytest.param(RUN, "r", "other", id="message"),
    ],
)
async def test_different_news_are_different_events(
    server: ApiServer, client: KubeClient, clock: Clock, other: Reference, reason: str, message: str
) -> None:
    events = poster(client, clock)
    events.post(RUN, "Normal", "r", "m")
    events.post(other, "Normal", reason, message)
    async with running(events):
        await until(lambda: events.tally.posted == 2)
    assert len({event["metadata"]["name"] for event in stored(server)}) == 2


# Limits


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param("m" * MESSAGE_LIMIT, "m" * MESSAGE_LIMIT, id="1,024 fit"),
        pytest.param("m" * (MESSAGE_LIMIT + 1), "m" * (MESSAGE_LIMIT - 3) + "…", id="more is cut and shows it"),
        pytest.param("ü" * 1024, "ü" * 510 + "…", id="the server counts bytes, a character stays whole"),
        pytest.param("half \ud800", "half ?", id="half a pair of surrogates"),
    ],
)
async def test_messages_fit_the_servers_limit(
    server: ApiServer, client: KubeClient, clock: Clock, message: str, expected: str
) -> None:
    events = poster(client, clock)
    events.post(RUN, "Normal", "Said", message)
    async with running(events):
        await until(lambda: events.tally.posted)
    assert stored(server)[0]["message"] == expected
    assert len(expected.encode()) <= MESSAGE_LIMIT


async def test_a_long_name_still_fits(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    events = poster(client, clock)
    events.post(Reference(api_version="v1", kind="Pod", name="x" * 253, namespace="support"), "Normal", "r", "m")
    async with running(events):
        await until(lambda: events.tally.posted)
    assert len(stored(server)[0]["metadata"]["name"]) == 253


async def test_the_rate_is_limited_after_a_burst(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    events = poster(client, clock, rate=10, burst=5)
    for number in range(8):
        events.post(RUN, "Normal", "Said", str(number))
    async with running(events):
        await until(lambda: events.tally.posted == 8)
    assert [pytest.approx(pause) for pause in clock.slept[:8]] == [0, 0, 0, 0, 0, 0.1, 0.1, 0.1]


async def test_a_full_queue_drops_the_oldest_and_counts_it(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    events = poster(client, clock, capacity=2)
    for number in "0001234":
        events.post(RUN, "Normal", "Said", number)
    assert events.tally.dropped == 5
    async with running(events):
        await until(lambda: events.tally.posted == 2)
    assert [event["message"] for event in stored(server)] == ["3", "4"]


# Trouble


async def test_trouble_is_waited_out_and_nothing_lost(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    server.fail("POST", (503, b"down"), (429, b"", {"Retry-After": "9"}), "refuse")
    events = poster(client, clock)
    events.post(RUN, "Normal", "Said", "a")
    events.post(RUN, "Normal", "Said", "b")
    async with running(events):
        await until(lambda: events.tally.posted == 2)
    assert clock.slept[:4] == [0.0, 1.0, 9.0, 18.0]
    assert events.tally.failed == events.tally.dropped == 0


async def test_a_lost_answer_does_not_make_a_second_event(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    server.fail("POST", "lose")
    events = poster(client, clock)
    events.post(RUN, "Normal", "Said", "a")
    async with running(events):
        await until(lambda: events.tally.posted)
    assert len(stored(server)) == 1


async def test_one_that_the_server_chokes_on_does_not_hold_up_the_others(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    server.fail("POST", (500, b"choke"))
    events = poster(client, clock)
    events.post(RUN, "Normal", "Said", "poison")
    events.post(RUN, "Normal", "Said", "fine")
    async with running(events):
        await until(lambda: events.tally.posted == 2)
    assert [event["message"] for event in stored(server)] == ["fine", "poison"]


async def test_it_is_given_up_at_last(server: ApiServer, client: KubeClient, clock: Clock) -> None:
    server.fail("POST", *[(500, b"choke")] * 20)
    events = poster(client, clock)
    events.post(RUN, "Normal", "Said", "poison")
    async with running(events):
        await until(lambda: events.tally.failed)
    assert len(server.requests) == 10


async def test_what_is_refused_is_not_tried_again_and_logged_once_a_minute(
    server: ApiServer, client: KubeClient, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server.fail("POST", *[(403, b"namespace is being deleted")] * 4)
    events = poster(client, clock)
    async with running(events):
        for number, pause in enumerate((0, 30, 29, 1), start=1):
            clock.advance(pause)
            events.post(RUN, "Normal", "Said", str(number))
            await failed(events, number)
    assert len(server.requests) == 4
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


# The end


async def test_closing_posts_what_is_queued_without_the_rate_limit(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    events = poster(client, clock, rate=0.001, burst=1)
    for number in range(5):
        events.post(RUN, "Normal", "Said", str(number))
    await events.close()
    assert (events.tally.posted, clock.slept) == (5, [])
    events.post(RUN, "Normal", "Said", "too late")
    assert events.tally.dropped == 1


@pytest.mark.parametrize("fault", [pytest.param("hang", id="hangs"), pytest.param((503, b"down"), id="is down")])
async def test_closing_does_not_wait_for_a_server_that(
    server: ApiServer, client: KubeClient, clock: Clock, fault: Any
) -> None:
    server.fail("POST", fault)
    events = poster(client, clock)
    events.post(RUN, "Normal", "Said", "a")
    events.post(RUN, "Normal", "Said", "b")
    await events.close(within=0.05)
    assert (events.tally.posted, events.tally.dropped) == (0, 2)


async def test_what_is_on_its_way_when_it_is_stopped_is_posted_by_closing(
    server: ApiServer, client: KubeClient, clock: Clock
) -> None:
    server.fail("POST", "hang")
    events = poster(client, clock)
    events.post(RUN, "Normal", "Said", "a")
    async with running(events):
        await until(lambda: server.requests)
    await events.close()
    assert [event["message"] for event in stored(server)] == ["a"]
