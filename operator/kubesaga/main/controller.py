# SPDX-License-Identifier: Apache-2.0
"""The operator, put together: builds every object, ties them together, and lets them work while this process leads."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from typing import Any, Literal

import kopf

from kubesaga import __version__
from kubesaga.api.names import API_VERSION
from kubesaga.cel.pool import CelPool
from kubesaga.controller.actuator import Actuator
from kubesaga.controller.announcer import Announcer, Post
from kubesaga.controller.authoring.activities import Activities
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.delivering.listeners import Listeners
from kubesaga.controller.delivering.mailbox import Mailbox
from kubesaga.controller.guards.all import Guards
from kubesaga.controller.inventory import Inventory
from kubesaga.controller.kube_actions import KubeActions
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.loader import Loader
from kubesaga.controller.namespaces import Namespaces
from kubesaga.controller.probes import Probes
from kubesaga.controller.queue import Queue
from kubesaga.controller.reconciler import Reconciler
from kubesaga.controller.resync import Resync, Watched
from kubesaga.controller.retention import Retention
from kubesaga.controller.watches import registry_of, settings_of
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.snapshot import Run
from kubesaga.errors import InvalidSettings
from kubesaga.executors.egress_policy import EgressPolicy
from kubesaga.executors.registry import load_handlers
from kubesaga.kube.client import KubeClient
from kubesaga.kube.connection import connect
from kubesaga.kube.credentials import Credentials
from kubesaga.kube.errors import NotFound
from kubesaga.kube.events import EventPoster, Reference
from kubesaga.kube.informers import Informers
from kubesaga.kube.lease import Elector, LeaseTiming
from kubesaga.kube.resources import WORKFLOW_ACTIONS, WORKFLOW_RUNS, WORKFLOWS
from kubesaga.kube.revisions import Revisions
from kubesaga.main.admission import make_admission
from kubesaga.main.authoring import Authoring
from kubesaga.main.execution import Base, close_all, make_executors, pod_informers
from kubesaga.main.process import SystemClock, limits_of
from kubesaga.main.resources import make_object_watches
from kubesaga.settings import Settings
from kubesaga.telemetry import logs
from kubesaga.telemetry.metrics import Metrics, Sample

_log = logging.getLogger("kubesaga.workflow_engine")

LEASE_LOST = 70
"""Exit status when the Lease is lost; the supervisor starts us again."""

_LONGEST_SILENCE = 180.0
"""A watch hears a bookmark each minute, and is replaced after 70 s of silence: three minutes are more than bad luck."""

_LONGEST_WAIT = 300.0
"""Longest time in the queue, in seconds, that a live operator lets a run wait."""


class _Shell:
    """What exists while this process leads: told of changes by the watches, it feeds the queues."""

    def __init__(
        self, records: KubeRecords, runs: Queue, authoring: Authoring, actions: KubeActions, answering: Queue
    ) -> None:
        self._records = records
        self._runs = runs
        self.workflow_changed = authoring.workflow_changed
        self._run_changed = authoring.run_changed
        self.activity_changed = authoring.activity_changed
        self.event_source_changed = authoring.event_source_changed
        self._actions = actions
        self._answering = answering

    def run_changed(self, key: RunKey, body: dict[str, Any], *, gone: bool) -> None:
        """Queue a run, unless it is our own write that comes back."""
        self._run_changed(body)
        if self._records.lost(key, body) if gone else self._records.saw(key, body):
            self._runs.add(key)

    def action_changed(self, key: RunKey, body: dict[str, Any], *, gone: bool) -> None:
        """Queue a WorkflowAction, unless it is our own write that comes back."""
        if gone:
            self._actions.lost(key, body)
        elif self._actions.saw(key, body):
            self._answering.add(key)


async def run_controller(settings: Settings, *, kubeconfig: str | None = None, context: str | None = None) -> int:
    """Run the operator until it is told to stop or loses its Lease; return the exit status."""
    logs.configure(settings.log_level, settings.log_format)
    load_handlers(settings.handlers)
    EgressPolicy(settings.egress_allow)  # what cannot be read is said now, and not only on leading
    clock, metrics = SystemClock(), Metrics(__version__)
    task = asyncio.current_task()
    assert task is not None
    # Until Kopf takes the signals over, so that a standby stops at once: as PID 1 it would ignore SIGTERM.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_end_what_is_left)
        client = await connect(
            kubeconfig,
            context,
            clock=clock.monotonic,
            version=__version__,
            on_request=lambda verb, resource, status, took: metrics.on_request(verb, resource.plural, status, took),
        )
        stack.push_async_callback(client.close)
        base = Base(
            settings=settings, clock=clock, metrics=metrics, client=client,
            alive={}, ready={},
        )  # fmt: skip
        probes = Probes(metrics, alive=base.alive, ready=base.ready)
        try:
            port = await probes.start(settings.http_host, settings.http_port)
        except OSError as error:
            told = f"KUBESAGA_HTTP_HOST, KUBESAGA_HTTP_PORT: cannot listen at {settings.http_host}:{settings.http_port}: {error.strerror}"
            raise InvalidSettings(told) from error
        stack.push_async_callback(probes.close)
        _log.info("kubesaga %s serves /metrics, /healthz and /readyz on port %d", __version__, port)
        elector = _elector(base)
        base.ready["lease"] = elector.trouble
        stack.push_async_callback(elector.release)
        try:
            await elector.acquire()
            metrics.plain_gauge(
                "kubesaga_leader", "1 while this replica leads.", lambda: float(elector.valid_for() > 0)
            )
            await _lead(base, elector)
        except asyncio.CancelledError:
            pass  # told to stop while another replica leads
        _log.info("kubesaga stops")
    return 0


async def _end_what_is_left() -> None:
    """Cancel all other tasks until they have ended, or for five seconds.

    Kopf's watchers are nobody's to wait for. One that is cancelled in the middle of a request takes the connection that
    was closed for a failure, swallows the cancellation and tries again for ever; asyncio cancels once, and then waits.
    """
    for _ in range(20):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=0.25)


def _elector(base: Base) -> Elector:
    settings = base.settings
    duration = settings.lease_duration

    def lost() -> None:
        # Nothing may be done any more, not even tidily: another replica may be at work.
        logging.shutdown()
        os._exit(LEASE_LOST)

    return Elector(
        base.client,
        namespace=settings.lease_namespace or base.client.credentials.namespace,
        name=settings.lease_name,
        identity=settings.identity,
        clock=base.clock.monotonic,
        now=base.clock.now,
        sleep=base.clock.sleep,
        on_lost=lost,
        timing=LeaseTiming(duration=duration, renew_deadline=duration * 2 / 3, retry_period=duration * 2 / 15),
    )


async def _lead(base: Base, elector: Elector) -> None:
    """Be the operator: build everything, start it in order, and work until told to stop."""
    settings, clock = base.settings, base.clock
    client = base.client.fenced(elector.valid_for)
    async with AsyncExitStack() as stack:
        evaluator = stack.enter_context(CelPool(size=settings.cel_processes, deadline=settings.cel_deadline))
        records = KubeRecords(client)
        revisions = Revisions(client)
        activities = Activities(client, evaluator, shared=settings.catalogue_namespace)
        definitions = Definitions(_workflow_reader(client), revisions, evaluator, activities.catalogue)
        poster = EventPoster(
            client, clock=clock.monotonic, now=clock.now, sleep=clock.sleep, instance=settings.identity
        )  # fmt: skip
        stack.push_async_callback(poster.close)
        pods = pod_informers(base, client)
        in_process, executors = await make_executors(
            base, client, pods, wake=lambda key: runs.add(key), may_begin=lambda: elector.valid_for() > 0
        )
        stack.push_async_callback(close_all, in_process)
        admission = make_admission(base, client, records, poster, wake=lambda key: runs.add(key))
        stack.push_async_callback(admission.guards.close)
        actions = KubeActions(
            client, now=clock.now, wake=lambda key: runs.add(key), look=lambda key: answering.add(key),
            breakers=admission.guards,
        )  # fmt: skip
        mailbox = Mailbox(actions, wake=lambda key: runs.add(key))
        reconciler = Reconciler(
            Loader(
                records, definitions, executors, mailbox, namespace_ending=Namespaces(client, clock.monotonic).ending,
                worker=f"{settings.identity}-{secrets.token_hex(4)}", limits=limits_of(settings),
                summon=Listeners(client, records, definitions).of,
            ),
            records, Actuator(executors, mailbox), Announcer(base.metrics, _post_to(poster)),
            evaluator=evaluator, ledger=admission.ledger, clock=clock,
        )  # fmt: skip
        runs = Queue(reconciler.process, clock, workers=settings.workers, jitter=random.random)
        objects = make_object_watches(base, client, evaluator, poster)
        authoring = Authoring(base, client, definitions, activities, evaluator, admission.limits, records, objects)
        answering = Queue(actions.process, clock, workers=2, jitter=random.random)
        watched = (
            Watched(resource=WORKFLOW_RUNS, memory=records, add=runs.add),
            Watched(resource=WORKFLOW_ACTIONS, memory=actions, add=answering.add),
        )
        resync, retention = _upkeep(base, client, watched, records, definitions, revisions)
        _observe(base, records, runs, pods, resync, admission.guards)
        await _work(
            base,
            [elector.run(), pods.run()],
            _synced(pods, admission.inventory, runs),
            [
                runs.run(), *authoring.work(), answering.run(), poster.run(), resync.run(), retention.run(),
                admission.guards.run(),
            ],
            _Shell(records, runs, authoring, actions, answering),
        )  # fmt: skip


def _upkeep(
    base: Base,
    client: KubeClient,
    watched: tuple[Watched, ...],
    records: KubeRecords,
    definitions: Definitions,
    revisions: Revisions,
) -> tuple[Resync, Retention]:
    """Return what looks after the watches, and what deletes whose time is over."""
    settings, clock = base.settings, base.clock
    resync = Resync(
        client, watched, namespaces=settings.namespaces, missed=base.metrics.missed_events.inc,
        clock=clock, interval=settings.resync_interval,
    )  # fmt: skip
    retention = Retention(
        client, records, definitions, revisions, namespaces=settings.namespaces,
        deleted=base.metrics.on_deleted, clock=clock, interval=settings.retention_interval,
    )  # fmt: skip
    return resync, retention


async def _work(
    base: Base,
    first: list[Coroutine[Any, Any, None]],
    synced: Awaitable[None],
    then: list[Coroutine[Any, Any, None]],
    shell: _Shell,
) -> None:
    """Start the background work in two steps, then watch; end all of it when the watch ends or anything breaks."""
    tasks = [asyncio.create_task(work) for work in first]
    base.ready["pods"] = lambda: "the pods are being listed"
    try:
        await synced
        tasks += [asyncio.create_task(work) for work in then]
        base.ready.pop("pods")
        _log.info("kubesaga leads as %s", base.settings.identity)
        watching = asyncio.create_task(_watch(base, shell))
        tasks.append(watching)
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(base: Base, shell: _Shell) -> None:
    """Run Kopf until it is told to stop; it takes the signals SIGINT and SIGTERM over."""

    async def credentials() -> Credentials:
        return base.client.credentials

    # Not kopf.operator: at the end that waits five seconds for, and then cancels, every task of the process that is newer
    # than it, ours included.
    tasks = await kopf.spawn_tasks(
        registry=registry_of(shell, credentials),
        settings=settings_of(random.random),
        standalone=True,
        clusterwide=not base.settings.namespaces,
        namespaces=base.settings.namespaces,
    )
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _synced(pods: Informers, inventory: Inventory, runs: Queue) -> None:
    """Wait until everything is known that the first pass relies on."""
    count = await inventory.take(runs.add)
    await pods.wait_synced()
    if count:
        _log.info("%d live runs are taken up", count)


def _post_to(poster: EventPoster) -> Post:
    """Return what posts an Event about a run."""

    def post(run: Run, severity: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        about = Reference(
            api_version=API_VERSION, kind="WorkflowRun", name=run.key.name, namespace=run.key.namespace, uid=run.uid
        )  # fmt: skip
        poster.post(about, severity, reason, message)

    return post


def _workflow_reader(client: KubeClient) -> Callable[[str, str], Awaitable[dict[str, Any] | None]]:
    async def read(namespace: str, name: str) -> dict[str, Any] | None:
        try:
            return (await client.get(WORKFLOWS, namespace, name)).get("spec") or {}
        except NotFound:
            return None

    return read


def _observe(base: Base, records: KubeRecords, runs: Queue, pods: Informers, resync: Resync, guards: Guards) -> None:
    """Add what only exists while leading to metrics and probes."""
    metrics, clock = base.metrics, base.clock

    def counted(phases: Iterable[tuple[str, str]]) -> list[Sample]:
        return [(labels, float(count)) for labels, count in Counter(phases).items()]

    by_phase = ["namespace", "phase"]
    metrics.gauge("kubesaga_runs", "Live runs by phase.", by_phase, lambda: counted(records.phases()))
    metrics.gauge(
        "kubesaga_activities", "Activities of live runs by phase.", by_phase, lambda: counted(records.activity_phases())
    )
    of_guard = ["kind", "namespace", "name", "key"]
    metrics.gauge(
        "kubesaga_circuit_breaker_state", "Circuit breakers: 0 closed, 1 half open, 2 open.", of_guard,
        guards.breaker_samples,
    )  # fmt: skip
    metrics.gauge(
        "kubesaga_bulkhead_running", "Calls behind bulkheads.", of_guard, lambda: guards.bulkhead_samples(queued=False)
    )
    metrics.gauge(
        "kubesaga_bulkhead_queued", "Calls that wait at bulkheads.", of_guard,
        lambda: guards.bulkhead_samples(queued=True),
    )  # fmt: skip
    metrics.plain_gauge("kubesaga_queue_depth", "Runs that wait for a pass.", lambda: float(runs.depth))
    metrics.plain_gauge(
        "kubesaga_queue_oldest_age_seconds", "How long the first of them has waited.", lambda: runs.oldest_age
    )
    metrics.plain_gauge("kubesaga_queue_failing", "Runs whose last pass failed.", lambda: float(runs.failing))
    metrics.plain_gauge("kubesaga_pods_watched", "Pods in memory.", lambda: float(len(pods.store)))

    def pod_watch() -> str | None:
        silent = clock.monotonic() - pods.last_contact
        return None if silent < _LONGEST_SILENCE else f"nothing was heard for {silent:.0f} s"

    base.alive["pod watch"] = pod_watch
    base.alive["run watch"] = lambda: None if resync.healthy else "it has missed changes twice in a row"
    base.alive["passes"] = lambda: None if runs.oldest_age < _LONGEST_WAIT else "a run waits for a pass too long"
