# SPDX-License-Identifier: Apache-2.0
"""What an answer means, and that none of it is read without end."""

from __future__ import annotations

import asyncio
import gc
import gzip
import tracemalloc
import zlib

import pytest
from aiohttp import web
from tests.unit.executors.http_world import LIMIT, World, serving

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Succeeded
from kubesaga.executors.http_messages import BodyReader, BrokenBody, retry_after


@pytest.fixture
async def site():
    async with serving() as made:
        yield made


@pytest.fixture
async def world(site):
    made = World(f"127.0.0.1:{site.port}")
    yield made
    await made.executor.close()


JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "content_type", "output"),
    [
        pytest.param('{"id": 1}', JSON, {"id": 1}, id="an object is the output"),
        pytest.param('{"id": 1}', "text/plain", {"id": 1}, id="an object of another type is too"),
        pytest.param("[1, 2]", JSON, {"body": [1, 2]}, id="another JSON value is wrapped"),
        pytest.param('"x"', "application/problem+json", {"body": "x"}, id="a kind of JSON"),
        pytest.param("null", JSON, {"body": None}, id="null"),
        pytest.param("1.10", "text/plain", {"body": "1.10"}, id="text that looks like a number stays text"),
        pytest.param("[1]", "text/plain", {"body": "[1]"}, id="text that looks like an array stays text"),
        pytest.param("<html>", "text/html", {"body": "<html>"}, id="text"),
        pytest.param("{broken", JSON, {"body": "{broken"}, id="JSON that is broken is text"),
        pytest.param('{"a": NaN}', JSON, {"body": '{"a": NaN}'}, id="NaN is no JSON"),
        pytest.param('{"a": 1e999}', JSON, {"body": '{"a": 1e999}'}, id="a number beyond all"),
        pytest.param(
            '{"a": 18446744073709551615}', JSON, {"a": 18446744073709551615.0}, id="an integer beyond 64 bits"
        ),
        pytest.param("[" * 3000, JSON, {"body": "[" * 3000}, id="brackets without end"),
        pytest.param("\ufeff{}", JSON, {}, id="a byte order mark"),
        pytest.param("", JSON, None, id="nothing"),
    ],
)
async def test_what_an_answer_gives(world, site, body, content_type, output):
    site.answer("/", body=body.encode(), headers={"Content-Type": content_type})
    assert await world.call(site.url()) == Succeeded(output=output)


async def test_an_object_that_is_too_deep_is_no_output(world, site):
    site.answer("/", text='{"a":' * 150 + "1" + "}" * 150)
    outcome = await world.call(site.url())
    assert (outcome.reason, outcome.retryable) == (Reason.OUTPUT_INVALID, False)


@pytest.mark.parametrize(
    ("raw", "content_type", "text"),
    [
        pytest.param(
            "grün".encode("latin-1"), "text/plain; charset=iso-8859-1", "grün", id="the charset that is named"
        ),
        pytest.param("grün".encode(), "text/plain", "grün", id="none: UTF-8"),
        pytest.param(b"gr\xfcn", "text/plain", "gr\ufffdn", id="what is no UTF-8 is replaced"),
        pytest.param("grün".encode(), "text/plain; charset=klingon", "grün", id="a charset that nobody knows"),
    ],
)
async def test_how_text_is_read(world, site, raw, content_type, text):
    site.answer("/", body=raw, headers={"Content-Type": content_type})
    assert await world.call(site.url()) == Succeeded(output={"body": text})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"Retry-After": "120"}, 120, id="seconds"),
        pytest.param({"Retry-After": "Sun, 22 Nov 2026 10:02:00 GMT", "Date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 120, id="a date, against the answer's own"),
        pytest.param({"Retry-After": "Sun, 22 Nov 2026 09:00:00 GMT", "Date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 0, id="a date that is over"),
        pytest.param({"Retry-After": "Sun, 22 Nov 2026 10:02:00 GMT"}, None, id="a date with nothing to hold it against"),
        pytest.param({"Retry-After": "soon"}, None, id="a word"),
        pytest.param({"Retry-After": "-5"}, None, id="a time before now"),
        pytest.param({"Retry-After": "9" * 400}, None, id="a number that is none"),
        pytest.param({}, None, id="nothing"),
    ],
)  # fmt: skip
def test_how_long_a_server_asks_to_wait(headers, seconds):
    assert retry_after(headers) == seconds


async def test_the_wait_that_a_server_asks_for_is_handed_on(world, site):
    site.answer("/x", status=429, headers={"Retry-After": "7"})
    outcome = await world.call(site.url("/x"))
    assert (outcome.retryable, outcome.retry_after) == (True, 7)


@pytest.mark.parametrize(
    ("status", "expected", "retryable"),
    [
        pytest.param(200, None, None, id="200 is success"),
        pytest.param(299, None, None, id="299 is success"),
        pytest.param(204, None, None, id="204 is success"),
        pytest.param(404, [404], None, id="404 where it is expected"),
        pytest.param(302, [302], None, id="a redirect that is expected is not followed"),
        pytest.param(200, [201], False, id="200 where 201 is expected"),
        pytest.param(400, None, False, id="400 will not change"),
        pytest.param(404, None, False, id="404 will not change"),
        pytest.param(408, None, True, id="408 may change"),
        pytest.param(425, None, True, id="425 may change"),
        pytest.param(429, None, True, id="429 may change"),
        pytest.param(500, None, True, id="500 may change"),
        pytest.param(503, None, True, id="503 may change"),
        pytest.param(304, None, False, id="304 is no redirect"),
    ],
)
async def test_what_a_status_means(world, site, status, expected, retryable):
    site.answer("/x", status=status, headers={"Location": site.url("/elsewhere")})
    outcome = await world.call(site.url("/x"), http={"expectedStatus": expected} if expected else {})
    assert len(site.asked) == 1
    if retryable is None:
        assert outcome == Succeeded()
    else:
        assert (outcome.reason, outcome.retryable) == (Reason.HTTP_STATUS, retryable)


async def test_a_failure_shows_the_first_words_of_the_answer_on_one_line_and_no_query(world, site):
    site.answer("/tickets", status=404, text="no such\r\n\x1b[31m  ticket\n" + "x" * 5000)
    outcome = await world.call(site.url("/tickets?token=secret#part"), "POST")
    start = f"POST http://127.0.0.1:{site.port}/tickets answered 404: no such [31m ticket xxx"
    assert outcome.message.startswith(start)
    assert len(outcome.message) == len(start) + 200 - len("no such [31m ticket xxx")


async def test_a_failure_without_words(world, site):
    site.answer("/", status=500)
    assert (await world.call(site.url())).message == f"GET http://127.0.0.1:{site.port}/ answered 500"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "x-gzip", "raw"])
async def test_a_compressed_answer_is_read(world, site, encoding):
    body = b'{"a": "' + b"b" * 1000 + b'"}'
    bare = zlib.compressobj(wbits=-15)
    packed = {
        "gzip": gzip.compress(body[:100]) + gzip.compress(body[100:]),
        "x-gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "raw": bare.compress(body) + bare.flush(),
    }[encoding]
    headers = {"Content-Encoding": "deflate" if encoding == "raw" else encoding}
    site.answer("/", body=packed, headers=headers)
    assert await world.call(site.url()) == Succeeded(output={"a": "b" * 1000})


@pytest.mark.parametrize(
    ("body", "encoding", "says"),
    [
        pytest.param(b"not gzip", "gzip", "its gzip body is broken", id="no gzip"),
        pytest.param(gzip.compress(b"hello" * 100)[:-9], "gzip", "its gzip body breaks off", id="gzip that breaks off"),
        pytest.param(b"x", "br", "its Content-Encoding is 'br'", id="an encoding that was not asked for"),
        pytest.param(b"x", "gzip, gzip", "its Content-Encoding is 'gzip, gzip'", id="two encodings"),
    ],
)
async def test_an_answer_that_cannot_be_unpacked_may_be_tried_again(world, site, body, encoding, says):
    site.answer("/", body=body, headers={"Content-Encoding": encoding})
    outcome = await world.call(site.url("/?secret"))
    assert (outcome.reason, outcome.retryable) == (Reason.HTTP_FAILED, True)
    assert says in outcome.message
    assert "secret" not in outcome.message


@pytest.mark.parametrize(
    ("size", "fits"),
    [pytest.param(LIMIT - 11, True, id="exactly the limit"), pytest.param(LIMIT - 10, False, id="a byte more")],
)
async def test_a_body_may_be_as_large_as_an_output(world, site, size, fits):
    site.answer("/", text="x" * size)
    outcome = await world.call(site.url())
    assert outcome == Succeeded(output={"body": "x" * size}) if fits else outcome.reason is Reason.OUTPUT_TOO_LARGE


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(b"x" * 65536)
    except (ConnectionError, asyncio.CancelledError):
        return response


async def test_a_body_without_end_is_read_no_further_than_the_limit(world, site):
    site.answers["/"] = endless
    outcome = await world.call(site.url("/?secret"))
    assert (outcome.reason, outcome.retryable) == (Reason.OUTPUT_TOO_LARGE, False)
    assert f"http://127.0.0.1:{site.port}/ answered 200 with more than 4096 bytes" in outcome.message


async def test_a_failure_without_end_is_read_no_further_than_its_beginning(world, site):
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except (ConnectionError, asyncio.CancelledError):
            return response

    site.answers["/"] = answer
    outcome = await world.call(site.url())
    assert (outcome.reason, outcome.retryable) == (Reason.HTTP_STATUS, True)


@pytest.mark.parametrize("levels", [1, 10])
async def test_a_bomb_is_not_unpacked(world, site, levels):
    """40 MB in 40 KB, which is little enough to be read, in one gzip member and in ten."""
    packer = zlib.compressobj(9, wbits=31)
    one = b"".join(packer.compress(b"\0" * 1_000_000) for _ in range(40 // levels)) + packer.flush()
    site.answer("/", body=one * levels, headers={"Content-Encoding": "gzip"})
    gc.collect()
    tracemalloc.start()
    outcome = await world.call(site.url())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcome.reason is Reason.OUTPUT_TOO_LARGE
    assert peak < 3_000_000


def test_empty_members_without_end_are_not_read_for_ever():
    reader = BodyReader("gzip", LIMIT)
    members = gzip.compress(b"") * 1000
    fed = 0
    while not reader.full:
        reader.feed(members)
        fed += len(members)
    assert fed < 10 * 65536


def test_a_reader_takes_any_split_of_a_body():
    packed = gzip.compress(b"hello ") + gzip.compress(b"world")
    for cut in range(len(packed)):
        reader = BodyReader("gzip", LIMIT)
        reader.feed(packed[:cut])
        reader.feed(packed[cut:])
        reader.end()
        assert bytes(reader.body) == b"hello world"
    with pytest.raises(BrokenBody):
        BodyReader("zstd", LIMIT)


async def raw_server(answer: bytes) -> tuple[asyncio.Server, int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(b"", "closed the connection without an answer", id="nothing"),
        pytest.param(b"220 smtp.example ESMTP\r\n", "is not HTTP as it should be", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "the answer broke off", id="half a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20000 + b"\r\n\r\n", "is not HTTP", id="a header too long"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 200 + b"\r\n", "is not HTTP", id="headers too many"),
    ],
)
async def test_an_answer_that_is_none(answer, says):
    server, port = await raw_server(answer)
    async with server:
        world = World(f"127.0.0.1:{port}")
        outcome = await world.call(f"http://127.0.0.1:{port}/x?secret")
    assert (outcome.reason, outcome.retryable) == (Reason.HTTP_FAILED, True)
    assert outcome.message.startswith(f"GET http://127.0.0.1:{port}/x: ")
    assert says in outcome.message
    assert "secret" not in outcome.message
