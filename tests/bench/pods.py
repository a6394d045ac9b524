# SPDX-License-Identifier: Apache-2.0
"""How many pods a second, beside a client that creates the same pods on the same node and waits for them.

The node is the limit here: a container takes the kubelet and the container runtime much longer to start than anybody
takes to ask for it. So this tells whether the operator keeps the node busy, not how fast the operator is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from tests.bench.meters import Cost, Meters, cost
from tests.bench.observer import Sights, observing
from tests.bench.place import PATIENCE, Arrivals, Place, finish_all, finished_runs
from tests.bench.throughput import Side
from tests.cluster.cluster import busybox

from kubesaga.kube.client import Selection
from kubesaga.kube.resources import PODS

_IN_FLIGHT: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PodCase:
    """So many runs of so many pods, one after another in each run."""

    runs: int
    pods: int

    @property
    def workflow(self) -> str:
        """Name of the Workflow."""
        return f"pods-{self.pods}"

    @property
    def label(self) -> str:
        """Name in the report."""
        return f"{self.runs} x {self.pods}"

    @property
    def all(self) -> int:
        """How many pods."""
        return self.runs * self.pods


POD_CASES: Final = (PodCase(runs=20, pods=1), PodCase(runs=3, pods=5))


@dataclass(frozen=True, slots=True, kw_only=True)
class PodResult:
    """All pairs of a case: (ours, raw)."""

    case: PodCase
    pairs: list[tuple[Side, Side]] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    """Seconds from an observer's sight of a pod that has succeeded to its sight of the next pod of the run."""

    @property
    def ratios(self) -> list[float]:
        """Our rate by the raw client's, pair by pair."""
        return [raw.seconds / ours.seconds for ours, raw in self.pairs]

    def rate(self, side: int) -> float:
        """Pods a second over all pairs; side 0 is ours, 1 raw."""
        return self.case.all * len(self.pairs) / sum(pair[side].seconds for pair in self.pairs)

    def writes(self, side: int) -> float:
        """Writes of pods and runs for one pod, scheduler's and kubelet's included, Kubernetes Events left out."""
        kinds = ("pods", "pods/status", "pods/binding", "workflowruns", "workflowruns/status")
        return sum(pair[side].cost.writes(*kinds) for pair in self.pairs) / (self.case.all * len(self.pairs))


async def measure(place: Place, cases: Sequence[PodCase], pairs: int) -> list[PodResult]:
    """Measure all cases in turns."""
    meters = Meters(place.cluster, place.operator)
    for case in cases:
        place.workflow(case.workflow, [{"name": f"p{number}", "pod": busybox("true")} for number in range(case.pods)])
    results = [PodResult(case=case) for case in cases]
    ended = Arrivals(place.client, PODS, Selection(namespace=place.raw, fields="status.phase=Succeeded"))
    async with (
        observing(place.cluster.kubeconfig, place.ours, "pods") as sights,
        finished_runs(place.client, place.ours) as finished,
        ended,
    ):
        await finish_all(place.client, place.ours, cases[0].workflow, ["warm"], finished, at_once=1)
        pattern = await _pattern(place)
        for number in range(pairs):
            for result in results:
                turns = _Turns(place, meters, result.case, number, finished, ended, pattern)
                result.pairs.append(await turns.both(raw_first=number % 2 == 1))
        for result in results:
            result.gaps.extend(_gaps(sights, result.case))
    return results


@dataclass(frozen=True, slots=True)
class _Turns:
    place: Place
    meters: Meters
    case: PodCase
    number: int
    finished: Arrivals
    ended: Arrivals
    pattern: dict[str, Any]

    async def both(self, *, raw_first: bool) -> tuple[Side, Side]:
        """Let both sides have their turn."""
        if raw_first:
            raw = await self._raw()
            return await self._ours(), raw
        return await self._ours(), await self._raw()

    async def _ours(self) -> Side:
        before = self.meters.read()
        client, namespace = self.place.client, self.place.ours
        seconds = await finish_all(
            client, namespace, self.case.workflow, self._names, self.finished, at_once=_IN_FLIGHT
        )
        return Side(seconds=seconds, cost=self._cost(before))

    async def _raw(self) -> Side:
        before = self.meters.read()
        began = time.monotonic()
        await asyncio.gather(*(self._chain(name) for name in self._names))
        return Side(seconds=time.monotonic() - began, cost=self._cost(before))

    async def _chain(self, name: str) -> None:
        for step in range(self.case.pods):
            pod = {**self.pattern, "metadata": {**self.pattern["metadata"], "name": f"{name}-{step}"}}
            done = self.ended.expect(f"{name}-{step}")
            await self.place.client.create(PODS, self.place.raw, pod)
            async with asyncio.timeout(PATIENCE):
                await done

    def _cost(self, before: Any) -> Cost:
        return cost(before, self.meters.read())

    @property
    def _names(self) -> list[str]:
        return [f"pods-{self.number}-{self.case.pods}-{index}" for index in range(self.case.runs)]


async def _pattern(place: Place) -> dict[str, Any]:
    """Return the pod that the operator makes, without what ties it to a run and a node."""
    pod = (await place.client.list(PODS, Selection(namespace=place.ours))).items[0]
    metadata = {name: pod["metadata"][name] for name in ("labels", "annotations")}
    spec = {name: value for name, value in pod["spec"].items() if name != "nodeName"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _gaps(sights: Sights, case: PodCase) -> list[float]:
    added: dict[str, float] = {}
    succeeded: dict[str, float] = {}
    runs: dict[str, list[str]] = {}
    for sight in sights.seen:
        if f"-{case.pods}-" not in f"{sight['run']}":
            continue
        if sight["name"] not in added:
            added[sight["name"]] = sight["at"]
            runs.setdefault(sight["run"], []).append(sight["name"])
        if sight["phase"] == "Succeeded":
            succeeded.setdefault(sight["name"], sight["at"])
    return [added[later] - succeeded[earlier] for names in runs.values() for earlier, later in pairwise(names)]
