# SPDX-License-Identifier: Apache-2.0
"""Events through the gateway: from the delivery to the run that exists, beside a raw client that creates the same runs.

The gateway is the real process with the rights of the chart. The operator has checked the Workflows and is stopped then:
what carries runs out would take the processors from both sides. Both take turns, as in `throughput`.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import hmac
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from tests.bench.meters import cpu_seconds, machine_busy, named, shared_out, tree
from tests.bench.place import Broken, Place
from tests.cluster.cluster import Cluster, document, wait_for
from tests.cluster.event_gateway import ACCOUNT, Gateway

from kubesaga.kube.client import KubeClient, Object, Selection
from kubesaga.kube.resources import WORKFLOW_RUNS

IN_FLIGHT: Final = 32
SECRET: Final = b"a-secret-of-the-benchmark"
_SOURCE: Final = "bench"
_PATIENCE: Final = 30.0
_ROLES: Final = ("API server", "etcd", "client", "gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCase:
    """A Workflow with one trigger, and the type of event that it waits for."""

    label: str
    type: str
    trigger: dict[str, Any]

    @property
    def workflow(self) -> dict[str, Any]:
        """The Workflow. Nobody carries its runs out."""
        trigger = {"name": "on", "event": self.type, "inputs": {"ticket": "${event.data.ticketId}"}, **self.trigger}
        spec = {
            "description": "Waits for events.",
            "inputs": [{"name": "ticket"}],
            "triggers": [trigger],
            "activities": [{"name": "a", "handler": "bench:noop"}],
        }
        return document("Workflow", self.type.replace(":", "-"), spec)


_CONDITIONS: Final = {"priority": {"in": ["high", "urgent"]}, "customer.tier": {"neq": "trial"}}
CASES: Final = (
    EventCase(label="conditions", type="bench:conditions", trigger={"conditions": _CONDITIONS}),
    EventCase(
        label="conditions, when", type="bench:when",
        trigger={"conditions": _CONDITIONS, "when": 'event.data.customer.tags.exists(tag, tag == "vip")'},
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of one side."""

    seconds: float
    took: list[float]
    """Seconds of each event or creation."""
    cpu: dict[str, float]
    """Seconds of processor time by role."""
    others: float
    """Share of the machine (0 to 1) that other processes took."""

    @property
    def rate(self) -> float:
        """Events or creations a second."""
        return len(self.took) / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class EventResult:
    """All pairs of a case: (ours, raw); and both when nothing else happens, one after another."""

    label: str
    pairs: list[tuple[Turn, Turn]] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    raw_idle: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Our rate by the raw client's, pair by pair."""
        return [ours.rate / raw.rate for ours, raw in self.pairs]

    def rate(self, side: int) -> float:
        """Median rate; side 0 is ours, 1 raw."""
        return statistics.median(pair[side].rate for pair in self.pairs)

    def took(self, side: int) -> list[float]:
        """Return what each event or creation took, over all pairs."""
        return [each for pair in self.pairs for each in pair[side].took]

    def cpu(self, side: int) -> dict[str, float]:
        """Median milliseconds of processor time of an event or creation, by role."""
        turns = [pair[side] for pair in self.pairs]
        return {role: statistics.median(t.cpu[role] * 1000 / len(t.took) for t in turns) for role in turns[0].cpu}

    @property
    def others(self) -> float:
        """Most of the machine that others took in any turn."""
        return max(turn.others for pair in self.pairs for turn in pair)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """Many events of which few start a run."""

    events: int
    matching: int
    turn: Turn
    memory: list[int]
    """Bytes of memory of the gateway (PSS): before, most of a look each 1,000 events, and after."""


class BenchGateway(Gateway):
    """The gateway as a process."""

    @property
    def pid(self) -> int:
        """Of the gateway; the processes for expressions are its children."""
        assert self._process is not None
        return self._process.pid


async def measure(place: Place, *, turn: int, pairs: int, idle: int, flood: int) -> tuple[list[EventResult], Flood]:
    """Measure: `turn` events a turn, `idle` one after another, and `flood` of which one in a hundred matches."""
    _prepare(place)
    folder = Path(place.operator.folder)
    with BenchGateway(place.cluster, folder, "bench-gateway") as gateway:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            bench = _Bench(place.client, place.ours, place.raw, gateway, session)
            results = [await bench.case(case, turn, pairs, idle) for case in CASES]
            return results, await bench.flood(CASES[0], flood)


def _prepare(place: Place) -> None:
    """Apply everything, let the operator check it, and stop it."""
    cluster = place.cluster
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [_SOURCE], "verbs": ["get"]}
    group, name = "rbac.authorization.k8s.io", {"name": _SOURCE}
    binding = {
        "roleRef": {"apiGroup": group, "kind": "Role", **name},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": cluster.namespace}],
    }
    token = {"token": base64.b64encode(SECRET).decode()}
    signed = {"hmac": {"secretRef": {"name": _SOURCE, "key": "token"}}}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": name, "data": token},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": name, "rules": [rule]},
        {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": name, **binding},
        document("WorkflowEventSource", _SOURCE, {"type": "CloudEvents", "auth": signed}),
        *[case.workflow for case in CASES],
    )
    for case in CASES:
        name_of: str = case.workflow["metadata"]["name"]
        wait_for(f"the Workflow {name_of} to be checked", lambda: _checked(cluster, name_of))  # noqa: B023 - used at once
    place.operator.stop()


def _checked(cluster: Cluster, name: str) -> bool:
    found = cluster.find("workflows", name) or {}
    return bool((found.get("status") or {}).get("currentRevision"))


class _Bench:
    """Both sides."""

    def __init__(
        self, client: KubeClient, ours: str, raw: str, gateway: BenchGateway, session: aiohttp.ClientSession
    ) -> None:
        self._client = client
        self._ours = ours
        self._raw = raw
        self._gateway = gateway
        self._session = session
        self._url = f"http://127.0.0.1:{gateway.port}/events/{ours}/{_SOURCE}"
        self._servers = {"API server": named("kube-apiserver"), "etcd": named("etcd")}

    async def case(self, case: EventCase, turn: int, pairs: int, idle: int) -> EventResult:
        """Measure one case."""
        result = EventResult(label=case.label)
        await self._events(case, "first", 1)
        template = await self._template(case)
        for number in range(-1, pairs):
            mark = f"{case.label[-4:]}-p{number + 1}"
            if number % 2:
                theirs = await self._creations(template, mark, turn)
                pair = (await self._events(case, mark, turn), theirs)
            else:
                pair = (await self._events(case, mark, turn), await self._creations(template, mark, turn))
            if number >= 0:  # the first pair warms both sides up
                result.pairs.append(pair)
        for number in range(idle):
            result.idle.extend((await self._events(case, f"idle{number}", 1)).took)
            result.raw_idle.extend((await self._creations(template, f"{case.label[-4:]}-idle{number}", 1)).took)
        await self._all_made(case, 1 + (pairs + 1) * turn + idle)
        return result

    async def flood(self, case: EventCase, events: int) -> Flood:
        """Send many events, of which one in a hundred has the priority that the trigger waits for."""
        await self._delete_all()
        bodies = [_event(case, f"flood-{number}", high=number % 100 == 0) for number in range(events)]
        memory = [shared_out(self._gateway.pid)]
        parts: list[Turn] = []
        for first in range(0, events, 1000):
            parts.append(await self._deliver(bodies[first : first + 1000], runs=None))
            memory.append(shared_out(self._gateway.pid))
        matching = sum(number % 100 == 0 for number in range(events))
        await self._all_made(case, matching)
        whole = Turn(
            seconds=sum(part.seconds for part in parts), took=[each for part in parts for each in part.took],
            cpu={role: sum(part.cpu[role] for part in parts) for role in parts[0].cpu},
            others=max(part.others for part in parts),
        )  # fmt: skip
        return Flood(events=events, matching=matching, turn=whole, memory=[memory[0], max(memory), memory[-1]])

    async def _events(self, case: EventCase, mark: str, count: int) -> Turn:
        return await self._deliver([_event(case, f"{mark}-{number}") for number in range(count)], runs=1)

    async def _deliver(self, bodies: Sequence[bytes], *, runs: int | None) -> Turn:
        """Send events; each must be taken, and cause so many runs."""
        signed = [(body, hmac.new(SECRET, body, hashlib.sha256).hexdigest()) for body in bodies]

        async def one(number: int) -> None:
            body, signature = signed[number]
            headers = {"Content-Type": "application/cloudevents+json", "X-Kubesaga-Signature": signature}
            async with self._session.post(self._url, data=body, headers=headers) as answer:
                told = await answer.json()
                if answer.status != 202 or (runs is not None and len(told["events"][0]["runs"]) != runs):
                    raise Broken(f"the gateway answered {answer.status}: {told}")

        return await self._turn(one, len(bodies))

    async def _creations(self, template: Object, mark: str, count: int) -> Turn:
        bodies = [_named_anew(template, f"{mark}-{number}") for number in range(count)]

        async def one(number: int) -> None:
            await self._client.create(WORKFLOW_RUNS, self._raw, bodies[number])

        return await self._turn(one, count)

    async def _turn(self, one: Callable[[int], Awaitable[None]], count: int) -> Turn:
        gate, took = asyncio.Semaphore(IN_FLIGHT), [0.0] * count

        async def timed(number: int) -> None:
            async with gate:
                began = time.monotonic()
                async with asyncio.timeout(_PATIENCE):
                    await one(number)
                took[number] = time.monotonic() - began

        busy, cpu, began = machine_busy(), self._cpu(), time.monotonic()
        await asyncio.gather(*(timed(number) for number in range(count)))
        seconds = time.monotonic() - began
        spent = {role: after - cpu[role] for role, after in self._cpu().items()}
        others = (machine_busy() - busy - sum(spent.values())) / (seconds * (os.cpu_count() or 1))
        return Turn(seconds=seconds, took=took, cpu=spent, others=min(1.0, max(0.0, others)))

    def _cpu(self) -> dict[str, float]:
        servers = {role: sum(map(cpu_seconds, pids)) for role, pids in self._servers.items() if pids}
        gateway = sum(map(cpu_seconds, tree(self._gateway.pid)))
        return {**servers, "client": cpu_seconds(os.getpid()), "gateway": gateway}

    async def _template(self, case: EventCase) -> Object:
        """Return the run that the gateway has made of the first event, as it was sent."""
        [made] = await self._runs(case)
        metadata = {name: made["metadata"][name] for name in ("labels", "annotations")}
        return {**{name: made[name] for name in ("apiVersion", "kind", "spec")}, "metadata": metadata}

    async def _runs(self, case: EventCase) -> list[Object]:
        labels = f"kubesaga.dev/workflow={case.workflow['metadata']['name']}"
        return list((await self._client.list(WORKFLOW_RUNS, Selection(namespace=self._ours, labels=labels))).items)

    async def _all_made(self, case: EventCase, wanted: int) -> None:
        if (found := len(await self._runs(case))) != wanted:
            raise Broken(f"the events should have made {wanted} runs, and there are {found}")

    async def _delete_all(self) -> None:
        listing = await self._client.list(WORKFLOW_RUNS, Selection(namespace=self._ours), metadata_only=True)
        for run in listing.items:
            await self._client.delete(WORKFLOW_RUNS, self._ours, run["metadata"]["name"])


def _event(case: EventCase, id_: str, *, high: bool = True) -> bytes:
    data = {
        "ticketId": f"T-{id_}",
        "title": "Nobody can log in since the new release, and the phones do not stop ringing",
        "priority": "high" if high else "low",
        "customer": {"id": "C-4711", "tier": "gold", "tags": ["new", "vip"]},
    }
    whole = {"specversion": "1.0", "id": id_, "source": "/bench", "type": case.type, "data": data}
    return json.dumps(whole).encode()


def _named_anew(template: Object, name: str) -> Object:
    body = copy.deepcopy(template)
    body["metadata"]["name"] = f"raw-run-of-the-same-length-{name}"
    return body
