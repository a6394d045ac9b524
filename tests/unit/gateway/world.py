# SPDX-License-Identifier: Apache-2.0
"""A gateway on a real port before an API server on another one, and senders that write bytes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry
from tests.unit.kube.server import ApiServer, serving, until

from kubesaga.api.parsing import parse_event_source_spec
from kubesaga.api.triggers import TRIGGER_KEY_ANNOTATION
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.gateway.intake import Intake
from kubesaga.gateway.secrets import Secrets
from kubesaga.gateway.series import Series
from kubesaga.gateway.server import Bounds, Server
from kubesaga.gateway.sources import Sources, namespace_of
from kubesaga.kube.client import KubeClient
from kubesaga.kube.credentials import Authorization, Credentials
from kubesaga.kube.informer import Informer
from kubesaga.kube.resources import WORKFLOW_EVENT_SOURCES, WORKFLOWS
from kubesaga.kube.transport import Transport
from kubesaga.testing.clock import FakeClock
from kubesaga.triggers.awaiting import awaited_by
from kubesaga.triggers.causes import Caused, Matches
from kubesaga.triggers.events import Event
from kubesaga.triggers.making import RunMaker
from kubesaga.triggers.runs import Origin, messenger_of

SECRET = "open-sesame-4711"
NAMESPACE = "support"


class ByType:
    """Triggers, and live runs, that look at the type of event alone."""

    def match(self, workflow: dict[str, Any], event: Mapping[str, Any], text: str, origin: str) -> Matches:
        fitting = [each for each in workflow["spec"].get("triggers", ()) if each["event"] in ("*", event["type"])]
        stopped = [each["name"] for each in fitting if each["name"] in workflow["spec"].get("stops", ())]
        started = [each["name"] for each in fitting if each["name"] not in stopped]
        caused = [self._caused(workflow, name, event, text, origin) for name in started]
        if awaited_by(workflow).waits_for(event["type"]):
            metadata = workflow["metadata"]
            home = Origin(namespace=NAMESPACE, name=metadata["name"], uid=metadata["uid"])
            told = Event(type=event["type"], source=origin, id=event["id"], document=event, text=text)
            caused.append(Caused(trigger=None, run=messenger_of(home, told)))
        return Matches(
            caused=caused,
            filtered=workflow["spec"].get("filters", 0),
            stopped=stopped,
        )

    def _caused(
        self, workflow: dict[str, Any], trigger: str, event: Mapping[str, Any], text: str, origin: str
    ) -> Caused:
        key = json.dumps([workflow["metadata"]["uid"], trigger, origin, event["id"]])
        metadata = {
            "namespace": NAMESPACE,
            "name": f"{trigger}-{hashlib.sha256(key.encode()).hexdigest()[:12]}",
            "labels": {"team": "desk"},
            "annotations": {TRIGGER_KEY_ANNOTATION: key},
        }
        spec = {"workflowRef": {"name": workflow["metadata"]["name"]}, "inputs": {"id": event["id"]}, "event": text}
        run = {"apiVersion": "kubesaga.dev/v1alpha1", "kind": "WorkflowRun", "metadata": metadata, "spec": spec}
        return Caused(trigger=trigger, run=run)


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def runs(self) -> list[dict[str, Any]]:
        return [run for event in self.json["events"] for run in event["runs"]]


@dataclass
class Delivery:
    """A request, byte for byte as it is told; `length` None: no Content-Length."""

    path: str = f"/events/{NAMESPACE}/tickets"
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    method: str = "POST"
    length: int | str | None = -1
    chunks: Iterable[bytes] | None = None

    def head(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: gateway", *(f"{n}: {v}" for n, v in self.headers)]
        if self.chunks is not None:
            lines.append("Transfer-Encoding: chunked")
        elif self.length is not None:
            lines.append(f"Content-Length: {len(self.body) if self.length == -1 else self.length}")
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


class World:
    """Everything of one test."""

    def __init__(self, api: ApiServer, client: KubeClient, server: Server, clock: FakeClock, series: Series) -> None:
        self.api, self.client, self.server, self.clock, self.series = api, client, server, clock, series
        self.port = 0

    async def source(self, name: str = "tickets", **spec: Any) -> None:
        """Make an event source, with a signature by default."""
        ref = {"secretRef": {"name": "tickets", "key": "token"}}
        whole = {"type": "CloudEvents", "auth": {"hmac": ref}, **spec}
        await self._put("workfloweventsources", "WorkflowEventSource", name, whole)
        wanted = parse_event_source_spec(whole)

        def known() -> bool:
            found = self.sources.find(NAMESPACE, name)
            return found is not None and found.spec == wanted

        await until(known)

    async def workflow(self, name: str = "greet", event: str = "ticket:created", **spec: Any) -> None:
        """Make a Workflow with a trigger."""
        triggers = [{"name": "created", "event": event}]
        await self._put("workflows", "Workflow", name, {"triggers": triggers, **spec})
        await until(lambda: any(w["metadata"]["name"] == name for w in self.sources.workflows(NAMESPACE)))

    async def secret(self, value: str = SECRET, name: str = "tickets") -> None:
        data = {"token": base64.b64encode(value.encode()).decode()}
        metadata = {"namespace": NAMESPACE, "name": name}
        await self.api.put("secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    async def _put(self, plural: str, kind: str, name: str, spec: dict[str, Any]) -> None:
        metadata = {"namespace": NAMESPACE, "name": name}
        await self.api.put(plural, {"apiVersion": "kubesaga.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})  # fmt: skip

    sources: Sources

    def runs(self) -> list[dict[str, Any]]:
        return [obj for (plural, _, _), obj in self.api.objects.items() if plural == "workflowruns"]

    def asked(self, method: str, plural: str) -> int:
        return sum(each.method == method and f"/{plural}" in each.path for each in self.api.requests)

    def counted(self, name: str, **labels: str) -> float:
        """Return a sample of the gateway's series, 0 where there is none."""
        return self.registry.get_sample_value(name, labels) or 0

    registry: CollectorRegistry

    def now(self) -> int:
        return int(self.clock.now().timestamp())

    async def send(self, delivery: Delivery) -> Reply:
        """Send a delivery over a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        # Read while it is sent: who is refused in the middle is told so, and then cut off.
        sending = asyncio.create_task(_write(writer, delivery))
        try:
            return await read_reply(reader)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.close()

    async def raw(self, text: bytes) -> Reply:
        """Send bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(text)
        try:
            return await read_reply(reader)
        finally:
            writer.close()


async def _write(writer: asyncio.StreamWriter, delivery: Delivery) -> None:
    writer.write(delivery.head())
    if delivery.chunks is None:
        writer.write(delivery.body)
        return
    for chunk in delivery.chunks:
        writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """Read one answer; status 0: the connection ended without one."""
    async with asyncio.timeout(30):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return Reply(0, {}, b"")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Reply(int(first.split()[1]), headers, body)


@asynccontextmanager
async def gateway(
    evaluator: Evaluator, *, api: ApiServer | None = None, clock: FakeClock | None = None, **bounds: Any
) -> AsyncIterator[World]:
    """Run a gateway; several may share an API server."""
    if api is None:
        async with serving() as own, gateway(evaluator, api=own, clock=clock, **bounds) as world:
            yield world
        return
    clock = clock or FakeClock()
    credentials = Credentials(server=api.url)
    transport = Transport(Authorization(_Same(credentials), credentials, clock=clock.monotonic), user_agent="test", clock=clock.monotonic)  # fmt: skip
    client = KubeClient(transport)
    informers = [
        Informer(client, resource, clock=clock.monotonic, sleep=asyncio.sleep, random=lambda: 0.0, index_key=namespace_of)
        for resource in (WORKFLOW_EVENT_SOURCES, WORKFLOWS)
    ]  # fmt: skip
    sources = Sources(*informers)
    series = Series(registry := CollectorRegistry())
    triggers = ByType()
    intake = Intake(
        sources, Secrets(client, clock.monotonic), RunMaker(client), triggers, evaluator=evaluator, series=series, clock=clock
    )  # fmt: skip
    server = Server(intake.deliver, Bounds(**bounds), series, clock.monotonic)
    world = World(api, client, server, clock, series)
    world.sources, world.registry = sources, registry
    tasks = [asyncio.create_task(informer.run()) for informer in informers]
    try:
        await asyncio.gather(*(informer.wait_synced() for informer in informers))
        world.port = await server.start("127.0.0.1", 0)
        yield world
    finally:
        await server.close(5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()


class _Same:
    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def load(self) -> Credentials:
        return self._credentials

    refresh = load


# --- deliveries -----------------------------------------------------------------------------------------------------


def event(**more: Any) -> dict[str, Any]:
    """Return a CloudEvent; None leaves an attribute out."""
    whole = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/desk",
        "type": "ticket:created",
        "data": {"id": "T-1"},
        **more,
    }
    return {name: value for name, value in whole.items() if value is not ...}


def signature(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, "sha256").hexdigest()


def signed(value: Any, **change: Any) -> Delivery:
    """Return a structured CloudEvent with its signature."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = [("Content-Type", "application/cloudevents+json"), ("X-Kubesaga-Signature", signature(body))]
    return Delivery(**{"body": body, "headers": headers, **change})


def slack(value: Any, now: int, *, secret: str = SECRET, **more: str) -> Delivery:
    """Return what Slack sends."""
    body = json.dumps(value).encode()
    digest = signature(b"v0:%d:%s" % (now, body), secret)
    headers = [
        ("Content-Type", "application/json"), ("X-Slack-Signature", f"v0={digest}"),
        ("X-Slack-Request-Timestamp", str(now)), *more.items(),
    ]  # fmt: skip
    return Delivery(path=f"/events/{NAMESPACE}/slack", body=body, headers=headers)
