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
from collections.abc import Callable, Iterator

import pytest

from kubesaga.engine.deeds import succeed
from kubesaga.engine.definition import Kind, Step
from kubesaga.engine.draft import Draft
from kubesaga.engine.waiting import end_waits
from kubesaga.testing.violations import violations
from kubesaga.testing.world import World

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


def _impatient(draft: Draft) -> None:
    for step in draft.active():
        if draft.of(step).waits and step.kind is Kind.SLEEP:
            succeed(draft, step, None)


def _forgetful(draft: Draft) -> None:
    draft.signals.clear()
    end_waits(draft)


def _forwards(draft: Draft) -> list[Step]:
    return [step.undo for step in draft.definition.main if step.undo and draft.activity(step.name).completion_order]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        pytest.param("kubesaga.engine.undoing.undos_due", _forwards, id="undoes in the order of doing"),
        pytest.param("kubesaga.engine.undoing.undos_due", lambda _: [], id="undoes nothing and says that it did"),
        pytest.param("kubesaga.engine.undoing.undoing_is_over", lambda _: True, id="does not wait for the undos"),
        pytest.param("kubesaga.engine.obeying._known", lambda _command, _records: None, id="forgets which actions were applied"),
        pytest.param("kubesaga.engine.waiting.end_waits", _impatient, id="does not sleep"),
        pytest.param("kubesaga.engine.waiting.end_waits", _forgetful, id="loses Signals"),
        pytest.param("kubesaga.engine.deeds._effect", lambda _draft, _step, changes: changes, id="leaves what is in doubt"),
    ],
)  # fmt: skip
def test_a_broken_saga_is_seen(monkeypatch: pytest.MonkeyPatch, name: str, wrong: Callable[..., object]) -> None:
    """So can the checks of undoing and of WorkflowActions."""
    monkeypatch.setattr(name, wrong)
    for module in ("turn", "advance", "summary", "obeying", "undoing", "reconcile"):
        function = name.rpartition(".")[2]
        monkeypatch.setattr(f"kubesaga.engine.{module}.{function}", wrong, raising=False)
    for seed in range(600):
        world = World(random.Random(seed))
        asyncio.run(world.live())
        if violations(world):
            return
    pytest.fail("nobody noticed")
