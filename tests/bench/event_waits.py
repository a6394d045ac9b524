# SPDX-License-Identifier: Apache-2.0
"""Events for runs that wait: from the messenger's creation to the end of the wait, beside ever more live runs of the Workflow.

Each event is for one run, which a `when` of one comparison tells. All live runs of the Workflow are asked for each event,
so the interesting thing is how the cost grows with them.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.meters import cpu_seconds, tree
from tests.bench.place import PATIENCE, Broken, Place
from tests.cluster.cluster import document

from kubesaga.api.fields import parse_time
from kubesaga.api.names import API_VERSION
from kubesaga.kube.client import Object, Selection
from kubesaga.kube.resources import WORKFLOW_RUNS

_TYPE: Final = "bench:answered"
_IN_FLIGHT: Final = 32
_LOOK: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitFigures:
    """Events for some of many runs that wait."""

    waiting: int
    """Live runs of the Workflow."""
    events: int
    seconds: float
    """From the first messenger's creation until all have ended."""
    alone: list[float]
    """Seconds from a messenger's start to its end, one event at a time."""
    operator: float
    """Milliseconds of the operator's processor time for one event: the messenger, and the run that it ends."""


async def measure(place: Place, sizes: tuple[int, ...], events: int, alone: int) -> list[WaitFigures]:
    """Measure with so many live runs: `alone` events one at a time, then `events` at once."""
    return [await _Bench(place, size).run(events, alone) for size in sizes]


class _Bench:
    """One Workflow with its runs."""

    def __init__(self, place: Place, size: int) -> None:
        self._place, self._size, self._name = place, size, f"answered-{size}"
        self._gate = asyncio.Semaphore(_IN_FLIGHT)

    async def run(self, events: int, alone: int) -> WaitFigures:
        """Make the runs wait, and send the events."""
        wait = {"event": _TYPE, "when": "received.data.ticket == inputs.ticket", "timeout": "1h"}
        spec = {"inputs": [{"name": "ticket"}], "activities": [{"name": "answer", "waitFor": wait}]}
        self._place.cluster.apply(document("Workflow", self._name, spec))
        total = max(self._size, events + alone)
        await asyncio.gather(*(self._create(f"w{n}", {"inputs": {"ticket": f"T-{n}"}}) for n in range(total)))
        await self._until(lambda runs: sum(_phase(run) == "Waiting" for run in runs) == total)
        await asyncio.sleep(1.1)  # creation times are whole seconds, and a messenger must not be older than who waits
        took = []
        for number in range(alone):
            await self._messenger(number)
            [ended] = await self._until(_done, f"m{number}")
            took.append(_length(ended))
        before, began = self._cpu(), time.monotonic()
        await asyncio.gather(*(self._messenger(alone + number) for number in range(events)))
        ended = await self._until(lambda runs: sum(map(_delivered, runs)) == alone + events)
        seconds = time.monotonic() - began
        if len(ended) < alone + events:
            raise Broken(f"only {len(ended)} of {alone + events} messengers have delivered")
        spent = (self._cpu() - before) * 1000 / events
        return WaitFigures(waiting=total, events=events, seconds=seconds, alone=took, operator=spent)

    async def _messenger(self, number: int) -> None:
        event = {
            "specversion": "1.0", "type": _TYPE, "source": "/bench", "id": str(number), "data": {"ticket": f"T-{number}"},
        }  # fmt: skip
        await self._create(f"m{number}", {"deliver": True, "event": json.dumps(event)})

    async def _create(self, name: str, spec: dict[str, Any]) -> None:
        body = {
            "apiVersion": API_VERSION, "kind": "WorkflowRun",
            "metadata": {"name": f"{self._name}-{name}", "namespace": self._place.ours},
            "spec": {"workflowRef": {"name": self._name}, **spec},
        }  # fmt: skip
        async with self._gate:
            await self._place.client.create(WORKFLOW_RUNS, self._place.ours, body)

    async def _until(self, fits: Any, name: str = "") -> list[Object]:
        """Look until it fits at the runs, or one of them; return them, of all only the messengers."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if name:
                runs = [await self._place.client.get(WORKFLOW_RUNS, self._place.ours, f"{self._name}-{name}")]
            else:
                listing = await self._place.client.list(WORKFLOW_RUNS, Selection(namespace=self._place.ours))
                runs = [run for run in listing.items if run["metadata"]["name"].startswith(f"{self._name}-")]
            if fits(runs):
                return [run for run in runs if run["spec"].get("deliver")]
            await asyncio.sleep(0.005 if name else _LOOK)
        raise Broken(f"{self._name}: the runs do not get where they should")

    def _cpu(self) -> float:
        return sum(map(cpu_seconds, tree(self._place.operator.pid)))


def _phase(run: Object) -> str:
    return str((run.get("status") or {}).get("phase"))


def _delivered(run: Object) -> bool:
    return bool((run.get("status") or {}).get("reason") == "Delivered")


def _done(runs: list[Object]) -> bool:
    return all(_phase(run) == "Succeeded" for run in runs)


def _length(run: Object) -> float:
    status = run["status"]
    return (parse_time(status["completionTime"]) - parse_time(status["startTime"])).total_seconds()
