# SPDX-License-Identifier: Apache-2.0
"""What expressions may read: that they compile, that every name exists, and that it has a value when they are evaluated.

A Workflow must not find out in the middle of the night, after five activities with effects, that the sixth reads a
variable nobody sets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kubesaga.api.failure import ErrorHandling
from kubesaga.api.parsing import field_path
from kubesaga.api.workflow import Activity, WorkflowSpec
from kubesaga.engine.expressions import ExpressionError, expressions_in
from kubesaga.engine.references import Read, scan
from kubesaga.engine.scope import BASE_ROOTS, RETRY_ROOTS, SET_ROOTS
from kubesaga.engine.validation_graph import Graph, Place, nearest, places_of
from kubesaga.errors import Problem

MAX_EXPRESSIONS: Final = 5_000
MAX_CHARACTERS: Final = 256 * 1024
"""Most expressions in one spec, and most characters in them together: all are compiled whenever the spec is checked."""

RUN_MEMBERS: Final = frozenset({"name", "namespace", "uid", "workflow", "startTime", "reason", "message"})
"""What `run` holds (engine.scope)."""
ACTIVITY_MEMBERS: Final = frozenset({"phase", "output", "error"})
"""What `activities.NAME` holds (engine.scope)."""


class ExpressionChecker(Protocol):
    """Tells whether expressions compile; an Evaluator is one."""

    def check(self, expression: str, roots: Collection[str]) -> str | None:
        """Return a sentence on why `expression` can never be evaluated with the variables `roots`, None if it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One expression where it stands."""

    path: str
    source: str
    reader: Place | None
    """The activity that it belongs to; None for the run's outputs and for what holds for all activities."""
    in_set: bool = False
    in_retry: bool = False

    @property
    def roots(self) -> frozenset[str]:
        """The variables that it may use."""
        if self.in_retry:
            return RETRY_ROOTS
        return SET_ROOTS if self.in_set else BASE_ROOTS


def problems(spec: WorkflowSpec, graph: Graph, checker: ExpressionChecker, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the expressions of a spec."""
    names = _Names.of(spec, graph)
    compiled: dict[tuple[str, frozenset[str]], str | None] = {}
    for site in _sites(spec, path):
        if isinstance(site, Problem):
            yield site
            continue
        key = (site.source, site.roots)
        if key not in compiled:
            compiled[key] = checker.check(site.source, site.roots)
        faults = [_compile_fault(site, compiled[key])] if compiled[key] else _read_faults(site, names)
        yield from (Problem(site.path, f"in `{_short(site.source)}`: {fault}") for fault in faults)


def warnings(spec: WorkflowSpec, graph: Graph, path: str) -> Iterator[Problem]:
    """Yield the variables that an expression reads and that may not have been set, though their activity is over."""
    names = _Names.of(spec, graph)
    for site in _sites(spec, path):
        if isinstance(site, Problem):
            continue
        for name in _variables_needed(site):
            maybe = names.setters_that_may_not_have(site, name)
            if maybe:
                why = "may not have succeeded by then" if _in_finally(site) else "may be skipped"
                told = f"{name} is set only by {', '.join(place.name for place in maybe)}, which {why}"
                yield Problem(site.path, f"{told}; give {name} a value in variables")


def excess(spec: WorkflowSpec) -> str | None:
    """Return a sentence if there are more expressions in a spec than may be."""
    lengths = [len(site.source) for site in _sites(spec, "") if isinstance(site, Site)]
    if len(lengths) > MAX_EXPRESSIONS:
        return f"holds {len(lengths):,} expressions; at most {MAX_EXPRESSIONS:,} are allowed"
    if sum(lengths) > MAX_CHARACTERS:
        return f"holds {sum(lengths):,} characters of expressions; at most {MAX_CHARACTERS:,} are allowed"
    return None


def literal_fault(value: Any) -> str | None:
    """Return what is wrong with a value that is taken as it stands: an expression in it would never be evaluated."""
    try:
        found = next(iter(expressions_in(value)), None)
    except ExpressionError as error:
        found = (error.path, error.expression)
    if found is None:
        return None
    told = f"holds the expression `{_short(found[1])}`, but is taken as it stands"
    return f"{told}; use `set`, or write the expression where the value is read"


# --- where expressions stand ----------------------------------------------------------------------------------------


def _sites(spec: WorkflowSpec, path: str) -> Iterator[Site | Problem]:
    """Yield every expression, and a problem for each string that cannot be taken apart."""
    for place in places_of(spec, path):
        activity = place.activity
        for where, value in _templates(activity):
            yield from _in_value(value, field_path(place.path, *where), place)
        if activity.when is not None:
            yield Site(path=field_path(place.path, "when"), source=activity.when.strip(), reader=place)
        yield from _in_value(activity.set, field_path(place.path, "set"), place, in_set=True)
        yield from _in_retry(activity.error_handling, field_path(place.path, "errorHandling"), place)
    if spec.error_handling is not None:
        yield from _in_retry(
            spec.error_handling.activity_error, field_path(path, "errorHandling", "activityError"), None
        )
    yield from _in_value(spec.outputs, field_path(path, "outputs"), None)


def _in_retry(handling: ErrorHandling | None, path: str, reader: Place | None) -> Iterator[Site]:
    if handling is not None and handling.retry is not None and handling.retry.when is not None:
        source = handling.retry.when.strip()
        yield Site(path=field_path(path, "retry", "when"), source=source, reader=reader, in_retry=True)


def _templates(activity: Activity) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the fields of an activity that are rendered when it starts."""
    if activity.pod is not None:
        for number, variable in enumerate(activity.pod.env or ()):
            yield ("pod", "env", number, "value"), variable.value
    if activity.http is not None:
        yield ("http", "url"), activity.http.url
        yield ("http", "headers"), activity.http.headers
        yield ("http", "body"), activity.http.body
    yield ("params",), activity.params


def _in_value(value: Any, path: str, reader: Place | None, *, in_set: bool = False) -> Iterator[Site | Problem]:
    for where, text in _texts(value, path):
        try:
            sources = [source for _, source in expressions_in(text)]
        except ExpressionError as error:
            yield Problem(where, error.message)
            continue
        yield from (Site(path=where, source=source, reader=reader, in_set=in_set) for source in sources)


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield path, value
        case dict():
            for key, item in value.items():
                yield from _texts(item, field_path(path, key))
        case list():
            for number, item in enumerate(value):
                yield from _texts(item, field_path(path, number))


# --- what they read -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """All that can be read."""

    inputs: frozenset[str]
    given: frozenset[str]
    """Variables that have a value from the start: inputs and `variables`."""
    setters: dict[str, list[Place]]
    """Who sets a variable."""
    graph: Graph

    @classmethod
    def of(cls, spec: WorkflowSpec, graph: Graph) -> _Names:
        inputs = frozenset(declared.name for declared in spec.inputs)
        setters: dict[str, list[Place]] = {}
        for place in graph.places:
            for name in place.activity.set or {}:
                setters.setdefault(name, []).append(place)
        return cls(inputs=inputs, given=inputs | frozenset(spec.variables or {}), setters=setters, graph=graph)

    def ended_before(self, site: Site) -> frozenset[str]:
        """Return the activities that have certainly ended when an expression is evaluated."""
        if site.reader is None:
            return self.graph.names
        return self.graph.before[site.reader.name]

    def setters_that_may_not_have(self, site: Site, name: str) -> list[Place]:
        """Return who sets a variable without value of its own, if none of them has certainly done so."""
        if name in self.given:
            return []
        ended = self.ended_before(site)
        setters = [place for place in self.setters.get(name, []) if place.name in ended]
        sure = not _in_finally(site) and any(place.activity.when is None for place in setters)
        return [] if sure else setters


def _compile_fault(site: Site, fault: str | None) -> str:
    reads_output = any(read.root == "output" and not read.bound for read in scan(site.source).reads)
    return f"{fault}; `output` can be read in `set` only" if reads_output and not site.in_set else fault or ""


def _read_faults(site: Site, names: _Names) -> list[str]:
    faults = [fault for read in scan(site.source).reads if not read.bound and (fault := _read_fault(read, site, names))]
    return list(dict.fromkeys(faults))


def _read_fault(read: Read, site: Site, names: _Names) -> str | None:
    name = read.members[0] if read.members else None
    if not isinstance(name, str):
        return None
    match read.root:
        case "inputs" if name not in names.inputs:
            return f"there is no input {name}; {nearest(name, names.inputs, 'inputs')}"
        case "run" if name not in RUN_MEMBERS:
            return f"a run has no {name}; {nearest(name, RUN_MEMBERS, 'names in it')}"
        case "workflow":
            return _variable_fault(name, site, names)
        case "activities":
            return _activity_fault(read, name, site, names)
    return None


def _variable_fault(name: str, site: Site, names: _Names) -> str | None:
    setters = names.setters.get(name, [])
    if name in names.given or any(place.name in names.ended_before(site) for place in setters):
        return None
    if not setters:
        known = names.given | names.setters.keys()
        return f"there is no variable {name}; {nearest(name, known, 'variables')}"
    if name not in _variables_needed(site):
        return None
    told = " or ".join(place.name for place in setters)
    reader = site.reader.name if site.reader and not site.reader.final else None
    others = [place.name for place in setters if reader and place.name != reader and not place.final]
    advice = f"add {others[0]} to dependsOn, or " if others else ""
    return f"{name} is set by {told}, which may not have ended by then; {advice}give {name} a value in variables"


def _activity_fault(read: Read, name: str, site: Site, names: _Names) -> str | None:
    if name not in names.graph.names:
        return f"there is no activity {name}; {nearest(name, names.graph.names, 'activities')}"
    member = read.members[1] if len(read.members) > 1 else None
    if isinstance(member, str) and member not in ACTIVITY_MEMBERS:
        return f"an activity has no {member}; {nearest(member, ACTIVITY_MEMBERS, 'names in it')}"
    if member == "phase" or name in names.ended_before(site):
        return None
    if site.reader is not None and name == site.reader.name:
        return "an activity cannot read what it yields itself; in `set`, `output` is that"
    return _too_early(name, names)


def _too_early(name: str, names: _Names) -> str:
    place = next(place for place in names.graph.places if place.name == name)
    if place.final:
        return f"{name} runs in finally, after this; only its phase can be read here"
    return f"{name} may not have ended by then; add {name} to dependsOn"


def _variables_needed(site: Site) -> list[str]:
    """Return the variables without which an expression has no value: those that it does not ask for (`has`, `.?`)."""
    reads = [read for read in scan(site.source).reads if read.root == "workflow" and read.members and not read.bound]
    asked = {read.members[0] for read in reads if read.required - read.tested < 1}
    names = dict.fromkeys(read.members[0] for read in reads if read.members[0] not in asked)
    return [name for name in names if isinstance(name, str)]


def _in_finally(site: Site) -> bool:
    return site.reader is not None and site.reader.final


def _short(source: str) -> str:
    return source if len(source) <= 80 else f"{source[:77]}..."
