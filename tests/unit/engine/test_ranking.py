# SPDX-License-Identifier: Apache-2.0
"""Who is first, while ranks change behind the ranking's back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kubesaga.engine.admission.ranking import Line, Rank, Ranking

GROUPS = st.sampled_from("xyz")
KEYS = st.integers(0, 9)


@given(st.lists(st.tuples(KEYS, st.none() | st.integers(0, 5))))
def test_the_first_has_the_smallest_rank_that_holds_now(changes: list[tuple[int, int | None]]) -> None:
    """What becomes better is said; what becomes worse, or is not to be had, is found out."""
    ranks: dict[int, Rank] = {}
    ranking: Ranking[int] = Ranking(ranks.get)
    for key, rank in changes:
        old = ranks.pop(key, None)
        if rank is not None:
            ranks[key] = (rank, key)
        if rank is not None and (old is None or ranks[key] < old):
            ranking.touch(key)
        expected = min(ranks.items(), key=lambda item: item[1])[0] if ranks else None
        assert ranking.first() == expected


def test_old_entries_do_not_pile_up() -> None:
    ranks: dict[str, Rank] = {"first": (0,), "other": (10**6,)}
    ranking: Ranking[str] = Ranking(ranks.get)
    ranking.touch("first")
    for number in range(10_000):
        ranks["other"] = (10**6 - number,)
        ranking.touch("other")
    assert ranking.first() == "first"
    assert len(ranking._heap) < 200


@given(st.lists(st.one_of(
    st.tuples(st.just("add"), KEYS, GROUPS, st.integers(0, 5)), st.tuples(st.just("remove"), KEYS, GROUPS, st.just(0)),
    st.tuples(st.just("serve"), KEYS, GROUPS, st.just(0)), st.tuples(st.just("free"), KEYS, GROUPS, st.just(0)),
)))  # fmt: skip
def test_the_first_of_a_line_is_the_first_of_the_group_with_the_least_load(
    steps: list[tuple[str, int, str, int]],
) -> None:
    loads = dict.fromkeys("xyz", 0)
    line: Line[int] = Line(lambda group: (loads[group],))
    waiting: dict[int, tuple[bool, int, int, int]] = {}
    groups: dict[int, str] = {}
    for what, key, group, order in steps:
        match what:
            case "add":
                line.add(key, group, (False, order, key))
                groups[key] = group
                waiting[key] = (False, 0, order, key)
            case "remove":
                line.remove(key)
                waiting.pop(key, None)
            case "serve":
                loads[group] += 1
            case "free":
                loads[group] -= 1
                line.touch(group)
        ranked = {key: (False, loads[groups[key]], order, key) for key, (_, _, order, _) in waiting.items()}
        first = line.first()
        assert (first[1] if first else None) == (min(ranked, key=lambda key: ranked[key]) if ranked else None)
        assert (len(line), line.has("x")) == (len(waiting), any(groups[key] == "x" for key in waiting))


def test_those_who_leave_from_behind_one_who_stays_do_not_pile_up() -> None:
    line: Line[int] = Line(lambda _group: ())
    line.add(0, "", (True, 0))
    for number in range(1, 10_000):
        line.add(number, "", (True, number))
        line.remove(number)
    assert line.first() == ((True, 0), 0)
    assert len(line._groups[""]) < 200
