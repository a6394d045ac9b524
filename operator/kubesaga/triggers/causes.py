# SPDX-License-Identifier: Apache-2.0
"""What an event causes of a Workflow: the runs that its triggers make of it, and the one that gives it to live runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from kubesaga.api.parsing import parse_workflow_spec
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.language.values import JSON
from kubesaga.errors import InvalidSpec
from kubesaga.kube.client import Object
from kubesaga.triggers.awaiting import Awaited, awaited_by
from kubesaga.triggers.events import Event
from kubesaga.triggers.failures import stopped_triggers
from kubesaga.triggers.matching import Broken, Match, Matcher, matchers_of
from kubesaga.triggers.runs import Origin, messenger_of, run_of_event

_MOST: Final = 50_000
"""Workflows that are kept ready, those that are gone included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A Workflow made ready."""

    version: str
    """Its resourceVersion: of its status too, which holds what older revisions wait for."""
    matchers: tuple[Matcher, ...] | InvalidSpec
    """Its triggers, or why they cannot be made ready."""
    awaited: Awaited
    stopped: frozenset[str]
    """The names of its triggers that have stopped themselves (`failureLimit`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caused:
    """One run that an event causes."""

    trigger: str | None
    """Name of the trigger, unique in its Workflow. None: the run starts nothing, it gives the event to live runs."""
    run: Object
    """The WorkflowRun to create. Its name is the same for the same event, whoever computes it, and no other's."""

    @property
    def delivers(self) -> bool:
        """Tell whether it only gives the event to live runs that wait for it (`spec.deliver`)."""
        return self.trigger is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """What an event comes to in one Workflow."""

    caused: Sequence[Caused] = ()
    """The runs of triggers, and at the end the one that gives the event to live runs, if any may wait for it."""
    filtered: int = 0
    """How many triggers wait for the event's type and do not match: by their conditions, or `when`."""
    stopped: Sequence[str] = ()
    """The names of triggers that match and have stopped themselves (`failureLimit`): they start nothing."""
    faults: Sequence[str] = ()
    """What kept triggers from being looked at (a condition without a value, say): sentences for the log."""


class WorkflowTriggers:
    """The triggers of Workflows, and what their runs wait for; of the Workflows that are there both are kept ready.

    Pure but for an evaluator, for which `match` may wait: it is called in a thread.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._ready: dict[str, _Ready] = {}

    def match(self, workflow: Object, event: Mapping[str, JSON], text: str, origin: str) -> Matches:
        """Return what an event causes. The triggers of a Workflow that is suspended, or cannot be read, start nothing.

        Nor does one that has stopped itself; that is told, since nobody has ordered it.

        Its live runs wait all the same, and those of its revisions before, so the event may have to be given to them. That
        is known by the event's type alone: which runs there are, and which of them it is for, the operator finds out.

        A Workflow that is wrong as a whole (a cycle, say) causes runs that fail at once with InvalidSpec: the event is on record.

        `event` is in CloudEvents' JSON format, `text` the same as JSON text, for the run's `spec.event`. `origin` and
        the event's id are what tells the event from others: `origin` holds the name of the WorkflowEventSource too, so
        that whoever may send to one source cannot use up the ids of another. Raises EvaluatorUnavailable.
        """
        metadata = workflow["metadata"]
        if "deletionTimestamp" in metadata:
            return Matches()
        ready = self._made_ready(workflow)
        if not ready.matchers and not ready.awaited:
            return Matches()
        home = Origin(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])
        # What tells the event from others is where it came in too; what expressions read is the event as it is.
        given = Event(type=str(event["type"]), source=origin, id=str(event["id"]), document=event, text=text)
        found = Matches() if (workflow.get("spec") or {}).get("suspend") else self._started(ready, home, given)
        if not ready.awaited.waits_for(given.type):
            return found
        return replace(found, caused=[*found.caused, Caused(trigger=None, run=messenger_of(home, given))])

    def _started(self, ready: _Ready, home: Origin, given: Event) -> Matches:
        """Return what the triggers of a Workflow make of an event."""
        if isinstance(ready.matchers, InvalidSpec):
            return Matches(faults=[f"the Workflow is not valid: {ready.matchers}"])
        caused, stopped, faults, filtered = [], [], [], 0
        for matcher in ready.matchers:
            answer = matcher.event(given, self._evaluator)
            if isinstance(answer, Match) and matcher.trigger.name in ready.stopped:
                stopped.append(matcher.trigger.name)
            elif isinstance(answer, Match):
                run = run_of_event(home, matcher.trigger, given, answer.inputs)
                caused.append(Caused(trigger=matcher.trigger.name, run=run))
            elif isinstance(answer, Broken):
                faults += [str(problem) for problem in answer.problems]
            else:
                filtered += matcher.waits_for(given.type)
        return Matches(caused=caused, filtered=filtered, stopped=stopped, faults=faults)

    def _made_ready(self, workflow: Object) -> _Ready:
        uid, version = workflow["metadata"]["uid"], workflow["metadata"]["resourceVersion"]
        known = self._ready.get(uid)
        if known is None or known.version != version:
            if len(self._ready) >= _MOST:
                self._ready.clear()
            known = _Ready(
                version=version, matchers=_matchers(workflow), awaited=awaited_by(workflow),
                stopped=frozenset(stopped_triggers(workflow)),
            )  # fmt: skip
            self._ready[uid] = known
        return known


def _matchers(workflow: Object) -> tuple[Matcher, ...] | InvalidSpec:
    if not (workflow.get("spec") or {}).get("triggers"):
        return ()
    try:
        return matchers_of(parse_workflow_spec(workflow["spec"]))
    except InvalidSpec as error:
        return error
