# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a whole document that is right field by field: everything that is found, in the document's order.

The rules stand in `graph` (names and order), `deeds` (what undoes what), `work`, `http` and `waits` (one deed),
`expressions` (what expressions may read) and here (inputs, variables, sizes, runs). What is allowed and probably not
meant stands in `warnings`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, Final

from kubesaga.api.event_types import CATALOGUE, EventType
from kubesaga.api.fields import VARIABLE_NAME
from kubesaga.api.parsing import field_path
from kubesaga.api.run import WorkflowRunSpec
from kubesaga.api.workflow import Input, WorkflowSpec
from kubesaga.engine.inputs import json_type, type_matches
from kubesaga.engine.uses import NOTHING, Catalogue, Uses
from kubesaga.engine.validation import (
    deeds,
    expressions,
    graph,
    guards,
    limits,
    sites,
    triggers,
    waits,
    warnings,
    work,
)
from kubesaga.engine.validation.expressions import ExpressionChecker
from kubesaga.engine.validation.resolving import Resolution, resolve, works_of
from kubesaga.errors import Problem

__all__ = ["ExpressionChecker", "problems_of", "problems_of_run", "warnings_of"]

MAX_SPEC_BYTES: Final = 1024 * 1024
"""Largest spec, as JSON. etcd refuses objects of about 1.5 MiB, and a revision holds the spec once more."""

MAX_PROBLEMS: Final = 100
"""How many problems are told at once: finding the name that was probably meant takes time, for each of them."""

_LIMITS_OF_WORKFLOWS: Final = ("maxWorkflows", "key", "onConflict")
_OF_WORKFLOWS: Final = (
    "triggers",
    "suspend",
    "successfulRunsHistoryLimit",
    "failedRunsHistoryLimit",
    "revisionHistoryLimit",
)
"""Fields of a Workflow's spec that have no meaning in a run's own."""

MAX_DEPTH: Final = 32
"""How deep the author's own values (params, body and the like) may be nested."""


def problems_of(
    spec: WorkflowSpec, checker: ExpressionChecker, path: str = "spec", resolution: Resolution | None = None
) -> list[Problem]:
    """Return all that is wrong with a Workflow's spec; nothing means that it can run.

    `checker` compiles expressions (an Evaluator does). `path` is where the spec stands. `resolution` is what became of
    what it uses; without it there are no Activities. Never raises on account of the spec, whatever is in it.
    """
    if boundless := list(_bounds(spec, path)):
        return boundless
    ordered = graph.graph_of(spec, path)
    resolution = resolution or resolve(works_of(spec, path), Catalogue(), "", None)
    rules = chain(
        triggers.problems(spec.triggers, spec.inputs, checker, path),
        _inputs(spec, path),
        _variables(spec, path),
        graph.problems(spec, ordered, path),
        deeds.problems(spec, ordered, path),
        work.problems(spec, path),
        limits.problems(spec, path),
        guards.problems(spec, path),
        waits.problems(spec, path),
        resolution.problems,
        expressions.problems(spec, ordered, checker, path),
    )
    found = sorted(islice(rules, MAX_PROBLEMS), key=_place(path))
    if next(rules, None) is not None:
        found.append(Problem(path, f"there are more problems than these {MAX_PROBLEMS}"))
    return found


def problems_of_run(spec: WorkflowRunSpec, path: str = "spec") -> list[Problem]:
    """Return what is wrong with a run's spec by itself; an inline `workflowSpec` is checked as a Workflow's is."""
    found: list[Problem] = []
    works = {"workflowRef": spec.workflow_ref, "workflowSpec": spec.workflow_spec, "replayOf": spec.replay_of}
    given = [name for name, value in works.items() if value is not None]
    if spec.deliver:
        found += _delivery(spec, path)
    elif not given:
        found.append(Problem(path, "names nothing to run; give workflowRef, or a workflowSpec, or replayOf"))
    elif len(given) > 1:
        found.append(Problem(path, f"has {' and '.join(given)}; keep one"))
    elif spec.replay_of is not None and not spec.deliver:
        found += [
            Problem(field_path(path, name), "a replay has that of the run that it repeats; remove it")
            for name, value in (("inputs", spec.inputs), ("event", spec.event))
            if value is not None
        ]
    if spec.workflow_spec is not None:
        found += [
            Problem(
                field_path(path, "workflowSpec", name),
                "is about all runs of a Workflow, and this is a single run; remove it",
            )
            for name in _OF_WORKFLOWS
            if name in spec.workflow_spec
        ]
        limits = spec.workflow_spec.get("concurrency")
        found += [
            Problem(
                field_path(path, "workflowSpec", "concurrency", name),
                "is about all runs of a Workflow, and this is a single run; remove it",
            )
            for name in _LIMITS_OF_WORKFLOWS
            if isinstance(limits, dict) and name in limits
        ]
        found += guards.problems_in_run(spec.workflow_spec, field_path(path, "workflowSpec"))
        found += waits.problems_in_run(spec.workflow_spec, field_path(path, "workflowSpec"))
    if is_too_deep(spec.inputs):
        found.append(nesting(field_path(path, "inputs")))
    if spec.event is not None and (fault := _event_fault(spec.event)):
        found.append(Problem(field_path(path, "event"), fault))
    return found


def warnings_of(
    spec: WorkflowSpec, path: str = "spec", uses: Uses = NOTHING, types: Mapping[str, EventType] = CATALOGUE
) -> list[Problem]:
    """Return what is allowed in a valid spec and probably not meant. `types` are the event types that are known."""
    found = [*warnings.warnings(spec, uses, path, types), *guards.warnings(spec, uses, path)]
    found += [*waits.warnings(spec, path, types), *limits.warnings(spec, path)]
    return sorted(found, key=_place(path))


# --- sizes ----------------------------------------------------------------------------------------------------------


def _bounds(spec: WorkflowSpec, path: str) -> Iterator[Problem]:
    """Yield what is too large to be looked at any further."""
    too_deep = [where for where, value in _free_values(spec, path) if is_too_deep(value)]
    yield from (nesting(where) for where in too_deep)
    if too_deep:
        return
    text = json.dumps(spec.wire(), ensure_ascii=False, separators=(",", ":"))
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_SPEC_BYTES:
        yield Problem(path, f"is {size:,} bytes as JSON; at most {MAX_SPEC_BYTES:,} are allowed")
    elif fault := sites.excess(spec):
        yield Problem(path, fault)


def _free_values(spec: WorkflowSpec, path: str) -> Iterator[tuple[str, Any]]:
    yield field_path(path, "variables"), spec.variables
    yield field_path(path, "outputs"), spec.outputs
    for number, trigger in enumerate(spec.triggers):
        yield field_path(path, "triggers", number, "conditions"), trigger.conditions
        yield field_path(path, "triggers", number, "inputs"), trigger.inputs
    for number, declared in enumerate(spec.inputs):
        yield field_path(path, "inputs", number, "default"), declared.default
    for place in graph.places_of(spec, path):
        yield field_path(place.path, "set"), place.activity.set
    for spot in deeds.spots_of(spec, path):
        yield field_path(spot.path, "params"), spot.work.params
        if spot.work.http is not None:
            yield field_path(spot.path, "http", "body"), spot.work.http.body


def is_too_deep(value: Any) -> bool:
    """Tell whether a value is nested beyond MAX_DEPTH; level by level, since recursion is what depth would break."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [part for outer in level for part in _parts(outer)]
        if not level:
            return False
    return True


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def nesting(path: str) -> Problem:
    return Problem(path, f"is nested too deeply; {MAX_DEPTH} levels are allowed")


# --- inputs and variables -------------------------------------------------------------------------------------------


def _inputs(spec: WorkflowSpec, path: str) -> Iterator[Problem]:
    names: set[str] = set()
    for number, declared in enumerate(spec.inputs):
        here = field_path(path, "inputs", number)
        if declared.name in names:
            yield Problem(field_path(here, "name"), f"another input is called {declared.name} already")
        names.add(declared.name)
        if fault := _default_fault(declared):
            yield Problem(field_path(here, "default"), fault)


def _default_fault(declared: Input) -> str | None:
    if declared.default is None:
        return None
    if declared.required:
        return "is never used, because the input is required; remove the default, or required"
    if not type_matches(declared.default, declared.type):
        return f"must be of type {declared.type}, as the input is, but is {json_type(declared.default)}"
    return sites.literal_fault(declared.default)


def _variables(spec: WorkflowSpec, path: str) -> Iterator[Problem]:
    inputs = {declared.name for declared in spec.inputs}
    for name, value in (spec.variables or {}).items():
        here = field_path(path, "variables", name)
        if not re.fullmatch(VARIABLE_NAME, name) or len(name) > 63:
            told = "start with a letter or _, go on with letters, digits or _, at most 63 characters"
            yield Problem(here, f"is not a name for a variable; {told}")
        if name in inputs:
            yield Problem(here, f"an input is called {name} already, and inputs are variables too; remove one of them")
        if fault := sites.literal_fault(value):
            yield Problem(here, fault)


# --- runs -----------------------------------------------------------------------------------------------------------


def _delivery(spec: WorkflowRunSpec, path: str) -> Iterator[Problem]:
    """Yield what is wrong with a run that only gives its event to others."""
    for name, value in (("workflowSpec", spec.workflow_spec), ("replayOf", spec.replay_of)):
        if value is not None:
            told = "with deliver nothing starts; name the Workflow whose live runs get the event in workflowRef, and remove this"
            yield Problem(field_path(path, name), told)
    if spec.workflow_ref is None and spec.workflow_spec is None and spec.replay_of is None:
        yield Problem(field_path(path, "workflowRef"), "is required with deliver: its live runs get the event")
    if spec.inputs is not None:
        yield Problem(field_path(path, "inputs"), "with deliver nothing starts that could read them; remove them")
    if spec.event is None:
        yield Problem(field_path(path, "event"), "is required with deliver: it is what the live runs get")
    elif _event_fault(spec.event) is None and not isinstance(json.loads(spec.event).get("type"), str):
        yield Problem(field_path(path, "event"), "has no type, a string, by which it is known which runs wait for it")


def _event_fault(text: str) -> str | None:
    try:
        event = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        return f"is nested too deeply; {MAX_DEPTH} levels are allowed"
    except ValueError as error:
        return f"is not JSON: {error}"
    if not isinstance(event, dict):
        return f"must be a JSON object in a string, but is {json_type(event)}"
    return f"is nested too deeply; {MAX_DEPTH} levels are allowed" if is_too_deep(event) else None


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


# --------------------------------------------------------------------------------------------------------------------


def _place(path: str) -> Callable[[Problem], tuple[int, int]]:
    """Return the key that puts problems into the order of the spec's fields and of the entries in its lists."""
    fields = [field.alias or name for name, field in WorkflowSpec.model_fields.items()]
    pattern = re.compile(re.escape(path) + r"\.(\w+)(?:\.activities)?(?:\[(\d+)\])?")

    def key(problem: Problem) -> tuple[int, int]:
        match = pattern.match(problem.path)
        if match is None or match[1] not in fields:
            return (-1, 0)
        return fields.index(match[1]), int(match[2] or 0)

    return key
