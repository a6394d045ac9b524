# SPDX-License-Identifier: Apache-2.0
"""The state machines of a run, of an activity and of its undo, as tables.

Rule 1: every move of a phase goes through `moved_run` or `moved`; a move that is not in the table is a bug and raises.
Rule 2: what is finished never moves again. The diagrams in the documentation are printed from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kubesaga.api.deed import ActivityPhase
from kubesaga.api.names import Deed
from kubesaga.api.run import RunPhase

_A, _R = ActivityPhase, RunPhase

_ENDS: Final = frozenset({_R.SUCCEEDED, _R.FAILED, _R.COMPENSATED, _R.CANCELLED, _R.TERMINATED})
_UNDONE: Final = frozenset({_R.FAILED, _R.COMPENSATED, _R.CANCELLED, _R.TERMINATED})

RUN_MOVES: Final[Mapping[RunPhase | None, frozenset[RunPhase]]] = {
    None: frozenset(_R),
    _R.QUEUED: frozenset({_R.RUNNING, _R.WAITING, _R.PAUSED, _R.COMPENSATING, _R.COMPENSATION_FAILED}) | _ENDS,
    _R.RUNNING: frozenset({_R.WAITING, _R.PAUSED, _R.COMPENSATING, _R.COMPENSATION_FAILED}) | _ENDS,
    _R.WAITING: frozenset({_R.RUNNING, _R.PAUSED, _R.COMPENSATING, _R.COMPENSATION_FAILED}) | _ENDS,
    _R.PAUSED: frozenset({_R.QUEUED, _R.RUNNING, _R.WAITING, _R.COMPENSATING, _R.COMPENSATION_FAILED}) | _ENDS,
    _R.COMPENSATING: frozenset({_R.PAUSED, _R.COMPENSATION_FAILED}) | _UNDONE,
    _R.COMPENSATION_FAILED: frozenset({_R.PAUSED, _R.COMPENSATING}) | _UNDONE,
    _R.SUCCEEDED: frozenset(),
    _R.FAILED: frozenset(),
    _R.COMPENSATED: frozenset(),
    _R.CANCELLED: frozenset(),
    _R.TERMINATED: frozenset(),
}

_TRIED: Final = frozenset({_A.SUCCEEDED, _A.FAILED, _A.CANCELLED, _A.OUTCOME_UNKNOWN})

ACTIVITY_MOVES: Final[Mapping[ActivityPhase, frozenset[ActivityPhase]]] = {
    _A.PENDING: frozenset({_A.QUEUED, _A.RUNNING, _A.WAITING, _A.SKIPPED, _A.FAILED}),
    _A.QUEUED: frozenset(
        {_A.PENDING, _A.RUNNING, _A.RETRYING, _A.WAITING, _A.SKIPPED, _A.FAILED, _A.CANCELLED, _A.OUTCOME_UNKNOWN}
    ),
    _A.RUNNING: frozenset({_A.RETRYING, _A.WAITING, _A.SKIPPED}) | _TRIED,
    _A.RETRYING: frozenset(
        {_A.QUEUED, _A.RUNNING, _A.WAITING, _A.SKIPPED, _A.FAILED, _A.CANCELLED, _A.OUTCOME_UNKNOWN}
    ),
    _A.WAITING: frozenset({_A.SKIPPED}) | _TRIED,
    _A.SUCCEEDED: frozenset({_A.COMPENSATING}),
    _A.FAILED: frozenset({_A.COMPENSATING}),
    _A.SKIPPED: frozenset({_A.COMPENSATING}),
    _A.CANCELLED: frozenset({_A.COMPENSATING}),
    _A.OUTCOME_UNKNOWN: frozenset({_A.COMPENSATING}),
    _A.COMPENSATING: frozenset({_A.COMPENSATED, _A.SKIPPED}) | _TRIED,
    _A.COMPENSATED: frozenset(),
}
"""An activity, or its fallback. What may have had its effect can be undone; where the undo fails, it is again what it was."""

UNDO_MOVES: Final[Mapping[ActivityPhase, frozenset[ActivityPhase]]] = {
    _A.PENDING: frozenset({_A.QUEUED, _A.RUNNING, _A.SKIPPED, _A.FAILED}),
    _A.QUEUED: frozenset({_A.PENDING, _A.RUNNING, _A.RETRYING, _A.FAILED, _A.CANCELLED, _A.OUTCOME_UNKNOWN}),
    _A.RUNNING: frozenset({_A.RETRYING}) | _TRIED,
    _A.RETRYING: frozenset({_A.QUEUED, _A.RUNNING, _A.FAILED, _A.CANCELLED, _A.OUTCOME_UNKNOWN}),
    _A.SUCCEEDED: frozenset(),
    _A.FAILED: frozenset({_A.PENDING, _A.SKIPPED}),
    _A.SKIPPED: frozenset(),
    _A.CANCELLED: frozenset({_A.PENDING, _A.SKIPPED}),
    _A.OUTCOME_UNKNOWN: frozenset({_A.PENDING, _A.SKIPPED}),
}
"""An undo. One that failed is tried anew, or left out, when a WorkflowAction says so."""


class IllegalMove(Exception):
    """A phase was to move where the table does not let it: a bug in the engine, loud on purpose."""


def moved_run(old: RunPhase | None, new: RunPhase) -> RunPhase:
    """Return the new phase of a run; staying is always allowed."""
    if new is not old and new not in RUN_MOVES[old]:
        raise IllegalMove(f"a run cannot move from {old} to {new}")
    return new


def moved(deed: Deed, old: ActivityPhase, new: ActivityPhase) -> ActivityPhase:
    """Return the new phase of a deed; staying is always allowed."""
    moves = UNDO_MOVES if deed is Deed.UNDO else ACTIVITY_MOVES
    if new is not old and new not in moves[old]:
        raise IllegalMove(f"{deed} cannot move from {old} to {new}")
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
