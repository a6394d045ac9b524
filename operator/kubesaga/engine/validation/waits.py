# SPDX-License-Identifier: Apache-2.0
"""Rules over activities that wait: a time is a time, and what is about attempts has no meaning beside a wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kubesaga.api.fields import parse_duration
from kubesaga.api.parsing import field_path
from kubesaga.api.waits import Sleep, WaitFor
from kubesaga.api.workflow import Activity, WorkflowSpec
from kubesaga.engine.validation.graph import Place, places_of
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
        yield from _meaningless(place)
    for number, undo in enumerate(spec.compensation.activities if spec.compensation is not None else ()):
        if undo.for_ in waits:
            here = field_path(path, "compensation", "activities", number, "for")
            yield Problem(here, f"{undo.for_} only waits, so there is nothing to undo; remove this undo")


def warnings(spec: WorkflowSpec, path: str) -> Iterator[Problem]:
    """Yield the waits that nothing ends, or that the run cannot wait for."""
    for place in places_of(spec, path):
        wait = place.activity.wait
        if isinstance(wait, WaitFor) and wait.timeout is None and spec.timeout is None:
            told = "waits for ever if no Signal comes; give it a timeout, or the whole Workflow one"
            yield Problem(field_path(place.path, "waitFor"), told)
        for field, length in _lengths(wait):
            if spec.timeout is not None and _is_longer(length, spec.timeout):
                told = f"{length} is longer than the whole run may take ({spec.timeout}), so it will never pass"
                yield Problem(field_path(place.path, *field), told)


def _kind(wait: Sleep | WaitFor) -> str:
    return "sleep" if isinstance(wait, Sleep) else "waitFor"


def _times(wait: Sleep | WaitFor, path: str) -> Iterator[Problem]:
    for field, value in wait.wire().items():
        if "${" not in value and (fault := fault_of(field, value)):
            yield Problem(field_path(path, field), fault)


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
