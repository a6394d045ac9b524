# SPDX-License-Identifier: Apache-2.0
"""What the gateway asks of triggers: which runs of a Workflow an event causes, and whether a run is one of them. Plugged in by main."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kubesaga.engine.language.values import JSON
from kubesaga.kube.client import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Caused:
    """One run that an event causes."""

    trigger: str
    """Name of the trigger, unique in its Workflow."""
    run: Object
    """The WorkflowRun to create. Its name is the same for the same event, whoever computes it, and no other's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """What the triggers of one Workflow make of an event."""

    caused: Sequence[Caused] = ()
    filtered: int = 0
    """How many triggers wait for the event's type and do not match: by their conditions, or `when`."""
    faults: Sequence[str] = ()
    """What kept triggers from being looked at (a condition without a value, say): sentences for the log."""


class Triggers(Protocol):
    """The triggers of Workflows. Pure but for an evaluator, for which `match` may wait: it is called in a thread."""

    def match(self, workflow: Object, event: Mapping[str, JSON], text: str, origin: str) -> Matches:
        """Return what an event causes. A Workflow that is suspended, or cannot be read, causes nothing.

        One that is wrong as a whole (a cycle, say) causes runs that fail at once with InvalidSpec: the event is on record.

        `event` is in CloudEvents' JSON format, `text` the same as JSON text, for the run's `spec.event`. `origin` and
        the event's id are what tells the event from others: `origin` holds the name of the WorkflowEventSource too, so
        that whoever may send to one source cannot use up the ids of another. Raises EvaluatorUnavailable.
        """

    def is_same(self, found: Object, wanted: Object) -> bool:
        """Tell whether a run that bears the name of a wanted one was made for the same Workflow, trigger and event."""
