# SPDX-License-Identifier: Apache-2.0
"""The real shell in a small world, under crashes, stale reads, conflicts and lost answers, over thousands of seeds.

One seed is one history. Invariants (I1-I13 of the reliability notes, as far as they concern what exists) are checked on
the recorded history, and each of them is broken on purpose at the end to see the check fail.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from kubesaga.testing.world import World, violations

SEEDS = range(2000)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A thousand histories log what nobody reads, and pytest would keep it."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("shard", range(4))
def test_every_history_keeps_the_invariants(shard: int) -> None:
    """No second pod, no lost outcome, no move backwards, nothing left behind, every run comes to its end."""
    faults: Counter[str] = Counter()
    for seed in SEEDS[shard::4]:
        world = World(random.Random(seed))
        asyncio.run(world.live())
        assert violations(world) == [], f"seed {seed}: {violations(world)}"
        faults.update(world.faults)
    assert min(faults[kind] for kind in ("crash", "conflict", "lost answer", "stale read")) > 50, faults


@pytest.mark.parametrize(
    "broken",
    ["act before writing", "act on stale copies", "release before recording", "forget the attempt's name"],
)
def test_a_broken_law_is_seen(broken: str) -> None:
    """The checker can fail: each law, broken on purpose, gives violations within a few hundred seeds."""
    for seed in range(600):
        world = World(random.Random(seed), broken=broken)
        asyncio.run(world.live())
        if violations(world):
            return
    pytest.fail(f"nobody noticed that the operator does this: {broken}")
