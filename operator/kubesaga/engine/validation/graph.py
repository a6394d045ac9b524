# SPDX-License-Identifier: Apache-2.0
"""Names of activities and the order between them: unique names, `dependsOn`, cycles, who has ended before whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Final

from kubesaga.api.parsing import field_path
from kubesaga.api.workflow import Activity, WorkflowSpec
from kubesaga.engine.compiling import needs_of
from kubesaga.engine.language.nearest import nearest
from kubesaga.errors import Problem

RESERVED: Final = frozenset({"skip"})
"""What a fallback is called that does nothing (S106); an activity of that name could not be told from it."""

_MAX_CYCLES: Final = 5
"""How many cycles are told at once; each search goes over the whole graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An activity where it stands."""

    activity: Activity
    path: str
    final: bool

    @property
    def name(self) -> str:
        """The activity's name."""
        return self.activity.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The activities of a spec and the order between them, as far as the spec makes sense."""

    places: tuple[Place, ...]
    names: frozenset[str]
    """The names of all activities."""
    before: Mapping[str, frozenset[str]]
    """For each activity those that have certainly ended when it starts."""
    cycles: tuple[tuple[str, ...], ...]
    """Each as `a, b, a`: a waits for b, b for a. Where there is one, `before` is all activities for everyone."""


def places_of(spec: WorkflowSpec, path: str) -> Iterator[Place]:
    """Yield the activities in order, those of `finally` last."""
    for number, activity in enumerate(spec.activities):
        yield Place(activity=activity, path=field_path(path, "activities", number), final=False)
    for number, activity in enumerate(spec.finally_):
        yield Place(activity=activity, path=field_path(path, "finally", number), final=True)


def graph_of(spec: WorkflowSpec, path: str) -> Graph:
    """Return the graph of a spec; names that do not exist are left out."""
    places = tuple(places_of(spec, path))
    names = frozenset(place.name for place in places)
    needs = needs_of(spec.activities)
    edges = {name: {need for need in wanted if need in needs and need != name} for name, wanted in needs.items()}
    cycles = tuple(_cut_cycles(edges))
    if cycles:
        return Graph(places=places, names=names, before=dict.fromkeys(names, names), cycles=cycles)
    before = _ancestors(edges)
    ended = frozenset(edges)
    for activity in spec.finally_:
        before[activity.name] = ended
        ended |= {activity.name}
    return Graph(places=places, names=names, before=before, cycles=())


def problems(spec: WorkflowSpec, graph: Graph, path: str) -> Iterator[Problem]:
    """Yield what is wrong with names and order."""
    yield from _names(graph)
    main = {activity.name for activity in spec.activities}
    for place in graph.places:
        if place.activity.depends_on is not None:
            yield from _dependencies(place, main, graph)
    for cycle in graph.cycles:
        yield _cycle(spec, cycle, path)


def _names(graph: Graph) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for place in graph.places:
        where = field_path(place.path, "name")
        if place.name in RESERVED:
            yield Problem(where, f"{place.name} is a reserved word; call the activity something else")
        elif place.name in first:
            told = "names are unique over activities and finally"
            yield Problem(where, f"{first[place.name]} is called {place.name} already; {told}")
        first.setdefault(place.name, place.path)


def _dependencies(place: Place, main: set[str], graph: Graph) -> Iterator[Problem]:
    where = field_path(place.path, "dependsOn")
    if place.final:
        yield Problem(where, "has no meaning in finally: its activities run one after the other; remove it")
        return
    seen: set[str] = set()
    for number, name in enumerate(place.activity.depends_on or ()):
        here = field_path(where, number)
        if name == place.name:
            yield Problem(here, "an activity cannot wait for itself; remove it")
        elif name in seen:
            yield Problem(here, f"{name} stands here twice; remove one")
        elif name not in main and name in graph.names:
            yield Problem(here, f"{name} is in finally, which runs after everything else; remove it")
        elif name not in main:
            yield Problem(here, f"there is no activity {name}; {nearest(name, main, 'activities')}")
        seen.add(name)


def _ancestors(edges: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    """Return for each name all names that it waits for, directly or not. Sets of bits: 125,000 edges are possible."""
    order = tuple(TopologicalSorter(edges).static_order())
    bit = {name: 1 << number for number, name in enumerate(order)}
    bits: dict[str, int] = {}
    for name in order:
        bits[name] = 0
        for need in edges[name]:
            bits[name] |= bits[need] | bit[need]
    return {name: frozenset(other for other in order if held & bit[other]) for name, held in bits.items()}


def _cut_cycles(edges: dict[str, set[str]]) -> Iterator[tuple[str, ...]]:
    """Yield cycles of the graph one after the other; the edges of each are taken out."""
    for _ in range(_MAX_CYCLES):
        try:
            TopologicalSorter(edges).prepare()
        except CycleError as error:
            # Each name in the error's list is needed by the next: turned round, each waits for the next.
            cycle = tuple(reversed(error.args[1]))
            yield cycle
            for name in cycle:
                edges[name] = set()
        else:
            return


def _cycle(spec: WorkflowSpec, cycle: tuple[str, ...], path: str) -> Problem:
    order = [activity.name for activity in spec.activities]
    # Told from the activity that stands first, whichever the search began with.
    turn = min(range(len(cycle) - 1), key=lambda at: order.index(cycle[at]))
    ring = [*cycle[turn:-1], *cycle[:turn], cycle[turn]]
    told = f"these activities wait for each other: {' -> '.join(ring)}"
    implicit = next((name for name in ring if spec.activities[order.index(name)].depends_on is None), None)
    if implicit is not None:
        told += f"; {implicit} has no dependsOn, so it waits for the one before it (dependsOn: [] waits for none)"
    here = field_path(path, "activities", order.index(ring[0]))
    return Problem(here if ring[0] == implicit else field_path(here, "dependsOn"), told)
