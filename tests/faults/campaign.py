# SPDX-License-Identifier: Apache-2.0
"""Plays many cases, some side by side, and counts: what was faulted, what does not count, what broke an invariant."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.faults.checker import violations
from tests.faults.faults import Fixed
from tests.faults.lane import Lane, open_lane, unexpected_exits
from tests.faults.operator_process import LEASE_LOST
from tests.faults.plans import Case
from tests.faults.record import Record
from tests.faults.upstream import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one case."""

    case: Case
    record: Record
    violations: list[str]

    @property
    def counts(self) -> bool:
        """Tell whether it is worth anything: the fault struck, and the operator had work."""
        least = sum(saga.calls for saga in self.record.sagas.values())
        return bool(self.record.struck) and self.record.writes >= least


@dataclass(slots=True)
class Figures:
    """What a campaign came to."""

    faulted: int = 0
    idle: list[str] = field(default_factory=list)
    """Cases that do not count."""
    faults: Counter[str] = field(default_factory=Counter)
    deaths: int = 0
    writes: int = 0
    effects: int = 0
    slowest: float = 0.0
    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Take in one case."""
        record = result.record
        if result.violations:
            self.found[result.case.title] = result.violations
        if not result.counts:
            self.idle.append(result.case.title)
            return
        self.faulted += 1
        self.faults.update(told.rpartition(": ")[2].partition(" by ")[0] for told in record.struck)
        self.deaths += record.deaths
        self.writes += record.writes
        self.effects += len(record.effects)
        self.slowest = max(self.slowest, record.seconds)


async def play_all(
    upstream: Upstream,
    cases: Iterable[Case],
    *,
    lanes: int = 3,
    mutant: str = "",
    told: Callable[[Result], None] = lambda result: None,
    failures: Path | None = None,
) -> list[Result]:
    """Play cases over several lanes; return what became of each. `failures`: a folder for the records of what broke."""
    waiting = list(reversed(list(cases)))
    results: list[Result] = []

    async def work() -> None:
        while waiting:
            place = waiting[-1].place
            operators, settings = place
            # A lane that something went wrong in is left, so that no case has to suffer from another.
            async with open_lane(upstream, mutant=mutant, operators=operators, **dict(settings)) as lane:
                while waiting and waiting[-1].place == place:
                    result = await play(lane, waiting.pop())
                    results.append(result)
                    told(result)
                    if result.violations:
                        if failures is not None:
                            _keep(failures, result, lane)
                        break

    async with asyncio.TaskGroup() as group:
        for _ in range(min(lanes, len(waiting))):
            group.create_task(work())
    return results


async def play(lane: Lane, case: Case) -> Result:
    """Play one case and check its record."""
    try:
        if not case.alone:
            await lane.let_all_lead()
        record = await lane.play(
            case.plan, sagas=case.sagas, during=case.during, patience=case.patience, alone=case.alone
        )  # fmt: skip
    except AssertionError as error:
        record = Record(
            plan=case.title, sagas={}, versions=(), calls=(), effects=(), struck=(), waited_for=str(error)
        )  # fmt: skip
    found = violations(record)
    odd = unexpected_exits(record, LEASE_LOST, *case.exits)
    if odd:
        found.append(f"the operator ended by itself: {odd}; its log: {lane.operator.log_file.read_text()[-2000:]}")
    if case.fresh:
        await lane.operator.kill()
    return Result(case=case, record=record, violations=found)


def _keep(folder: Path, result: Result, lane: Lane) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = "".join(letter if letter.isalnum() else "-" for letter in result.case.title)[:80]
    (folder / f"{stem}.log").write_text(lane.operator.log_file.read_text())
    record = asdict(result.record) | {"sagas": list(result.record.sagas), "violations": result.violations}
    (folder / f"{stem}.json").write_text(json.dumps(record, indent=1, default=str))


def calm(title: str = "nothing goes wrong") -> Case:
    """Return the case without a fault."""
    return Case(plan=Fixed(title=title))
