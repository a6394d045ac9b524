# SPDX-License-Identifier: Apache-2.0
"""Where work is written down: activities, their undos and fallbacks; and rules over what undoes what, and what stands in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kubesaga.api.failure import ErrorHandling, Fallback, Retry, Undo
from kubesaga.api.limits import Bulkhead
from kubesaga.api.names import Deed
from kubesaga.api.parsing import field_path
from kubesaga.api.work import Work
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.engine.language.nearest import nearest
from kubesaga.engine.validation.graph import RESERVED, Graph, Place, places_of
from kubesaga.errors import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One deed where it is written down."""

    work: Work
    path: str
    deed: Deed = Deed.DO
    of: Place | None = None
    """The activity that is done, undone or stood in for. None: whichever fails, or for an undo none in particular."""

    @property
    def skips(self) -> bool:
        """Tell whether it is the fallback that does nothing."""
        return isinstance(self.work, Fallback) and self.work.skips

    @property
    def retry(self) -> tuple[Retry | None, str]:
        """How it is tried again, and where that is written down."""
        if isinstance(self.work, Undo | Fallback):
            return self.work.retry, field_path(self.path, "retry")
        handling = self.of.activity.error_handling if self.of is not None else None
        return handling.retry if handling else None, field_path(self.path, "errorHandling", "retry")


def spots_of(spec: WorkflowSpec, path: str) -> Iterator[Spot]:
    """Yield every deed of a spec: each activity with its fallbacks and undo, then what holds for all, then listed undos."""
    by_name: dict[str, Place] = {}
    for place in places_of(spec, path):
        by_name.setdefault(place.name, place)
        yield Spot(work=place.activity, path=place.path, of=place)
        yield from _fallback(place.activity.error_handling, field_path(place.path, "errorHandling"), place)
        yield from _fallback(place.activity.bulkhead, field_path(place.path, "bulkhead"), place)
        if place.activity.compensation is not None:
            here = field_path(place.path, "compensation")
            yield Spot(work=place.activity.compensation, path=here, deed=Deed.UNDO, of=place)
    if spec.error_handling is not None:
        yield from _fallback(spec.error_handling.activity_error, default_path(path), None)
    for number, undo in enumerate(spec.compensation.activities if spec.compensation is not None else ()):
        here = field_path(path, "compensation", "activities", number)
        yield Spot(work=undo, path=here, deed=Deed.UNDO, of=by_name.get(undo.for_ or ""))


def default_path(path: str) -> str:
    """Return where the error handling of all activities stands."""
    return field_path(path, "errorHandling", "activityError")


def _fallback(handling: ErrorHandling | Bulkhead | None, path: str, place: Place | None) -> Iterator[Spot]:
    if handling is not None and handling.fallback is not None:
        yield Spot(work=handling.fallback, path=field_path(path, "fallback"), deed=Deed.FALLBACK, of=place)


def problems(spec: WorkflowSpec, graph: Graph, path: str) -> Iterator[Problem]:
    """Yield what is wrong between activities and their undos, and with fallbacks that do nothing."""
    undone: dict[str, str] = {}
    for place in graph.places:
        if place.activity.compensation is None:
            continue
        here = field_path(place.path, "compensation")
        if place.final:
            yield Problem(here, "has no meaning in finally: nothing of it is ever undone; remove it")
        undone.setdefault(place.name, here)
    yield from _listed(spec, graph, undone, path)
    for spot in spots_of(spec, path):
        if spot.skips:
            yield from _skip(spot)


def _listed(spec: WorkflowSpec, graph: Graph, undone: dict[str, str], path: str) -> Iterator[Problem]:
    places = {place.name: place for place in reversed(graph.places)}
    names: dict[str, str] = {}
    for number, undo in enumerate(spec.compensation.activities if spec.compensation is not None else ()):
        here = field_path(path, "compensation", "activities", number)
        if fault := _name_fault(undo.name, undo.for_, places, names):
            yield Problem(field_path(here, "name"), fault)
        names.setdefault(undo.name, here)
        if undo.for_ is None:
            continue
        if fault := _link_fault(undo.for_, places, undone):
            yield Problem(field_path(here, "for"), fault)
        undone.setdefault(undo.for_, here)


def _name_fault(name: str, link: str | None, places: dict[str, Place], names: dict[str, str]) -> str | None:
    if name in RESERVED:
        return f"{name} is a reserved word; call the undo something else"
    if name in names:
        return f"{names[name]} is called {name} already; names of undos are unique"
    if name in places:
        advice = (
            "call the undo something else"
            if link
            else f"to undo it, write for: {name} and call the undo something else"
        )
        return f"{places[name].path} is called {name} already; {advice}"
    return None


def _link_fault(name: str, places: dict[str, Place], undone: dict[str, str]) -> str | None:
    if name not in places:
        main = [place.name for place in places.values() if not place.final]
        return f"there is no activity {name}; {nearest(name, main, 'activities')}"
    if places[name].final:
        return f"{name} is in finally, of which nothing is ever undone; remove this undo"
    if name in undone:
        return f"{name} is undone by {undone[name]} already; an activity has one undo, keep one of them"
    return None


def _skip(spot: Spot) -> Iterator[Problem]:
    given = {name: getattr(spot.work, name) for name in ("params", "timeout", "resources", "retry")}
    for name, value in given.items():
        if value is not None:
            yield Problem(
                field_path(spot.path, name), "has no meaning beside activity: skip, which does nothing; remove it"
            )
