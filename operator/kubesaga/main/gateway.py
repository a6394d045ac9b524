# SPDX-License-Identifier: Apache-2.0
"""The gateway, put together: watches, server, probes; and the order in which it comes and goes."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from kubesaga import __version__
from kubesaga.cel.pool import CelPool
from kubesaga.controller.probes import Check, Probes
from kubesaga.errors import InvalidSettings
from kubesaga.gateway.intake import Intake
from kubesaga.gateway.secrets import Secrets
from kubesaga.gateway.series import Series
from kubesaga.gateway.server import Bounds, Server
from kubesaga.gateway.sources import Sources, namespace_of
from kubesaga.gateway.tls import Certificate
from kubesaga.kube.client import KubeClient, Selection
from kubesaga.kube.connection import connect
from kubesaga.kube.informer import Informer
from kubesaga.kube.informers import Informers
from kubesaga.kube.resources import WORKFLOW_EVENT_SOURCES, WORKFLOWS, Resource
from kubesaga.main.process import SystemClock
from kubesaga.settings import Settings
from kubesaga.telemetry import logs
from kubesaga.telemetry.metrics import Metrics
from kubesaga.triggers.causes import WorkflowTriggers
from kubesaga.triggers.making import RunMaker

_log: Final = logging.getLogger("kubesaga.gateway")

_LONGEST_SILENCE: Final = 180.0
"""A watch hears a bookmark each minute, and is replaced after 70 s of silence: three minutes are more than bad luck."""
_LONGEST_END: Final = 20.0
"""Seconds that deliveries under way have when the gateway stops."""


async def run_gateway(
    settings: Settings,
    *,
    kubeconfig: str | None = None,
    context: str | None = None,
) -> int:
    """Take deliveries until told to stop (SIGTERM, SIGINT); return the exit status. Raises InvalidSettings, NoCluster."""
    logs.configure(settings.log_level, settings.log_format)
    clock, metrics = SystemClock(), Metrics(__version__)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    certificate = _certificate(settings)
    async with AsyncExitStack() as stack:
        client = await connect(
            kubeconfig, context, clock=clock.monotonic, version=__version__,
            on_request=lambda verb, resource, status, took: metrics.on_request(verb, resource.plural, status, took),
        )  # fmt: skip
        stack.push_async_callback(client.close)
        sources = _informers(client, settings, WORKFLOW_EVENT_SOURCES, clock)
        workflows = _informers(client, settings, WORKFLOWS, clock)
        evaluator = stack.enter_context(CelPool(size=settings.cel_processes, deadline=settings.cel_deadline))
        series = Series(metrics.registry)
        known = Sources(sources, workflows)
        intake = Intake(
            known, Secrets(client, clock.monotonic), RunMaker(client), WorkflowTriggers(evaluator),
            evaluator=evaluator, series=series, clock=clock,
        )  # fmt: skip
        server = Server(intake.deliver, bounds_of(settings), series, clock.monotonic)
        series.watch(
            connections=lambda: server.connections, buffered=lambda: server.buffered, sources=known.counted
        )  # fmt: skip
        alive = {"source watch": _heard(sources, clock), "workflow watch": _heard(workflows, clock)}
        ready: dict[str, Check] = {"caches": lambda: "event sources and Workflows are being listed"}
        probes = Probes(metrics, alive=alive, ready=ready)
        _log.info("kubesaga %s serves probes on port %d", __version__, await _start_probes(probes, settings))
        stack.push_async_callback(probes.close)
        background: list[Coroutine[Any, Any, None]] = [sources.run(), workflows.run()]
        if certificate is not None:
            background.append(certificate.follow(clock.sleep))
        await _serve(settings, server, certificate, ready, (sources, workflows), background, stop)
    _log.info("the gateway stops")
    return 0


def bounds_of(settings: Settings) -> Bounds:
    """Return what the server bears."""
    return Bounds(
        body=settings.gateway_max_body_bytes, buffered=settings.gateway_max_buffered_bytes,
        timeout=settings.gateway_timeout, connections=settings.gateway_max_connections,
        in_flight=settings.gateway_max_in_flight,
    )  # fmt: skip


async def _serve(
    settings: Settings,
    server: Server,
    certificate: Certificate | None,
    ready: dict[str, Check],
    caches: tuple[Informers, ...],
    background: list[Coroutine[Any, Any, None]],
    stop: asyncio.Event,
) -> None:
    """Fill the caches, listen, and on `stop` leave in order: not ready, a while later no more connections, then the end."""
    tasks = [asyncio.create_task(work) for work in background]
    told = asyncio.create_task(stop.wait())
    synced = asyncio.gather(*(cache.wait_synced() for cache in caches))
    try:
        # A delivery that came before would be told that there is no such source.
        if not await _unless_stopped(synced, told, tasks):
            return
        host, port = settings.gateway_host, settings.gateway_port
        try:
            port = await server.start(host, port, certificate.context if certificate else None)
        except OSError as error:
            raise InvalidSettings(
                f"KUBESAGA_GATEWAY_HOST, KUBESAGA_GATEWAY_PORT: cannot listen at {host}:{port}: {error.strerror}"
            ) from error
        del ready["caches"]
        _log.info("the gateway takes deliveries on port %d%s", port, " by TLS" if certificate else "")
        await _unless_stopped(asyncio.get_running_loop().create_future(), told, tasks)
        ready["draining"] = lambda: "the gateway has been told to stop"
        _log.info("the gateway takes deliveries for %g s more", settings.gateway_drain_delay)
        await asyncio.sleep(settings.gateway_drain_delay)
        await server.close(_LONGEST_END)
    finally:
        synced.cancel()
        for task in (told, *tasks):
            task.cancel()
        await asyncio.gather(told, *tasks, return_exceptions=True)


async def _unless_stopped(
    awaited: asyncio.Future[Any], told: asyncio.Task[Any], tasks: list[asyncio.Task[None]]
) -> bool:
    """Wait; return False if told to stop meanwhile. Raises what ends a task of the background."""
    done, _ = await asyncio.wait((awaited, told, *tasks), return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task in done:
            task.result()
    return told not in done


def _informers(client: KubeClient, settings: Settings, resource: Resource, clock: SystemClock) -> Informers:
    def make(namespace: str | None) -> Informer:
        return Informer(
            client, resource, Selection(namespace=namespace), clock=clock.monotonic, sleep=clock.sleep,
            random=random.random, index_key=namespace_of,
        )  # fmt: skip

    return Informers(settings.namespaces, make)


def _heard(cache: Informers, clock: SystemClock) -> Check:
    def check() -> str | None:
        silent = clock.monotonic() - cache.last_contact
        return None if silent < _LONGEST_SILENCE else f"nothing was heard for {silent:.0f} s"

    return check


def _certificate(settings: Settings) -> Certificate | None:
    if not settings.gateway_tls_cert:
        return None
    return Certificate(Path(settings.gateway_tls_cert), Path(settings.gateway_tls_key))


async def _start_probes(probes: Probes, settings: Settings) -> int:
    try:
        return await probes.start(settings.http_host, settings.http_port)
    except OSError as error:
        told = f"KUBESAGA_HTTP_HOST, KUBESAGA_HTTP_PORT: cannot listen at {settings.http_host}:{settings.http_port}: {error.strerror}"
        raise InvalidSettings(told) from error
