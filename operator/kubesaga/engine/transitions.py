# SPDX-License-Identifier: Apache-2.0
"""The state machines of a run and of an activity, as tables.

Rule 1: every move of a phase goes through `moved_run` or `moved_activity`; a move that is not in the table is a bug and raises.
Rule 2: what is finished never moves again. The diagram in the documentation is printed from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kubesaga.api.run import ActivityPhase, RunPhase

_A, _R = ActivityPhase, RunPhase

RUN_MOVES: Final[Mapping[RunPhase | None, frozenset[RunPhase]]] = {
    None: frozenset({_R.RUNNING, _R.PAUSED, _R.FAILED, _R.TERMINATED}),
    _R.RUNNING: frozenset({_R.WAITING, _R.PAUSED, _R.SUCCEEDED, _R.FAILED, _R.TERMINATED}),
    _R.WAITING: frozenset({_R.RUNNING, _R.PAUSED, _R.SUCCEEDED, _R.FAILED, _R.TERMINATED}),
    _R.PAUSED: frozenset({_R.RUNNING, _R.WAITING, _R.SUCCEEDED, _R.FAILED, _R.TERMINATED}),
    _R.SUCCEEDED: frozenset(),
    _R.FAILED: frozenset(),
    _R.TERMINATED: frozenset(),
}

ACTIVITY_MOVES: Final[Mapping[ActivityPhase, frozenset[ActivityPhase]]] = {
    _A.PENDING: frozenset({_A.RUNNING, _A.SKIPPED, _A.FAILED}),
    _A.RUNNING: frozenset({_A.RETRYING, _A.SUCCEEDED, _A.FAILED, _A.CANCELLED, _A.OUTCOME_UNKNOWN}),
    _A.RETRYING: frozenset({_A.RUNNING, _A.FAILED, _A.CANCELLED, _A.OUTCOME_UNKNOWN}),
    _A.SUCCEEDED: frozenset(),
    _A.FAILED: frozenset(),
    _A.SKIPPED: frozenset(),
    _A.CANCELLED: frozenset(),
    _A.OUTCOME_UNKNOWN: frozenset(),
}


class IllegalMove(Exception):
    """A phase was to move where the table does not let it: a bug in the engine, loud on purpose."""


def moved_run(old: RunPhase | None, new: RunPhase) -> RunPhase:
    """Return the new phase of a run; staying is always allowed."""
    if new is not old and new not in RUN_MOVES[old]:
        raise IllegalMove(f"a run cannot move from {old} to {new}")
    return new


def moved_activity(old: ActivityPhase, new: ActivityPhase) -> ActivityPhase:
    """Return the new phase of an activity; staying is always allowed."""
    if new is not old and new not in ACTIVITY_MOVES[old]:
        raise IllegalMove(f"an activity cannot move from {old} to {new}")
    return new


def mermaid(
    moves: Mapping[ActivityPhase, frozenset[ActivityPhase]] | Mapping[RunPhase | None, frozenset[RunPhase]],
) -> str:
    """Return a table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2"]
    for old, news in moves.items():
        lines += [f"    {old or '[*]'} --> {new}" for new in sorted(news)]
        if not news:
            lines.append(f"    {old} --> [*]")
    return "\n".join(lines)
