# SPDX-License-Identifier: Apache-2.0
"""What is refused: each hostile delivery has its status and its sentence, makes no run, and leaves no secret in the log."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.unit.gateway.world import NAMESPACE, SECRET, Delivery, Reply, World, event, gateway, signature, signed, slack

from kubesaga.cel.pool import CelPool

CAP = 256 * 1024
PATH = f"/events/{NAMESPACE}"
REF = {"secretRef": {"name": "tickets", "key": "token"}}
JSON = ("Content-Type", "application/json")
STRUCTURED = ("Content-Type", "application/cloudevents+json")
BINARY = [("ce-specversion", "1.0"), ("ce-id", "e-1"), ("ce-source", "/desk"), ("ce-type", "ticket:created")]
Build = Callable[[World], Delivery | bytes]


@pytest.fixture
async def world(evaluator: CelPool) -> AsyncIterator[World]:
    """A gateway with a source of each kind, and a Workflow that waits for everything."""
    async with gateway(evaluator, body=CAP, timeout=0.5) as world:
        await world.secret()
        await world.secret("too-short", "weak")
        await world.source()
        await world.source("timed", auth={"hmac": {**REF, "timestampHeader": "X-Time"}})
        await world.source("hub", auth={"hmac": {**REF, "prefix": "sha256="}})
        await world.source("bearer", auth={"bearer": REF})
        await world.source("open", auth={"none": {}})
        await world.source("small", maxBodyBytes=100)
        await world.source("slack", type="Slack")
        await world.source("thena", type="Thena", auth={"none": {}})
        await world.source("lost", auth={"hmac": {"secretRef": {"name": "gone", "key": "token"}}})
        await world.source("keyless", auth={"hmac": {"secretRef": {"name": "tickets", "key": "other"}}})
        await world.source("weak", auth={"bearer": {"secretRef": {"name": "weak", "key": "token"}}})
        mapping = {"type": "body.type", "id": "body.id", "time": "body.time"}
        await world.source("hook", type="Webhook", auth={"none": {}}, mapping=mapping)
        await world.source("slow-hook", type="Webhook", auth={"none": {}}, mapping={**mapping, "data": BOMB})
        await world.source("typed", auth={"none": {}}, eventTypes=TYPES)
        await world.workflow("everything", "*")
        yield world


TYPES = [
    {"type": "ticket:*"},
    {"type": "ticket:created", "schema": {"type": "object", "required": ["ticketId"], "properties": {"ticketId": {"pattern": "^T-"}}}},
    {"type": "broken", "schema": {"type": "text"}},
    {"type": "endless", "schema": {"allOf": [{"$ref": "#"}]}},
]  # fmt: skip


BOMB = "[0,1,2,3,4,5,6,7,8,9].map(a, [0,1,2,3,4,5,6,7,8,9].map(b, [0,1,2,3,4,5,6,7,8,9].map(c, [0,1,2,3,4,5,6,7,8,9].map(d, [0,1,2,3,4,5,6,7,8,9].map(e, [0,1,2,3,4,5,6,7,8,9].map(f, a))))))"


def changed(name: str, value: str | None, *, of: Any = None) -> Build:
    """Build the good delivery with a header changed, or left out."""

    def build(_: World) -> Delivery:
        good = signed(event() if of is None else of)
        good.headers = [pair for pair in good.headers if pair[0].lower() != name.lower()]
        good.headers += [(name, value)] if value is not None else []
        return good

    return build


def to(source: str, body: bytes, *headers: tuple[str, str], **more: Any) -> Build:
    return lambda _: Delivery(path=f"{PATH}/{source}", body=body, headers=list(headers), **more)


def timed(difference: int) -> Build:
    def build(world: World) -> Delivery:
        body, time = json.dumps(event()).encode(), str(world.now() + difference)
        headers = [STRUCTURED, ("X-Time", time), ("X-Kubesaga-Signature", signature(f"{time}.".encode() + body))]
        return Delivery(path=f"{PATH}/timed", body=body, headers=headers)

    return build


def good(change: Callable[[Delivery], Any]) -> Build:
    def build(_: World) -> Delivery:
        delivery = signed(event())
        change(delivery)
        return delivery

    return build


def head(*lines: str) -> Build:
    return lambda _: "\r\n".join([f"POST {PATH}/tickets HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def open_(value: Any) -> Build:
    return to("open", value if isinstance(value, bytes) else json.dumps(value).encode(), STRUCTURED)


def binary(*changes: tuple[str, str], body: bytes = b"{}", kind: str | None = "application/json") -> Build:
    names = {name for name, _ in changes}
    headers = [pair for pair in BINARY if pair[0] not in names] + [pair for pair in changes if pair[1] != "-"]
    return to("open", body, *([("Content-Type", kind)] if kind else []), *headers)


def endless() -> Iterator[bytes]:
    while True:
        yield 16 * 1024 * b"a"


UNPROVEN = "there is no such event source, or the delivery does not prove"
DEEP = 5000 * b"[" + 5000 * b"]"
MESSAGE = {"type": "event_callback", "event_id": "Ev1", "event": {"type": "message"}}
ROWS: dict[str, tuple[Build, int, str]] = {
    # who sends
    "no signature": (changed("X-Kubesaga-Signature", None), 401, UNPROVEN),
    "an empty signature": (changed("X-Kubesaga-Signature", ""), 401, UNPROVEN),
    "a wrong signature": (changed("X-Kubesaga-Signature", 64 * "0"), 401, UNPROVEN),
    "a signature cut short": (changed("X-Kubesaga-Signature", signature(json.dumps(event()).encode())[:62]), 401, UNPROVEN),
    "a signature with something behind it": (changed("X-Kubesaga-Signature", signature(json.dumps(event()).encode()) + "00"), 401, UNPROVEN),
    "a signature that is not hexadecimal": (changed("X-Kubesaga-Signature", "é" * 64), 401, UNPROVEN),
    "the signature of another body": (good(lambda d: setattr(d, "body", json.dumps(event(id="e-2")).encode())), 401, UNPROVEN),
    "two signatures": (good(lambda d: d.headers.append(d.headers[1])), 401, UNPROVEN),
    "a signature under another secret": (changed("X-Kubesaga-Signature", signature(json.dumps(event()).encode(), 20 * "x")), 401, UNPROVEN),
    "a signature without the time that is asked for": (good(lambda d: setattr(d, "path", f"{PATH}/timed")), 401, UNPROVEN),
    "a signature without its prefix": (good(lambda d: setattr(d, "path", f"{PATH}/hub")), 401, UNPROVEN),
    "a signature behind another prefix": (lambda w: _prefixed(w, "sha1="), 401, UNPROVEN),
    "a signed time of long ago": (timed(-301), 401, "too far from now"),
    "a signed time of the future": (timed(301), 401, "too far from now"),
    "a time that was not signed": (lambda w: _retimed(w), 401, UNPROVEN),
    "a token for a signature": (good(lambda d: d.headers.__setitem__(1, ("Authorization", f"Bearer {SECRET}"))), 401, UNPROVEN),
    "no token": (to("bearer", b"{}", STRUCTURED), 401, UNPROVEN),
    "a wrong token": (to("bearer", b"{}", STRUCTURED, ("Authorization", "Bearer wrong")), 401, UNPROVEN),
    "a token under another scheme": (to("bearer", b"{}", STRUCTURED, ("Authorization", f"Basic {SECRET}")), 401, UNPROVEN),
    "the token in the query": (to("bearer", b"{}", STRUCTURED), 401, UNPROVEN),
    "two tokens": (to("bearer", b"{}", STRUCTURED, ("Authorization", f"Bearer {SECRET}"), ("Authorization", "Bearer x")), 400, "header authorization: came more than once"),
    "a source whose Secret is not there": (good(lambda d: setattr(d, "path", f"{PATH}/lost")), 401, UNPROVEN),
    "a source whose Secret lacks the key": (good(lambda d: setattr(d, "path", f"{PATH}/keyless")), 401, UNPROVEN),
    "a source whose secret can be guessed": (to("weak", b"{}", STRUCTURED, ("Authorization", "Bearer too-short")), 401, UNPROVEN),
    "an unknown source": (good(lambda d: setattr(d, "path", f"{PATH}/nowhere")), 401, UNPROVEN),
    "an unknown namespace": (good(lambda d: setattr(d, "path", "/events/nowhere/tickets")), 401, UNPROVEN),
    "Slack's signature of yesterday": (lambda w: slack(MESSAGE, w.now() - 86400), 401, "too far from now"),
    "Slack's signature under another secret": (lambda w: slack(MESSAGE, w.now(), secret=20 * "x"), 401, UNPROVEN),
    "a challenge that Slack has not signed": (to("slack", b'{"type":"url_verification","challenge":"x"}', JSON), 401, UNPROVEN),
    # where to
    "a path with something behind it": (good(lambda d: setattr(d, "path", f"{PATH}/tickets/x")), 404, "/events/NAMESPACE/SOURCE"),
    "a slash at the end": (good(lambda d: setattr(d, "path", f"{PATH}/tickets/")), 404, "/events/NAMESPACE/SOURCE"),
    "a path that climbs": (good(lambda d: setattr(d, "path", f"{PATH}/../tickets")), 404, "/events/NAMESPACE/SOURCE"),
    "a path in percents": (good(lambda d: setattr(d, "path", f"{PATH}/tick%65ts")), 404, "/events/NAMESPACE/SOURCE"),
    "a path in capitals": (good(lambda d: setattr(d, "path", f"{PATH}/Tickets")), 404, "/events/NAMESPACE/SOURCE"),
    "the address of a proxy's target": (good(lambda d: setattr(d, "path", f"http://x{PATH}/tickets")), 404, "/events/NAMESPACE/SOURCE"),
    "a GET": (good(lambda d: setattr(d, "method", "GET")), 405, "POST"),
    "a PUT": (good(lambda d: setattr(d, "method", "PUT")), 405, "POST"),
    "the metrics": (lambda _: Delivery(path="/metrics", method="GET"), 404, "/events/NAMESPACE/SOURCE"),
    # how much
    "a length over the cap": (to("tickets", b"", STRUCTURED, length=CAP + 1), 413, "at most 262,144 bytes"),
    "a length of a petabyte": (to("tickets", b"", STRUCTURED, length=10**15), 413, "at most 262,144 bytes"),
    "chunks without end": (to("tickets", b"", STRUCTURED, chunks=endless()), 413, "at most 262,144 bytes"),
    "more than the source takes": (good(lambda d: setattr(d, "path", f"{PATH}/small")), 413, "spec.maxBodyBytes allows 100"),
    "an event over 64 KiB": (open_(event(data="x" * 65536)), 413, "at most 65,536 are allowed"),
    "a batch of a thousand": (to("open", json.dumps(1000 * [event()]).encode(), ("Content-Type", "application/cloudevents-batch+json")), 413, "at most 100 are allowed"),
    "a header of 9,000 characters": (changed("X-Long", 9000 * "a"), 431, "too long"),
    "a path of 9,000 characters": (good(lambda d: setattr(d, "path", f"{PATH}/{9000 * 'a'}")), 431, "too long"),
    "two hundred headers": (good(lambda d: d.headers.extend((f"X-{n}", "a") for n in range(200))), 400, "not as HTTP has it"),
    # how fast
    "half the headers": (lambda _: b"POST /events/a/b HTTP/1.1\r\nHost: x\r\n", 0, ""),
    "nothing at all": (lambda _: b"", 0, ""),
    "half the body": (good(lambda d: setattr(d, "length", len(d.body) + 10)), 408, "did not come within"),
    "half the chunks": (lambda _: to("tickets", b"")(_).head().replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"5\r\nab", 408, "did not come within"),
    # in what form
    "no content type": (changed("Content-Type", None), 415, "header content-type"),
    "a form": (changed("Content-Type", "application/x-www-form-urlencoded"), 415, "send application/cloudevents+json"),
    "binary content under a signature": (good(lambda d: d.headers.__setitem__(0, JSON)), 415, "covers the body alone"),
    "CloudEvents in another format": (changed("Content-Type", "application/cloudevents+avro"), 415, "are taken"),
    "another charset": (changed("Content-Type", "application/cloudevents+json; charset=utf-16"), 415, "utf-8"),
    "two content types": (good(lambda d: d.headers.append(JSON)), 400, "not as HTTP has it"),
    "a compressed body": (changed("Content-Encoding", "gzip"), 415, "compressed"),
    "a webhook as text": (to("hook", b"{}", ("Content-Type", "text/plain")), 415, "application/json"),
    "a webhook as a form": (to("hook", b"payload={}", ("Content-Type", "application/x-www-form-urlencoded")), 415, "application/json"),
    "a Slack command": (lambda w: _slack_form(w), 415, "commands and interactive messages"),
    "a body that is no JSON": (open_(b"{"), 400, "not JSON: line 1"),
    "a body that is nothing": (open_(b""), 400, "not JSON"),
    "a body that is not UTF-8": (open_(b'{"id": "\xff"}'), 400, "not UTF-8"),
    "a body of 5,000 lists in each other": (open_(DEEP), 400, "levels deep"),
    "data of 100 lists in each other": (open_(json.dumps(event()).encode()[:-1] + b',"x":' + 100 * b"[" + 100 * b"]" + b"}"), 400, "64 levels deep"),
    "a key that is there twice": (open_(b'{"id":"1","id":"2"}'), 400, "same key twice"),
    "a number that is none": (open_(b'{"data": NaN}'), 400, "NaN"),
    "a number of 5,000 digits": (open_(b'{"data": ' + 5000 * b"9" + b"}"), 400, "too long"),
    "half a surrogate pair": (open_(b'{"specversion":"1.0","id":"1","source":"a","type":"b","data":"\\ud800"}'), 400, "surrogate"),
    "the character NUL": (open_(b'{"specversion":"1.0","id":"1","source":"a","type":"b","data":"\\u0000"}'), 400, "NUL"),
    # what events are
    "a list for an event": (open_([]), 400, "must be an object"),
    "an event for a batch": (to("open", b"{}", ("Content-Type", "application/cloudevents-batch+json")), 400, "must be a list"),
    "an event without an id": (open_(event(id=...)), 400, "id: is required"),
    "an event without an id, in a batch": (to("open", json.dumps([event(), event(id=...)]).encode(), ("Content-Type", "application/cloudevents-batch+json")), 400, "[1].id: is required"),
    "an empty id": (open_(event(id="")), 400, "id: must not be empty"),
    "an id that is a number": (open_(event(id=1)), 400, "id: must be a string"),
    "an id of 257 characters": (open_(event(id=257 * "a")), 400, "id: is too long"),
    "a line break in a type": (open_(event(type="a\nb")), 400, "type: holds control characters"),
    "another version of CloudEvents": (open_(event(specversion="0.3")), 400, "specversion: must be 1.0"),
    "a time that is none": (open_(event(time="2026-13-01T00:00:00Z")), 400, "time: is not a time"),
    "a name that is no attribute's": (open_(event(Ticket_Id="1")), 400, "Ticket_Id: is not a name of an attribute"),
    "an attribute that is an object": (open_(event(ext={})), 400, "ext: must be a string"),
    "data twice": (open_(event(data_base64="AA==")), 400, "one of the two"),
    "base64 that is none": (open_(event(data=..., data_base64="%")), 400, "data_base64: is not base64"),
    "two events under one id": (to("open", json.dumps([event(), event(data=2)]).encode(), ("Content-Type", "application/cloudevents-batch+json")), 409, "[1].id: is the id of another event"),
    "binary content without attributes": (to("open", b"{}", JSON), 400, "header ce-id: is required"),
    "binary content without a type": (binary(("ce-type", "-")), 400, "header ce-type: is required"),
    "an attribute twice": (binary(("ce-id", "e-2"), ("CE-ID", "e-1")), 400, "header ce-id: came more than once"),
    "an attribute that is not UTF-8": (binary(("ce-id", "%ff")), 400, "header ce-id: holds bytes"),
    "an attribute with a line break in percents": (binary(("ce-id", "a%0Ab")), 400, "header ce-id: holds control"),
    "an attribute called data": (binary(("ce-data", "x")), 400, "header ce-data: is not a name"),
    "a body of no type": (binary(kind=None), 415, "is required where there is a body"),
    "JSON that is none, in binary content": (binary(body=b"{"), 400, "not JSON"),
    # what its type promises
    "data that lacks a field": (to("typed", json.dumps(event()).encode(), STRUCTURED), 422, "data.ticketId: is required (the schema of ticket:created)"),
    "data that no pattern fits": (to("typed", json.dumps(event(data={"ticketId": "1"})).encode(), STRUCTURED), 422, 'data.ticketId: does not match the pattern "^T-"'),
    "no data where there must be": (to("typed", json.dumps(event(data=...)).encode(), STRUCTURED), 422, "data: must be of type object, but is null"),
    "bytes where there must be JSON": (to("typed", json.dumps(event(data=..., data_base64="eA==")).encode(), STRUCTURED), 422, "data: is no JSON"),
    "one of a batch that lacks a field": (to("typed", json.dumps([event(data={"ticketId": "T-1"}), event(id="2")]).encode(), ("Content-Type", "application/cloudevents-batch+json")), 422, "[1].data.ticketId: is required"),
    "a type whose schema is none": (to("typed", json.dumps(event(type="broken")).encode(), STRUCTURED), 422, "spec.eventTypes[2].schema.type: the schema of broken cannot be used"),
    "a type whose schema has no end": (to("typed", json.dumps(event(type="endless")).encode(), STRUCTURED), 422, "refers to itself without end"),
    # webhooks, Slack, Thena
    "a webhook without what is mapped": (to("hook", b'{"type":"a"}', JSON), 422, "spec.mapping.id: has no value"),
    "a webhook whose id is an object": (to("hook", b'{"type":"a","id":{},"time":"x"}', JSON), 422, "spec.mapping.id: must be a string"),
    "a webhook whose id is empty": (to("hook", b'{"type":"a","id":"","time":"2026-01-01T00:00:00Z"}', JSON), 400, "spec.mapping.id: must not be empty"),
    "a webhook whose time is none": (to("hook", b'{"type":"a","id":"1","time":"now"}', JSON), 400, "spec.mapping.time: is not a time"),
    "a webhook that keeps the evaluator busy": (to("slow-hook", b'{"type":"a","id":"1","time":"2026-01-01T00:00:00Z"}', JSON), 422, "spec.mapping.data"),
    "a Slack event without an id": (lambda w: slack({**MESSAGE, "event_id": None}, w.now()), 400, "event_id: must be a string"),
    "a Slack event that is a text": (lambda w: slack({**MESSAGE, "event": "x"}, w.now()), 400, "event: must be an object"),
    "a challenge that is too long": (lambda w: slack({"type": "url_verification", "challenge": 2000 * "x"}, w.now()), 400, "challenge: "),
    "a platform event without an id": (to("thena", b'{"eventType":"a","payload":{}}', JSON), 400, "eventId: must be a string"),
    "a platform event without a payload": (to("thena", b'{"message":{"eventType":"a","eventId":"1"}}', JSON), 400, "message.payload: is required"),
    # HTTP itself
    "a length and chunks": (head("Content-Length: 5", "Transfer-Encoding: chunked"), 400, "not as HTTP has it"),
    "two lengths": (head("Content-Length: 5", "Content-Length: 6"), 400, "HTTP"),
    "a length below zero": (head("Content-Length: -1"), 400, "HTTP"),
    "a length with a sign": (head("Content-Length: +5"), 400, "HTTP"),
    "a transfer coding that is none": (head("Transfer-Encoding: chunky"), 400, ""),
    "a header with a blank before its colon": (head("X-Kubesaga-Signature : a"), 400, "HTTP"),
    "a header that goes on in the next line": (head("X-A: a", " b"), 400, "HTTP"),
    "a chunk of no size": (lambda _: head("Transfer-Encoding: chunked")(_) + b"zz\r\nabc\r\n0\r\n\r\n", 400, ""),
    "an upgrade": (good(lambda d: d.headers.extend([("Connection", "Upgrade"), ("Upgrade", "websocket")])), 400, "header upgrade"),
    "an expectation": (good(lambda d: d.headers.append(("Expect", "the-unexpected"))), 417, "header expect"),
    "no HTTP": (lambda _: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "HTTP"),
}  # fmt: skip


def _retimed(world: World) -> Delivery:
    """A delivery that was captured, with its time made new."""
    delivery = timed(-3600)(world)
    assert isinstance(delivery, Delivery)
    delivery.headers[1] = ("X-Time", str(world.now()))
    return delivery


def _prefixed(world: World, prefix: str) -> Delivery:
    delivery = signed(event(), path=f"{PATH}/hub")
    delivery.headers[1] = (delivery.headers[1][0], prefix + delivery.headers[1][1])
    return delivery


def _slack_form(world: World) -> Delivery:
    body = b"token=x&command=%2Fdeploy"
    headers = [
        ("Content-Type", "application/x-www-form-urlencoded"), ("X-Slack-Request-Timestamp", str(world.now())),
        ("X-Slack-Signature", "v0=" + signature(b"v0:%d:%s" % (world.now(), body))),
    ]  # fmt: skip
    return Delivery(path=f"{PATH}/slack", body=body, headers=headers)


async def given(world: World, build: Build) -> Reply:
    sent = build(world)
    return await (world.raw(sent) if isinstance(sent, bytes) else world.send(sent))


@pytest.mark.parametrize(("build", "status", "told"), [pytest.param(*row, id=says) for says, row in ROWS.items()])
async def test_refused_is(world: World, caplog: pytest.LogCaptureFixture, build: Build, status: int, told: str) -> None:
    caplog.set_level(logging.DEBUG)
    reply = await given(world, build)
    assert reply.status == status, reply.body
    if status:
        assert told in reply.json["error"]
        assert reply.headers["content-type"] == "application/json"
    assert world.runs() == []
    assert not [line for line in caplog.messages if SECRET in line or signature(json.dumps(event()).encode()) in line]
    # And it goes on: the same gateway takes what is good.
    assert (await world.send(signed(event()))).status == 202


def test_the_table_is_long_enough() -> None:
    assert len(ROWS) >= 40


async def test_a_stranger_cannot_tell_a_source_from_none(world: World) -> None:
    """Whatever is sent without a proof, the answer is the same for a name that there is and one that there is not."""
    for headers, body in [
        ([], b""), ([JSON], b"{}"), ([STRUCTURED], DEEP), ([("Content-Type", "text/plain")], 200 * b"x"),
        ([STRUCTURED, ("X-Kubesaga-Signature", "00"), ("Authorization", "Bearer x")], 300_000 * b"x"),
    ]:  # fmt: skip
        replies = [await world.send(Delivery(path=f"{PATH}/{name}", headers=headers, body=body)) for name in ("small", "bearer", "slack", "lost", "none-such")]  # fmt: skip
        assert len({(reply.status, reply.body, *sorted(reply.headers.items() - {("date", reply.headers.get("date"))})) for reply in replies}) == 1  # fmt: skip


async def test_a_signature_that_is_played_back_in_time_makes_no_second_run(world: World) -> None:
    delivery = timed(0)(world)
    assert isinstance(delivery, Delivery)
    assert (await world.send(delivery)).runs[0]["created"] is True
    world.clock.advance(200)
    assert (await world.send(delivery)).runs[0]["created"] is False
    world.clock.advance(200)
    assert (await world.send(delivery)).status == 401
    assert len(world.runs()) == 1


async def test_other_data_under_an_id_that_is_known_is_refused_and_changes_nothing(world: World) -> None:
    assert (await world.send(signed(event()))).status == 202
    [run] = world.runs()
    for other in (event(data={"id": "T-2"}), event(type="ticket:deleted"), event(data=...)):
        reply = await world.send(signed(other))
        assert (reply.status, "an id is for one event" in reply.json["error"]) == (409, True)
    assert world.runs() == [run]


async def test_a_batch_with_one_bad_event_makes_no_run_of_the_good_ones(world: World) -> None:
    batch = signed([event(id="a"), event(id="b"), event(id="c", specversion="2.0")])
    batch.headers[0] = ("Content-Type", "application/cloudevents-batch+json")
    reply = await world.send(batch)
    assert (reply.status, reply.json["path"], world.runs()) == (400, "[2].specversion", [])


async def test_thousands_of_refused_deliveries_leave_no_trace_in_memory(world: World) -> None:
    wrong = [changed("X-Kubesaga-Signature", 64 * "0")(world), to("tickets", 50_000 * b"x", STRUCTURED)(world)]
    unknown = iter(range(1_000_000))

    async def flood(count: int) -> None:
        for _ in range(count):
            strange = Delivery(path=f"{PATH}/s-{next(unknown)}", body=10_000 * b"y")
            await asyncio.gather(*(world.send(each) for each in (*wrong, strange) if isinstance(each, Delivery)))

    tracemalloc.start()
    try:
        await flood(300)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        await flood(700)
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 2,100 deliveries of 20 KB each on average are 42 MB; to remember a name of each would be over 100 KB.
    assert after - before < 60_000
    assert peak - before < 5_000_000
    assert (world.server.buffered, world.runs()) == (0, [])


async def test_bodies_together_are_bounded(evaluator: CelPool) -> None:
    async with gateway(evaluator, body=100_000, buffered=150_000, timeout=20.0) as world:
        half = Delivery(path=f"{PATH}/x", body=90_000 * b"x", length=95_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(half.head() + half.body)
        while world.server.buffered < 90_000:
            await asyncio.sleep(0.001)
        reply = await world.send(Delivery(path=f"{PATH}/x", body=90_000 * b"x"))
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        writer.close()
        while world.server.buffered:
            await asyncio.sleep(0.001)
        assert (await world.send(Delivery(path=f"{PATH}/x", body=90_000 * b"x"))).status == 401
        del reader


async def test_connections_beyond_the_bound_are_closed(evaluator: CelPool) -> None:
    async with gateway(evaluator, connections=3, timeout=20.0) as world:
        opened = [await asyncio.open_connection("127.0.0.1", world.port) for _ in range(3)]
        while world.server.connections < 3:
            await asyncio.sleep(0.001)
        assert (await world.send(Delivery(path="/x"))).status == 0
        opened[0][1].close()
        while world.server.connections >= 3:
            await asyncio.sleep(0.001)
        assert (await world.send(Delivery(path="/x"))).status == 404
        for _, writer in opened:
            writer.close()


async def test_an_answer_does_not_tell_what_it_is_made_with(world: World) -> None:
    for reply in [
        await world.send(signed(event())),
        await world.raw(b"nonsense\r\n\r\n"),
        await given(world, ROWS["a GET"][0]),
    ]:
        assert (reply.headers["server"], reply.headers["cache-control"]) == ("kubesaga", "no-store")


async def test_the_same_trouble_is_logged_once_a_minute(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        await given(world, good(lambda d: setattr(d, "path", f"{PATH}/lost")))
    lines = [line for line in caplog.messages if "gone" in line]
    assert lines == ["deliveries for support/lost cannot be proven: the Secret support/gone does not exist"]


@pytest.mark.parametrize(("spec", "told"), [
    pytest.param({"type": "Webhook", "auth": {"none": {}}}, "takes nothing: spec.mapping: is required for Webhook", id="wrong"),
    pytest.param(
        {"type": "Kubernetes", "kubernetes": {"apiVersion": "v1", "kind": "ConfigMap"}}, "is not there or not valid",
        id="one of objects, which nobody sends",
    ),
])  # fmt: skip
async def test_an_event_source_takes_nothing_and_it_is_told_that_is(
    world: World, caplog: pytest.LogCaptureFixture, spec: dict[str, Any], told: str
) -> None:
    await world._put("workfloweventsources", "WorkflowEventSource", "tickets", spec)
    while world.sources.find(NAMESPACE, "tickets"):
        await asyncio.sleep(0.001)
    assert (await world.send(signed(event()))).status == 401
    assert any(told in line for line in caplog.messages)
