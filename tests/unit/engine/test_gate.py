# SPDX-License-Identifier: Apache-2.0
"""A gate beside one that is worked out from scratch each time: the same are let in, in the same order."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesaga.api.limits import QueueStrategy
from kubesaga.api.run import BlockedBy
from kubesaga.engine.admission.gate import Claim, Gate, SlotId
from kubesaga.engine.guarding import GuardKey, GuardOwner
from kubesaga.testing.clock import START

GUARD = GuardKey(owner=GuardOwner(kind="Activity", namespace="a", name="mail"), caller="a")
SCOPES = [("a", "one"), ("a", "two"), ("b", "one")]


def gate(limit: int | None = None, strategy: QueueStrategy = QueueStrategy.FIFO, room: int = 1) -> Gate:
    made: list[Gate] = []

    def has_room(guard: GuardKey) -> bool:
        return len(made[0].held_at(guard)) < room

    made.append(
        Gate(
            limit=limit, strategy=strategy, room=has_room, scope_full=BlockedBy.MAX_ACTIVITIES,
            full=BlockedBy.OPERATOR_MAX_ACTIVITIES,
        )
    )  # fmt: skip
    return made[0]


def claim(number: int, scope: tuple[str, str] = SCOPES[0], **more: object) -> Claim:
    at = START + timedelta(seconds=number)
    return Claim(id=(f"u{number}", None), scope=scope, at=at, name=f"r{number}", **more)  # type: ignore[arg-type]  # by name


def names(claims: list[Claim]) -> str:
    return " ".join(each.name for each in claims)


def test_nobody_is_let_in_where_the_limit_is_not_known_yet() -> None:
    one = gate()
    one.wait(claim(1))
    assert one.fill(START) == []
    one.configure(SCOPES[0], None, QueueStrategy.FIFO)
    assert names(one.fill(START)) == "r1"


def test_a_claim_may_come_to_another_line_with_the_rank_that_it_had() -> None:
    one = gate()
    one.configure(SCOPES[0], 1, QueueStrategy.FIFO)
    for each in (claim(0), claim(2), claim(1), claim(1, guard=GUARD)):
        one.wait(each)
    assert names(one.fill(START)) == "r0"


def test_when_a_bulkhead_fills_up_the_next_of_that_workflow_has_its_own_age() -> None:
    """Until then a younger one of higher priority stood for its Workflow."""
    one = gate(3)
    one.configure(SCOPES[0], None, QueueStrategy.PRIORITY)
    one.configure(SCOPES[1], None, QueueStrategy.FIFO)
    for each in (
        claim(0), claim(4, priority=1, guard=GUARD), claim(1, SCOPES[1], guard=GUARD), claim(3, SCOPES[1]),
    ):  # fmt: skip
        one.wait(each)
    assert names(one.fill(START)) == "r1 r0 r3"


def test_every_free_slot_is_given_out_in_one_go() -> None:
    one = gate(5)
    for scope in SCOPES:
        one.configure(scope, 2, QueueStrategy.FIFO)
    for number in range(9):
        one.wait(claim(number, SCOPES[number % 3]))
    assert names(one.fill(START)) == "r0 r1 r2 r3 r4"
    one.release(("u0", None))
    assert names(one.fill(START)) == "r5"


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        pytest.param(QueueStrategy.FIFO, "undo big-1 big-2 small", id="FIFO"),
        pytest.param(QueueStrategy.PRIORITY, "undo small big-1 big-2", id="Priority"),
        pytest.param(QueueStrategy.FAIR, "undo big-1 small big-2", id="Fair"),
    ],
)
def test_an_undo_goes_first_whatever_the_strategy(strategy: QueueStrategy, expected: str) -> None:
    one = gate(1)
    one.configure(SCOPES[0], None, strategy)
    rows = [
        ("big-1", "big", 0, False),
        ("big-2", "big", 0, False),
        ("small", "small", 3, False),
        ("undo", "x", 0, True),
    ]
    for number, (name, group, priority, urgent) in enumerate(rows):
        one.wait(
            Claim(
                id=(name, None), scope=SCOPES[0], at=START + timedelta(seconds=number), name=name, group=group,
                priority=priority, urgent=urgent,
            )
        )  # fmt: skip
    order = []
    while let_in := one.fill(START):
        order += let_in
        one.release(let_in[0].id)
    assert names(order) == expected


@pytest.mark.parametrize("strategy", list(QueueStrategy))
def test_a_group_that_waits_is_overtaken_by_each_other_at_most_once(strategy: QueueStrategy) -> None:
    """With Fair; with the others the order is that of age here, and nobody is overtaken at all."""
    one = gate(1)
    one.configure(SCOPES[0], None, strategy)
    numbers = count()
    for _ in range(3):
        one.wait(claim(next(numbers), group="patient"))
    since: list[str] = []
    for _ in range(50):
        for group in ("a", "b"):
            one.wait(claim(next(numbers), group=group))
        let_in = one.fill(START)[0]
        since.append(let_in.group)
        one.release(let_in.id)
    turns = [turn for turn, group in enumerate(since) if group == "patient"]
    assert (len(turns), turns[-1] <= 8) == (3, True)


def test_who_neither_has_nor_wants_anything_is_forgotten() -> None:
    one = gate(1, QueueStrategy.FAIR)
    one.configure(SCOPES[0], None, QueueStrategy.FAIR)
    for number in range(5000):
        one.wait(claim(number, group=f"g{number}", guard=GUARD))
    while let_in := one.fill(START):
        one.release(let_in[0].id)
    assert (one.waiting, one.holders, one.guards, one._scopes, one._spaces) == ({}, {}, set(), {}, {})
    assert (one._namespaces.turns, one._lines_at) == ({}, {})


class _Plain:
    """The same for gates without groups, worked out from scratch: O(n) for each slot."""

    def __init__(self, limit: int | None, strategy: QueueStrategy) -> None:
        self.limit, self.strategy = limit, strategy
        self.limits: dict[tuple[str, str], tuple[int | None, QueueStrategy]] = {}
        self.held: dict[SlotId, Claim] = {}
        self.waiting: dict[SlotId, Claim] = {}

    def fill(self) -> list[SlotId]:
        found: list[SlotId] = []
        while self.limit is None or len(self.held) < self.limit:
            heads: list[Claim] = []
            for scope, (limit, strategy) in self.limits.items():
                held = sum(claim.scope == scope for claim in self.held.values())
                if limit is not None and held >= limit:
                    continue
                full = any(claim.guard is not None for claim in self.held.values())
                free = [claim for claim in self.waiting.values() if claim.scope == scope and not (claim.guard and full)]
                if free:
                    heads.append(min(free, key=lambda claim, strategy=strategy: claim.order(strategy)))  # type: ignore[misc]  # bound in the loop
            if not heads:
                break
            first = min(heads, key=lambda claim: claim.order(self.strategy))
            del self.waiting[first.id]
            self.held[first.id] = first
            found.append(first.id)
        return found


ORDERED = st.sampled_from([QueueStrategy.FIFO, QueueStrategy.PRIORITY])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(0, 11), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("hold"), st.integers(0, 11), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("leave"), st.integers(0, 11), st.just(0), st.just(False)),
        st.tuples(st.just("release"), st.integers(0, 11), st.just(0), st.just(False)),
        st.tuples(st.just("limit"), st.integers(0, 3), st.integers(0, 2), st.booleans()),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=400)
@given(st.none() | st.integers(1, 4), ORDERED, STEPS)
def test_the_same_are_let_in_as_by_looking_at_everybody(
    limit: int | None, strategy: QueueStrategy, steps: list[tuple[str, int, int, bool]]
) -> None:
    one, plain = gate(limit, strategy), _Plain(limit, strategy)
    for scope in SCOPES:
        one.configure(scope, 2, QueueStrategy.FIFO)
        plain.limits[scope] = (2, QueueStrategy.FIFO)
    for what, number, where, flag in steps:
        who = claim(number, SCOPES[where], priority=number % 3, guard=GUARD if flag else None, urgent=number == 7)
        match what:
            case "wait":
                one.wait(who)
                plain.held.pop(who.id, None)
                plain.waiting[who.id] = who
            case "hold":
                one.hold(who)
                plain.waiting.pop(who.id, None)
                plain.held[who.id] = who
            case "leave":
                one.leave(who.id)
                plain.waiting.pop(who.id, None)
            case "release":
                one.release(who.id)
                plain.held.pop(who.id, None)
            case "limit":
                chosen = (number or None, QueueStrategy.PRIORITY if flag else QueueStrategy.FIFO)
                one.configure(SCOPES[where], *chosen)
                plain.limits[SCOPES[where]] = chosen
        assert [each.id for each in one.fill(START)] == plain.fill()
        assert (set(one.holders), set(one.waiting)) == (set(plain.held), set(plain.waiting))
