# SPDX-License-Identifier: Apache-2.0
"""Who stands in whose way, beside the same worked out from all runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from kubesaga.engine.admission.conflicts import Conflicts, Contender
from kubesaga.testing.clock import START

SCOPE = ("shop", "order")


def contender(number: int, key: str = "k", *, started: bool = False) -> Contender:
    created = START + timedelta(seconds=number // 2)
    return Contender(uid=f"u{number}", scope=SCOPE, key=key, created=created, name=f"r{number}", started=started)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "drop", "rules"]), st.integers(0, 7), st.sampled_from(["", "k", "l"]), st.booleans()
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=400)
@given(STEPS)
def test_who_is_ahead_and_who_is_displaced_is_what_all_runs_say(steps: list[tuple[str, int, str, bool]]) -> None:
    woken: set[str] = set()
    conflicts, runs = Conflicts(woken.add), dict[str, Contender]()
    newest: int | None = None
    replaces = False
    for what, number, key, flag in steps:
        before = {uid for uid in runs if _displaced(runs, uid, newest, replaces=replaces)}
        ahead = {uid: conflicts.ahead(uid) for uid in runs}
        woken.clear()
        match what:
            case "put":
                run = contender(number, key, started=flag)
                affected = conflicts.put(run)
                runs[run.uid] = run
            case "drop":
                affected = conflicts.drop(f"u{number}")
                runs.pop(f"u{number}", None)
            case _:
                newest, replaces, affected = number or None, flag, set()
                conflicts.configure(SCOPE, newest=newest, replaces=replaces)
        changed = {
            uid for uid in runs if uid in ahead and uid != f"u{number}" and (ahead[uid] is None) != (conflicts.ahead(uid) is None)
        }  # fmt: skip
        assert changed <= affected, "who is next now, or not any more, is told"
        now = {uid for uid in runs if _displaced(runs, uid, newest, replaces=replaces)}
        assert {uid for uid in runs if conflicts.displaced(uid)} == now
        assert now - before <= woken, "who is displaced from now on is woken"
        for uid, run in runs.items():
            rivals = [other for other in runs.values() if other.key == run.key != "" and other.uid != uid]
            first = any(other.started or other.order < run.order for other in rivals)
            assert (conflicts.ahead(uid) is not None) == (not run.started and first)
            assert (conflicts.other(SCOPE, run.key, uid) is not None) == bool(rivals)


def _displaced(runs: dict[str, Contender], uid: str, newest: int | None, *, replaces: bool) -> bool:
    run = runs[uid]
    later = [other for other in runs.values() if other.order > run.order]
    replaced = replaces and run.key != "" and any(other.key == run.key for other in later)
    return replaced or (newest is not None and len(later) >= newest)


def test_runs_of_other_scopes_and_without_a_key_stand_in_nobody_s_way() -> None:
    conflicts = Conflicts(lambda _uid: None)
    conflicts.put(contender(0, started=True))
    conflicts.put(replace(contender(1), scope=("shop", "other")))
    conflicts.put(contender(2, ""))
    assert [conflicts.ahead(f"u{number}") for number in range(3)] == [None, None, None]


def test_nothing_is_kept_of_who_is_gone() -> None:
    conflicts = Conflicts(lambda _uid: None)
    for number in range(8):
        conflicts.put(contender(number))
    for number in range(8):
        conflicts.drop(f"u{number}")
    assert (dict(conflicts._known), dict(conflicts._keys), dict(conflicts._orders)) == ({}, {}, {})
