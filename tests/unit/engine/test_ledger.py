# SPDX-License-Identifier: Apache-2.0
"""Who may start, and what becomes of the others: each sentence a row, on runs without insides and the real ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from kubesaga.api.limits import Concurrency, OnConflict, Overflow, QueueStrategy, Queuing
from kubesaga.api.names import Deed
from kubesaga.engine.admission.rules import OperatorLimits
from kubesaga.engine.guarding import GuardKey, GuardOwner, GuardSettings, Room
from kubesaga.testing.crowd import Crowd, Part, Pass


def limits(
    runs: int | None = None,
    attempts: int | None = None,
    *,
    strategy: QueueStrategy = QueueStrategy.FIFO,
    overflow: Overflow = Overflow.QUEUE,
    key: str | None = None,
    conflict: OnConflict = OnConflict.QUEUE,
    timeout: str | None = None,
) -> Concurrency:
    queuing = Queuing(strategy=strategy, overflow=overflow, timeout=timeout)
    return Concurrency(max_workflows=runs, max_activities=attempts, queuing=queuing, key=key, on_conflict=conflict)


KEYED = "${inputs.ticket}"
GUARD = GuardKey(owner=GuardOwner(kind="Activity", namespace="shop", name="mail"), caller="shop")


def room(concurrent: int, queue: int = 100) -> GuardSettings:
    return GuardSettings(bulkhead=Room(concurrent=concurrent, queue=queue, timeout=timedelta(seconds=30)))


def call(name: str, settings: GuardSettings, *, deed: Deed = Deed.DO, guard: GuardKey = GUARD) -> Part:
    return Part(name=name, deed=deed, guard=guard, settings=settings)


def under_way(crowd: Crowd, name: str) -> Pass:
    begun = crowd.begin(name)
    assert begun is not None, "there is something to write"
    return begun


# --- whose turn it is ------------------------------------------------------------------------------------------------


def drained(crowd: Crowd) -> list[str]:
    """End one run after the other, each as soon as it runs; return the order in which they were started."""
    crowd.settle()
    while crowd.running:
        crowd.end(crowd.running[0])
        crowd.settle()
    return crowd.begun


def fifo(crowd: Crowd) -> None:
    crowd.add("new")
    crowd.add("b", age=2)
    crowd.add("a", age=2)
    crowd.add("old", age=3)


def priorities(crowd: Crowd) -> None:
    crowd.add("low", age=9)
    crowd.add("high", priority=5)
    crowd.add("high-older", priority=5, age=1)
    crowd.add("middle", priority=1)


def tenants(crowd: Crowd) -> None:
    for number in range(4):
        crowd.add(f"big-{number}", group="big", age=10 - number)
    crowd.add("small", group="small")
    crowd.add("tiny", group="tiny")


@pytest.mark.parametrize(
    ("limit", "add", "expected"),
    [
        pytest.param(limits(1), fifo, "first old a b new", id="FIFO: the oldest is next, the name breaks a tie"),
        pytest.param(
            limits(1, strategy=QueueStrategy.PRIORITY), priorities, "first high-older high middle low",
            id="Priority: the highest is next, and of those the oldest",
        ),
        pytest.param(limits(1), priorities, "first low high-older high middle", id="FIFO does not look at the priority"),
        pytest.param(
            limits(1, strategy=QueueStrategy.FAIR), tenants, "first big-0 small tiny big-1 big-2 big-3",
            id="Fair: with a single slot they take turns",
        ),
    ],
)  # fmt: skip
def test_the_order_is(limit: Concurrency, add: Callable[[Crowd], None], expected: str) -> None:
    crowd = Crowd(limit)
    crowd.add("first", age=100)
    crowd.settle()
    add(crowd)
    assert " ".join(drained(crowd)) == expected


@pytest.mark.parametrize("slots", [1, 2, 3, 10])
def test_a_tenant_with_a_thousand_queued_runs_does_not_hold_up_one_with_one(slots: int) -> None:
    crowd = Crowd(limits(slots, strategy=QueueStrategy.FAIR))
    for number in range(300):
        crowd.add(f"big-{number:03}", group="big", age=500 - number)
    crowd.settle()
    crowd.add("small", group="small")
    crowd.settle()
    crowd.end(crowd.running[0])
    crowd.settle()
    assert "small" in crowd.running


def test_fair_shares_even_out() -> None:
    crowd = Crowd(limits(6, strategy=QueueStrategy.FAIR))
    for tenant in "abc":
        for number in range(20):
            crowd.add(f"{tenant}-{number}", group=tenant, age=100 if tenant == "a" else 0)
    crowd.settle()
    for _ in range(6):
        crowd.end(crowd.running[0])
        crowd.settle()
    assert sorted(name[0] for name in crowd.running) == list("aabbcc")


def test_fair_a_tenant_that_always_comes_anew_does_not_hold_up_one_that_waits() -> None:
    """Each new tenant has nothing yet; still, who has waited for longer is served between them."""
    crowd = Crowd(limits(1, strategy=QueueStrategy.FAIR))
    for number in range(3):
        crowd.add(f"steady-{number}", group="steady")
    crowd.settle()
    for number in range(6):
        crowd.advance(1)
        crowd.add(f"new-{number}", group=f"new-{number}")
        crowd.add(f"other-{number}", group=f"other-{number}")
        crowd.settle()
        crowd.end(crowd.running[0])
        crowd.settle()
    assert "steady-1" in crowd.begun


def test_the_strategy_changes_for_those_who_wait_already() -> None:
    crowd = Crowd(limits(1))
    crowd.add("first", age=100)
    crowd.settle()
    priorities(crowd)
    crowd.settle()
    crowd.limit(limits(1, strategy=QueueStrategy.PRIORITY))
    assert " ".join(drained(crowd)) == "first high-older high middle low"


# --- slots -----------------------------------------------------------------------------------------------------------


def test_all_that_is_free_is_given_out_at_once() -> None:
    crowd = Crowd(limits(2))
    for number in range(9):
        crowd.add(f"r{number}", age=10 - number)
    crowd.settle()
    assert (crowd.running, len(crowd.queued)) == (["r0", "r1"], 7)
    crowd.limit(limits(5))
    crowd.settle()
    assert crowd.running == ["r0", "r1", "r2", "r3", "r4"]


def test_a_lower_limit_drains_and_ends_nothing() -> None:
    crowd = Crowd(limits(4))
    for number in range(6):
        crowd.add(f"r{number}", age=10 - number)
    crowd.settle()
    crowd.limit(limits(2))
    crowd.settle()
    assert len(crowd.running) == 4
    for left in (3, 2, 2, 2, 1, 0):
        crowd.end(crowd.running[0])
        crowd.settle()
        assert len(crowd.running) == left


def test_without_a_limit_those_who_wait_start() -> None:
    crowd = Crowd(limits(1))
    for number in range(4):
        crowd.add(f"r{number}")
    crowd.settle()
    crowd.limit(None)
    crowd.settle()
    assert len(crowd.running) == 4


def test_a_workflow_that_is_full_holds_up_no_other() -> None:
    crowd = Crowd(limits(1), operator=OperatorLimits(max_workflows=3))
    crowd.limit(None, workflow="other")
    for number in range(5):
        crowd.add(f"full-{number}", age=10)
    crowd.add("other", workflow="other")
    crowd.settle()
    assert crowd.running == ["full-0", "other"]


def test_a_bulkhead_that_is_full_holds_up_no_other() -> None:
    other = GuardKey(owner=GuardOwner(kind="Activity", namespace="shop", name="sms"), caller="shop")
    crowd = Crowd(limits(None, 4))
    for number in range(3):
        crowd.add(f"mail-{number}", call("mail", room(1)), age=10)
    crowd.add("sms", call("sms", room(1), guard=other))
    crowd.add("plain", "plain")
    crowd.settle()
    assert [crowd.at_work(name) for name in ("mail-0", "mail-1", "sms", "plain")] == [["mail"], [], ["sms"], ["plain"]]


def test_a_bulkhead_is_shared_by_workflows() -> None:
    crowd = Crowd()
    crowd.limit(limits(9, 9), workflow="other")
    crowd.add("a", call("mail", room(1)), age=1)
    crowd.add("b", call("mail", room(1)), workflow="other")
    crowd.settle()
    assert (crowd.at_work("a"), crowd.at_work("b")) == (["mail"], [])
    crowd.end("a", "mail")
    crowd.settle()
    assert crowd.at_work("b") == ["mail"]


def test_the_operator_limits_all_workflows_together() -> None:
    crowd = Crowd(operator=OperatorLimits(max_workflows=2))
    for name in "abc":
        crowd.limit(None, workflow=name)
        crowd.add(name, workflow=name, age=ord("z") - ord(name))
    crowd.settle()
    assert (crowd.running, crowd.queued) == (["a", "b"], ["c"])


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        pytest.param(QueueStrategy.FIFO, "first busy-0 busy-1 busy-2 quiet urgent", id="FIFO: the oldest of all"),
        pytest.param(QueueStrategy.PRIORITY, "first urgent busy-0 busy-1 busy-2 quiet", id="Priority: the highest of all"),
        pytest.param(QueueStrategy.FAIR, "first quiet urgent busy-0 busy-1 busy-2", id="Fair: namespaces take turns"),
    ],
)  # fmt: skip
def test_between_workflows_the_operator_s_strategy_holds(strategy: QueueStrategy, expected: str) -> None:
    crowd = Crowd(operator=OperatorLimits(max_workflows=1, strategy=strategy))
    for namespace, workflow in (("shop", "order"), ("yard", "a"), ("farm", "b")):
        crowd.limit(None, workflow=workflow, namespace=namespace)
    crowd.add("first", age=100)
    crowd.settle()
    for number in range(3):
        crowd.add(f"busy-{number}", age=10 - number)
    crowd.add("quiet", workflow="a", namespace="yard", age=1)
    crowd.add("urgent", workflow="b", namespace="farm", priority=9)
    crowd.settle()
    for _ in range(6):
        running = next(member for member in crowd.live() if member.record.started)
        crowd.end(running.key.name, namespace=running.key.namespace)
        crowd.settle()
    assert " ".join(crowd.begun) == expected


def test_undos_go_first() -> None:
    crowd = Crowd(limits(None, 1))
    crowd.add("busy", "work", age=100)
    crowd.settle()
    crowd.add("old", "work", age=50)
    crowd.settle()
    crowd.add("undoing", Part(name="pay", deed=Deed.UNDO))
    crowd.settle()
    crowd.end("busy", "work")
    crowd.settle()
    assert (crowd.at_work("undoing"), crowd.at_work("old")) == (["pay"], [])


def test_runs_with_a_spec_of_their_own_are_each_under_their_own_limits() -> None:
    crowd = Crowd()
    for name in "ab":
        crowd.add(name, "x", "y", "z", workflow="", revision=limits(None, 2))
    crowd.settle()
    assert (crowd.at_work("a"), crowd.at_work("b")) == (["x", "y"], ["x", "y"])


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conflict", "running", "ended"),
    [
        pytest.param(OnConflict.QUEUE, ["other", "t-1"], {}, id="Queue: the second waits"),
        pytest.param(OnConflict.REJECT, ["other", "t-1"], {"t-2": "KeyConflict"}, id="Reject: the second fails"),
        pytest.param(OnConflict.USE_EXISTING, ["other", "t-1"], {"t-2": "UsedExisting"}, id="UseExisting: the second ends at once"),
        pytest.param(OnConflict.REPLACE, ["other", "t-2"], {"t-1": "Replaced"}, id="Replace: the first gives way"),
    ],
)  # fmt: skip
def test_two_runs_of_a_key(conflict: OnConflict, running: list[str], ended: dict[str, str]) -> None:
    crowd = Crowd(limits(key=KEYED, conflict=conflict))
    crowd.add("t-1", key="t")
    crowd.settle()
    crowd.advance(1)
    crowd.add("t-2", key="t")
    crowd.add("other", key="u")
    crowd.settle()
    assert crowd.running == running
    assert {member.key.name: member.record.ended for member in crowd.members.values() if member.record.ended} == ended


def test_a_key_that_waits_holds_up_nobody_else() -> None:
    crowd = Crowd(limits(2, key=KEYED))
    for name in ("t-1", "t-2", "t-3"):
        crowd.add(name, key="t", age=9)
    crowd.add("other", key="u")
    crowd.add("none", key="")
    crowd.settle()
    assert (crowd.running, crowd.queued) == (["none", "t-1"], ["other", "t-2", "t-3"]) or crowd.running == [
        "other",
        "t-1",
    ]


def test_runs_of_a_key_follow_each_other_in_order() -> None:
    crowd = Crowd(limits(key=KEYED))
    for name, age in (("c", 1), ("a", 3), ("b", 2)):
        crowd.add(name, key="t", age=age)
        crowd.settle()
    assert drained(crowd) == ["c", "a", "b"]


def test_replace_keeps_the_newest_alone_of_those_that_wait_too() -> None:
    crowd = Crowd(limits(1, key=KEYED, conflict=OnConflict.REPLACE))
    crowd.add("busy", age=50)
    crowd.settle()
    for number in range(4):
        crowd.add(f"t-{number}", key="t", age=10 - number)
        crowd.settle()
    assert crowd.queued == ["t-3"]
    assert [crowd.ended(f"t-{number}") for number in range(3)] == ["Replaced"] * 3


def test_a_run_without_a_key_is_replaced_by_nobody() -> None:
    crowd = Crowd(limits(key=KEYED, conflict=OnConflict.REPLACE))
    for name in "abc":
        crowd.add(name)
    crowd.settle()
    assert crowd.running == ["a", "b", "c"]


def test_a_run_that_was_suspended_before_its_start_does_not_hold_its_key() -> None:
    crowd = Crowd(limits(1, key=KEYED))
    crowd.add("busy", age=9)
    crowd.settle()
    crowd.add("t-1", key="t", age=5)
    crowd.settle()
    crowd.touch("t-1", suspended=True)
    crowd.settle()
    crowd.add("t-2", key="t")
    crowd.settle()
    crowd.end("busy")
    crowd.settle()
    assert crowd.running == ["t-2"]
    crowd.touch("t-1", suspended=False)
    crowd.settle()
    assert (crowd.running, crowd.queued) == (["t-2"], ["t-1"])


def test_a_key_is_kept_by_a_grant_whose_write_nobody_knows_of() -> None:
    """The pass that was told to start comes to nothing, or not; until it is known, no other of its key may start."""
    crowd = Crowd(limits(key=KEYED))
    crowd.add("t-1", key="t", age=1)
    crowd.finish(under_way(crowd, "t-1"), "lost")
    crowd.add("t-2", key="t")
    crowd.look("t-2")
    first = under_way(crowd, "t-1")
    crowd.look("t-2")
    crowd.finish(first)
    crowd.settle()
    assert (crowd.running, crowd.queued) == (["t-1"], ["t-2"])


def test_a_grant_to_a_pass_that_conflicts_does_not_start_two_of_a_key() -> None:
    crowd = Crowd(limits(1, key=KEYED))
    crowd.add("busy", age=9)
    crowd.settle()
    crowd.add("t-1", key="t", age=5)
    waits = under_way(crowd, "t-1")
    crowd.end("busy")
    crowd.look("busy")
    crowd.touch("t-1")
    crowd.finish(waits)
    crowd.limit(limits(5, key=KEYED))
    crowd.add("t-2", key="t", age=3)
    crowd.look("t-2")
    crowd.settle()
    assert len(crowd.running) == 1


# --- overflow --------------------------------------------------------------------------------------------------------


def test_reject_turns_away_whoever_finds_no_slot() -> None:
    crowd = Crowd(limits(2, overflow=Overflow.REJECT))
    for name in "abc":
        crowd.add(name)
    crowd.settle()
    assert (crowd.running, crowd.ended("c")) == (["a", "b"], "QueueFull")
    crowd.end("a")
    crowd.settle()
    crowd.add("d")
    crowd.settle()
    assert crowd.running == ["b", "d"]


def test_reject_leaves_those_that_wait_already() -> None:
    crowd = Crowd(limits(1))
    for name in "abc":
        crowd.add(name)
    crowd.settle()
    crowd.limit(limits(1, overflow=Overflow.REJECT))
    crowd.add("d")
    crowd.settle()
    assert (crowd.queued, crowd.ended("d")) == (["b", "c"], "QueueFull")


def test_reject_does_not_turn_away_for_the_operator_s_limit() -> None:
    crowd = Crowd(limits(5, overflow=Overflow.REJECT), operator=OperatorLimits(max_workflows=1))
    crowd.add("a", age=1)
    crowd.add("b")
    crowd.settle()
    assert (crowd.running, crowd.queued) == (["a"], ["b"])


def test_cancel_oldest_makes_room_for_the_newest() -> None:
    crowd = Crowd(limits(2, overflow=Overflow.CANCEL_OLDEST))
    for name in "abcd":
        crowd.add(name)
        crowd.settle()
        crowd.advance(1)
    assert crowd.running == ["c", "d"]
    assert (crowd.ended("a"), crowd.ended("b")) == ("MadeRoom", "MadeRoom")


def test_a_run_that_is_suspended_before_its_start_cancels_nobody() -> None:
    crowd = Crowd(limits(1, overflow=Overflow.CANCEL_OLDEST))
    crowd.add("a", age=1)
    crowd.settle()
    crowd.add("b")
    crowd.touch("b", suspended=True)
    crowd.settle()
    assert crowd.running == ["a"]


# --- bulkheads -------------------------------------------------------------------------------------------------------


def test_exactly_the_first_beyond_the_bulkhead_and_its_queue_is_turned_away() -> None:
    crowd = Crowd()
    for number in range(10 + 5 + 1):
        crowd.add(f"r{number:02}", call("mail", room(10, queue=5)), age=100 - number)
        crowd.settle()
    working = [member for member in crowd.members.values() if member.record.running]
    waiting = [member for member in crowd.members.values() if member.record.waiting]
    assert (len(working), len(waiting)) == (10, 5)
    last = next(member for member in crowd.members.values() if member.key.name == "r15")
    assert {str(reason) for reason in last.record.refused.values()} == {"BulkheadRejected"}


def test_of_one_run_s_calls_the_last_are_turned_away() -> None:
    crowd = Crowd()
    crowd.add("r", *(call(name, room(1, queue=1)) for name in "abc"))
    crowd.settle()
    record = next(iter(crowd.members.values())).record
    assert ([key[1] for key in record.running], [key[1] for key in record.waiting], [key[1] for key in record.refused]) == (
        ["a"], ["b"], ["c"],
    )  # fmt: skip


def test_an_undo_is_never_turned_away() -> None:
    crowd = Crowd()
    crowd.add("a", call("mail", room(1, queue=0)), age=1)
    crowd.add("b", call("mail", room(1, queue=0), deed=Deed.UNDO))
    crowd.settle()
    assert next(member for member in crowd.members.values() if member.key.name == "b").record.waiting
    crowd.end("a", "mail")
    crowd.settle()
    assert crowd.at_work("b") == ["mail"]


# --- waiting ---------------------------------------------------------------------------------------------------------


def test_a_run_waits_no_longer_than_it_may() -> None:
    crowd = Crowd(limits(1, timeout="30s"))
    crowd.add("a", age=1)
    crowd.add("b")
    crowd.settle()
    crowd.advance(29)
    crowd.look("b")
    assert crowd.queued == ["b"]
    crowd.advance(1)
    crowd.look("b")
    assert crowd.ended("b") == "QueueTimeout"


def test_a_suspended_run_waits_for_nothing() -> None:
    crowd = Crowd(limits(1))
    for name, age in (("a", 3), ("b", 2), ("c", 1)):
        crowd.add(name, age=age)
    crowd.settle()
    crowd.touch("b", suspended=True)
    crowd.end("a")
    crowd.settle()
    assert crowd.running == ["c"]
    crowd.end("c")
    crowd.settle()
    assert crowd.running == []
    crowd.touch("b", suspended=False)
    crowd.settle()
    assert crowd.running == ["b"]


def test_a_run_that_is_suspended_with_a_slot_in_hand_gives_it_back() -> None:
    crowd = Crowd(limits(1))
    for name, age in (("a", 3), ("b", 2), ("c", 1)):
        crowd.add(name, age=age)
    crowd.settle()
    crowd.end("a")
    crowd.look("a")
    crowd.touch("b", suspended=True)
    crowd.settle()
    assert crowd.running == ["c"]


def test_a_suspended_run_that_has_started_keeps_its_slot_and_no_attempt_s() -> None:
    crowd = Crowd(limits(1, 1))
    crowd.add("a", "x", "y", age=2)
    crowd.add("b")
    crowd.limit(None, workflow="other")
    crowd.settle()
    crowd.touch("a", suspended=True)
    crowd.end("a", "x")
    crowd.settle()
    assert (crowd.running, crowd.queued, crowd.at_work("a")) == (["a"], ["b"], [])
    crowd.touch("a", suspended=False)
    crowd.settle()
    assert crowd.at_work("a") == ["y"]


# --- passes that come to nothing -------------------------------------------------------------------------------------


def queued_behind(name: str = "busy") -> Crowd:
    crowd = Crowd(limits(1))
    crowd.add(name, age=9)
    crowd.settle()
    for other, age in (("b", 5), ("c", 4)):
        crowd.add(other, age=age)
    crowd.settle()
    return crowd


@pytest.mark.parametrize(
    ("how", "begun"),
    [
        pytest.param("written", ["busy", "b"], id="written: it holds its slot"),
        pytest.param("unheard", ["busy", "b"], id="written, but nobody heard: it holds its slot"),
        pytest.param("lost", ["busy"], id="not written, but nobody knows: its slot is kept for it"),
    ],
)
def test_a_write(how: str, begun: list[str]) -> None:
    crowd = queued_behind()
    crowd.end("busy")
    crowd.look("busy")
    crowd.finish(under_way(crowd, "b"), how)
    crowd.look("c")
    assert (crowd.begun, crowd.queued[-1]) == (begun, "c")
    crowd.settle()
    assert (crowd.running, crowd.queued) == (["b"], ["c"])


def test_a_write_that_conflicts_with_our_own_lost_one_frees_nothing() -> None:
    """An answer that is lost may come after the run was read again: the next write conflicts, and the run holds its slot."""
    crowd = queued_behind()
    crowd.end("busy")
    crowd.look("busy")
    first = under_way(crowd, "b")
    crowd.finish(first, "lost")
    second = under_way(crowd, "b")
    member = first.member
    member.record = second.new  # the first write arrives at last
    crowd.finish(second)
    crowd.look("c")
    crowd.settle()
    assert (crowd.running, crowd.queued) == (["b"], ["c"])


def test_a_run_whose_passes_fail_holds_up_nobody() -> None:
    crowd = queued_behind()
    crowd.end("busy")
    crowd.look("busy")
    crowd.fail("b")
    crowd.look("c")
    assert crowd.running == ["c"]


def test_a_run_whose_pass_failed_has_its_place_when_it_comes_back() -> None:
    crowd = queued_behind()
    crowd.add("d", age=1)
    crowd.settle()
    crowd.fail("b")
    crowd.look("b")
    assert drained(crowd) == ["busy", "b", "c", "d"]


def test_a_failing_pass_does_not_give_back_what_an_earlier_one_may_have_used() -> None:
    crowd = queued_behind()
    crowd.end("busy")
    crowd.look("busy")
    crowd.finish(under_way(crowd, "b"), "unheard")
    crowd.fail("b")
    crowd.look("c")
    assert (crowd.running, crowd.queued) == (["b"], ["c"])


def test_a_run_that_had_no_use_for_its_slot_waits_again_when_it_asks_again() -> None:
    crowd = Crowd(limits(1))
    crowd.add("a", age=9)
    crowd.settle()
    crowd.add("b", age=5)
    crowd.settle()
    crowd.end("a")
    crowd.look("a")  # b is granted the slot
    member = next(member for member in crowd.members.values() if member.key.name == "b")
    standing = member.standing()
    assert standing is not None
    crowd.ledger.begin(standing, None, crowd.now)
    crowd.ledger.settle(member.uid, crowd.now)  # a pass that does not want it, and writes nothing
    crowd.pending.clear()
    crowd.add("c", age=4)
    crowd.settle()
    assert crowd.running == ["c"]
    crowd.look("b")
    crowd.end("c")
    crowd.settle()
    assert crowd.running == ["b"]


# --- a new operator --------------------------------------------------------------------------------------------------


def test_a_new_operator_gives_out_nothing_before_it_knows_who_holds() -> None:
    """Whoever waits comes before whoever holds, in the order in which they are listed."""
    crowd = Crowd(limits(1))
    crowd.add("z", age=9)
    crowd.settle()
    crowd.add("a", age=5)
    crowd.settle()
    crowd.members = dict(sorted(crowd.members.items()))
    crowd.boot()
    crowd.settle()
    assert (crowd.running, crowd.queued) == (["z"], ["a"])


def test_of_a_workflow_that_is_gone_the_revision_s_limits_hold_from_the_start() -> None:
    crowd = Crowd()
    for number in range(4):
        crowd.add(f"r{number}", "x", workflow="gone", revision=limits(None, 1), age=9 - number)
    crowd.settle()
    assert sum(len(crowd.at_work(f"r{number}")) for number in range(4)) == 1
    crowd.boot()
    crowd.settle()
    assert sum(len(crowd.at_work(f"r{number}")) for number in range(4)) == 1


def test_of_a_workflow_that_is_gone_the_newest_run_s_revision_holds() -> None:
    crowd = Crowd()
    for number in range(6):
        revision = limits(None, 4 if number < 5 else 2)
        crowd.add(f"r{number}", "x", workflow="gone", revision=revision, age=9 - number)
    crowd.look("r5")
    crowd.settle()
    assert sum(len(crowd.at_work(f"r{number}")) for number in range(6)) == 2
    for number in range(6):
        crowd.look(f"r{number}")
    assert sum(len(crowd.at_work(f"r{number}")) for number in range(6)) == 2


def test_of_a_workflow_that_goes_what_it_said_last_holds_and_is_forgotten_with_its_runs() -> None:
    crowd = Crowd(limits(None, 1))
    for number in range(3):
        crowd.add(f"r{number}", "x", revision=limits(None, 3), age=9 - number)
    crowd.settle()
    del crowd.workflows["shop", "order"]
    crowd.ledger.workflow_gone("shop", "order")
    for number in range(3):
        crowd.look(f"r{number}")
    assert sum(len(crowd.at_work(f"r{number}")) for number in range(3)) == 1
    for number in range(3):
        crowd.end(f"r{number}", "x")
        crowd.settle()
    assert (list(crowd.live()), crowd.ledger.scopes) == ([], set())


def test_a_run_that_is_created_anew_under_its_name_does_not_inherit_its_slot() -> None:
    crowd = Crowd(limits(1))
    crowd.add("a", age=9)
    crowd.add("b", age=5)
    crowd.settle()
    crowd.remove("a")
    crowd.add("a", age=0)
    crowd.settle()
    assert (crowd.running, crowd.queued) == (["b"], ["a"])


def test_when_all_is_over_nothing_is_left() -> None:
    crowd = Crowd(limits(2, 2, key=KEYED), operator=OperatorLimits(max_workflows=9, max_activities=9))
    for number in range(20):
        crowd.add(f"r{number}", call("mail", room(1)), "x", key=f"k{number % 3}")
        crowd.add(f"own-{number}", "x", workflow="", revision=limits(None, 1))
        crowd.add(f"gone-{number}", "x", workflow=f"gone-{number}", revision=limits(1, 1))
    for _ in range(200):
        crowd.settle()
        for member in crowd.live():
            for part in member.record.running:
                crowd.end(member.key.name, part)
    assert not list(crowd.live())
    ledger = crowd.ledger
    left = [
        *ledger.runs.holders, *ledger.runs.waiting, *ledger.attempts.holders, *ledger.attempts.waiting,
        *ledger.attempts.guards, *ledger.known,
    ]  # fmt: skip
    assert left == []
    assert ledger.scopes == {("shop", "order")}
