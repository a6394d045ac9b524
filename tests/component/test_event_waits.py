# SPDX-License-Identifier: Apache-2.0
"""Events for live runs under crashes, stale reads, conflicts and lost answers: each is taken once, and nobody misses one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from kubesaga.controller.delivering.mailbox import Mailbox
from kubesaga.engine import messengers, obeying, queueing
from kubesaga.testing.event_world import EventWorld, event_violations

SEEDS = range(160)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A thousand histories log what nobody reads, and pytest would keep it."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def played(seed: int, *, keyed: bool) -> EventWorld:
    """Return a history at its end."""
    world = EventWorld(random.Random(seed), keyed=keyed)
    asyncio.run(world.live())
    return world


@pytest.mark.parametrize("keyed", [
    pytest.param(False, id="by messengers"), pytest.param(True, id="by runs of the same key, and by messengers"),
])  # fmt: skip
def test_every_event_is_taken_once_and_told_of_rightly(keyed: bool) -> None:
    ends: Counter[str] = Counter()
    for seed in SEEDS:
        world = played(seed, keyed=keyed)
        assert event_violations(world) == [], f"seed {seed}"
        ends.update(world.stored(key).get("reason", "") for key in world.keys[2:])
    wanted = ["Delivered", "NotAwaited", *(["UsedExisting", "AllSucceeded"] if keyed else [])]
    assert min(ends[reason] for reason in wanted) > 10, ends


def _nobody(*_: Any) -> None:
    """Do nothing, and return nothing."""


@pytest.mark.parametrize(("where", "name", "wrong"), [
    pytest.param(obeying, "_known", _nobody, id="a run takes an event again that it has taken"),
    pytest.param(queueing, "_handed", _nobody, id="a run starts without waiting for the answer"),
    pytest.param(messengers, "with_replies", lambda recipients, _: tuple(recipients), id="answers are not heard"),
    pytest.param(Mailbox, "offer", _nobody, id="events are not offered"),
])  # fmt: skip
def test_a_broken_rule_is_seen(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, wrong: Any) -> None:
    monkeypatch.setattr(where, name, wrong)
    for seed in range(200):
        if event_violations(played(seed, keyed=True)):
            return
    pytest.fail("nobody noticed")
