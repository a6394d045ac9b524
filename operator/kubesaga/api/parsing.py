# SPDX-License-Identifier: Apache-2.0
"""From documents to models, with every problem told in plain words under the name that the document gives the field.

What people write is read strictly: no unknown fields, no numbers for strings. What the operator itself wrote is read
tolerantly: fields of a newer version are passed over, and stay in the object because a status is merged, not replaced.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, get_args

from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from kubesaga.api.action import MAX_VALUE, Verb, WorkflowActionSpec
from kubesaga.api.activity import ActivityTypeSpec
from kubesaga.api.event_source import WorkflowEventSourceSpec
from kubesaga.api.failure import Compensation, Fallback, ListedUndo, Undo, WorkflowError
from kubesaga.api.fields import Model
from kubesaga.api.run import WorkflowRunSpec, WorkflowRunStatus
from kubesaga.api.waits import WAITS
from kubesaga.api.work import HttpActivity
from kubesaga.api.workflow import Activity, WorkflowSpec
from kubesaga.errors import InvalidSpec, KubesagaError, Problem

MAX_NESTING: Final = 64
"""How deep a document may be nested at all. Beyond that nothing of it is looked at."""

MAX_PROBLEMS: Final = 100
"""How many problems are told at once: finding the name that was probably meant takes time, for each of them."""

_LATER: Final[Mapping[type[Model], frozenset[str]]] = {
    WorkflowSpec: frozenset(
        ("tracing", "logging")
    ),
    Activity: frozenset(
        ("workflow", "approval", "forEach", "repeat", "heartbeatTimeout", "output", "executor", "durability")
    ),
    ActivityTypeSpec: frozenset(("workflow", "sleep", "waitFor", "approval", "heartbeatTimeout", "executor", "durability")),
    Undo: frozenset(("workflow", "executor")),
    ListedUndo: frozenset(("workflow", "executor")),
    Fallback: frozenset(("workflow", "executor", "notify")),
    Compensation: frozenset(("notification",)),
    WorkflowError: frozenset(("notification",)),
    HttpActivity: frozenset(("auth",)),
    WorkflowRunSpec: frozenset(("debug",)),
    WorkflowActionSpec: frozenset(("variable",)),
}  # fmt: skip
"""Fields of Kubesaga's API that a later version brings: said as such, so that nobody looks for a typing error."""

_LATER_WORDS: Final[Mapping[tuple[type[Model], str], frozenset[str]]] = {
    (WorkflowActionSpec, "action"): frozenset(("Approve", "Step", "Continue", "SetVariable")),
}
"""The same for the words of an enumeration, by model and field."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_Location = tuple[str | int, ...]


def parse_workflow_spec(document: Any, path: str = "spec") -> WorkflowSpec:
    """Return a Workflow's spec. `path` is where it stands: `spec.workflowSpec` in a run.

    Raises InvalidSpec with everything that is wrong field by field; what needs the whole is engine.validation.workflow's.
    """
    _check_json(document, path)
    try:
        # Read strictly, words of an enumeration are taken only from JSON.
        return WorkflowSpec.model_validate_json(json.dumps(document), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidSpec(_problems(WorkflowSpec, document, error, path)) from None


def parse_activity_spec(document: Any, path: str = "spec") -> ActivityTypeSpec:
    """Return the spec of an Activity. Raises InvalidSpec with everything that is wrong field by field."""
    _check_json(document, path)
    try:
        return ActivityTypeSpec.model_validate_json(json.dumps(document), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidSpec(_problems(ActivityTypeSpec, document, error, path)) from None


def parse_run_spec(document: Any, path: str = "spec") -> WorkflowRunSpec:
    """Return a WorkflowRun's spec; a `workflowSpec` in it is not looked into. Raises InvalidSpec."""
    inspected = document
    if isinstance(document, dict):
        inspected = {name: value for name, value in document.items() if name != "workflowSpec"}
    _check_json(inspected, path)
    try:
        return WorkflowRunSpec.model_validate(document, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidSpec(_problems(WorkflowRunSpec, document, error, path)) from None


def parse_action_spec(document: Any, path: str = "spec") -> WorkflowActionSpec:
    """Return a WorkflowAction's spec. Raises InvalidSpec, also where the API server is too old for the CRD's rules."""
    _check_json(document, path)
    try:
        spec = WorkflowActionSpec.model_validate_json(json.dumps(document), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidSpec(_problems(WorkflowActionSpec, document, error, path)) from None
    if problems := list(_action_problems(spec, path)):
        raise InvalidSpec(problems)
    return spec


def _action_problems(spec: WorkflowActionSpec, path: str) -> Iterator[Problem]:
    kind, where = spec.target_ref.kind, field_path(path, "activity")
    of_run = spec.action is not Verb.RESET_BREAKER
    if of_run is not (kind == "WorkflowRun"):
        fits = "a WorkflowRun" if of_run else "an Activity or a Workflow"
        yield Problem(field_path(path, "targetRef", "kind"), f"is {kind}, but {spec.action} is for {fits}")
    elif spec.action is Verb.SKIP and spec.activity is None:
        yield Problem(where, "is required with Skip: the activity whose undo is left out")
    elif spec.activity is not None and kind == "Activity":
        yield Problem(where, "goes with a Workflow alone; all breakers of an Activity are reset")
    elif spec.action is Verb.SIGNAL and spec.activity is None:
        yield Problem(where, "is required with Signal: the activity that waits for it")
    elif spec.activity is not None and of_run and spec.action not in (Verb.RETRY, Verb.SKIP, Verb.SIGNAL):
        yield Problem(where, f"goes with Retry, Skip and Signal alone; {spec.action} is about the whole run")
    if spec.value is not None:
        yield from _value_problems(spec, field_path(path, "value"))


def _value_problems(spec: WorkflowActionSpec, where: str) -> Iterator[Problem]:
    size = len(json.dumps(spec.value, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass"))
    if spec.action is not Verb.SIGNAL:
        yield Problem(where, f"goes with Signal alone; {spec.action} takes none")
    elif size > MAX_VALUE:
        told = f"is {size:,} bytes as JSON; at most {MAX_VALUE:,} are allowed: send a reference to the data instead of the data"
        yield Problem(where, told)


def parse_event_source_spec(document: Any, path: str = "spec") -> WorkflowEventSourceSpec:
    """Return a WorkflowEventSource's spec; whether its expressions compile is not looked at. Raises InvalidSpec."""
    _check_json(document, path)
    try:
        spec = WorkflowEventSourceSpec.model_validate_json(
            json.dumps(document), strict=True, by_alias=True, by_name=False
        )
    except ValidationError as error:
        raise InvalidSpec(_problems(WorkflowEventSourceSpec, document, error, path)) from None
    if problems := list(spec.problems(path)):
        raise InvalidSpec(problems)
    return spec


def parse_status(document: Any) -> WorkflowRunStatus:
    """Return a WorkflowRun's status, an empty one for None; unknown fields are passed over.

    Raises KubesagaError where a known field holds what this version does not know, a phase of a newer one, say.
    """
    try:
        return WorkflowRunStatus.model_validate(
            {} if document is None else document, extra="ignore", by_alias=True, by_name=False
        )
    except ValidationError as error:
        told = "; ".join(str(problem) for problem in _problems(WorkflowRunStatus, document, error, "status"))
        raise KubesagaError(f"this version of the operator cannot read the run's status: {told}") from None


def field_path(base: str, *parts: str | int) -> str:
    """Return the path of a field in Kubernetes' spelling: `spec.activities[2].set["a-b"]`."""
    path = base
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif _NAME.fullmatch(part):
            path += f".{part}" if path else part
        else:
            path += f"[{json.dumps(part, ensure_ascii=False)}]"
    return path


def shown(value: Any) -> str:
    """Return a value as a person wrote it, short enough for a sentence."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_json(document: Any, path: str) -> None:
    if problems := list(islice(_not_json(document, path), MAX_PROBLEMS)):
        raise InvalidSpec(problems)


def _not_json(value: Any, path: str, depth: int = 0) -> Iterator[Problem]:
    """Yield what JSON does not have: YAML reads an unquoted 2026-01-31 as a date, and a key 1 as a number."""
    match value:
        case dict() | list() if depth >= MAX_NESTING:
            yield Problem(path, f"is nested more than {MAX_NESTING} levels deep")
        case dict():
            for key, item in value.items():
                if isinstance(key, str):
                    yield from _not_json(item, field_path(path, key), depth + 1)
                else:
                    yield Problem(path, f"has the key {key!r}, which is not a string; put it in quotes")
        case list():
            for number, item in enumerate(value):
                yield from _not_json(item, field_path(path, number), depth + 1)
        case float() if not math.isfinite(value):
            yield Problem(path, f"{value} is not a number that JSON has")
        case None | str() | bool() | int() | float():
            pass
        case _:
            yield Problem(path, f"is a {type(value).__name__}, which JSON does not have; put it in quotes")


def _problems(model: type[Model], document: Any, error: ValidationError, path: str) -> list[Problem]:
    every = error.errors(include_url=False)
    details = sorted(every[:MAX_PROBLEMS], key=lambda detail: _place(document, detail["loc"]))
    problems = [_problem(model, detail, path) for detail in details]
    if len(every) > MAX_PROBLEMS:
        problems.append(Problem(path, f"there are {len(every) - MAX_PROBLEMS:,} more problems"))
    return problems


def _place(document: Any, location: _Location) -> tuple[int, ...]:
    """Return where in the document something stands, for sorting; what is missing comes behind what is there."""
    place: list[int] = []
    for part in location:
        if isinstance(document, dict):
            keys = list(document)
            place.append(keys.index(part) if part in document else len(keys))
            document = document.get(part)
        elif isinstance(document, list) and isinstance(part, int):
            place.append(part)
            document = document[part] if part < len(document) else None
        else:
            break
    return tuple(place)


def _problem(model: type[Model], detail: ErrorDetails, path: str) -> Problem:
    location = tuple(part for part in detail["loc"] if part != "[key]")
    where = field_path(path, *location)
    if detail["type"] == "extra_forbidden":
        return Problem(where, _unknown(_model_at(model, location[:-1]), str(location[-1])))
    if detail["type"] in ("enum", "literal_error") and isinstance(word := detail["input"], str):
        later = _LATER_WORDS.get((_model_at(model, location[:-1]), str(location[-1])), ())
        if word in later:
            known = ", ".join(_expected(detail))
            return Problem(where, f"{word} is not supported by this version of Kubesaga, which knows {known}")
    sentence = _SENTENCES.get(detail["type"])
    return Problem(where, sentence(detail) if sentence else detail["msg"])


# --- fields that are not there --------------------------------------------------------------------------------------


def _model_at(model: type[Model], location: _Location) -> type[Model]:
    """Return the model of the object that stands at a location."""
    for part in location:
        if isinstance(part, str) and (inner := _fields(model).get(part)):
            model = inner
    return model


def _fields(model: type[Model]) -> dict[str, type[Model] | None]:
    """Return a model's fields by their name in documents, with the model that is in them."""
    return {field.alias or name: _model_in(field.annotation) for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[Model] | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := _model_in(part))), None)


def _unknown(model: type[Model], name: str) -> str:
    fields = _fields(model)
    camel = to_camel(name) if "_" in name else name
    if camel in _LATER.get(model, ()):
        return f"{camel} is not supported by this version of Kubesaga; remove it"
    if camel in WAITS:
        return f"{camel} is for activities alone: an undo, or a fallback, does something"
    by_lower = {field.lower(): field for field in fields}
    near = by_lower.get(camel.lower()) or next(iter(difflib.get_close_matches(camel, fields, n=1, cutoff=0.75)), None)
    if near:
        return f"there is no such field; did you mean {near}?"
    below = [field for field, inner in fields.items() if inner is not None and camel in _fields(inner)]
    if below:
        return f"there is no such field here; {camel} belongs under {' or '.join(below)}"
    return f"there is no such field; the fields here are {', '.join(sorted(fields))}"


# --- sentences for what pydantic finds ------------------------------------------------------------------------------


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return f"the boolean {shown(value)}"
        case int() | float():
            return f"the number {shown(value)}"
        case str():
            return f"the string {shown(value)}"
        case Mapping():
            return "an object"
        case Sequence():
            return "a list"
    return f"a {type(value).__name__}"


def _must_be(wanted: str) -> Callable[[ErrorDetails], str]:
    return lambda detail: f"must be {wanted}, but is {_kind(detail['input'])}"


def _must_be_string(detail: ErrorDetails) -> str:
    value = detail["input"]
    advice = f"; write {json.dumps(shown(value))}" if isinstance(value, bool | int | float) else ""
    return f"must be a string, but is {_kind(value)}{advice}"


def _one_of(detail: ErrorDetails) -> str:
    words = _expected(detail)
    by_lower = {word.lower(): word for word in words}
    near = difflib.get_close_matches(str(detail["input"]).lower(), by_lower, n=1)
    advice = f"; did you mean {by_lower[near[0]]}?" if near else ""
    return f"{shown(detail['input'])} is not one of {', '.join(words)}{advice}"


def _expected(detail: ErrorDetails) -> list[str]:
    """Return the words that an enumeration knows."""
    return re.findall(r"'([^']*)'", str(detail["ctx"]["expected"]))


def _limit(text: str) -> Callable[[ErrorDetails], str]:
    return lambda detail: text.format(**detail["ctx"])


_SENTENCES: Final[Mapping[str, Callable[[ErrorDetails], str]]] = {
    "missing": lambda _: "is required",
    "value_error": lambda detail: str(detail["ctx"]["error"]),
    "json_invalid": lambda detail: f"cannot be read as JSON: {detail['ctx']['error']}",
    "string_type": _must_be_string,
    "bool_type": _must_be("true or false"),
    "int_type": _must_be("a whole number"),
    "int_from_float": _must_be("a whole number"),
    "list_type": _must_be("a list"),
    "dict_type": _must_be("an object"),
    "model_type": _must_be("an object"),
    "enum": _one_of,
    "literal_error": _one_of,
    "string_too_short": lambda _: "must not be empty",
    "string_too_long": _limit("is too long: at most {max_length} characters are allowed"),
    "too_short": _limit("must have at least {min_length} entry"),
    "too_long": _limit("has too many entries: at most {max_length} are allowed"),
    "greater_than_equal": _limit("must be at least {ge}"),
    "less_than_equal": _limit("must be at most {le}"),
}
