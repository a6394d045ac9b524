# SPDX-License-Identifier: Apache-2.0
"""Kopf's part: it watches the custom resources and tells the queue which keys to look at.

Only `on.event` handlers, one line each: Kopf logs and drops what they raise, so nothing in them may fail. Kopf writes
nothing: no finalizers, annotations or patches of its own (why each setting: docs/design/0002-kopf.md).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

import kopf

from kubesaga.api.names import GROUP, VERSION
from kubesaga.controller.kube_records import LIVE
from kubesaga.engine.attempt import RunKey
from kubesaga.kube.credentials import Credentials


class Backoffs:
    """Pauses between failed requests of a watch, without end: 1, 2, 4 … 30 s, each cut by up to half at random."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter

    def __iter__(self) -> Iterator[float]:
        pause = 1.0
        while True:
            yield pause * (0.5 + self._jitter() / 2)
            pause = min(pause * 2, 30.0)


class Listener(Protocol):
    """Who is told of changes."""

    def run_changed(self, key: RunKey, body: dict[str, Any], *, gone: bool) -> None:
        """A WorkflowRun was added or changed, or (`gone`) deleted or finished; then `body` is an old copy."""

    def workflow_changed(self, key: RunKey) -> None:
        """A Workflow was added, changed or deleted."""

    def activity_changed(self, key: RunKey, body: dict[str, Any], *, gone: bool) -> None:
        """An Activity was added or changed, or (`gone`) deleted; then `body` is an old copy."""

    def event_source_changed(self, key: RunKey) -> None:
        """A WorkflowEventSource was added, changed or deleted."""

    def action_changed(self, key: RunKey, body: dict[str, Any], *, gone: bool) -> None:
        """A WorkflowAction was added or changed, or (`gone`) deleted or done with; then `body` is an old copy."""


def registry_of(listener: Listener, credentials: Callable[[], Awaitable[Credentials]]) -> kopf.OperatorRegistry:
    """Return Kopf's handlers: five watches and a login."""
    registry = kopf.OperatorRegistry()

    @kopf.on.event(GROUP, VERSION, "workflowruns", registry=registry)
    async def on_run(event: kopf.RawEvent, namespace: str | None, name: str | None, **_: Any) -> None:
        listener.run_changed(_key(namespace, name), dict(event["object"]), gone=event["type"] == "DELETED")

    @kopf.on.event(GROUP, VERSION, "workflows", registry=registry)
    async def on_workflow(namespace: str | None, name: str | None, **_: Any) -> None:
        listener.workflow_changed(_key(namespace, name))

    @kopf.on.event(GROUP, VERSION, "activities", registry=registry)
    async def on_activity(event: kopf.RawEvent, namespace: str | None, name: str | None, **_: Any) -> None:
        listener.activity_changed(_key(namespace, name), dict(event["object"]), gone=event["type"] == "DELETED")

    @kopf.on.event(GROUP, VERSION, "workfloweventsources", registry=registry)
    async def on_event_source(namespace: str | None, name: str | None, **_: Any) -> None:
        listener.event_source_changed(_key(namespace, name))

    @kopf.on.event(GROUP, VERSION, "workflowactions", registry=registry)
    async def on_action(event: kopf.RawEvent, namespace: str | None, name: str | None, **_: Any) -> None:
        listener.action_changed(_key(namespace, name), dict(event["object"]), gone=event["type"] == "DELETED")

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return _connection(await credentials())

    return registry


def settings_of(jitter: Callable[[], float]) -> kopf.OperatorSettings:
    """Return Kopf's settings."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.persistence.finalizer = f"{GROUP}/kopf"
    settings.persistence.consistency_timeout = 0
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = Backoffs(jitter)
    settings.networking.enforce_retry_after = True
    settings.watching.connect_timeout = 10
    settings.watching.server_timeout = 300
    settings.watching.inactivity_timeout = 70
    settings.watching.chunk_size = 500
    for plural in ("workflowruns", "workflowactions"):
        settings.watching.label_selectors[GROUP, plural] = LIVE
    settings.queueing.idle_timeout = 0.1
    return settings


def _key(namespace: str | None, name: str | None) -> RunKey:
    return RunKey(namespace=namespace or "", name=name or "")


def _connection(credentials: Credentials) -> kopf.ConnectionInfo:
    return kopf.ConnectionInfo(
        server=credentials.server,
        ca_path=credentials.ca_path,
        ca_data=credentials.ca_data,
        insecure=credentials.insecure,
        scheme=credentials.scheme,
        token=credentials.token,
        certificate_path=credentials.certificate_path,
        private_key_path=credentials.private_key_path,
        proxy_url=credentials.proxy,
    )
