# SPDX-License-Identifier: Apache-2.0
"""What finished runs cost the operator: memory, time to start, work while nothing happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.bench.meters import resident, run_seconds, shared_out, tree
from tests.bench.observer import Sight, observing
from tests.bench.place import Arrivals, Place, finish_all, finished_runs, run_of

from kubesaga.kube.resources import WORKFLOW_RUNS

_LIVE: Final = 10
_SETTLE: Final = 2.0
"""Seconds between the load and a look at the memory."""
_IDLE: Final = 5.0
"""Seconds over which the idle operator's processor time is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """Bytes of memory: resident, of the operator's process; and proportional, with its processes for expressions."""

    own: int
    all: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryResult:
    """Memory in bytes, times in seconds."""

    finished: int
    fresh: Weight
    """Started in an empty namespace."""
    begun: Weight
    """After the first fifth of the runs: from here on, what grows does so with the number of runs."""
    processed: Weight
    """After it has carried that many runs out, and nothing is live."""
    restarted: Weight
    """After a restart with all of them stored, and the live ones."""
    lead_fresh: float
    lead_restarted: float
    """From the start of the process until it leads."""
    first_progress: float
    last_progress: float
    """From the start of the process until the first and the last of the live runs has got a new status."""
    idle_cpu: float
    """Share of one processor that the operator takes at the end, when nothing is live."""

    @property
    def per_processed_run(self) -> float:
        """Bytes that each further run left behind in the operator that carried it out."""
        return (self.processed.own - self.begun.own) / (self.finished - self.finished // 5)

    @property
    def per_stored_run(self) -> float:
        """Bytes that each stored run costs an operator that was started afterwards; the live ones are counted in."""
        return (self.restarted.own - self.fresh.own) / self.finished


async def measure(place: Place, finished: int) -> MemoryResult:
    """Measure in a place of its own, whose operator has not been started yet."""
    operator = place.operator
    lead_fresh = await operator.lead()
    gate = operator.folder / "gate"
    place.workflow("one", [{"name": "a0", "handler": "bench:noop"}])
    # An expression, so that the processes that evaluate them are there and weighed.
    held = {"name": "held", "handler": "bench:hold", "params": {"gate": f"${{'{gate}'}}"}}
    place.workflow("held", [held, {"name": "after", "handler": "bench:noop"}])
    await asyncio.sleep(_SETTLE)
    fresh = _weigh(operator.pid)
    names = [f"done-{number}" for number in range(finished)]
    async with finished_runs(place.client, place.ours) as arrivals:
        begun = await _carry_out(place, names[: finished // 5], arrivals)
        processed = await _carry_out(place, names[finished // 5 :], arrivals)
        lead, first, last = await _restart(place)
        await asyncio.sleep(_SETTLE)
        restarted = _weigh(operator.pid)
        ends = [arrivals.expect(name) for name in _live()]
        gate.touch()
        await asyncio.gather(*ends)
    # At the end: after a thousand runs the operator would still be posting their Events, ten a second.
    await asyncio.sleep(_SETTLE)
    idle = await _idle(operator.pid)
    return MemoryResult(
        finished=finished, fresh=fresh, begun=begun, processed=processed, restarted=restarted, lead_fresh=lead_fresh,
        lead_restarted=lead, first_progress=first, last_progress=last, idle_cpu=idle,
    )  # fmt: skip


async def _carry_out(place: Place, names: list[str], arrivals: Arrivals) -> Weight:
    """Let the operator carry runs out; return what it weighs afterwards."""
    await finish_all(place.client, place.ours, "one", names, arrivals, at_once=32)
    await asyncio.sleep(_SETTLE)
    return _weigh(place.operator.pid)


async def _restart(place: Place) -> tuple[float, float, float]:
    """Kill the operator while runs are under way and start it; return seconds until it leads, first and last progress."""
    operator, names = place.operator, set(_live())
    async with observing(place.cluster.kubeconfig, place.ours, "runs") as sights:
        for name in sorted(names):
            await place.client.create(WORKFLOW_RUNS, place.ours, run_of(name, "held"))
        for name in names:
            await sights.until(_of(name, _holds), f"{name} under way")
        operator.kill()
        began = time.monotonic()
        lead = await operator.lead()
        moved = []
        for name in names:
            sight = await sights.until(_of(name, lambda sight: bool(sight["at"] > began)), f"{name} going on")
            moved.append(sight["at"] - began)
    return lead, min(moved), max(moved)


def _live() -> list[str]:
    return [f"live-{number}" for number in range(_LIVE)]


def _of(name: str, fits: Callable[[Sight], bool]) -> Callable[[Sight], bool]:
    return lambda sight: sight["name"] == name and fits(sight)


def _holds(sight: Sight) -> bool:
    return bool(sight["activities"].get("held") == "Running")


def _weigh(pid: int) -> Weight:
    return Weight(own=resident(pid), all=sum(shared_out(one) for one in tree(pid)))


async def _idle(pid: int) -> float:
    before = sum(run_seconds(one) for one in tree(pid))
    await asyncio.sleep(_IDLE)
    return (sum(run_seconds(one) for one in tree(pid)) - before) / _IDLE
