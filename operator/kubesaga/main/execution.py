# SPDX-License-Identifier: Apache-2.0
"""What carries attempts out in a cluster: the executors, and the watch of pods."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kubesaga.api.names import MANAGED_BY, MANAGED_BY_LABEL
from kubesaga.api.work import ResourceList, Resources
from kubesaga.engine.definition import Kind
from kubesaga.executors.base import Executor, Wake
from kubesaga.executors.egress import EgressGuard, SystemLookup
from kubesaga.executors.egress_policy import EgressPolicy
from kubesaga.executors.handlers import HandlerExecutor
from kubesaga.executors.http import HttpExecutor
from kubesaga.executors.pod_manifest import PodDefaults
from kubesaga.executors.pods import PodExecutor
from kubesaga.executors.registry import handlers as registered_handlers
from kubesaga.kube.client import KubeClient, Selection
from kubesaga.kube.informer import Informer
from kubesaga.kube.informers import Informers
from kubesaga.kube.resources import PODS
from kubesaga.kube.services import KubeServices, api_server_addresses
from kubesaga.main.process import SystemClock, kubernetes_service
from kubesaga.settings import Settings
from kubesaga.telemetry.metrics import Metrics


@dataclass(slots=True, kw_only=True)
class Base:
    """What exists before leadership."""

    settings: Settings
    clock: SystemClock
    metrics: Metrics
    client: KubeClient
    alive: dict[str, Callable[[], str | None]]
    ready: dict[str, Callable[[], str | None]]


def pod_informers(base: Base, client: KubeClient) -> Informers:
    """Return the watch of our pods, in each namespace that is served."""
    selector = f"{MANAGED_BY_LABEL}={MANAGED_BY}"

    def make(namespace: str | None) -> Informer:
        return Informer(
            client, PODS, Selection(namespace=namespace, labels=selector), clock=base.clock.monotonic,
            sleep=base.clock.sleep, random=random.random, look_interval=base.settings.resync_interval,
            missed=base.metrics.missed_events.inc,
        )  # fmt: skip

    return Informers(base.settings.namespaces, make)


async def make_executors(
    base: Base, client: KubeClient, pods: Informers, wake: Wake, *, may_begin: Callable[[], bool]
) -> tuple[list[HandlerExecutor | HttpExecutor], dict[Kind, Executor]]:
    """Return the executors that must be closed, and all of them by kind.

    Those that work in this process ask `may_begin` just before each call or request; the API server's client is fenced.
    """
    settings = base.settings
    guard = EgressGuard(
        EgressPolicy(settings.egress_allow, api_server=[*await api_server_addresses(client), *kubernetes_service()]),
        SystemLookup(),
        services=KubeServices(client, shuffle=lambda found: random.sample(found, len(found))),
    )
    handlers = HandlerExecutor(
        registered_handlers, wake, monotonic=base.clock.monotonic, threads=settings.handler_threads,
        max_output_bytes=settings.max_output_bytes, may_begin=may_begin,
    )  # fmt: skip
    http = HttpExecutor(guard, wake, settings, may_begin=may_begin)
    pod = PodExecutor(
        client, pods, wake, defaults=pod_defaults_of(settings),
        max_output_bytes=settings.max_output_bytes,
    )  # fmt: skip
    return [handlers, http], {Kind.POD: pod, Kind.HANDLER: handlers, Kind.HTTP: http}


def pod_defaults_of(settings: Settings) -> PodDefaults:
    """Return what the administrator gives pods that say nothing of it."""

    def amounts(given: tuple[str, ...]) -> ResourceList | None:
        return ResourceList(**dict(amount.split("=") for amount in given)) if given else None

    requests, limits = amounts(settings.default_pod_requests), amounts(settings.default_pod_limits)
    resources = Resources(requests=requests, limits=limits) if requests or limits else None
    return PodDefaults(image_pull_policy=settings.default_image_pull_policy, resources=resources)


async def close_all(in_process: Sequence[HandlerExecutor | HttpExecutor]) -> None:
    """Stop what runs in this process."""
    for executor in in_process:
        await executor.close()
