# SPDX-License-Identifier: Apache-2.0
"""How many runs and activities a second, beside the raw client: pair by pair, in turns, the order changing."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.bench.meters import Cost, Meters, cost
from tests.bench.place import Arrivals, Broken, Place, finish_all, finished_runs
from tests.bench.replay import Recording, record, replay_all

from kubesaga.kube.client import Selection
from kubesaga.kube.resources import WORKFLOW_RUNS

IN_FLIGHT: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """So many runs of so many activities, one after another in each run."""

    runs: int
    activities: int

    @property
    def workflow(self) -> str:
        """Name of the Workflow."""
        return f"noop-{self.activities}"

    @property
    def label(self) -> str:
        """Name in the report."""
        return f"{self.runs} x {self.activities}"


CASES: Final = (Case(runs=200, activities=1), Case(runs=60, activities=10), Case(runs=4, activities=100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One turn of one side."""

    seconds: float
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """All pairs of a case: (ours, raw)."""

    case: Case
    recorded_writes: int
    """Writes that follow the creation of one run, as a watch has seen them."""
    pairs: list[tuple[Side, Side]] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Our rate by the raw client's, pair by pair."""
        return [raw.seconds / ours.seconds for ours, raw in self.pairs]

    def rate(self, side: int) -> float:
        """Median of the runs a second; side 0 is ours, 1 raw."""
        return statistics.median(self.case.runs / pair[side].seconds for pair in self.pairs)

    def cpu(self, side: int) -> Mapping[str, float]:
        """Median milliseconds of processor time for one activity, by role."""
        acts = self.case.runs * self.case.activities
        roles = self.pairs[0][side].cost.cpu
        return {
            role: statistics.median(pair[side].cost.cpu[role] * 1000 / acts for pair in self.pairs) for role in roles
        }

    @property
    def cpu_ratios(self) -> list[float]:
        """The raw client's processor time by ours, servers included, pair by pair: it suffers less from others at work."""
        return [_spent(raw, "client") / _spent(ours, "client", "operator") for ours, raw in self.pairs]

    @property
    def status_writes(self) -> list[float]:
        """Our status writes for one run, pair by pair. Others who write runs at the time are counted in."""
        return self._per_run(lambda cost: cost.writes("workflowruns/status"))

    @property
    def other_writes(self) -> list[float]:
        """Our other writes of runs: creation, claim, tidying up."""
        return self._per_run(lambda cost: cost.writes("workflowruns"))

    @property
    def events(self) -> list[float]:
        """Kubernetes Events for one run; the operator limits their rate and posts the rest later."""
        return self._per_run(lambda cost: cost.writes("events"))

    @property
    def reads(self) -> list[float]:
        """Reads of runs, Workflows and revisions for one run."""
        return self._per_run(lambda cost: cost.reads("workflowruns", "workflows", "controllerrevisions"))

    @property
    def passes(self) -> list[float]:
        """The operator's passes for one run."""
        return self._per_run(lambda cost: cost.passes)

    @property
    def conflicts(self) -> int:
        """The operator's writes that were answered with a conflict, in all pairs."""
        return round(sum(ours.cost.conflicts for ours, _ in self.pairs))

    def _per_run(self, count: Callable[[Cost], float]) -> list[float]:
        return [count(ours.cost) / self.case.runs for ours, _ in self.pairs]

    @property
    def others(self) -> float:
        """Most of the machine that others took in any turn."""
        return max(side.cost.others for pair in self.pairs for side in pair)


async def measure(place: Place, cases: Sequence[Case], pairs: int) -> list[CaseResult]:
    """Measure all cases in turns, so that all of them see the same minutes."""
    meters = Meters(place.cluster, place.operator)
    results: list[tuple[CaseResult, Recording]] = []
    async with finished_runs(place.client, place.ours) as ours, finished_runs(place.client, place.raw) as raw:
        for case in cases:
            place.workflow(case.workflow, _chain(case.activities))
            recording = await record(place.client, place.ours, case.workflow, f"record-{case.activities}")
            results.append((CaseResult(case=case, recorded_writes=len(recording.writes)), recording))
        for number in range(-1, pairs):
            for result, recording in results:
                pair = await _pair(place, meters, result.case, recording, number, ours, raw)
                if number >= 0:  # the first pair warms both sides up
                    result.pairs.append(pair)
    await _all_succeeded(place)
    return [result for result, _ in results]


async def _pair(
    place: Place, meters: Meters, case: Case, recording: Recording, number: int, ours: Arrivals, raw: Arrivals
) -> tuple[Side, Side]:
    names = [f"p{number + 1}-{case.activities}-{index}" for index in range(case.runs)]

    async def our_turn() -> Side:
        before = meters.read()
        seconds = await finish_all(place.client, place.ours, case.workflow, names, ours, at_once=IN_FLIGHT)
        return Side(seconds=seconds, cost=cost(before, meters.read()))

    async def raw_turn() -> Side:
        before = meters.read()
        seconds = await replay_all(place.client, place.raw, names, recording, raw, at_once=IN_FLIGHT)
        return Side(seconds=seconds, cost=cost(before, meters.read()))

    if number % 2:
        theirs = await raw_turn()
        return await our_turn(), theirs
    return await our_turn(), await raw_turn()


def _chain(activities: int) -> list[dict[str, object]]:
    return [{"name": f"a{number}", "handler": "bench:noop"} for number in range(activities)]


def _spent(side: Side, *who: str) -> float:
    return sum(side.cost.cpu.get(role, 0.0) for role in ("API server", "etcd", *who))


async def _all_succeeded(place: Place) -> None:
    listing = await place.client.list(WORKFLOW_RUNS, Selection(namespace=place.ours))
    wrong = [run["metadata"]["name"] for run in listing.items if run.get("status", {}).get("phase") != "Succeeded"]
    if wrong:
        raise Broken(f"{len(wrong)} of {len(listing.items)} runs did not succeed, {wrong[0]} among them")
