# SPDX-License-Identifier: Apache-2.0
"""Rules over activities that wait: a time is a time, what is about attempts has no meaning beside a wait, and events can come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kubesaga.api.event_types import CATALOGUE, EventType, fits, is_known
from kubesaga.api.fields import parse_duration
from kubesaga.api.parsing import field_path
from kubesaga.api.triggers import TIMER_EVENTS
from kubesaga.api.waits import Sleep, WaitFor
from kubesaga.api.workflow import Activity, WorkflowSpec
from kubesaga.engine.event_waits import comes_by_key, event_waits
from kubesaga.engine.validation.graph import Place, places_of
from kubesaga.engine.validation.triggers import misread, unknown_type
from kubesaga.engine.wait_times import fault_of
from kubesaga.errors import Problem

_ATTEMPTS: Final = {
    "params": "is given to nobody",
    "timeout": "is of an attempt, and there is none",
    "resources": "are a pod's, and there is none",
    "circuitBreaker": "guards calls, and nothing is called",
    "bulkhead": "guards calls, and nothing is called",
    "rateLimit": "guards calls, and nothing is called",
    "compensation": "undoes an effect, and waiting has none",
}
"""Fields that have no meaning beside a wait, and why."""
_ATTRIBUTES: Final = {"circuitBreaker": "circuit_breaker", "rateLimit": "rate_limit"}
_LISTS: Final = ("activities", "finally")


def problems(spec: WorkflowSpec, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the activities that wait, and with undos of them."""
    waits: set[str] = set()
    for place in places_of(spec, path):
        if (wait := place.activity.wait) is None:
            continue
        waits.add(place.name)
        if isinstance(wait, Sleep) and (wait.for_ is None) == (wait.until is None):
            told = "has neither for nor until; give one" if wait.for_ is None else "has both for and until; keep one"
            yield Problem(field_path(place.path, "sleep"), told)
        yield from _times(wait, field_path(place.path, _kind(wait)))
        if isinstance(wait, WaitFor):
            yield from _event(wait, field_path(place.path, "waitFor"))
        yield from _meaningless(place)
    for number, undo in enumerate(spec.compensation.activities if spec.compensation is not None else ()):
        if undo.for_ in waits:
            here = field_path(path, "compensation", "activities", number, "for")
            yield Problem(here, f"{undo.for_} only waits, so there is nothing to undo; remove this undo")


def problems_in_run(spec: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Yield the events that are waited for in a spec that a single run has for itself: no gateway looks into runs."""
    for where in _LISTS:
        listed = spec.get(where)
        for number, activity in enumerate(listed if isinstance(listed, list) else ()):
            wait = activity.get("waitFor") if isinstance(activity, dict) else None
            if isinstance(wait, dict) and "event" in wait:
                told = "no event comes to a run with a spec of its own; write this into a Workflow, or remove it and send a WorkflowAction Signal"
                yield Problem(field_path(path, where, number, "waitFor", "event"), told)


def unknown_events(
    spec: WorkflowSpec, path: str = "spec", known: Mapping[str, EventType] = CATALOGUE
) -> Iterator[Problem]:
    """Yield the waits for event types that nobody has registered. They work all the same: the set is open."""
    for where, event in ((field_path(wait.path, "event"), wait.pattern) for wait in event_waits(spec, path)):
        if not is_known(event, known.values()):
            yield Problem(where, unknown_type(event, known))


def warnings(spec: WorkflowSpec, path: str, known: Mapping[str, EventType] = CATALOGUE) -> Iterator[Problem]:
    """Yield the waits that nothing ends, that anything ends, or that the run cannot wait for. `known` are the event types."""
    yield from unknown_events(spec, path, known)
    for place in places_of(spec, path):
        wait = place.activity.wait
        if isinstance(wait, WaitFor) and wait.timeout is None and spec.timeout is None:
            what = "Signal" if wait.event is None else "such event and no Signal"
            told = f"waits for ever if no {what} comes; give it a timeout, or the whole Workflow one"
            yield Problem(field_path(place.path, "waitFor"), told)
        if isinstance(wait, WaitFor) and wait.event is not None:
            yield from _doubtful(wait, spec, field_path(place.path, "waitFor"))
        for field, length in _lengths(wait):
            if spec.timeout is not None and _is_longer(length, spec.timeout):
                told = f"{length} is longer than the whole run may take ({spec.timeout}), so it will never pass"
                yield Problem(field_path(place.path, *field), told)


def _kind(wait: Sleep | WaitFor) -> str:
    return "sleep" if isinstance(wait, Sleep) else "waitFor"


def _times(wait: Sleep | WaitFor, path: str) -> Iterator[Problem]:
    for field, value in wait.times.items():
        if "${" not in value and (fault := fault_of(field, value)):
            yield Problem(field_path(path, field), fault)


def _event(wait: WaitFor, path: str) -> Iterator[Problem]:
    if wait.event is None and wait.when is not None:
        told = "asks about the event that came, and none is waited for; add waitFor.event, or remove it"
        yield Problem(field_path(path, "when"), told)
    if wait.event in TIMER_EVENTS:
        told = f"{wait.event} is the clock's own, and none that comes in counts; use a sleep, or a trigger that starts a run"
        yield Problem(field_path(path, "event"), told)


def _doubtful(wait: WaitFor, spec: WorkflowSpec, path: str) -> Iterator[Problem]:
    event = wait.event or ""
    if event not in TIMER_EVENTS and any(fits(event, timer) for timer in TIMER_EVENTS):
        told = "timer events are not among those it stands for; a sleep waits for a time"
        yield Problem(field_path(path, "event"), told)
    if wait.when is None and not comes_by_key(event, spec):
        told = f"any event of type {event} ends it, in every live run at once; say in waitFor.when which one is meant"
        yield Problem(path, told)
    for fault in misread(wait.when.strip(), "received") if wait.when is not None else ():
        yield Problem(field_path(path, "when"), fault)


def _meaningless(place: Place) -> Iterator[Problem]:
    activity: Activity = place.activity
    kind = "sleep" if activity.sleep is not None else "waitFor"
    for name, why in _ATTEMPTS.items():
        if getattr(activity, _ATTRIBUTES.get(name, name)) is not None:
            advice = "; how long it waits at most is waitFor.timeout" if (name, kind) == ("timeout", "waitFor") else ""
            yield Problem(field_path(place.path, name), f"{why}: a {kind} only waits; remove it{advice}")
    if activity.error_handling is not None and activity.error_handling.retry is not None:
        told = f"is about attempts, and there are none: a {kind} only waits; remove it"
        yield Problem(field_path(place.path, "errorHandling", "retry"), told)


def _lengths(wait: Sleep | WaitFor | None) -> Iterator[tuple[tuple[str, str], str]]:
    if isinstance(wait, Sleep) and wait.for_ is not None:
        yield ("sleep", "for"), wait.for_
    if isinstance(wait, WaitFor) and wait.timeout is not None:
        yield ("waitFor", "timeout"), wait.timeout


def _is_longer(length: str, limit: str) -> bool:
    return "${" not in length and parse_duration(length) > parse_duration(limit)
