# SPDX-License-Identifier: Apache-2.0
"""Which plans there are: every write of a saga at each of its moments, every answer, every event, and mixes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.faults.faults import AFTER, BEFORE, LOST, MOMENTS, At, Blow, Fault, Fixed, Mix, Plan, Twist, refused
from tests.faults.lane import PATIENCE, During, SagaOf
from tests.faults.record import Record
from tests.faults.saga import reference, undone, wide


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A plan and the sagas that are played under it."""

    plan: Plan
    sagas: Sequence[SagaOf] = (reference,)
    during: During | None = None
    exits: tuple[int, ...] = ()
    """How the operator may end besides being killed."""
    fresh: bool = False
    """The operator is started anew afterwards: its watches are in a state that would cost the next play time."""
    patience: float = PATIENCE
    operators: int = 1
    alone: bool = True
    """At most one of them is to write at any time."""
    settings: tuple[tuple[str, str], ...] = ()
    """Of the operators, besides the usual ones."""

    @property
    def place(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        """What kind of lane it needs."""
        return self.operators, self.settings

    @property
    def title(self) -> str:
        """The plan's."""
        return self.plan.title


def places(record: Record) -> list[tuple[str, int]]:
    """Return every write of an undisturbed play as (label, number from 1), in order."""
    seen: Counter[str] = Counter()
    found = []
    for sent in record.calls:
        if sent.call.mutates:
            seen[sent.call.label] += 1
            found.append((sent.call.label, seen[sent.call.label]))
    return found


def every_moment(record: Record, sagas: Sequence[SagaOf] = (reference,), during: During | None = None) -> list[Case]:
    """Return one case for each write and each of: killed before it, killed after it, answer lost."""
    return [replace(_at(label, nth, fault, sagas), during=during) for label, nth in places(record) for fault in MOMENTS]


ANSWERS = (
    refused(409), refused(429, 1), refused(500), refused(503), refused(504), Fault(blow=Blow.DROPPED),
    Fault(blow=Blow.SLOW, seconds=2.0),
)  # fmt: skip


def every_answer(record: Record, sagas: Sequence[SagaOf] = (reference,)) -> list[Case]:
    """Return one case for each write and each answer that says nothing about the object."""
    return [_at(label, nth, fault, sagas) for label, nth in places(record) for fault in ANSWERS]


def every_event(twists: Sequence[Twist]) -> list[Case]:
    """Return one case for each twist of each class of events of the saga."""
    return [event(at, twist) for at in EVENTS for twist in twists]


EVENTS = (
    At(label="workflowruns ADDED"), At(label="workflowruns MODIFIED Running", times=3), At(label="pods ADDED Pending"),
    At(label="pods MODIFIED*", times=3), At(label="pods MODIFIED Succeeded"), At(label="*", times=3),
)  # fmt: skip
"""The classes of events of a saga. Never all of a class without end: an event that can never be told is no fault that ceases."""


def event(at: At, twist: Twist) -> Case:
    """Return the case of a twist at a place."""
    # Kopf takes an error in a stream for a reason to end, and we are started again.
    exits = (1,) if twist is Twist.BROKEN and not at.label.startswith("pods") else ()
    return Case(plan=Fixed(title=f"{_named(at)}: {twist}", twists=((at, twist),)), exits=exits, fresh=True)


def mixes(seeds: Sequence[int]) -> list[Case]:
    """Return one case a seed: three sagas side by side."""
    return [Case(plan=Mix(seed=seed), sagas=(reference, wide, undone), fresh=True) for seed in seeds]


def _at(label: str, nth: int, fault: Fault, sagas: Sequence[SagaOf]) -> Case:
    return Case(plan=Fixed(title=f"{label} {nth}: {fault}", blows=((At(label=label, nth=nth), fault),)), sagas=sagas)


def _named(at: At) -> str:
    return at.label if at.times == 1 else f"the first {at.times} {at.label}"


def mutant_cases() -> dict[str, Case]:
    """Return for each mutant (mutants.py) a case that must show it, and a short patience for those that wait for ever."""
    status = "patch workflowruns/status"
    some = _at("create pods", 1, LOST, (reference,))
    cases = {
        "acts before it writes": _at(status, 3, BEFORE, (reference,)),
        "lets go before it writes": some,
        "believes old copies": event(At(label="workflowruns*", nth=0), Twist.REPLAY),
        "forgets names": _at("create pods", 1, AFTER, (reference,)),
        "does not wait": some,
        "takes silence for consent": _at(status, 3, Fault(blow=Blow.DROPPED), (reference,)),
        "makes up keys": some,
        "keeps pods": some,
        "never looks again": event(At(label="workflowruns ADDED"), Twist.DROP),
    }
    return {name: replace(case, patience=15.0) for name, case in cases.items()}
