# SPDX-License-Identifier: Apache-2.0
"""What the ledger knows of one run: how it stands, and what the pass over it that is under way asks for and was granted."""

from __future__ import annotations

from dataclasses import dataclass, field

from kubesaga.engine.admission.conflicts import Contender
from kubesaga.engine.admission.gate import Claim, SlotId
from kubesaga.engine.admission.standing import Place, Standing
from kubesaga.engine.definition import StepKey


@dataclass(slots=True)
class Entry:
    """One run."""

    standing: Standing
    asked: dict[SlotId, Claim] = field(default_factory=dict)
    """What the pass that is under way asks for."""
    granted: dict[SlotId, Claim] = field(default_factory=dict)
    """What was granted and does not stand in the status yet."""
    writing: bool = False
    """A pass has begun to write, and nobody knows yet what became of that: what was granted may stand in the status."""
    used: set[SlotId] = field(default_factory=set)
    """Those grants that the pass under way has been told of."""
    declined: set[SlotId] = field(default_factory=set)
    """Those that it had no use for."""
    asked_key: str = ""
    """The business key of a run that has not been recorded as waiting yet."""
    mine: set[SlotId] = field(default_factory=set)
    """All that the gates know of the run."""

    def held(self) -> dict[SlotId, Claim]:
        """Return the claims that the status says are held."""
        standing = self.standing
        held: dict[SlotId, Claim] = {
            (standing.uid, step): attempt_claim(standing, step, place) for step, place in standing.held.items()
        }
        if standing.started:
            held[(standing.uid, None)] = run_claim(standing, standing.group)
        return held

    def waits(self) -> dict[SlotId, Claim]:
        """Return the claims that the status says are waited for, without those that a pass had no use for."""
        standing = self.standing
        waits: dict[SlotId, Claim] = {
            (standing.uid, step): attempt_claim(standing, step, place) for step, place in standing.waiting.items()
        }
        if standing.queued:
            waits[(standing.uid, None)] = run_claim(standing, standing.group)
        return {slot: claim for slot, claim in waits.items() if slot not in self.declined}

    def contender(self) -> Contender | None:
        """Return how the run stands among those of its key; None: it neither has started nor waits for that."""
        standing = self.standing
        start = (standing.uid, None)
        waits = start in self.granted or start in self.asked or (standing.queued and start not in self.declined)
        if not standing.started and not waits:
            return None
        return Contender(
            uid=standing.uid, scope=standing.scope, key=standing.business_key or self.asked_key,
            created=standing.created, name=standing.key.name,
            started=standing.started or start in self.granted,
        )  # fmt: skip


def attempt_claim(standing: Standing, step: StepKey, place: Place) -> Claim:
    """Return the claim of one attempt."""
    return Claim(
        id=(standing.uid, step), scope=standing.scope, at=place.since, name=standing.key.name, group=standing.group,
        priority=standing.priority, guard=place.guard, urgent=place.urgent,
    )  # fmt: skip


def run_claim(standing: Standing, group: str) -> Claim:
    """Return the claim of a run on its start."""
    return Claim(
        id=(standing.uid, None), scope=standing.scope, at=standing.created, name=standing.key.name, group=group,
        priority=standing.priority,
    )  # fmt: skip
