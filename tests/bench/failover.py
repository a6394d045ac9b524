# SPDX-License-Identifier: Apache-2.0
"""How long nothing goes on when the leader goes: killed, frozen, told to stop, or started again under its own identity.

Two replicas with the default Lease. Each time a run with a handler under way is there, so the first thing that the new
leader does is to note in its status that it begins the handler again; an observer waits for that.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.bench.observer import Sight, Sights, observing
from tests.bench.place import HANDLERS, HERE, PATIENCE, BenchOperator, Broken, Place
from tests.cluster.cluster import document

from kubesaga.kube.lease import LeaseTiming
from kubesaga.kube.resources import WORKFLOW_RUNS

TIMING: Final = LeaseTiming()
"""What the operator's default `lease_duration` comes to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverResult:
    """Seconds from what befell the leader until an observer saw the first progress."""

    title: str
    bound: float | None
    """Seconds until the Lease is taken, at most, requests and a start not counted in; None: there is nothing to wait for."""
    progress: list[float] = field(default_factory=list)


class Replica(BenchOperator):
    """One of the two. The roles change."""

    async def wait_for_its_turn(self) -> None:
        """Start it as a standby; return when it has looked at the Lease."""
        shutil.copy(HERE / f"{HANDLERS}.py", self.folder)
        self.launch(HANDLERS)
        began = time.monotonic()
        while b"holds the Lease" not in (self.folder / "operator.log").read_bytes()[self._born :]:
            if time.monotonic() - began > PATIENCE:
                raise Broken("the standby does not come to wait")
            await asyncio.sleep(0.05)

    def freeze(self) -> None:
        """Stop it where it is."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> int | None:
        """End it, also when it is frozen: then it finds its Lease lost."""
        if self._alive:
            assert self._process is not None
            self._process.send_signal(signal.SIGCONT)
        return super().stop()


async def measure(place: Place, repetitions: int) -> list[FailoverResult]:
    """Measure in a place whose own operator does not run."""
    over = TIMING.duration + TIMING.retry_period
    results = [
        (FailoverResult(title="killed (SIGKILL)", bound=over), _kill),
        (FailoverResult(title="frozen (SIGSTOP)", bound=over), _freeze),
        (FailoverResult(title="told to stop (SIGTERM)", bound=TIMING.retry_period), _stop),
        (FailoverResult(title="killed, and started again itself", bound=None), _start_again),
    ]
    folder = place.operator.folder
    with (
        Replica(place.cluster, _made(folder / "one"), identity="replica-1") as one,
        Replica(place.cluster, _made(folder / "two"), identity="replica-2") as two,
    ):
        leader, standby = one, two
        await leader.lead()
        await standby.wait_for_its_turn()
        async with observing(place.cluster.kubeconfig, place.ours, "runs") as sights:
            for result, blow in results:
                for number in range(repetitions):
                    name = f"failover-{blow.__name__.strip('_').replace('_', '-')}-{number}"
                    # At another moment between two looks at the Lease each time.
                    pause = TIMING.retry_period * number / repetitions
                    result.progress.append(await _once(place, sights, name, leader, blow, pause))
                    if blow is not _start_again:
                        leader.stop()
                        leader, standby = standby, leader
                        await standby.wait_for_its_turn()
    return [result for result, _ in results]


async def _once(
    place: Place,
    sights: Sights,
    name: str,
    leader: Replica,
    blow: Callable[[Replica], Awaitable[None]],
    pause: float,
) -> float:
    gate = place.operator.folder / name
    held = {"name": "held", "handler": "bench:hold", "params": {"gate": str(gate)}}
    await place.client.create(
        WORKFLOW_RUNS, place.ours, document("WorkflowRun", name, {"workflowSpec": {"activities": [held]}})
    )
    await sights.until(_of(name, lambda sight: sight["activities"].get("held") == "Running"), f"{name} under way")
    await asyncio.sleep(pause)
    struck = time.monotonic()
    await blow(leader)
    sight = await sights.until(_of(name, lambda sight: bool(sight["at"] > struck)), f"{name} going on")
    gate.touch()
    await sights.until(_of(name, lambda sight: sight["phase"] == "Succeeded"), f"the end of {name}")
    return float(sight["at"] - struck)


async def _kill(leader: Replica) -> None:
    leader.kill()


async def _freeze(leader: Replica) -> None:
    leader.freeze()


async def _stop(leader: Replica) -> None:
    leader.stop()


async def _start_again(leader: Replica) -> None:
    leader.kill()
    await leader.lead()


def _of(name: str, fits: Callable[[Sight], bool]) -> Callable[[Sight], bool]:
    return lambda sight: sight["name"] == name and fits(sight)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
