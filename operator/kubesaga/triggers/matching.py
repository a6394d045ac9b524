# SPDX-License-Identifier: Apache-2.0
"""Whether a trigger fits an event: a match with the inputs of its run, or why not, in sentences.

A trigger fits if the event's type fits, all conditions hold for the event's data, and `when` holds. What cannot be
evaluated (`when` reads what this event does not carry, an input comes out as the wrong type) is neither: it is `Broken`,
to be reported, and makes no run. Only EvaluatorUnavailable is raised: then the question is to be asked again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kubesaga.api.event_types import fits
from kubesaga.api.parsing import field_path
from kubesaga.api.triggers import TIMER_EVENTS, Trigger
from kubesaga.api.workflow import Input, WorkflowSpec
from kubesaga.engine.inputs import resolve_inputs
from kubesaga.engine.language.conditions import Explanation, Node, compile_conditions
from kubesaga.engine.language.expressions import Evaluator, ExpressionError, condition, render
from kubesaga.engine.validation.sites import short
from kubesaga.engine.validation.triggers import trigger_schedule
from kubesaga.errors import InvalidSpec, Problem
from kubesaga.triggers.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The trigger fits: a run with these inputs is to be."""

    inputs: dict[str, Any]
    why: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class NoMatch:
    """The trigger does not fit."""

    why: Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """It cannot be told, or the run could not start: to be reported to whoever wrote the Workflow."""

    problems: tuple[Problem, ...]
    why: Explanation


Answer: TypeAlias = Match | NoMatch | Broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """A trigger made ready, to be asked about many events."""

    trigger: Trigger
    path: str
    """Where the trigger stands: `spec.triggers[0]`."""
    declared: tuple[Input, ...]
    conditions: Node = field(repr=False)

    def waits_for(self, type_: str) -> bool:
        """Tell whether events of a type that come in are looked at here; those of the clock's own types never are."""
        timed = self.trigger.timed or type_ in TIMER_EVENTS
        return not timed and fits(self.trigger.event or "", type_)

    def event(self, event: Event, evaluator: Evaluator) -> Answer:
        """Return whether an event that came in starts a run. What the clock starts, no event does."""
        trigger = self.trigger
        if trigger.timed:
            told = f"the clock starts it ({trigger_schedule(trigger)}), no event that comes in"
            return NoMatch(why=Explanation(False, told))
        pattern = trigger.event or ""
        if event.type in TIMER_EVENTS:
            return NoMatch(why=Explanation(False, f"{event.type} is the clock's own event; none that comes in counts"))
        if not fits(pattern, event.type):
            return NoMatch(why=Explanation(False, f"the event's type is {event.type}, not {pattern}"))
        among = "" if pattern == event.type else f", one of {pattern}"
        return self._rest(event, evaluator, Explanation(True, f"the event's type is {event.type}{among}"))

    def tick(self, event: Event, evaluator: Evaluator) -> Answer:
        """Return whether a tick, told as an event of our own, gets a run."""
        return self._rest(event, evaluator, Explanation(True, f"it is a tick of {trigger_schedule(self.trigger)}"))

    def _rest(self, event: Event, evaluator: Evaluator, first: Explanation) -> Answer:
        parts = [first]
        if self.trigger.conditions:
            parts.append(self.conditions.explain(event.data))
            if not parts[-1].holds:
                return NoMatch(why=_whole(parts))
        scope = {"event": event.document}
        if self.trigger.when is not None:
            try:
                holds = condition(self.trigger.when, scope, evaluator, field_path(self.path, "when"))
            except ExpressionError as error:
                return _broken(parts, "when cannot be evaluated", [Problem(error.path, _of(error))])
            shown = short(self.trigger.when.strip())
            parts.append(Explanation(holds, f"when {'holds' if holds else 'does not hold'}: {shown}"))
            if not holds:
                return NoMatch(why=_whole(parts))
        return self._with_inputs(scope, evaluator, parts)

    def _with_inputs(self, scope: dict[str, Any], evaluator: Evaluator, parts: list[Explanation]) -> Answer:
        where = field_path(self.path, "inputs")
        try:
            inputs: dict[str, Any] = render(self.trigger.inputs or {}, scope, evaluator, where)
            resolve_inputs(list(self.declared), inputs)
        except ExpressionError as error:
            return _broken(parts, "the inputs cannot be made", [Problem(error.path, _of(error))])
        except InvalidSpec as error:
            found = [Problem(p.path.replace("spec.inputs", where, 1), p.message) for p in error.problems]
            return _broken(parts, "the inputs do not fit the Workflow's", found)
        return Match(inputs=inputs, why=_whole(parts))


def matchers_of(spec: WorkflowSpec, path: str = "spec") -> tuple[Matcher, ...]:
    """Return the triggers of a valid Workflow made ready, in order. Raises InvalidSpec where conditions are wrong."""
    return tuple(
        matcher_of(trigger, spec.inputs, field_path(path, "triggers", number))
        for number, trigger in enumerate(spec.triggers)
    )


def matcher_of(trigger: Trigger, declared: Sequence[Input], path: str) -> Matcher:
    """Return one trigger made ready. `declared` are the inputs of its Workflow. Raises InvalidSpec."""
    conditions = compile_conditions(trigger.conditions, field_path(path, "conditions"))
    return Matcher(trigger=trigger, path=path, declared=tuple(declared), conditions=conditions)


def _whole(parts: Sequence[Explanation]) -> Explanation:
    good = all(part.holds for part in parts)
    return Explanation(good, "it matches" if good else "it does not match", tuple(parts))


def _broken(parts: list[Explanation], told: str, problems: Sequence[Problem]) -> Broken:
    causes = tuple(Explanation(False, str(problem)) for problem in problems)
    whole = (*parts, Explanation(False, told, causes))
    return Broken(problems=tuple(problems), why=Explanation(False, "it cannot start a run", whole))


def _of(error: ExpressionError) -> str:
    return f"in `{short(error.expression)}`: {error.message}"
