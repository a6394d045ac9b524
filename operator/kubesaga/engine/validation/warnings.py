# SPDX-License-Identifier: Apache-2.0
"""What is allowed in a valid spec and probably not meant.

Each can be silenced by saying what is meant; what a good Workflow often does is not warned of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from kubesaga.api.event_types import CATALOGUE, EventType
from kubesaga.api.failure import Compensation, ErrorHandling, ErrorStrategy, WorkflowError, WorkflowErrorHandling
from kubesaga.api.fields import parse_duration
from kubesaga.api.names import Deed
from kubesaga.api.parsing import field_path
from kubesaga.api.work import Work
from kubesaga.api.workflow import WorkflowSpec, wait_of
from kubesaga.engine.uses import Uses
from kubesaga.engine.validation import expressions, triggers
from kubesaga.engine.validation.deeds import Spot, default_path, spots_of
from kubesaga.engine.validation.graph import Graph, Place, graph_of
from kubesaga.errors import Problem

_HARMLESS: Final = ("GET", "HEAD")
"""The methods that change nothing (RFC 9110, section 9.2.1)."""


def warnings(
    spec: WorkflowSpec, uses: Uses, path: str, types: Mapping[str, EventType] = CATALOGUE
) -> Iterator[Problem]:
    """Yield what is probably not meant."""
    if not (spec.description or "").strip():
        yield Problem(field_path(path, "description"), "is empty; say in a sentence what the Workflow is for")
    yield from triggers.warnings(spec.triggers, path, types)
    graph = graph_of(spec, path)
    spots = tuple(spots_of(spec, path))
    yield from _timeouts(spec, spots)
    yield from _hidden_failures(spots, path)
    yield from _of_finally(graph)
    undone = {spot.of.name for spot in spots if spot.deed is Deed.UNDO and spot.of is not None}
    undone |= {place.name for place in graph.places if not place.final and _is_undone_by_use(place, uses)}
    if undone or any(spot.deed is Deed.UNDO for spot in spots):
        yield from _undos(spec, path)
        yield from _without_undo(graph, undone, uses)
    else:
        yield from _no_undo_at_all(spec, path)
    yield from expressions.warnings(spec, graph, path)


def _timeouts(spec: WorkflowSpec, spots: tuple[Spot, ...]) -> Iterator[Problem]:
    for spot in spots:
        undo = spot.deed is Deed.UNDO
        own, limit = spot.work.timeout, _undo_timeout(spec) if undo else spec.timeout
        if own and limit and parse_duration(own) > parse_duration(limit):
            whole = f"undoing may take (compensation.timeout, {limit})" if undo else f"the whole run may take ({limit})"
            yield Problem(field_path(spot.path, "timeout"), f"{own} is longer than {whole}, so it will never pass")


def _undo_timeout(spec: WorkflowSpec) -> str:
    return (spec.compensation or Compensation()).timeout


def _hidden_failures(spots: tuple[Spot, ...], path: str) -> Iterator[Problem]:
    if any(spot.skips and spot.of is None for spot in spots):
        told = "whatever fails counts as skipped, and the run as Succeeded; give skip to the activities that may be missing"
        yield Problem(field_path(default_path(path), "fallback", "activity"), told)


def _of_finally(graph: Graph) -> Iterator[Problem]:
    for place in graph.places:
        handling = place.activity.error_handling
        if place.final and handling is not None and handling.strategy is ErrorStrategy.COMPENSATE:
            told = "has no effect here: where an activity of finally fails the run fails, and nothing is undone for it"
            yield Problem(field_path(place.path, "errorHandling", "strategy"), told)


# --- undos ----------------------------------------------------------------------------------------------------------


def _undos(spec: WorkflowSpec, path: str) -> Iterator[Problem]:
    for number, undo in enumerate(spec.compensation.activities if spec.compensation is not None else ()):
        if undo.for_ is None:
            told = "undoes no activity, so it runs whenever the run is undone, whatever has been done; say which one by for"
            yield Problem(field_path(path, "compensation", "activities", number), told)
    if not _is_ever_undone(spec):
        told = "nothing calls for the undos here but shutdown: Compensate: no strategy is Compensate, onCancel is false, deletionPolicy is Abandon"
        yield Problem(field_path(path, "compensation"), told)


def _is_ever_undone(spec: WorkflowSpec) -> bool:
    """Tell whether something else than an order to do so can make a run be undone."""
    compensation = spec.compensation or Compensation()
    if compensation.on_cancel or spec.deletion_policy == "Compensate":
        return True
    handling = spec.error_handling or WorkflowErrorHandling()
    of_run = (handling.workflow_error or WorkflowError()).strategy or ErrorStrategy.COMPENSATE
    default = (handling.activity_error or ErrorHandling()).strategy or of_run
    own = [(activity.error_handling or ErrorHandling()).strategy or default for activity in spec.activities]
    return ErrorStrategy.COMPENSATE in own or (of_run is ErrorStrategy.COMPENSATE and spec.timeout is not None)


def _without_undo(graph: Graph, undone: set[str], uses: Uses) -> Iterator[Problem]:
    """Yield what stands between an activity that is undone and a later one that may fail, and would be left as it is."""
    for place in graph.places:
        if place.final or place.name in undone or not _has_effect(place.activity, uses):
            continue
        if graph.before[place.name] & undone and _is_followed(place, graph):
            told = "has an effect and no undo, though what stands before it has one and what follows may fail"
            yield Problem(place.path, f"{told}; give it a compensation, or let it come last")


def _no_undo_at_all(spec: WorkflowSpec, path: str) -> Iterator[Problem]:
    if spec.compensation is not None:
        yield Problem(field_path(path, "compensation"), "has no effect: there is no undo in this Workflow")


def _is_followed(place: Place, graph: Graph) -> bool:
    return any(place.name in graph.before[other.name] for other in graph.places if not other.final)


def _is_undone_by_use(place: Place, uses: Uses) -> bool:
    used = uses.of(place.activity)
    return used is not None and used.spec.compensation is not None


def _has_effect(work: Work, uses: Uses) -> bool:
    used = uses.of(work)
    if wait_of(work) is not None:
        return False
    http = work.http if used is None else used.spec.http
    return http is None or http.method not in _HARMLESS
