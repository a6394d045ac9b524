# SPDX-License-Identifier: Apache-2.0
"""JSON Schemas of Activities and event types: which are taken, and what is wrong with a value.

The keywords are those of draft 2020-12 that can be checked in bounded time; what else there is, is refused by name, so
that nothing is accepted and ignored. A check takes at most MAX_STEPS steps. Patterns are matched by the evaluator (RE2:
time linear in the text, no backtracking, in a process that has a deadline), never by Python's `re`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from kubesaga.api.canonical import canonical_json
from kubesaga.api.parsing import field_path, shown
from kubesaga.engine.language.expressions import Evaluator, ExpressionError
from kubesaga.engine.language.nearest import nearest
from kubesaga.engine.language.values import kind_of
from kubesaga.errors import Problem

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

Schema = Mapping[str, Any]

MAX_SCHEMA_BYTES: Final = 32 * 1024
"""Largest schema, as JSON. An Activity's is kept in every revision that uses it."""
MAX_SCHEMA_DEPTH: Final = 32
MAX_STEPS: Final = 50_000
"""Most steps of one check: keywords applied, and the members each of them goes over. At most a third of a second."""
MAX_PATTERN: Final = 1024
"""Longest pattern, in characters."""

_OF_SCHEMA: Final = frozenset(
    ("additionalProperties", "items", "contains", "propertyNames", "not", "if", "then", "else")
)
_OF_SCHEMAS: Final = frozenset(("properties", "dependentSchemas", "$defs", "definitions"))
_OF_LIST: Final = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_CHECKED: Final = frozenset((
    "type", "enum", "const", "required", "dependentRequired", "minProperties", "maxProperties", "minItems", "maxItems",
    "uniqueItems", "minContains", "maxContains", "minLength", "maxLength", "pattern", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "$ref",
)) | _OF_SCHEMA | _OF_SCHEMAS | _OF_LIST  # fmt: skip
_TOLD: Final = frozenset((
    "$schema", "$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "format",
))  # fmt: skip
"""What says something to people and is not checked (draft 2020-12 counts `format` among them)."""
_REF: Final = re.compile(r"#/(\$defs|definitions)/([^/]+)")
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


# --- the schema itself ----------------------------------------------------------------------------------------------


def problems_of_schema(schema: Schema, path: str, evaluator: Evaluator) -> Iterator[Problem]:
    """Yield what is wrong with a schema."""
    size = len(json.dumps(schema, ensure_ascii=False).encode(errors="surrogatepass"))
    if size > MAX_SCHEMA_BYTES:
        yield Problem(path, f"is {size:,} bytes as JSON; a schema has at most {MAX_SCHEMA_BYTES:,}")
        return
    found = list(_in_schema(schema, path, schema, evaluator, 0))
    if not found and (fault := _meta_fault(schema)) is not None:
        found = [Problem(field_path(path, *fault[0]), f"is no valid JSON Schema: {fault[1]}")]
    yield from found


def _in_schema(schema: Any, path: str, root: Schema, evaluator: Evaluator, depth: int) -> Iterator[Problem]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield Problem(path, f"must be a schema, that is an object, true or false, but is {kind_of(schema)}")
        return
    if depth > MAX_SCHEMA_DEPTH:
        yield Problem(path, f"is nested too deeply; {MAX_SCHEMA_DEPTH} levels of schemas are allowed")
        return
    for name, value in schema.items():
        where = field_path(path, name)
        if fault := _keyword_fault(name, value, root, evaluator):
            yield Problem(where, fault)
            continue
        for part, here in _schemas_in(name, value, where):
            yield from _in_schema(part, here, root, evaluator, depth + 1)


def _schemas_in(name: str, value: Any, path: str) -> Iterator[tuple[Any, str]]:
    """Yield the schemas that are the value of a keyword, with their paths."""
    if name in _OF_SCHEMA:
        yield value, path
    elif name in _OF_SCHEMAS and isinstance(value, dict):
        yield from ((part, field_path(path, key)) for key, part in value.items())
    elif name in _OF_LIST and isinstance(value, list):
        yield from ((part, field_path(path, number)) for number, part in enumerate(value))


def _keyword_fault(name: str, value: Any, root: Schema, evaluator: Evaluator) -> str | None:
    if name not in _CHECKED and name not in _TOLD and not name.startswith("x-"):
        known = sorted(_CHECKED)
        return f"{name} is not a keyword of JSON Schema that is checked here; {nearest(name, known, 'keywords')}"
    match name:
        case "$schema" if str(value).rstrip("#") != _DRAFT:
            return f"must be {_DRAFT}, the only draft that is known here; or leave it out"
        case "$ref":
            return _ref_fault(value, root)
        case "pattern" if isinstance(value, str):
            return _pattern_fault(value, evaluator)
    return None


def _ref_fault(value: Any, root: Schema) -> str | None:
    if value == "#":
        return None
    match = _REF.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return f"{shown(value)} is not known here, where nothing is fetched; write #/$defs/NAME"
    name = unquote(match[2]).replace("~1", "/").replace("~0", "~")
    defined = root.get(match[1])
    if isinstance(defined, dict) and name in defined:
        return None
    return f"there is no {name} in {match[1]}; {nearest(name, list(defined or ()), 'names there')}"


def _pattern_fault(pattern: str, evaluator: Evaluator) -> str | None:
    if len(pattern) > MAX_PATTERN:
        return f"is too long: at most {MAX_PATTERN:,} characters are allowed"
    try:
        _matches(pattern, "", evaluator)
    except ExpressionError as error:
        return f"cannot be used: {error.message}; it is a regular expression of RE2, without lookaround and references"
    return None


def _meta_fault(schema: Schema) -> tuple[list[str | int], str] | None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return list(error.absolute_path), error.message[:200]
    return None


# --- values ---------------------------------------------------------------------------------------------------------


def violation(schema: Schema, value: Any, evaluator: Evaluator, path: str) -> Problem | None:
    """Return the first thing that is wrong with a value; None: it fits.

    Raises EvaluatorUnavailable. The schema is one in which `problems_of_schema` found nothing.
    """
    from referencing import Registry

    left = _left.set(MAX_STEPS)
    matcher = _matcher.set(evaluator)
    try:
        # The empty registry knows nothing to fetch.
        error = next(_validator()(schema, registry=Registry()).iter_errors(value), None)
    except _TooMuch:
        return Problem(
            path, f"cannot be checked: it takes more than {MAX_STEPS:,} steps; make the value or the schema smaller"
        )
    except RecursionError:
        return Problem(path, "cannot be checked: the schema refers to itself without end")
    except ExpressionError as fault:
        return Problem(path, f"cannot be checked: {fault.message}")
    finally:
        _left.reset(left)
        _matcher.reset(matcher)
    return None if error is None else _told(error, path)


class _TooMuch(Exception):
    """The steps are used up."""


_left: ContextVar[int] = ContextVar("steps_left")
_matcher: ContextVar[Evaluator] = ContextVar("matcher")

_Keyword = Callable[[Any, Any, Any, Any], "Iterator[ValidationError] | None"]


@cache
def _validator() -> Any:
    """Return the class of validators; made late, because importing the library takes longer than most commands."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    own: dict[str, _Keyword] = {"pattern": _pattern, "uniqueItems": _unique_items}
    known = {**Draft202012Validator.VALIDATORS, **own}
    return extend(Draft202012Validator, {name: _counted(keyword) for name, keyword in known.items()})


def _counted(keyword: _Keyword) -> _Keyword:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:
        left = _left.get() - 1 - _members(value) - _members(instance)
        _left.set(left)
        if left < 0:
            raise _TooMuch
        return keyword(validator, value, instance, schema)

    return counted


def _members(value: Any) -> int:
    return len(value) if isinstance(value, list | dict) else 0


def _matches(pattern: str, text: str, evaluator: Evaluator) -> bool:
    return evaluator.evaluate("text.matches(pattern)", {"text": text, "pattern": pattern}) is True


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, str) and not _matches(pattern, instance, _matcher.get()):
        yield ValidationError("does not match")


def _unique_items(_validator: Any, wanted: bool, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if wanted and isinstance(instance, list) and len({canonical_json(item) for item in instance}) < len(instance):
        yield ValidationError("has an entry twice")


# --- sentences ------------------------------------------------------------------------------------------------------


def _told(error: ValidationError, path: str) -> Problem:
    where = field_path(path, *error.absolute_path)
    keyword, wanted, found = error.validator, error.validator_value, error.instance
    match keyword:
        case "required" if missing := next((name for name in wanted if name not in found), None):
            return Problem(field_path(where, missing), "is required")
        case "additionalProperties" if wanted is False:
            known = list(error.schema.get("properties", {})) if isinstance(error.schema, Mapping) else []
            extra = next((name for name in found if name not in known), "")
            return Problem(field_path(where, extra), f"there is no such field; {nearest(extra, known, 'fields')}")
        case "type":
            words = " or ".join(map(str, _listed(wanted)))
            return Problem(where, f"must be of type {words}, but is {kind_of(found)}")
    sentence = _SENTENCES.get(str(keyword))
    return Problem(where, sentence.format(shown(wanted)) if sentence else error.message[:200])


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_SENTENCES: Final[Mapping[str, str]] = {
    "enum": "is not one of {}",
    "const": "must be {}",
    "pattern": "does not match the pattern {}",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be above {}",
    "exclusiveMaximum": "must be below {}",
    "multipleOf": "must be a multiple of {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} entries",
    "maxItems": "must have at most {} entries",
    "uniqueItems": "has an entry twice",
    "minProperties": "must have at least {} fields",
    "maxProperties": "must have at most {} fields",
    "contains": "has no entry, or not as many, of the kind that it must contain",
    "anyOf": "has none of the shapes that are allowed (anyOf)",
    "oneOf": "must have exactly one of the shapes that are allowed (oneOf)",
    "not": "is what is not allowed (not)",
    "None": "is not allowed here",
}
