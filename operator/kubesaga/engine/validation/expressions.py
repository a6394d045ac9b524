# SPDX-License-Identifier: Apache-2.0
"""What expressions may read: that they compile, that every name exists, and that it has a value when they are evaluated.

A Workflow must not find out in the middle of the night, after five activities with effects, that the sixth reads a
variable nobody sets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from kubesaga.api.workflow import WorkflowSpec
from kubesaga.engine.language.nearest import nearest
from kubesaga.engine.language.references import Read, scan
from kubesaga.engine.validation.graph import Graph, Place
from kubesaga.engine.validation.sites import Reader, Site, short, sites
from kubesaga.errors import Problem

RUN_MEMBERS: Final = frozenset({"name", "namespace", "uid", "workflow", "startTime", "reason", "message"})
"""What `run` holds (engine.scope)."""
FIXED_RUN_MEMBERS: Final = frozenset({"name", "namespace", "uid", "workflow"})
"""What of it is the same from beginning to end: all that `waitFor.when` may read."""
ACTIVITY_MEMBERS: Final = frozenset({"phase", "output", "error"})
"""What `activities.NAME` holds (engine.scope)."""


class ExpressionChecker(Protocol):
    """Tells whether expressions compile; an Evaluator is one."""

    def check(self, expression: str, roots: Collection[str]) -> str | None:
        """Return a sentence on why `expression` can never be evaluated with the variables `roots`, None if it can."""


def problems(spec: WorkflowSpec, graph: Graph, checker: ExpressionChecker, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the expressions of a spec."""
    names = _Names.of(spec, graph)
    compiled: dict[tuple[str, frozenset[str]], str | None] = {}
    for site in sites(spec, path):
        if isinstance(site, Problem):
            yield site
            continue
        key = (site.source, site.roots)
        if key not in compiled:
            compiled[key] = checker.check(site.source, site.roots)
        faults = list(_changing(site))
        if not faults:
            faults = [_compile_fault(site, compiled[key])] if compiled[key] else _read_faults(site, names)
        yield from (Problem(site.path, f"in `{short(site.source)}`: {fault}") for fault in faults)


def warnings(spec: WorkflowSpec, graph: Graph, path: str) -> Iterator[Problem]:
    """Yield the variables that an expression reads and that may not have been set, though their activity is over."""
    names = _Names.of(spec, graph)
    for site in sites(spec, path):
        if isinstance(site, Problem):
            continue
        for name in _variables_needed(site):
            maybe = names.setters_that_may_not_have(site, name)
            if maybe:
                why = "may not have succeeded by then" if site.reader.may_be_early else "may be skipped"
                told = f"{name} is set only by {', '.join(place.name for place in maybe)}, which {why}"
                yield Problem(site.path, f"{told}; give {name} a value in variables")
        if site.reader is Reader.UNDO and names.undoes_doubtful and (source := _own_output(site)):
            told = f"`{source}` has no value where it is not known whether {site.name} had its effect, and then the undo fails"
            advice = (
                f"undo by what {site.name} was given (inputs, run.uid), ask for activities.{site.name}.phase, or set"
            )
            yield Problem(site.path, f"{told}; {advice} compensation.inDoubt: Leave")


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
    undoes_doubtful: bool
    """Undos run also where it is not known whether their activity had its effect."""

    @classmethod
    def of(cls, spec: WorkflowSpec, graph: Graph) -> _Names:
        inputs = frozenset(declared.name for declared in spec.inputs)
        setters: dict[str, list[Place]] = {}
        for place in graph.places:
            for name in place.activity.set or {}:
                setters.setdefault(name, []).append(place)
        return cls(
            inputs=inputs, given=inputs | frozenset(spec.variables or {}), setters=setters, graph=graph,
            undoes_doubtful=spec.compensation is None or spec.compensation.in_doubt == "Undo",
        )  # fmt: skip

    def ended_before(self, site: Site) -> frozenset[str]:
        """Return the activities that have certainly ended, or will not begin, when an expression is evaluated."""
        match site.reader:
            case Reader.OUTPUTS:
                return self.graph.names
            case Reader.EVERY_ACTIVITY:
                return frozenset()
            case Reader.LOOSE_UNDO:
                return self.main
            case Reader.UNDO if site.name is not None:
                return self.graph.before[site.name] | {site.name}
        return self.graph.before[site.name] if site.name is not None else frozenset()

    @property
    def main(self) -> frozenset[str]:
        """The activities before `finally`."""
        return frozenset(place.name for place in self.graph.places if not place.final)

    def setters_that_may_not_have(self, site: Site, name: str) -> list[Place]:
        """Return who sets a variable without value of its own, if none of them has certainly done so."""
        if name in self.given:
            return []
        ended = self.ended_before(site)
        setters = [place for place in self.setters.get(name, []) if place.name in ended]
        unsure = ended if site.reader.may_be_early else frozenset()
        if site.reader is Reader.UNDO:
            unsure = frozenset({site.name} if self.undoes_doubtful and site.name else ())
        sure = any(place.activity.when is None and place.name not in unsure for place in setters)
        return [] if sure else setters


_NO_FIXED_ANSWER: Final = "whether an event is for a run must have the same answer at every moment, early or late"


def _changing(site: Site) -> Iterator[str]:
    """Yield what `waitFor.when` reads though it changes during a run."""
    if site.reader is not Reader.WAIT:
        return
    reads = [read for read in scan(site.source).reads if not read.bound]
    for root in dict.fromkeys(read.root for read in reads if read.root in ("activities", "workflow", "output")):
        told = "what an activity has yielded" if root == "output" else root
        yield f"{told} changes during a run, and {_NO_FIXED_ANSWER}; read received, inputs, event and run"
    members = dict.fromkeys(read.members[0] for read in reads if read.root == "run" and read.members)
    for name in members:
        if name in RUN_MEMBERS - FIXED_RUN_MEMBERS:
            yield f"run.{name} changes during a run, and {_NO_FIXED_ANSWER}; of run there are {', '.join(sorted(FIXED_RUN_MEMBERS))}"


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
            known = FIXED_RUN_MEMBERS if site.reader is Reader.WAIT else RUN_MEMBERS
            return f"a run has no {name}; {nearest(name, known, 'names in it')}"
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
    others = [place.name for place in setters if place.name != site.name and not place.final]
    advice = f"add {others[0]} to dependsOn, or " if others and site.reader is Reader.ACTIVITY else ""
    return f"{name} is set by {told}, which may not have ended by then; {advice}give {name} a value in variables"


def _activity_fault(read: Read, name: str, site: Site, names: _Names) -> str | None:
    if name not in names.graph.names:
        return f"there is no activity {name}; {nearest(name, names.graph.names, 'activities')}"
    member = read.members[1] if len(read.members) > 1 else None
    if isinstance(member, str) and member not in ACTIVITY_MEMBERS:
        return f"an activity has no {member}; {nearest(member, ACTIVITY_MEMBERS, 'names in it')}"
    if member == "phase" or name in names.ended_before(site):
        return None
    if name == site.name:
        return _own_fault(member, site)
    return _too_early(name, site, names)


def _own_fault(member: str | int | None, site: Site) -> str | None:
    """Return what is wrong with reading the activity that the reader belongs to."""
    if site.in_set:
        return "an activity cannot read what it yields itself; in `set`, `output` is that"
    if site.reader in (Reader.FALLBACK, Reader.FINAL_FALLBACK):
        told = "has failed before its fallback starts, so there is no output of it"
        return None if member == "error" else f"{site.name} {told}; its error can be read"
    return "an activity cannot read what it yields itself; in `set`, `output` is that"


def _too_early(name: str, site: Site, names: _Names) -> str:
    place = next(place for place in names.graph.places if place.name == name)
    if site.reader is Reader.EVERY_ACTIVITY:
        return f"{name} may not have ended by then: this holds for every activity; only its phase can be read here"
    if place.final:
        return f"{name} runs in finally, after this; only its phase can be read here"
    if site.reader is Reader.UNDO:
        return f"{name} may not have been done when {site.name} is undone; only its phase can be read here"
    return f"{name} may not have ended by then; add {name} to dependsOn"


def _variables_needed(site: Site) -> list[str]:
    """Return the variables without which an expression has no value: those that it does not ask for (`has`, `.?`)."""
    reads = [read for read in scan(site.source).reads if read.root == "workflow" and read.members and not read.bound]
    asked = {read.members[0] for read in reads if read.required - read.tested < 1}
    names = dict.fromkeys(read.members[0] for read in reads if read.members[0] not in asked)
    return [name for name in names if isinstance(name, str)]


def _own_output(site: Site) -> str | None:
    """Return the part of an undo's expression that looks into its own activity's output without asking whether it is there."""
    reads = [read for read in scan(site.source).reads if read.root == "activities" and read.members[:1] == (site.name,)]
    if any(read.tested or read.members[1:] in (("phase",), ("output",)) for read in reads):
        return None
    looks = [read for read in reads if read.members[1:2] == ("output",) and len(read.members) > 2]
    return ".".join(("activities", *map(str, looks[0].members))) if looks else None
