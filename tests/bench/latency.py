# SPDX-License-Identifier: Apache-2.0
"""How long a run waits on a cluster with nothing else to do: created to first activity, one activity to the next."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tests.bench.observer import Sight, Sights, observing
from tests.bench.place import Place, run_of
from tests.bench.replay import record, replay

from kubesaga.kube.resources import WORKFLOW_RUNS

_ACTIVITIES: Final = 10
_PAUSE: Final = 0.2
"""Seconds between two runs, so that none waits for another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyResult:
    """Seconds, one value for each run or for each step of a run."""

    created_to_handler: list[float]
    """From the observer's sight of the new run to the call of the first handler."""
    created_to_recorded: list[float]
    """From the same to the observer's sight of a status with a running activity."""
    step: list[float]
    """From the call of a handler that does nothing to the call of the next."""
    raw_start: list[float]
    """The two writes that stand between creation and first activity, by the raw client: claim and status."""
    raw_step: list[float]
    """The one status write that stands between two activities, by the raw client."""


async def measure(place: Place, runs: int) -> LatencyResult:
    """Make runs one after another, with pauses; ours and the raw client's in turns."""
    chain = [{"name": f"a{number}", "handler": "bench:stamp"} for number in range(_ACTIVITIES)]
    place.workflow("stamp", chain)
    recording = await record(place.client, place.ours, "stamp", "stamp-record")
    raw_start: list[float] = []
    raw_step: list[float] = []
    names = [f"idle-{number}" for number in range(runs)]
    async with observing(place.cluster.kubeconfig, place.ours, "runs") as sights:
        for name in names:
            await place.client.create(WORKFLOW_RUNS, place.ours, run_of(name, "stamp"))
            await sights.until(_is_over(name), f"the end of {name}")
            await asyncio.sleep(_PAUSE)
            took = await replay(place.client, place.raw, name, recording)
            raw_start.append(sum(took[:2]))
            raw_step += took[2:-2]
            await asyncio.sleep(_PAUSE)
    starts = [_start(sights, name) for name in names]
    return LatencyResult(
        created_to_handler=[handler for handler, _ in starts],
        created_to_recorded=[recorded for _, recorded in starts],
        step=[gap for name in names for gap in _steps(sights, name)],
        raw_start=raw_start,
        raw_step=raw_step,
    )


def percentile(values: list[float], percent: float) -> float:
    """Return the smallest value that so many percent do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, int(rank) - 1)]


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def _is_over(name: str) -> Callable[[Sight], bool]:
    return lambda sight: sight["name"] == name and sight["phase"] == "Succeeded"


def _start(sights: Sights, name: str) -> tuple[float, float]:
    seen = sights.of(name)
    created = next(sight["at"] for sight in seen if sight["type"] == "ADDED")
    recorded = next(sight["at"] for sight in seen if "Running" in sight["activities"].values())
    return _stamps(seen)[0] - created, recorded - created


def _steps(sights: Sights, name: str) -> list[float]:
    stamps = _stamps(sights.of(name))
    return [later - earlier for earlier, later in pairwise(stamps)]


def _stamps(seen: list[Sight]) -> list[float]:
    found: list[float] = sorted(seen[-1]["stamps"].values())
    return found
