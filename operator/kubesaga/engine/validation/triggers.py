# SPDX-License-Identifier: Apache-2.0
"""What is wrong with triggers: their shape, cron, zones, conditions, expressions, and the inputs that they give.

A trigger works when nobody looks; what can be known to be wrong is told when it is written.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from kubesaga.api.event_types import CATALOGUE, EventType, fits, is_known, nearest
from kubesaga.api.parsing import field_path, shown
from kubesaga.api.triggers import CUSTOM, TIMER_EVENTS, CatchUp, ConcurrencyPolicy, Trigger
from kubesaga.api.workflow import Input
from kubesaga.engine.inputs import json_type, type_matches
from kubesaga.engine.language.conditions import compile_conditions
from kubesaga.engine.language.cron import Schedule, schedule_of
from kubesaga.engine.language.expressions import ExpressionError, expressions_in
from kubesaga.engine.language.references import scan
from kubesaga.engine.validation.expressions import ExpressionChecker
from kubesaga.engine.validation.sites import short
from kubesaga.errors import InvalidSpec, Problem

EVENT_ROOTS: Final = frozenset({"event"})
"""What expressions of a trigger can read: there is no run yet."""
ATTRIBUTES: Final = frozenset(
    ("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data")
)
"""The attributes of CloudEvents 1.0, and the data; extensions may be there beside them."""

_OF_TIME: Final = {
    "time_zone": "timeZone", "concurrency_policy": "concurrencyPolicy", "catch_up": "catchUp",
    "starting_deadline": "startingDeadline",
}  # fmt: skip


def problems(
    triggers: Sequence[Trigger], inputs: Sequence[Input], checker: ExpressionChecker, path: str = "spec"
) -> Iterator[Problem]:
    """Yield what is wrong with the triggers of a Workflow that declares these inputs. `path` is where its spec stands."""
    names: set[str] = set()
    for number, trigger in enumerate(triggers):
        here = field_path(path, "triggers", number)
        if trigger.name in names:
            yield Problem(field_path(here, "name"), f"another trigger is called {trigger.name} already")
        names.add(trigger.name)
        yield from _shape(trigger, here)
        yield from _conditions(trigger, here)
        yield from _expressions(trigger, checker, here)
        yield from _inputs(trigger, inputs, here)


def warnings(
    triggers: Sequence[Trigger], path: str = "spec", known: Mapping[str, EventType] = CATALOGUE
) -> Iterator[Problem]:
    """Yield what is allowed in triggers and probably not meant. `known` are the event types that are registered."""
    yield from unknown_events(triggers, path, known)
    for number, trigger in enumerate(triggers):
        here = field_path(path, "triggers", number)
        if trigger.event is not None and not trigger.timed and _would_be_a_timer(trigger.event):
            told = "timer events are not among those it stands for; a trigger of its own starts runs by the clock"
            yield Problem(field_path(here, "event"), told)
        if trigger.catch_up is CatchUp.ALL and trigger.concurrency_policy in _ONE_AT_A_TIME:
            told = f"means Latest together with concurrencyPolicy {trigger.concurrency_policy}: one run at a time, so the newest tick"
            yield Problem(field_path(here, "catchUp"), told)
        yield from _attributes(trigger, here)


def unknown_events(
    triggers: Sequence[Trigger], path: str = "spec", known: Mapping[str, EventType] = CATALOGUE
) -> Iterator[Problem]:
    """Yield the triggers on event types that nobody has registered. They work all the same: the set is open."""
    for number, trigger in enumerate(triggers):
        if trigger.event is not None and not is_known(trigger.event, known.values()):
            yield Problem(field_path(path, "triggers", number, "event"), unknown_type(trigger.event, known))


def unknown_type(event: str, known: Mapping[str, EventType] = CATALOGUE) -> str:
    """Return the sentence on an event type that nobody has registered."""
    near = nearest(event, known.values())
    advice = f"did you mean {near}?" if near else "no WorkflowEventSource has registered it"
    return f"{event} is not a known event type; {advice}"


def trigger_schedule(trigger: Trigger) -> Schedule:
    """Return the schedule of a trigger that has one. Raises ValueError or LookupError with a sentence."""
    expression = trigger.schedule or TIMER_EVENTS.get(trigger.event or "")
    if expression is None:
        raise ValueError("is required: a cron expression such as 0 2 * * *")
    return schedule_of(expression, trigger.time_zone)


_ONE_AT_A_TIME: Final = (ConcurrencyPolicy.FORBID, ConcurrencyPolicy.REPLACE)


def _would_be_a_timer(pattern: str) -> bool:
    return any(fits(pattern, timer) for timer in TIMER_EVENTS)


# --- shape ----------------------------------------------------------------------------------------------------------


def _shape(trigger: Trigger, path: str) -> Iterator[Problem]:
    if trigger.event is None and trigger.schedule is None:
        yield Problem(path, "has neither event nor schedule; say what starts a run")
        return
    if trigger.event is not None and trigger.schedule is not None and trigger.event != CUSTOM:
        told = "says when already" if trigger.event in TIMER_EVENTS else "is no timer"
        yield Problem(
            field_path(path, "schedule"), f"{trigger.event} {told}; keep event or schedule, or make two triggers"
        )
        return
    if trigger.timed:
        yield from _timer(trigger, path)
        return
    for name, wire in _OF_TIME.items():
        if getattr(trigger, name) is not None:
            yield Problem(field_path(path, wire), "is about schedules, and this trigger has none; remove it")


def _timer(trigger: Trigger, path: str) -> Iterator[Problem]:
    if trigger.dedupe_window is not None:
        yield Problem(
            field_path(path, "dedupeWindow"), "is about events that come in; a tick is never repeated; remove it"
        )
    try:
        trigger_schedule(trigger)
    except LookupError as error:
        yield Problem(field_path(path, "timeZone"), str(error.args[0]))
    except ValueError as error:
        told = str(error) if trigger.schedule is None else f"{shown(trigger.schedule)} {error}"
        yield Problem(field_path(path, "schedule"), told)


def _conditions(trigger: Trigger, path: str) -> Iterator[Problem]:
    try:
        compile_conditions(trigger.conditions, field_path(path, "conditions"))
    except InvalidSpec as error:
        yield from error.problems


# --- expressions ----------------------------------------------------------------------------------------------------


def _sources(trigger: Trigger, path: str) -> Iterator[tuple[str, str]]:
    """Yield path and source of each expression. Raises ExpressionError where a string cannot be taken apart."""
    if trigger.when is not None:
        yield field_path(path, "when"), trigger.when.strip()
    for name, value in (trigger.inputs or {}).items():
        yield from expressions_in(value, field_path(path, "inputs", name))


def _expressions(trigger: Trigger, checker: ExpressionChecker, path: str) -> Iterator[Problem]:
    try:
        for where, source in _sources(trigger, path):
            if fault := checker.check(source, EVENT_ROOTS):
                yield Problem(where, f"in `{short(source)}`: {fault}")
    except ExpressionError as error:
        yield Problem(error.path, error.message)


def _attributes(trigger: Trigger, path: str) -> Iterator[Problem]:
    """Yield the reads of what is probably meant to be in the data: `event.priority`."""
    try:
        sources = list(_sources(trigger, path))
    except ExpressionError:
        return
    for where, source in sources:
        yield from (Problem(where, told) for told in misread(source, "event"))


def misread(source: str, root: str) -> Iterator[str]:
    """Yield a sentence for each read of an event, the variable `root`, that means its data and does not say so."""
    for read in scan(source).reads:
        name = read.members[0] if read.members and not read.bound and read.root == root else None
        if isinstance(name, str) and name not in ATTRIBUTES and not (read.tested and len(read.members) == 1):
            told = f"{root}.{name} is no attribute of CloudEvents; what an event carries is in {root}.data"
            yield f"{told}, so {root}.data.{name}, unless its sender adds that attribute"


# --- inputs ---------------------------------------------------------------------------------------------------------


def _inputs(trigger: Trigger, declared: Sequence[Input], path: str) -> Iterator[Problem]:
    given = trigger.inputs or {}
    by_name = {known.name: known for known in declared}
    for name, value in given.items():
        here = field_path(path, "inputs", name)
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            hint = f"did you mean {near[0]}?" if near else f"its inputs are {', '.join(by_name) or 'none'}"
            yield Problem(here, f"the Workflow has no such input; {hint}")
        elif not _may_fit(value, by_name[name]):
            yield Problem(here, f"must be of type {by_name[name].type}, as the input is, but is {json_type(value)}")
    for known in declared:
        if known.required and given.get(known.name) is None:
            told = f"does not give {known.name}, which every run needs; write it, or give the input a default"
            yield Problem(field_path(path, "inputs"), told)


def _may_fit(value: Any, declared: Input) -> bool:
    """Tell whether a value can be of the type; what an expression alone will yield is not known."""
    if value is None or (isinstance(value, str) and value.startswith("${")):
        return True
    return type_matches(value, declared.type)
