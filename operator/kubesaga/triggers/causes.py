# SPDX-License-Identifier: Apache-2.0
"""What an event causes: the runs that a Workflow's triggers make of it, by `spec.triggers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kubesaga.api.parsing import parse_workflow_spec
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.language.values import JSON
from kubesaga.errors import InvalidSpec
from kubesaga.kube.client import Object
from kubesaga.triggers.events import Event
from kubesaga.triggers.matching import Broken, Match, Matcher, matchers_of
from kubesaga.triggers.runs import Origin, run_of_event

_MOST: Final = 10_000
_Ready = tuple[str, tuple[Matcher, ...] | InvalidSpec]
"""The version of a Workflow, and its triggers made ready, or why they cannot be."""


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


class WorkflowTriggers:
    """The triggers of Workflows; those of the Workflows that are there are kept ready.

    Pure but for an evaluator, for which `match` may wait: it is called in a thread.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._ready: dict[str, _Ready] = {}

    def match(self, workflow: Object, event: Mapping[str, JSON], text: str, origin: str) -> Matches:
        """Return what an event causes. A Workflow that is suspended, or cannot be read, causes nothing.

        One that is wrong as a whole (a cycle, say) causes runs that fail at once with InvalidSpec: the event is on record.

        `event` is in CloudEvents' JSON format, `text` the same as JSON text, for the run's `spec.event`. `origin` and
        the event's id are what tells the event from others: `origin` holds the name of the WorkflowEventSource too, so
        that whoever may send to one source cannot use up the ids of another. Raises EvaluatorUnavailable.
        """
        spec, metadata = workflow.get("spec") or {}, workflow["metadata"]
        if spec.get("suspend") or not spec.get("triggers") or "deletionTimestamp" in metadata:
            return Matches()
        matchers = self._matchers(workflow)
        if isinstance(matchers, InvalidSpec):
            return Matches(faults=[f"the Workflow is not valid: {matchers}"])
        home = Origin(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])
        # What tells the event from others is where it came in too; what expressions read is the event as it is.
        given = Event(type=str(event["type"]), source=origin, id=str(event["id"]), document=event, text=text)
        caused, faults, filtered = [], [], 0
        for matcher in matchers:
            answer = matcher.event(given, self._evaluator)
            if isinstance(answer, Match):
                run = run_of_event(home, matcher.trigger, given, answer.inputs)
                caused.append(Caused(trigger=matcher.trigger.name, run=run))
            elif isinstance(answer, Broken):
                faults += [str(problem) for problem in answer.problems]
            else:
                filtered += matcher.waits_for(given.type)
        return Matches(caused=caused, filtered=filtered, faults=faults)

    def _matchers(self, workflow: Object) -> tuple[Matcher, ...] | InvalidSpec:
        uid, version = workflow["metadata"]["uid"], workflow["metadata"]["resourceVersion"]
        known = self._ready.get(uid)
        if known is None or known[0] != version:
            if len(self._ready) >= _MOST:
                self._ready.clear()
            known = self._ready[uid] = (version, _made(workflow))
        return known[1]


def _made(workflow: Object) -> tuple[Matcher, ...] | InvalidSpec:
    try:
        return matchers_of(parse_workflow_spec(workflow["spec"]))
    except InvalidSpec as error:
        return error
