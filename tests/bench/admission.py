# SPDX-License-Identifier: Apache-2.0
"""What it costs to keep runs waiting: one admission step, one more run, and the memory of each, by how many wait.

No cluster is needed: the ledger is called as the operator calls it. A step is all that follows from the end of a run: its
slot is free, the next run is found and woken, and makes its pass, which asks, writes and settles.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections import deque
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from kubesaga.api.limits import Concurrency, QueueStrategy, Queuing
from kubesaga.engine.admission.ledger import Ledger
from kubesaga.engine.admission.standing import Standing
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.slots import Blocked, Granted, RunWant
from kubesaga.testing.clock import START
from kubesaga.testing.unguarded import open_ledger

SIZES: Final = (100, 1_000, 10_000)
_SLOTS: Final = 50
_TENANTS: Final = 1_000
_STEPS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionResult:
    """Medians of one strategy with so many queued runs; times in seconds, memory in bytes."""

    strategy: str
    queued: int
    step: float
    add: float
    """Of a run that is new and has to wait: the pass that queues it."""
    memory: float
    """Of the ledger, for each queued run."""


def measure(sizes: tuple[int, ...] = SIZES) -> list[AdmissionResult]:
    """Measure each strategy at each size."""
    return [_measure(strategy, size) for strategy in QueueStrategy for size in sizes]


class _Hall:
    """Runs that wait for the slots of one Workflow."""

    def __init__(self, strategy: QueueStrategy, queued: int) -> None:
        self.limits = Concurrency(max_workflows=_SLOTS, queuing=Queuing(strategy=strategy))
        self.woken: deque[RunKey] = deque()
        self.ledger: Ledger = open_ledger(self.woken.append)
        self.ledger.configure("shop", "order", self.limits, START)
        self.standings: dict[RunKey, Standing] = {}
        self.under_way: deque[RunKey] = deque()
        self.count = 0
        for _ in range(_SLOTS + queued):
            self.arrive()

    def arrive(self) -> None:
        """One more run comes, and waits or starts."""
        self.count += 1
        number = self.count
        key = RunKey(namespace="shop", name=f"run-{number:06}")
        self.make_pass(
            Standing(
                key=key, uid=f"uid-{number:06}", version="1", workflow="order", started=False, priority=number % 7,
                created=START + timedelta(seconds=number),
            )
        )  # fmt: skip

    def make_pass(self, standing: Standing) -> None:
        """Make the pass of a run that has not started."""
        self.ledger.begin(standing, self.limits, START)
        group = f"tenant-{int(standing.uid[4:]) % _TENANTS}"
        want = RunWant(concurrency=self.limits, key="", group=group)
        answer = self.ledger.ask(standing, {None: want}, START)[None]
        if isinstance(answer, Granted):
            standing = replace(standing, version="3", started=True, queued=False, group=group)
            self.under_way.append(standing.key)
        elif isinstance(answer, Blocked):
            standing = replace(standing, version="2", queued=True, group=group)
        self.ledger.writing(standing.key)
        self.standings[standing.key] = standing
        self.ledger.put(standing, START)
        self.ledger.settle(standing.uid, START)

    def step(self) -> None:
        """A run ends; whoever is next starts."""
        over = self.under_way.popleft()
        self.ledger.drop(over, START)
        del self.standings[over]
        while self.woken:
            key = self.woken.popleft()
            if not self.standings[key].started:
                self.make_pass(self.standings[key])


def _measure(strategy: QueueStrategy, queued: int) -> AdmissionResult:
    gc.collect()
    tracemalloc.start()
    few = _Hall(strategy, 0)
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(queued):
        few.arrive()
    memory = (tracemalloc.get_traced_memory()[0] - before) / queued
    tracemalloc.stop()
    del few
    hall = _Hall(strategy, queued)
    steps, adds = [], []
    for _ in range(_STEPS):
        began = time.perf_counter()
        hall.step()
        steps.append(time.perf_counter() - began)
        began = time.perf_counter()
        hall.arrive()
        adds.append(time.perf_counter() - began)
    assert len(hall.under_way) == _SLOTS, "every slot is taken after each step"
    return AdmissionResult(
        strategy=str(strategy), queued=queued, step=statistics.median(steps), add=statistics.median(adds), memory=memory
    )
