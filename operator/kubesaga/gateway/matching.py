# SPDX-License-Identifier: Apache-2.0
"""What the gateway asks of triggers: which runs of a Workflow an event causes, and how a run is called. Plugged in by main."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kubesaga.engine.values import JSON
from kubesaga.kube.client import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Caused:
    """One run that an event causes."""

    trigger: str
    """Name of the trigger, unique in its Workflow."""
    inputs: Mapping[str, JSON] = field(default_factory=dict)
    """What the run is given."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the run's spec; workflowRef, inputs and event are the gateway's to set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """What the triggers of one Workflow make of an event."""

    caused: Sequence[Caused] = ()
    faults: Sequence[str] = ()
    """What kept triggers from being looked at (a condition without a value, say): sentences for the log."""


class Matcher(Protocol):
    """Looks at the triggers of a Workflow. Pure but for its evaluator, for which it may wait: called in a thread."""

    def __call__(self, workflow: Object, event: Mapping[str, JSON]) -> Matches:
        """Return what `event` (CloudEvents' JSON format) causes. A Workflow that is suspended causes nothing.

        Raises EvaluatorUnavailable.
        """


class RunName(Protocol):
    """Names runs: the same for the same event, whoever computes it, and never the same for another."""

    def __call__(self, workflow_uid: str, trigger: str, origin: str, event_id: str) -> str:
        """Return the name of the one run of a Workflow's trigger for the event `event_id` of `origin`."""
