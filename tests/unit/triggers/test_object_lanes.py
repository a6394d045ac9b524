# SPDX-License-Identifier: Apache-2.0
"""Changes of one object are told in order, of several side by side, and how far all has come is never said too early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.unit.kube.server import until

from kubesaga.testing.clock import FakeClock
from kubesaga.triggers.objects.changes import Change, change_of
from kubesaga.triggers.objects.lanes import Lanes


def added(name: str, version: int) -> Change:
    return change_of(None, {"metadata": {"uid": f"u-{name}", "name": name, "resourceVersion": str(version)}})


class Teller:
    """Tells what it may."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.told: list[str] = []
        self.stuck: set[str] = set()
        self.clock = FakeClock()
        self.lanes = Lanes(self._tell, told=lambda: None, sleep=self.clock.sleep, random=lambda: 1.0)

    async def _tell(self, change: Change) -> None:
        shown = f"{change.name}{change.object['metadata']['resourceVersion']}"
        self.tried.append(shown)
        await asyncio.sleep(0)
        if change.name in self.stuck:
            raise RuntimeError("not now")
        self.told.append(shown)

    async def until(self, condition: Callable[[], object], pace: float = 0.0) -> None:
        def look() -> object:
            self.clock.advance(pace)
            return condition()

        await until(look)


@pytest.fixture
def teller() -> Teller:
    return Teller()


async def test_one_that_fails_holds_up_its_own_lane_alone(teller: Teller) -> None:
    teller.stuck = {"a"}
    for number, name in enumerate(("a", "b", "a", "b")):
        teller.lanes.add(added(name, number), number)
    await teller.until(lambda: len(teller.told) == 2)
    assert (teller.told, teller.lanes.depth) == (["b1", "b3"], 2)
    assert teller.lanes.behind == 0, "the first is not told"
    teller.stuck = set()
    await teller.until(lambda: not teller.lanes.depth, pace=1)
    assert teller.told[2:] == ["a0", "a2"]
    assert teller.lanes.behind is None


async def test_it_is_tried_again_less_and_less_often(teller: Teller) -> None:
    teller.stuck = {"a"}
    teller.lanes.add(added("a", 1), 0)
    await teller.until(lambda: teller.clock.monotonic() >= 300, pace=0.1)
    assert 8 <= len(teller.tried) <= 14, "0.2 s, 0.4 s … 60 s"
    await teller.lanes.close()


async def test_a_thousand_at_once_are_all_told(teller: Teller) -> None:
    for number in range(1000):
        teller.lanes.add(added(f"o{number}-", 1), number)
    await teller.until(lambda: teller.lanes.behind is None)
    assert len(set(teller.told)) == 1000


async def test_what_is_let_go_is_told_no_more(teller: Teller) -> None:
    teller.stuck = {"a"}
    teller.lanes.add(added("a", 1), 0)
    await teller.until(lambda: teller.tried)
    await teller.lanes.close()
    teller.stuck = set()
    teller.clock.advance(100)
    await asyncio.sleep(0)
    assert (teller.told, teller.lanes.behind) == ([], 0), "and nobody thinks that it was"
