# SPDX-License-Identifier: Apache-2.0
"""The server comes and goes in order, speaks TLS with a certificate that changes, and says nothing of its own bugs."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from tests.unit.gateway.world import Delivery, read_reply

from kubesaga.api.event_source import SourceRateLimit
from kubesaga.errors import InvalidSettings
from kubesaga.gateway.headers import Headers
from kubesaga.gateway.intake import Answer
from kubesaga.gateway.rates import Rates
from kubesaga.gateway.refusal import Refusal
from kubesaga.gateway.series import Series
from kubesaga.gateway.server import Bounds, Server
from kubesaga.gateway.tls import Certificate

Deliver = Callable[[str, str, Headers, bytes], Awaitable[Answer]]


@asynccontextmanager
async def listening(
    deliver: Deliver, tls: ssl.SSLContext | None = None, **bounds: Any
) -> AsyncIterator[tuple[Server, int]]:
    server = Server(deliver, Bounds(**bounds), Series(CollectorRegistry()), asyncio.get_running_loop().time)
    try:
        yield server, await server.start("127.0.0.1", 0, tls)
    finally:
        await server.close(5)


async def ask(port: int, tls: ssl.SSLContext | None = None, body: bytes = b"{}") -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    delivery = Delivery(body=body)
    writer.write(delivery.head() + delivery.body)
    try:
        return await read_reply(reader)
    finally:
        writer.close()


async def test_a_delivery_under_way_ends_before_the_server_does() -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def deliver(*_: Any) -> Answer:
        entered.set()
        await go_on.wait()
        return Answer(body={"events": []})

    async with listening(deliver) as (server, port):
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        under_way = asyncio.create_task(ask(port))
        await entered.wait()
        closing = asyncio.create_task(server.close(20))
        assert await idle_reader.read() == b""  # the idle connection is closed at once
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        assert not closing.done()
        go_on.set()
        reply = await under_way
        await closing
        assert (reply.status, reply.headers["connection"]) == (202, "close")
        idle_writer.close()


async def test_more_deliveries_than_can_be_looked_at_are_sent_away() -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def deliver(*_: Any) -> Answer:
        entered.set()
        await go_on.wait()
        return Answer()

    async with listening(deliver, in_flight=1) as (_, port):
        first = asyncio.create_task(ask(port))
        await entered.wait()
        second = await ask(port)
        assert (second.status, second.headers["retry-after"]) == (503, "1")
        go_on.set()
        assert (await first).status == 202
        assert (await ask(port)).status == 202


async def test_a_bug_is_answered_and_logged_without_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    async def deliver(_namespace: str, _name: str, _headers: Headers, body: bytes) -> Answer:
        raise ValueError(body.decode())

    caplog.set_level(logging.DEBUG)
    async with listening(deliver) as (_, port):
        reply = await ask(port, body=b"open-sesame")
    assert (reply.status, b"sesame" in reply.body) == (500, False)
    [line] = [line for line in caplog.messages if "broke off" in line]
    assert "ValueError at " in line
    assert "sesame" not in caplog.text


# --- TLS ------------------------------------------------------------------------------------------------------------


def make_certificate(folder: Path, name: str) -> None:
    words = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
        "-subj",
        f"/CN={name}",
    ]
    subprocess.run(["openssl", *words, "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")], check=True, capture_output=True)  # fmt: skip


async def common_name(port: int) -> bytes:
    """Return the certificate that is shown."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return shown


async def test_a_certificate_is_read_again_when_its_files_change(tmp_path: Path) -> None:
    make_certificate(tmp_path, "first.example")
    certificate = Certificate(tmp_path / "tls.crt", tmp_path / "tls.key")

    async def deliver(*_: Any) -> Answer:
        return Answer()

    async with listening(deliver, certificate.context) as (_, port):
        assert b"first.example" in await common_name(port)
        assert certificate.look() is False
        make_certificate(tmp_path, "second.example")
        assert certificate.look() is True
        assert b"second.example" in await common_name(port)
        (tmp_path / "tls.crt").write_text("nonsense")
        assert certificate.look() is False
        assert b"second.example" in await common_name(port)
        assert (await ask_by_tls(port)).status == 202


async def ask_by_tls(port: int) -> Any:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    return await ask(port, trusting)


def test_a_certificate_that_is_not_there_is_told_by_the_names_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="KUBESAGA_GATEWAY_TLS_CERT"):
        Certificate(tmp_path / "tls.crt", tmp_path / "tls.key")


# --- rates ----------------------------------------------------------------------------------------------------------


def test_no_window_of_the_period_holds_more_than_the_limit() -> None:
    @given(st.lists(st.tuples(st.floats(0, 7), st.integers(1, 5)), max_size=60))
    def check(steps: list[tuple[float, int]]) -> None:
        now, taken = 0.0, []
        rates = Rates(lambda: now)
        limit = SourceRateLimit(limit=5, period="10s")
        for pause, count in steps:
            now += pause
            held = sum(number for moment, number in taken if now - moment < 10)
            if held + count <= 5:
                rates.take("a", "b", limit, count)
                taken.append((now, count))
                continue
            with pytest.raises(Refusal) as caught:
                rates.take("a", "b", limit, count)
            assert caught.value.status == 429
            assert 1 <= int(caught.value.headers["Retry-After"]) <= 11

    check()


def test_more_events_than_the_limit_can_never_come_in_at_once() -> None:
    with pytest.raises(Refusal) as caught:
        Rates(lambda: 0.0).take("a", "b", SourceRateLimit(limit=5, period="10s"), 6)
    assert caught.value.status == 413
