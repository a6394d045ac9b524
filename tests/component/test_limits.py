# SPDX-License-Identifier: Apache-2.0
"""The whole operator under limits, in the small world of crashes, conflicts and lost answers: at each stored write.

What holds a slot is read from the stored documents here, not by the code that the operator derives it with. Lowering a
limit drains: then as many may hold as did, or had been told that they may, when it was lowered.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import pytest

from kubesaga.engine.admission.ledger import Ledger
from kubesaga.engine.admission.rules import OperatorLimits
from kubesaga.engine.admission.standing import Standing
from kubesaga.testing.violations import violations
from kubesaga.testing.world import World

SEEDS = range(150)
LIMITED: dict[str, Any] = {"concurrency": {"maxWorkflows": 2, "maxActivities": 3}}
OPERATOR = OperatorLimits(max_workflows=3, max_activities=3)
FINISHED = ("Succeeded", "Failed", "Cancelled", "Terminated", "Compensated")


class LimitedWorld(World):
    """A world in which each write is followed by a count of who holds what."""

    def __init__(self, chance: random.Random, **more: Any) -> None:
        self.bound: dict[str, float] = {}
        self.most: Counter[str] = Counter()
        self.queued = 0
        super().__init__(chance, runs=5, limits=OPERATOR, workflow=LIMITED, **more)

    async def _step(self) -> None:
        await super()._step()
        if self.chance.random() < 0.04:
            self.change_workflow(concurrency=self._limits())
            self._count()

    def _limits(self) -> dict[str, Any]:
        return {
            "maxWorkflows": self.chance.randrange(1, 4), "maxActivities": self.chance.randrange(1, 4),
            "queuing": {"strategy": self.chance.choice(["FIFO", "Priority", "Fair"])},
        }  # fmt: skip

    def _fault(self, moment: str) -> None:
        if moment == "after":
            self._count()
        super()._fault(moment)

    def _count(self) -> None:
        held, told = holders(self), self._told()
        concurrency = self.workflow["concurrency"]
        limits = {
            "runs": min(concurrency["maxWorkflows"], OPERATOR.max_workflows or math.inf),
            "attempts": min(concurrency["maxActivities"], OPERATOR.max_activities or math.inf),
        }
        for what, limit in limits.items():
            many = max(held[what], told[what])
            if limit < self.bound.get(what, math.inf):
                self.bound[what] = max(limit, min(self.bound.get(what, math.inf), many))
            self.bound[what] = max(limit, self.bound[what])
            if held[what] > self.bound[what]:
                self.found.append(f"I7: {held[what]} hold {what}, {self.bound[what]} may")
            self.most[what] = max(self.most[what], held[what])
        self.queued += held["queued"]

    def _told(self) -> Counter[str]:
        """Return how many may have been told that they hold something."""
        return Counter(runs=len(self.ledger.runs.holders), attempts=len(self.ledger.attempts.holders))


class KeyedWorld(LimitedWorld):
    """A world in which all runs have one key, and whoever finds no slot may have to go."""

    def _limits(self) -> dict[str, Any]:
        limits = super()._limits()
        limits["queuing"] |= {"overflow": self.chance.choice(["Queue", "Queue", "Reject", "CancelOldest"])}
        if self.chance.random() < 0.3:
            limits["queuing"]["timeout"] = "5m"
        on_conflict = self.chance.choice(["Queue", "Queue", "Replace", "Reject", "UseExisting"])
        return limits | {"key": "${run.namespace}", "onConflict": on_conflict}

    def _count(self) -> None:
        super()._count()
        keys = Counter(
            status["concurrencyKey"]
            for body in self.api.objects.values()
            if "startTime" in (status := body.get("status") or {})
            and "concurrencyKey" in status and status.get("phase") not in FINISHED
        )  # fmt: skip
        self.found += [f"I7: {many} runs of the key {key} are under way" for key, many in keys.items() if many > 1]


def holders(world: World) -> Counter[str]:
    """Count what is held by the stored documents."""
    held: Counter[str] = Counter()
    for body in world.api.objects.values():
        status = body.get("status") or {}
        if status.get("phase") in FINISHED:
            continue
        held["runs"] += "startTime" in status
        held["queued"] += status.get("phase") == "Queued"
        loose = (status.get("compensation") or {}).get("activities") or {}
        for activity in (status.get("activities") or {}).values():
            deeds = (activity, activity.get("fallback") or {}, activity.get("compensation") or {})
            held["attempts"] += sum(deed.get("phase") == "Running" for deed in deeds)
        held["attempts"] += sum(undo.get("phase") == "Running" for undo in loose.values())
    return held


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Hundreds of histories log what nobody reads, and pytest would keep it."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_at_no_write_more_hold_than_may_and_all_come_to_their_end() -> None:
    faults: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for seed in SEEDS:
        world = LimitedWorld(random.Random(seed))
        asyncio.run(world.live())
        assert violations(world) == [], f"seed {seed}: {violations(world)}"
        ledger = world.ledger
        left = [
            *ledger.known,
            *ledger.runs.holders,
            *ledger.runs.waiting,
            *ledger.attempts.holders,
            *ledger.attempts.waiting,
        ]
        assert not left, f"seed {seed}: {left} is left"
        faults.update(world.faults, queued=world.queued)
        most = Counter({what: max(most[what], world.most[what]) for what in world.most})
    assert min(faults[kind] for kind in ("crash", "conflict", "lost answer", "stale read", "queued")) > 50, faults
    assert (most["runs"], most["attempts"]) == (3, 3), "the limits are reached"


def test_with_keys_and_overflow_too() -> None:
    ends: Counter[str] = Counter()
    for seed in range(100):
        world = KeyedWorld(random.Random(seed))
        asyncio.run(world.live())
        assert violations(world) == [], f"seed {seed}: {violations(world)}"
        assert not world.ledger.known, f"seed {seed}: {world.ledger.known} is left"
        ends.update(world.stored(key).get("reason", "") for key in world.keys)
    wanted = ("AllSucceeded", "MadeRoom", "Replaced", "QueueFull", "QueueTimeout", "KeyConflict", "UsedExisting")
    assert min(ends[end] for end in wanted) > 1, ends


def _one_by_one(self: Ledger, standings: Iterable[Standing], now: datetime) -> None:
    for standing in standings:
        self.put(standing, now)


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        pytest.param("kubesaga.engine.admission.ledger.Ledger.restore", _one_by_one, id="lets runs in before it knows of all that hold"),
        pytest.param("kubesaga.engine.admission.gate._Scope.full", False, id="takes no notice of a Workflow's limits"),
        pytest.param("kubesaga.engine.admission.entry.Entry.held", lambda _self: {}, id="counts only what it has granted itself"),
    ],
)  # fmt: skip
def test_a_broken_limit_is_seen(monkeypatch: pytest.MonkeyPatch, where: str, wrong: object) -> None:
    monkeypatch.setattr(where, wrong)
    for seed in SEEDS:
        world = LimitedWorld(random.Random(seed))
        asyncio.run(world.live())
        if any(found.startswith("I7") for found in world.found):
            return
    pytest.fail("nobody noticed")
