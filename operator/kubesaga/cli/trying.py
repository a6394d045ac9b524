# SPDX-License-Identifier: Apache-2.0
"""Tries the triggers of one Workflow in a file, and what its runs wait for, on one event in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kubesaga.api.event_types import EventType, find_type
from kubesaga.api.fields import format_time
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.cli.awaiting import Given, given_to, shown_name
from kubesaga.cli.checking import activities_in, catalogue_of, check_header, check_spec, types_in
from kubesaga.cli.documents import STDIN, Manifest, read_manifests, read_text
from kubesaga.cli.plan import DEFAULT_NAMESPACE, Refused
from kubesaga.cli.yaml_text import Unreadable, read_yaml
from kubesaga.engine.language.conditions import Explanation
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.language.schemas import violation
from kubesaga.engine.validation.triggers import trigger_schedule, unknown_type
from kubesaga.errors import InvalidSpec
from kubesaga.triggers.events import Event, event_of
from kubesaga.triggers.matching import Answer, Broken, Match, Matcher, matchers_of
from kubesaga.triggers.runs import Origin, run_of_event

_WORDS: Final = {"Match": "matches", "NoMatch": "does not match", "Broken": "cannot start a run"}
_SYMBOLS: Final = {"Match": "Succeeded", "NoMatch": "Skipped", "Broken": "Failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenEvent:
    """The event, and what is odd about it."""

    event: Event
    warnings: list[str]

    @property
    def type(self) -> str:
        """Its type."""
        return self.event.type

    @property
    def source(self) -> str:
        """Where it comes from."""
        return self.event.source

    @property
    def id(self) -> str:
        """Its id there."""
        return self.event.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came out for one trigger."""

    name: str
    answer: Answer
    run: str | None
    """The run that the event would start."""
    next_tick: datetime | None

    @property
    def matches(self) -> bool:
        """Tell whether the event would start a run."""
        return isinstance(self.answer, Match)

    @property
    def word(self) -> str:
        """What came out, in words."""
        next_ = f"; its next tick is at {format_time(self.next_tick)}" if self.next_tick is not None else ""
        return f"{_WORDS[type(self.answer).__name__]}{next_}"

    @property
    def symbol(self) -> str:
        """The phase whose sign it bears."""
        return _SYMBOLS[type(self.answer).__name__]

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The inputs that the run would have."""
        return self.answer.inputs if isinstance(self.answer, Match) else {}

    def reasons(self) -> Iterator[tuple[int, Explanation]]:
        """Yield the reasons with their depth, in order."""
        why = self.answer.why
        rest = [(0, part) for part in reversed(why.parts or (why,))]
        while rest:
            depth, part = rest.pop()
            yield depth, part
            rest += [(depth + 1, inner) for inner in reversed(part.parts)]

    def wire(self) -> dict[str, Any]:
        """Return it as JSON."""
        found: dict[str, Any] = {"name": self.name, "answer": type(self.answer).__name__, "why": _wire(self.answer.why)}
        if isinstance(self.answer, Match):
            found |= {"run": self.run, "inputs": self.answer.inputs}
        if isinstance(self.answer, Broken):
            found["problems"] = [{"path": p.path, "message": p.message} for p in self.answer.problems]
        if self.next_tick is not None:
            found["nextTick"] = format_time(self.next_tick)
        return found


def workflow_in(
    file: str, name: str | None, evaluator: Evaluator
) -> tuple[Manifest, WorkflowSpec, Mapping[str, EventType]]:
    """Return the one Workflow of a file that is asked for, and the event types that it knows.

    Raises Refused, also where it is not valid.
    """
    reading = read_manifests(file)
    if reading.findings:
        raise Refused([str(finding) for finding in reading.findings])
    workflows = [manifest for manifest in reading.manifests if manifest.kind == "Workflow"]
    named = [manifest for manifest in workflows if name is None or manifest.name == name]
    if len(named) != 1:
        names = ", ".join(manifest.name for manifest in workflows) or "none"
        advice = "; say which one by --workflow NAME" if len(named) > 1 else ""
        raise Refused([f"{file}: holds {len(named)} Workflows that are asked for (there are: {names}){advice}"])
    manifest = named[0]
    catalogue = catalogue_of(activities_in(reading.manifests, evaluator), manifest.namespace, complete=False)
    spec, _, findings = check_spec(manifest, manifest.value.get("spec"), "spec", evaluator, catalogue)
    problems = [str(finding) for finding in (*check_header(manifest), *findings) if not finding.warning]
    if problems or spec is None:
        raise Refused(problems)
    sources = [other for other in reading.manifests if other.kind == "WorkflowEventSource"]
    return manifest, spec, types_in(sources, manifest.namespace)


def event_in(file: str, known: Mapping[str, EventType], evaluator: Evaluator) -> GivenEvent:
    """Return the event of a file; `known` are the types that there are. Raises Refused with each problem as `file:line: path: sentence`."""
    source = "<stdin>" if file == STDIN else file
    try:
        documents = read_yaml(read_text(file))
    except Unreadable as error:
        place = f"{source}:{error.line}" if error.line else source
        raise Refused([f"{place}: {error}"]) from None
    if len(documents) != 1:
        raise Refused([f"{source}: must hold one event, but holds {len(documents)} documents"])
    (document,) = documents
    try:
        event = event_of(document.value)
    except InvalidSpec as error:
        raise Refused([f"{source}:{document.line(problem.path)}: {problem}" for problem in error.problems]) from None
    if document.problems:
        raise Refused([f"{source}:{document.line(problem.path)}: {problem}" for problem in document.problems])
    return GivenEvent(event=event, warnings=list(_oddities(event, known, evaluator)))


def tried(
    manifest: Manifest,
    spec: WorkflowSpec,
    given: GivenEvent,
    evaluator: Evaluator,
    *,
    uid: str | None,
    source: str | None,
    now: datetime,
) -> tuple[list[Tried], Given]:
    """Return what comes out for each trigger, and to whom the event is given.

    Without the Workflow's uid, and the WorkflowEventSource that the event comes in by, the end of the run's name is not known.
    """
    known = uid or manifest.metadata.get("uid")
    origin = Origin(
        namespace=manifest.namespace or DEFAULT_NAMESPACE, name=manifest.name, uid=str(known or "")
    )  # fmt: skip
    sender = f"{source}/{given.event.source}" if known and source else None
    rows = [_tried(matcher, origin, given.event, evaluator, now, sender) for matcher in matchers_of(spec)]
    return rows, given_to(manifest, spec, given.event, origin, sender)


def _tried(
    matcher: Matcher, origin: Origin, event: Event, evaluator: Evaluator, now: datetime, sender: str | None
) -> Tried:  # fmt: skip
    trigger = matcher.trigger
    answer = matcher.event(event, evaluator)
    run = None
    if isinstance(answer, Match):
        name = str(run_of_event(origin, trigger, event, answer.inputs, sender=sender)["metadata"]["name"])
        run = shown_name(name, known=sender is not None)
    next_ = trigger_schedule(trigger).next_after(now) if trigger.timed else None
    return Tried(name=trigger.name, answer=answer, run=run, next_tick=next_)


def _oddities(event: Event, types: Mapping[str, EventType], evaluator: Evaluator) -> Iterator[str]:
    known = find_type(event.type, types.values())
    if known is None:
        yield f"type: {unknown_type(event.type, types)}"
    elif known.schema_ and (problem := violation(known.schema_, event.data, evaluator, "data")):
        yield f"{problem}, says the schema of {known.type}"


def _wire(why: Explanation) -> dict[str, Any]:
    parts = {"parts": [_wire(part) for part in why.parts]} if why.parts else {}
    return {"holds": why.holds, "sentence": why.sentence, **parts}
