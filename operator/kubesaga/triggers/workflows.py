# SPDX-License-Identifier: Apache-2.0
"""Workflows as they arrive from the API server: whether they may start runs, their triggers made ready, what an event starts."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubesaga.api.parsing import parse_workflow_spec
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.engine.expressions import Evaluator
from kubesaga.engine.values import JSON
from kubesaga.errors import InvalidSpec
from kubesaga.triggers.events import Event
from kubesaga.triggers.matching import Broken, Match, Matcher, matchers_of
from kubesaga.triggers.runs import Body, Origin, is_same, run_of_event

_KEPT: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One Workflow's spec with its triggers made ready."""

    spec: WorkflowSpec
    matchers: tuple[Matcher, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What one event starts of one Workflow."""

    runs: tuple[tuple[str, Body], ...] = ()
    """The trigger's name and the run to create."""
    faults: tuple[str, ...] = ()
    """What kept triggers from being looked at, or a run from being made: sentences, each with its path."""


class Preparer:
    """Makes Workflows ready and keeps them by uid and generation. May be called from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], Prepared | None] = OrderedDict()

    def prepared(self, body: Body) -> Prepared | None:
        """Return a Workflow made ready; None where its spec cannot be read, which its status says."""
        key = (body["metadata"]["uid"], body["metadata"].get("generation", 0))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = _prepared(body)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made


class EventTriggers:
    """What events that come in start. It remembers nothing of any event; `runs` may wait for the evaluator."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._preparer = Preparer()

    def runs(self, workflow: Body, event: Mapping[str, JSON], text: str, sender: str) -> Started:
        """Return the runs that an event starts of a Workflow: none of one that is suspended, or not known to be valid.

        `event` is a CloudEvent in JSON's format, `text` the same as JSON text. `sender` and the event's id are what makes
        it this event and no other. Raises EvaluatorUnavailable: then it is to be asked again.
        """
        prepared = self._preparer.prepared(workflow) if readiness(workflow) else None
        if prepared is None or prepared.spec.suspend or "deletionTimestamp" in workflow["metadata"]:
            return Started()
        told = Event(
            type=str(event["type"]), source=str(event["source"]), id=str(event["id"]), document=event, text=text
        )  # fmt: skip
        runs: list[tuple[str, Body]] = []
        faults: list[str] = []
        for matcher in prepared.matchers:
            answer = matcher.event(told, self._evaluator)
            if isinstance(answer, Match):
                run = run_of_event(origin_of(workflow), matcher.trigger, told, answer.inputs, sender=sender)
                runs.append((matcher.trigger.name, run))
            elif isinstance(answer, Broken):
                faults += map(str, answer.problems)
        return Started(runs=tuple(runs), faults=tuple(faults))

    def is_same(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
        """Tell whether a run that bears the name of a wanted one was made for the same Workflow, trigger and event."""
        return is_same(found, wanted)


def origin_of(workflow: Body) -> Origin:
    """Return which Workflow it is."""
    metadata = workflow["metadata"]
    return Origin(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])


def readiness(workflow: Body) -> bool | None:
    """Tell whether a Workflow as it is now is valid; None: nobody has looked at it yet."""
    status = workflow.get("status") or {}
    if status.get("observedGeneration") != workflow["metadata"].get("generation"):
        return None
    truth = next((known["status"] for known in status.get("conditions") or () if known["type"] == "Ready"), None)
    return None if truth is None else truth == "True"


def _prepared(body: Body) -> Prepared | None:
    try:
        spec = parse_workflow_spec(body.get("spec"))
        return Prepared(spec=spec, matchers=matchers_of(spec))
    except InvalidSpec:
        return None
