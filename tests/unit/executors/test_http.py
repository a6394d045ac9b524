# SPDX-License-Identifier: Apache-2.0
"""One request an attempt: what is sent, how it ends, what is never told."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import ssl
import subprocess
import time

import pytest
from aiohttp import web
from tests.unit.executors.http_world import RUN, SOON, Names, Site, World, attempt_of, serving
from yarl import URL

import kubesaga
from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import AttemptId, Failed, Stage, Succeeded, Unknown
from kubesaga.executors.egress import EgressGuard, Route
from kubesaga.executors.egress_policy import EgressPolicy
from kubesaga.executors.http import HttpExecutor
from kubesaga.settings import Settings


@pytest.fixture
async def site():
    async with serving() as made:
        yield made


@pytest.fixture
async def world(site):
    made = World(f"127.0.0.1:{site.port}")
    yield made
    await made.executor.close()


async def test_a_request_is_sent_as_it_is_described(world, site):
    outcome = await world.call(
        site.url("/tickets?q=1&q=2"), "POST", headers={"X-Team": "a", "x-number": 7, "x-yes": True}, body={"title": "ü"}
    )
    assert outcome == Succeeded(output={"path": "/tickets"})
    ((request, body),) = site.asked
    assert (request.method, request.path_qs, json.loads(body)) == ("POST", "/tickets?q=1&q=2", {"title": "ü"})
    assert dict(request.headers) == {
        "Host": f"127.0.0.1:{site.port}",
        "User-Agent": f"kubesaga/{kubesaga.__version__}",
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Idempotency-Key": "run-uid/call/do",
        "X-Kubesaga-Run": "support/ticket-1",
        "X-Kubesaga-Attempt": "1",
        "X-Team": "a",
        "x-number": "7",
        "x-yes": "true",
    }


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def test_every_method_is_sent(world, site, method):
    outcome = await world.call(site.url("/x"), method)
    assert site.asked[0][0].method == method
    assert outcome == Succeeded(output=None if method == "HEAD" else {"path": "/x"})


@pytest.mark.parametrize(
    ("body", "headers", "content_type", "sent"),
    [
        pytest.param("text ü", {}, "text/plain; charset=utf-8", "text ü".encode(), id="a string is text"),
        pytest.param("<a/>", {"content-type": "text/xml"}, "text/xml", b"<a/>", id="a string of a type"),
        pytest.param("", {}, "text/plain; charset=utf-8", b"", id="an empty string"),
        pytest.param([1, None], {}, "application/json", b"[1,null]", id="an array"),
        pytest.param(False, {}, "application/json", b"false", id="a truth value"),
        pytest.param(
            {"a": 1}, {"Content-Type": "application/x+json"}, "application/x+json", b'{"a":1}', id="an object"
        ),
        pytest.param(None, {}, None, b"", id="no body"),
    ],
)
async def test_how_a_body_is_sent(world, site, body, headers, content_type, sent):
    await world.call(site.url(), "POST", headers=headers, body=body)
    request, received = site.asked[0]
    assert (request.headers.get("Content-Type"), received) == (content_type, sent)


async def test_the_authors_idempotency_key_and_agent_are_kept(world, site):
    await world.call(site.url(), headers={"idempotency-key": "mine", "User-Agent": "me"})
    request, _ = site.asked[0]
    assert request.headers.getall("Idempotency-Key") == ["mine"]
    assert request.headers.getall("User-Agent") == ["me"]


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        pytest.param({"headers": {"X-A": "a\r\nX-Evil: 1"}}, "headers.X-A holds a line break", id="CR LF in a value"),
        pytest.param({"headers": {"X-A": "a\nb"}}, "headers.X-A holds a line break", id="LF in a value"),
        pytest.param({"headers": {"X-A": "a\0b"}}, "headers.X-A holds", id="NUL in a value"),
        pytest.param({"headers": {"X-A\r\nX-Evil": "1"}}, "is not the name of a header", id="CR LF in a name"),
        pytest.param({"headers": {"X A": "1"}}, "is not the name of a header", id="a space in a name"),
        pytest.param({"headers": {"": "1"}}, "is not the name of a header", id="no name"),
        pytest.param({"headers": {"host": "evil"}}, "headers.host cannot be set", id="Host"),
        pytest.param({"headers": {"Content-Length": "0"}}, "headers.Content-Length cannot", id="Content-Length"),
        pytest.param({"headers": {"transfer-Encoding": "chunked"}}, "cannot be set", id="Transfer-Encoding"),
        pytest.param({"headers": {"Connection": "keep-alive"}}, "cannot be set", id="Connection"),
        pytest.param({"headers": {"Upgrade": "h2c"}}, "cannot be set", id="Upgrade"),
        pytest.param({"headers": {"Expect": "100-continue"}}, "cannot be set", id="Expect"),
        pytest.param({"headers": {"X-Kubesaga-Run": "other/run"}}, "cannot be set", id="whose attempt it is"),
        pytest.param({"headers": {"X-A": None}}, "headers.X-A must be a string", id="no value"),
        pytest.param({"headers": {"X-A": {"a": 1}}}, "headers.X-A must be a string", id="an object"),
        pytest.param({"method": "TRACE"}, "the method is 'TRACE'", id="another method"),
        pytest.param({"method": "GET / HTTP/1.1\r\n"}, "the method is", id="a method with more"),
        pytest.param({"url": "ftp://example.com/"}, "must begin with http", id="another scheme"),
        pytest.param({"url": "http://u:secret@example.com/"}, "user or password", id="a password in the url"),
        pytest.param({"url": "http://example.com/\r\nX: y"}, "control characters", id="CR LF in the url"),
        pytest.param({"url": 7}, "must be a string", id="a number for a url"),
    ],
)
async def test_what_is_wrong_with_a_request_is_said_and_nothing_is_sent(world, site, request_, says):
    request = {"url": site.url(), "method": "POST"} | request_
    outcome = await world.call(request.pop("url"), request.pop("method"), **request)
    assert (outcome.reason, outcome.retryable, site.asked) == (Reason.INVALID_INPUT, False, [])
    assert says in outcome.message
    assert "secret" not in outcome.message


async def test_a_server_that_is_slow_fails_the_attempt_with_the_settings_time(site):
    async def never(request: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        return web.Response()

    site.answers["/"] = never
    world = World(f"127.0.0.1:{site.port}", http_timeout=0.1)
    outcome = await world.call(site.url("/?secret"))
    assert outcome == Failed(
        reason=Reason.HTTP_FAILED, message=f"GET http://127.0.0.1:{site.port}/ was not answered within 0.1s."
    )
    outcome = await world.call(site.url(), timeout="50ms")
    assert (outcome.reason, outcome.retryable) == (Reason.ATTEMPT_TIMEOUT, True)
    assert "within 0.05s" in outcome.message


async def test_a_body_that_drips_is_ended_by_the_same_time(site):
    async def drips(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x")
            await asyncio.sleep(0.01)
        return response

    site.answers["/"] = drips
    world = World(f"127.0.0.1:{site.port}", http_timeout=0.1)
    assert (await world.call(site.url())).reason is Reason.HTTP_FAILED
    assert "0.5s" in (await world.call(site.url(), timeout="500ms")).message


async def closes(request: web.Request) -> web.Response:
    request.transport.abort()
    return web.Response()


async def test_a_connection_that_breaks_fails_and_is_not_tried_again_by_itself(world, site):
    site.answers["/"] = closes
    for method in ("GET", "PUT"):
        outcome = await world.call(site.url("/?secret"), method)
        assert (outcome.reason, outcome.retryable) == (Reason.HTTP_FAILED, True)
        assert "secret" not in outcome.message
    assert [request.method for request, _ in site.asked] == ["GET", "PUT"]


async def test_a_connection_that_is_refused(site):
    world = World("127.0.0.1:1")
    outcome = await world.call("http://127.0.0.1:1/x?secret")
    assert outcome == Failed(
        reason=Reason.HTTP_FAILED,
        message="GET http://127.0.0.1:1/x: no connection could be made (Connection refused).",
    )


async def test_tls_to_a_server_without_it(world, site):
    outcome = await world.call(f"https://127.0.0.1:{site.port}/")
    assert (outcome.reason, outcome.retryable) == (Reason.HTTP_FAILED, True)
    assert "no TLS connection could be made" in outcome.message


async def test_proxies_of_the_environment_are_not_used(world, site, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await world.call(site.url("/x")) == Succeeded(output={"path": "/x"})


async def test_a_second_start_does_nothing_and_connections_are_not_kept(world, site):
    attempt = attempt_of({"method": "GET", "url": site.url()})
    await world.executor.start(attempt)
    await world.executor.start(attempt)
    await world.outcome(attempt.id)
    await world.executor.start(attempt)
    await asyncio.sleep(0)
    assert len(site.asked) == 1
    assert world.seen(attempt.id).held
    assert world.woken == [RUN]
    await world.executor.release(attempt.id, RUN)
    await world.call(site.url())
    assert len(site.asked) == 2
    assert len(site.peers) == 2


async def wait_for_request(site: Site) -> None:
    async with asyncio.timeout(SOON):
        while not site.asked:
            await asyncio.sleep(0.002)


@pytest.fixture
async def hanging(world, site):
    async def hangs(request: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        return web.Response()

    site.answers["/"] = hangs
    attempt = attempt_of({"method": "POST", "url": site.url()})
    await world.executor.start(attempt)
    await wait_for_request(site)
    return attempt.id


async def test_a_request_that_is_stopped_is_of_unknown_outcome(world, hanging):
    assert world.seen(hanging).stage is Stage.RUNNING
    await world.executor.stop(hanging, RUN, "AttemptTimeout")
    await world.executor.stop(hanging, RUN, "AttemptTimeout")
    expected = Unknown(message="The request was told to stop (AttemptTimeout) and may have had its effect.")
    assert world.seen(hanging).outcome == expected
    await asyncio.sleep(0.05)
    assert world.seen(hanging).outcome == expected
    assert world.woken == [RUN]


async def test_a_released_request_is_ended_and_forgotten(world, hanging):
    task = world.executor._tasks[hanging]
    await world.executor.release(hanging, RUN)
    await world.executor.release(hanging, RUN)
    assert world.seen(hanging) is None
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert (len(world.executor._table), world.executor._tasks) == (0, {})


async def test_closing_ends_what_is_under_way(world, hanging):
    started = time.monotonic()
    await world.executor.close()
    assert time.monotonic() - started < 2
    assert isinstance(world.seen(hanging).outcome, Unknown)


async def test_stopping_or_releasing_what_is_not_there_is_no_error(world):
    unknown = AttemptId(run_uid="u", activity="a", number=1)
    await world.executor.stop(unknown, RUN, "AttemptTimeout")
    await world.executor.release(unknown, RUN)


async def test_a_bug_is_a_failure_of_the_attempt_and_logged(caplog):
    class Broken(EgressGuard):
        async def route(self, url: URL, namespace: str) -> Route | Failed:
            raise ZeroDivisionError("boom secret")

    world = World()
    world.executor = HttpExecutor(Broken(EgressPolicy(), Names()), world.wake, Settings())
    with caplog.at_level(logging.ERROR, "kubesaga.activity_executor"):
        outcome = await world.call("http://example.com/")
    assert outcome == Failed(reason=Reason.HTTP_FAILED, message="The request failed: ZeroDivisionError.")
    assert "boom" in caplog.text


async def test_nothing_secret_is_logged(world, site, caplog):
    caplog.set_level(logging.DEBUG)
    site.answer("/", status=500)
    await world.call(site.url("/?token=secret"), headers={"Authorization": "secret"})
    await world.call("http://127.0.0.1:1/?token=secret")
    assert "secret" not in caplog.text


@pytest.fixture
def untrusted(tmp_path):
    """A server's side of TLS, with a certificate that nobody trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command makes the certificate, and is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*new, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_certificate_that_nobody_trusts_is_not_accepted(untrusted):
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=untrusted)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        outcome = await World("127.0.0.0/8").call(f"{url}?secret", headers={"Authorization": "secret"})
    assert (outcome.reason, outcome.retryable) == (Reason.HTTP_FAILED, True)
    assert outcome.message.startswith(f"GET {url}: the server's certificate was not accepted (self")
