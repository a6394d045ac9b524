# SPDX-License-Identifier: Apache-2.0
"""Rules over circuit breakers, bulkheads and rate limits, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kubesaga.api.fields import parse_duration
from kubesaga.api.limits import Guarded
from kubesaga.api.parsing import field_path
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.engine.uses import Uses, named_by
from kubesaga.engine.validation.graph import places_of
from kubesaga.errors import Problem

_GUARDS: Final = {"circuitBreaker": "circuit_breaker", "bulkhead": "bulkhead", "rateLimit": "rate_limit"}
_LISTS: Final = ("activities", "finally")


def problems(spec: WorkflowSpec, path: str) -> Iterator[Problem]:
    """Yield what is wrong with those of activities."""
    for place in places_of(spec, path):
        activity = place.activity
        if (named := named_by(activity)) is not None:
            for name, attribute in _GUARDS.items():
                if getattr(activity, attribute) is not None:
                    told = f"{name} is the Activity's, and holds for all that use it; write it into the Activity {named[0]}"
                    yield Problem(field_path(place.path, name), told)
        yield from problems_of_guards(activity, place.path)


def problems_of_guards(given: Guarded, path: str) -> Iterator[Problem]:
    """Yield what is wrong with those that stand at a path."""
    bulkhead = given.bulkhead
    if bulkhead is not None and bulkhead.timeout is not None and bulkhead.max_queue_size == 0:
        told = "has no meaning beside maxQueueSize: 0, with which nothing waits; remove it"
        yield Problem(field_path(path, "bulkhead", "timeout"), told)


def problems_in_run(spec: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Yield the guards in a spec that a single run has for itself: their state would outlive it, and is kept nowhere."""
    for where in _LISTS:
        listed = spec.get(where)
        for number, activity in enumerate(listed if isinstance(listed, list) else ()):
            for name in _GUARDS:
                if isinstance(activity, dict) and name in activity:
                    told = "is about all runs of a Workflow, and this is a single run; remove it, or write it into an Activity that is used here"
                    yield Problem(field_path(path, where, number, name), told)


def warnings(spec: WorkflowSpec, uses: Uses, path: str) -> Iterator[Problem]:
    """Yield the timeouts that a circuit breaker's makes meaningless."""
    for place in places_of(spec, path):
        used = uses.of(place.activity)
        guarded: Guarded = place.activity if used is None else used.spec
        whose = "circuitBreaker.timeout" if used is None else f"circuitBreaker.timeout of the Activity {used.name}"
        yield from timeout_warnings(place.activity.timeout, guarded, place.path, whose)


def timeout_warnings(
    own: str | None, given: Guarded, path: str, whose: str = "circuitBreaker.timeout"
) -> Iterator[Problem]:
    """Yield a timeout that never passes, because the breaker's does before."""
    breaker = given.circuit_breaker
    if own and breaker is not None and parse_duration(own) > parse_duration(breaker.timeout):
        told = f"{own} is longer than a call may take ({whose}, {breaker.timeout}), so it will never pass"
        yield Problem(field_path(path, "timeout"), told)
