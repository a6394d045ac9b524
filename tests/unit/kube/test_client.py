# SPDX-License-Identifier: Apache-2.0
"""The verbs: what goes over the wire, what comes back, and what each failure is called."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.kube.conftest import Clock, Source
from tests.unit.kube.server import ApiServer, until

from kubesaga.kube import errors
from kubesaga.kube.client import EventType, KubeClient, Propagation, Selection
from kubesaga.kube.credentials import REFRESH_INTERVAL, Credentials
from kubesaga.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, LEASES, NAMESPACES, PODS, WORKFLOW_RUNS
from kubesaga.kube.transport import Lines, Timeouts


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "support", **metadata}, "status": {"phase": "Pending"}}


# Paths


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(PODS.path("support", "a"), "/api/v1/namespaces/support/pods/a", id="a core object"),
        pytest.param(PODS.path(None), "/api/v1/pods", id="a kind in all namespaces"),
        pytest.param(
            WORKFLOW_RUNS.path("support", "a", "status"),
            "/apis/kubesaga.dev/v1alpha1/namespaces/support/workflowruns/a/status",
            id="a subresource of our own kind",
        ),
        pytest.param(
            NAMESPACES.path(None, "support"), "/api/v1/namespaces/support", id="an object without a namespace"
        ),
        pytest.param(
            CUSTOM_RESOURCE_DEFINITIONS.path("ignored", "a"),
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/a",
            id="a kind without namespaces has none in its path",
        ),
        pytest.param(
            PODS.path("support", "a/../b?c"), "/api/v1/namespaces/support/pods/a%2F..%2Fb%3Fc", id="no way out"
        ),
    ],
)
def test_paths(path: str, expected: str) -> None:
    assert path == expected


@pytest.mark.parametrize(
    ("namespace", "name"),
    [
        pytest.param("support", "", id="an empty name would delete the collection"),
        pytest.param("support", "..", id="two dots would name the parent"),
        pytest.param("", "a", id="an empty namespace"),
        pytest.param(None, "a", id="no namespace for a namespaced object"),
    ],
)
def test_names_that_would_reach_more_than_meant_are_refused(namespace: str | None, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        PODS.path(namespace, name)


# Requests


async def test_every_request_says_who_we_are_and_asks_for_json(server: ApiServer, client: KubeClient) -> None:
    await client.list(PODS)
    headers = server.requests[0].headers
    assert headers["User-Agent"] == "kubesaga/test"
    assert headers["Authorization"] == "Bearer sesame-4711"
    assert headers["Accept"] == "application/json"
    assert "Accept-Encoding" not in headers


async def test_writes_name_their_field_manager(server: ApiServer, client: KubeClient) -> None:
    await client.create(PODS, "support", pod("a"))
    await client.merge_patch(PODS, "support", "a", {"status": {"phase": "Running"}}, subresource="status")
    assert [request.query for request in server.requests] == [{"fieldManager": "kubesaga"}] * 2
    assert [request.headers["Content-Type"] for request in server.requests] == [
        "application/json",
        "application/merge-patch+json",
    ]
    assert server.requests[1].path.endswith("/pods/a/status")


async def test_text_is_sent_byte_by_byte(server: ApiServer, client: KubeClient) -> None:
    await client.create(PODS, "support", b'{"metadata":{"name":"a"},  "data": "\\u003c"}')
    assert server.requests[0].body == b'{"metadata":{"name":"a"},  "data": "\\u003c"}'


async def test_a_json_patch_is_sent_as_one(server: ApiServer, client: KubeClient) -> None:
    server.fail("PATCH", (200, {"metadata": {}}))
    await client.json_patch(PODS, "support", "a", [{"op": "remove", "path": "/metadata/finalizers/0"}])
    assert server.requests[0].headers["Content-Type"] == "application/json-patch+json"
    assert server.requests[0].json == [{"op": "remove", "path": "/metadata/finalizers/0"}]


async def test_a_deletion_states_its_preconditions(server: ApiServer, client: KubeClient) -> None:
    uid = (await server.put("pods", pod("a")))["metadata"]["uid"]
    with pytest.raises(errors.Conflict):
        await client.delete(PODS, "support", "a", uid="another")
    await client.delete(PODS, "support", "a", grace=0, uid=uid, propagation=Propagation.BACKGROUND)
    assert server.requests[-1].json == {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Background",
        "preconditions": {"uid": uid},
    }


async def test_a_list_is_fetched_in_pages_that_say_where_they_begin_only_once(
    server: ApiServer, client: KubeClient
) -> None:
    for number in range(5):
        await server.put("pods", pod(f"p{number}", labels={"app": "a"}))
    listing = await client.list(
        PODS, Selection(namespace="support", labels="app=a"), limit=2, resource_version="0", metadata_only=True
    )
    assert [item["metadata"]["name"] for item in listing.items] == ["p0", "p1", "p2", "p3", "p4"]
    assert listing.resource_version == "105"
    first, *others = [request.query for request in server.requests]
    assert first == {
        "labelSelector": "app=a", "limit": "2", "resourceVersion": "0", "resourceVersionMatch": "NotOlderThan",
    }  # fmt: skip
    assert others == [{"labelSelector": "app=a", "limit": "2", "continue": token} for token in ("2", "4")]
    assert server.requests[0].headers["Accept"].startswith("application/json;as=PartialObjectMetadataList;")


async def test_every_request_is_observed(server: ApiServer, connect: Any) -> None:
    seen: list[tuple[str, str, int]] = []
    client = connect(server.url, seen=seen)
    await client.create(PODS, "support", pod("a"))
    with pytest.raises(errors.NotFound):
        await client.get(LEASES, "support", "b")
    server.fail("DELETE", (503, b"no"))
    with pytest.raises(errors.ServerUnavailable):
        await client.delete(PODS, "support", "a")
    server.fail("POST", "refuse")
    with pytest.raises(errors.ServerUnavailable):
        await client.create(PODS, "support", pod("b"))
    assert seen == [("create", "pods", 201), ("get", "leases", 404), ("delete", "pods", 503), ("create", "pods", 0)]


# Failures


def status(code: int, reason: str, **more: Any) -> tuple[int, Any]:
    return code, {"kind": "Status", "code": code, "reason": reason, "message": "in words", **more}


@pytest.mark.parametrize(
    ("answer", "expected", "attributes"),
    [
        pytest.param(status(400, "BadRequest"), errors.ApiError, {"reason": "BadRequest"}, id="any other refusal"),
        pytest.param(status(403, "Forbidden"), errors.Forbidden, {"status": 403}, id="forbidden"),
        pytest.param(status(404, "NotFound"), errors.NotFound, {"message": "in words"}, id="not found"),
        pytest.param(status(409, "Conflict"), errors.Conflict, {}, id="an old version"),
        pytest.param(status(409, "AlreadyExists"), errors.AlreadyExists, {}, id="a name that is taken"),
        pytest.param(status(410, "Expired"), errors.Gone, {}, id="expired"),
        pytest.param(status(410, "Gone"), errors.Gone, {}, id="gone"),
        pytest.param(status(422, "Invalid"), errors.Invalid, {}, id="invalid"),
        pytest.param(
            (429, b"slow down", {"Retry-After": "7"}),
            errors.TooManyRequests,
            {"retry_after": 7.0, "message": "slow down"},
            id="too many requests, with the time to wait",
        ),
        pytest.param(
            status(429, "TooManyRequests", details={"retryAfterSeconds": 3}),
            errors.TooManyRequests,
            {"retry_after": 3.0},
            id="the time to wait in the body",
        ),
        pytest.param(status(500, "InternalError"), errors.ServerUnavailable, {"sent": True}, id="a server error"),
        pytest.param((502, b"<html>bad gateway"), errors.ServerUnavailable, {"status": 502}, id="a load balancer's error"),
        pytest.param((302, b"", {"Location": "http://evil/"}), errors.ApiError, {"status": 302}, id="no redirect is followed"),
        pytest.param((200, b"<html>login"), errors.ServerUnavailable, {"reason": "InvalidAnswer"}, id="not JSON"),
        pytest.param("refuse", errors.ServerUnavailable, {"status": 0, "reason": "ConnectionLost", "sent": True}, id="cut"),
    ],
)  # fmt: skip
async def test_failures_have_types(
    server: ApiServer, client: KubeClient, answer: Any, expected: type[errors.ApiError], attributes: dict[str, Any]
) -> None:
    server.fail("PATCH", answer)
    with pytest.raises(errors.ApiError) as caught:
        await client.merge_patch(PODS, "support", "a", {})
    assert type(caught.value) is expected
    assert {name: getattr(caught.value, name) for name in attributes} == attributes
    assert str(caught.value).startswith("patch pods support/a: ")
    assert len(server.requests) == 1, "a write is never repeated"


async def test_a_server_that_is_not_there_was_certainly_not_reached(connect: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = connect(f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(errors.ServerUnavailable) as caught:
            await client.create(PODS, "support", pod("a"))
    assert (caught.value.reason, caught.value.sent) == ("ConnectionFailed", False)


async def test_an_answer_that_does_not_come_in_time_leaves_the_outcome_unknown(server: ApiServer, connect: Any) -> None:
    client = connect(server.url, timeouts=Timeouts(connect=5, request=0.05))
    server.fail("POST", "hang")
    with pytest.raises(errors.ServerUnavailable) as caught:
        await client.create(PODS, "support", pod("a"))
    assert (caught.value.reason, caught.value.sent, len(server.requests)) == ("Timeout", True, 1)


async def test_a_lost_answer_is_not_hidden_although_the_deed_is_done(server: ApiServer, client: KubeClient) -> None:
    server.fail("POST", "lose")
    with pytest.raises(errors.ServerUnavailable) as caught:
        await client.create(PODS, "support", pod("a"))
    assert caught.value.sent
    assert (await client.get(PODS, "support", "a"))["metadata"]["name"] == "a"


async def test_a_read_is_repeated_once_if_its_connection_breaks(server: ApiServer, client: KubeClient) -> None:
    await server.put("pods", pod("a"))
    server.fail("GET", "refuse")
    assert (await client.get(PODS, "support", "a"))["metadata"]["name"] == "a"
    server.fail("GET", "refuse", "refuse")
    with pytest.raises(errors.ServerUnavailable):
        await client.get(PODS, "support", "a")
    assert len(server.requests) == 4


async def test_a_refused_read_is_not_repeated(server: ApiServer, client: KubeClient) -> None:
    server.fail("GET", (503, b"down"))
    with pytest.raises(errors.ServerUnavailable):
        await client.get(PODS, "support", "a")
    assert len(server.requests) == 1


async def test_causes_can_be_asked_for(server: ApiServer, client: KubeClient) -> None:
    server.fail("POST", status(403, "Forbidden", details={"causes": [{"reason": "NamespaceTerminating"}]}))
    with pytest.raises(errors.Forbidden) as caught:
        await client.create(PODS, "support", pod("a"))
    assert caught.value.has_cause("NamespaceTerminating")
    assert not caught.value.has_cause("Quota")


@pytest.mark.parametrize("fault", ["refuse", (200, b"\x00"), (401, b"who?"), (500, b"oops")])
async def test_no_error_shows_the_token(server: ApiServer, client: KubeClient, fault: Any) -> None:
    server.fail("POST", fault)
    with pytest.raises(errors.ApiError) as caught:
        await client.create(PODS, "support", pod("a"))
    assert "sesame" not in repr(caught.value) + str(caught.value) + repr(caught.value.__cause__)
    assert "sesame" not in repr(client.credentials)


# Credentials that change


async def test_a_rotated_token_is_read_at_once_when_the_old_one_is_refused(server: ApiServer, connect: Any) -> None:
    source = Source(Credentials(server=server.url, scheme="Bearer", token="new"))
    client = connect(server.url, token="old", source=source)
    server.token = "new"
    await client.create(PODS, "support", pod("a"))
    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer old", "Bearer new"]
    await client.get(PODS, "support", "a")
    assert (source.loads, len(server.requests)) == (1, 3)


async def test_a_watch_reads_a_rotated_token_too(server: ApiServer, connect: Any) -> None:
    source = Source(Credentials(server=server.url, scheme="Bearer", token="new"))
    client = connect(server.url, token="old", source=source)
    server.token = "new"
    async with aclosing(client.watch(PODS, resource_version="100")) as events:
        waiting = asyncio.ensure_future(anext(events))
        await server.put("pods", pod("a"))
        assert (await waiting)[0] == EventType.ADDED


async def test_a_token_is_looked_at_again_each_minute_at_most(server: ApiServer, connect: Any, clock: Clock) -> None:
    source = Source(Credentials(server=server.url, scheme="Bearer", token="second"))
    client = connect(server.url, token="first", source=source)
    for step in (0, 59, 1, 59):
        clock.advance(step)
        await client.list(PODS)
    used = [request.headers["Authorization"].removeprefix("Bearer ") for request in server.requests]
    assert (used, source.refreshes) == (["first", "first", "second", "second"], 1)


async def test_a_wrong_token_is_not_read_again_for_every_request(server: ApiServer, connect: Any, clock: Clock) -> None:
    source = Source(Credentials(server=server.url, scheme="Bearer", token="wrong"))
    client = connect(server.url, token="wrong", source=source)
    server.token = "right"
    for _ in range(5):
        with pytest.raises(errors.Unauthorized):
            await client.get(PODS, "support", "a")
    assert source.loads == 1
    clock.advance(5)
    with pytest.raises(errors.Unauthorized):
        await client.get(PODS, "support", "a")
    assert source.loads == 2


# Fencing


async def test_a_fenced_client_does_not_write_when_the_right_to_write_is_uncertain(
    server: ApiServer, client: KubeClient
) -> None:
    certain = [5.0]
    fenced = client.fenced(lambda: certain[0])
    await fenced.create(PODS, "support", pod("a"))
    certain[0] = 0.0
    for write in (
        fenced.create(PODS, "support", pod("b")),
        fenced.merge_patch(PODS, "support", "a", {}),
        fenced.json_patch(PODS, "support", "a", []),
        fenced.delete(PODS, "support", "a"),
    ):
        with pytest.raises(errors.Fenced) as caught:
            await write
        assert caught.value.sent is False
    assert len(server.requests) == 1
    assert (await fenced.get(PODS, "support", "a"))["metadata"]["name"] == "a", "reading is always allowed"


async def test_a_fenced_write_is_given_up_when_the_right_ends(server: ApiServer, client: KubeClient) -> None:
    server.fail("POST", "hang")
    with pytest.raises(errors.ServerUnavailable) as caught:
        await client.fenced(lambda: 0.05).create(PODS, "support", pod("a"))
    assert (caught.value.reason, caught.value.sent) == ("Timeout", True)


@pytest.mark.parametrize(
    "refused", [pytest.param(False, id="before the first try"), pytest.param(True, id="after a 401")]
)
async def test_a_fenced_write_is_not_sent_when_credentials_took_longer_than_the_right(
    server: ApiServer, connect: Any, clock: Clock, refused: bool
) -> None:
    """A plugin that hangs: meanwhile another may have taken over."""
    answers = asyncio.Event()

    class Slow(Source):
        async def load(self) -> Credentials:
            await answers.wait()
            return replace(self.credentials, token="right")

        refresh = load

    client = connect(server.url, token="wrong", source=Slow(Credentials(server=server.url, scheme="Bearer")))
    server.token = "right"
    clock.advance(0 if refused else REFRESH_INTERVAL)
    write = asyncio.create_task(client.fenced(lambda: 0.2).create(PODS, "support", pod("a")))
    with pytest.raises(errors.ServerUnavailable) as caught:
        await asyncio.wait_for(asyncio.shield(write), 5)
    assert caught.value.reason == "Timeout"
    answers.set()
    await asyncio.gather(write, return_exceptions=True)
    assert ("pods", "support", "a") not in server.objects
    assert len(server.requests) == (1 if refused else 0)


async def test_the_answer_to_a_fenced_write_is_not_believed_once_the_right_has_ended(
    server: ApiServer, client: KubeClient
) -> None:
    """As after a freeze: the answer was there in time, and nobody to read it."""
    certain = [5.0, 0.0]
    with pytest.raises(errors.ServerUnavailable) as caught:
        await client.fenced(lambda: certain.pop(0)).create(PODS, "support", pod("a"))
    assert (caught.value.reason, caught.value.sent) == ("Late", True)
    assert ("pods", "support", "a") in server.objects


# Watching


async def test_a_watch_tells_what_happens_and_ends_with_the_server(server: ApiServer, client: KubeClient) -> None:
    await server.put("pods", pod("a"))
    await server.put("pods", pod("a"))
    await server.remove("pods", "support", "a")
    await server.say("BOOKMARK", "pods", {"metadata": {"resourceVersion": "500"}})
    seen = []
    async with aclosing(client.watch(PODS, Selection(namespace="support"), resource_version="100")) as events:
        async for type_, obj in events:
            seen.append((type_, obj["metadata"]["resourceVersion"]))
            if type_ == EventType.BOOKMARK:
                await server.end_watches()
    assert seen == [("ADDED", "101"), ("MODIFIED", "102"), ("DELETED", "103"), ("BOOKMARK", "500")]
    query = server.requests[0].query
    assert (query["watch"], query["allowWatchBookmarks"], query["timeoutSeconds"]) == ("1", "true", "300")


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param([b"a\nb\n"], [b"a", b"b"], id="whole lines"),
        pytest.param([b"a\nb", b"c", b"d\ne\n"], [b"a", b"bcd", b"e"], id="a line over several chunks"),
        pytest.param([b"a", b"\n", b"\n\n", b"b\n"], [b"a", b"b"], id="empty lines are left out"),
        pytest.param([b"a\nhalf"], [b"a"], id="half a line at the end is no event"),
    ],
)
def test_a_stream_is_cut_into_lines(chunks: list[bytes], expected: list[bytes]) -> None:
    lines = Lines()
    assert [line for chunk in chunks for line in lines.feed(chunk)] == expected


async def test_an_object_larger_than_a_buffer_arrives_whole(server: ApiServer, client: KubeClient) -> None:
    big = "x" * 1_500_000
    await server.put("pods", pod("a", annotations={"big": big}))
    async with aclosing(client.watch(PODS, resource_version="100")) as events:
        _, obj = await anext(events)
    assert obj["metadata"]["annotations"]["big"] == big


async def test_an_error_inside_the_stream_is_raised(server: ApiServer, client: KubeClient) -> None:
    await server.say(
        "ERROR", "pods", {"kind": "Status", "code": 410, "reason": "Expired", "metadata": {"resourceVersion": "200"}}
    )
    with pytest.raises(errors.Gone):
        async for _ in client.watch(PODS, resource_version="100"):
            pass


async def test_a_watch_from_too_long_ago_is_gone(server: ApiServer, client: KubeClient) -> None:
    server.compact()
    with pytest.raises(errors.Gone):
        async for _ in client.watch(PODS, resource_version="99"):
            pass


async def test_a_silent_stream_is_given_up(server: ApiServer, client: KubeClient) -> None:
    with pytest.raises(errors.ServerUnavailable) as caught:
        async for _ in client.watch(PODS, resource_version="100", silence=0.05):
            pass
    assert caught.value.reason == "Silent"


async def test_a_watch_that_is_left_closes_its_connection(server: ApiServer, client: KubeClient) -> None:
    await server.put("pods", pod("a"))
    async with aclosing(client.watch(PODS, resource_version="100")) as events:
        await anext(events)
        assert server.watching == 1
    await until(lambda: server.watching == 0)
