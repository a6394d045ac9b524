# SPDX-License-Identifier: Apache-2.0
"""The queue as people want to see it: whose turn is when. Computed by those who show it, from what is recorded.

A position that was written down would have to be written anew for everybody whenever somebody starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from kubesaga.api.limits import Concurrency, QueueStrategy
from kubesaga.api.run import BlockedBy
from kubesaga.engine.admission.entry import attempt_claim, run_claim
from kubesaga.engine.admission.gate import Claim, Gate, Scope
from kubesaga.engine.admission.standing import Standing
from kubesaga.engine.definition import StepKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Somebody who waits: a run for its start, or a deed of a run for its next attempt."""

    standing: Standing
    step: StepKey | None
    position: int
    """Among those of its Workflow that wait for the same: 1 is next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """One Workflow."""

    scope: Scope
    started: int
    """How many of its runs are under way."""
    attempts: int
    """How many attempts of them are."""
    runs: tuple[Turn, ...]
    """Those that wait to start, the next one first."""
    deeds: tuple[Turn, ...]
    """Those that wait for a slot, the next one first."""


def outlooks(standings: Iterable[Standing], limits: Mapping[Scope, Concurrency | None]) -> list[Outlook]:
    """Return how it stands with each Workflow of which a run is live, by namespace and name."""
    by_scope: dict[Scope, list[Standing]] = {}
    for standing in standings:
        by_scope.setdefault(standing.scope, []).append(standing)
    return [_outlook(scope, members, limits.get(scope)) for scope, members in sorted(by_scope.items())]


def _outlook(scope: Scope, members: list[Standing], concurrency: Concurrency | None) -> Outlook:
    queuing = concurrency.queuing if concurrency is not None else None
    strategy = queuing.strategy if queuing is not None else QueueStrategy.FIFO
    known = {standing.uid: standing for standing in members}
    runs = [run_claim(standing, standing.group) for standing in members if standing.queued]
    started = [run_claim(standing, standing.group) for standing in members if standing.started]
    waiting = [attempt_claim(each, step, place) for each in members for step, place in each.waiting.items()]
    held = [attempt_claim(each, step, place) for each in members for step, place in each.held.items()]
    return Outlook(
        scope=scope, started=len(started), attempts=len(held),
        runs=tuple(_turns(known, runs, started, strategy)), deeds=tuple(_turns(known, waiting, held, strategy)),
    )  # fmt: skip


def _turns(
    known: Mapping[str, Standing], waiting: list[Claim], held: list[Claim], strategy: QueueStrategy
) -> list[Turn]:
    """Return who waits, in the order in which a gate without limits lets them in."""
    names = BlockedBy.MAX_WORKFLOWS, BlockedBy.OPERATOR_MAX_WORKFLOWS
    gate = Gate(limit=None, strategy=strategy, room=lambda _guard: True, scope_full=names[0], full=names[1])
    for claim in (*waiting, *held):
        gate.configure(claim.scope, None, strategy)
    for claim in held:
        gate.hold(claim)
    for claim in waiting:
        gate.wait(claim)
    order = gate.fill(datetime.max.replace(tzinfo=UTC))
    return [
        Turn(standing=known[claim.id[0]], step=claim.id[1], position=number) for number, claim in enumerate(order, 1)
    ]
