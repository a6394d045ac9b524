# SPDX-License-Identifier: Apache-2.0
"""Whether an event's data is what its type promises: the part of JSON Schema (draft 2020-12) that says so in plain words.

Schemas are written by whoever registers event types, and looked at for every event that comes in, so this is made to be
safe before it is made to be complete: patterns are RE2's, nothing is fetched, and there are no references, which could
make a small schema endless. A keyword that is not known here is refused when the schema is written, never passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kubesaga.api.parsing import field_path, shown
from kubesaga.engine.condition_operators import equal
from kubesaga.engine.patterns import compiled, found
from kubesaga.engine.values import JSON, kind_of
from kubesaga.errors import Problem

MAX_DEPTH: Final = 16
"""How deep a schema may be nested."""

Schema = Mapping[str, Any]

_TYPES: Final[Mapping[str, Callable[[JSON], bool]]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, Mapping),
}
_COUNTED: Final = {
    "minLength": (str, "is shorter than {} characters"), "maxLength": (str, "is longer than {} characters"),
    "minItems": (list, "has fewer than {} entries"), "maxItems": (list, "has more than {} entries"),
    "minProperties": (Mapping, "has fewer than {} fields"), "maxProperties": (Mapping, "has more than {} fields"),
}  # fmt: skip
_BOUNDS: Final[Mapping[str, tuple[Callable[[Any, Any], bool], str]]] = {
    "minimum": (lambda value, limit: value >= limit, "must be at least {}"),
    "maximum": (lambda value, limit: value <= limit, "must be at most {}"),
    "exclusiveMinimum": (lambda value, limit: value > limit, "must be above {}"),
    "exclusiveMaximum": (lambda value, limit: value < limit, "must be below {}"),
}
_WORDS: Final = frozenset(
    ("$schema", "$id", "$comment", "title", "description", "default", "examples", "format", "deprecated")
)
"""Keywords that say something to people and refuse nothing."""


def faults(schema: Schema, value: JSON, path: str = "data") -> list[Problem]:
    """Return how a value differs from a schema that `schema_problems` has found nothing wrong with."""
    return list(_faults(schema, value, path))


def schema_problems(schema: Any, path: str = "schema") -> list[Problem]:
    """Return what is wrong with a schema."""
    return list(_schema_problems(schema, path, 0))


# --- values ---------------------------------------------------------------------------------------------------------


def _faults(schema: Schema, value: JSON, path: str) -> Iterator[Problem]:
    wanted = schema.get("type")
    kinds = [wanted] if isinstance(wanted, str) else wanted or []
    if kinds and not any(_TYPES[kind](value) for kind in kinds):
        yield Problem(path, f"must be of type {' or '.join(kinds)}, but is {kind_of(value)}")
        return
    if "const" in schema and not equal(value, schema["const"]):
        yield Problem(path, f"must be {shown(schema['const'])}, but is {shown(value)}")
    if "enum" in schema and not any(equal(value, choice) for choice in schema["enum"]):
        yield Problem(path, f"{shown(value)} is not one of {', '.join(shown(choice) for choice in schema['enum'])}")
    yield from _sizes(schema, value, path)
    if isinstance(value, Mapping):
        yield from _members(schema, value, path)
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for number, item in enumerate(value):
            yield from _faults(schema["items"], item, field_path(path, number))
    yield from _combined(schema, value, path)


def _sizes(schema: Schema, value: JSON, path: str) -> Iterator[Problem]:
    for word, (kind, told) in _COUNTED.items():
        if word in schema and isinstance(value, kind):
            size, limit = len(value), schema[word]
            if size < limit if word.startswith("min") else size > limit:
                yield Problem(path, told.format(limit))
    for word, (holds, told) in _BOUNDS.items():
        if word in schema and _is_number(value) and not holds(value, schema[word]):
            yield Problem(path, f"{told.format(shown(schema[word]))}, but is {shown(value)}")
    if "pattern" in schema and isinstance(value, str) and not found(compiled(schema["pattern"]), value):
        yield Problem(path, f"does not fit the pattern {schema['pattern']}")


def _members(schema: Schema, value: Mapping[str, JSON], path: str) -> Iterator[Problem]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield Problem(field_path(path, name), "is required")
    for name, item in value.items():
        rule = properties.get(name, schema.get("additionalProperties", True))
        if rule is False:
            yield Problem(field_path(path, name), "is not foreseen")
        elif isinstance(rule, Mapping):
            yield from _faults(rule, item, field_path(path, name))


def _combined(schema: Schema, value: JSON, path: str) -> Iterator[Problem]:
    for part in schema.get("allOf", ()):
        yield from _faults(part, value, path)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            fitting = sum(not faults(part, value, path) for part in schema[word])
            if fitting == 0:
                yield Problem(path, f"fits none of the {len(schema[word])} forms that it may have")
            elif fitting > 1 and word == "oneOf":
                yield Problem(path, f"fits {fitting} forms, of which it must fit one")
    if "not" in schema and not faults(schema["not"], value, path):
        yield Problem(path, "has a form that it must not have")


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- schemas --------------------------------------------------------------------------------------------------------


def _schema_problems(schema: Any, path: str, depth: int) -> Iterator[Problem]:
    if not isinstance(schema, Mapping):
        yield Problem(path, f"must be a JSON Schema, an object, but is {kind_of(schema)}")
        return
    if depth > MAX_DEPTH:
        yield Problem(path, f"is nested too deeply; {MAX_DEPTH} levels are allowed")
        return
    for word, value in schema.items():
        if fault := _keyword_fault(word, value):
            yield Problem(field_path(path, word), fault)
        elif word in _NESTED:
            for inner, where in _inner(word, value, field_path(path, word)):
                yield from _schema_problems(inner, where, depth + 1)


def _keyword_fault(word: str, value: Any) -> str | None:
    if word in _CHECKS:
        return _CHECKS[word](value)
    if word in _LISTS and not (isinstance(value, list) and value):
        return "must be a list with a schema at least"
    if word in _NESTED or word in _WORDS:
        return None
    return f"is a keyword that is not supported; there are {', '.join(sorted((*_CHECKS, *_NESTED)))}"


def _inner(word: str, value: Any, path: str) -> Iterator[tuple[Any, str]]:
    if word in _LISTS:
        yield from ((part, field_path(path, number)) for number, part in enumerate(value))
    elif word == "properties" and isinstance(value, Mapping):
        yield from ((part, field_path(path, name)) for name, part in value.items())
    elif not (word == "additionalProperties" and isinstance(value, bool)):
        yield value, path


def _type_fault(value: Any) -> str | None:
    kinds = [value] if isinstance(value, str) else value
    good = isinstance(kinds, list) and kinds and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)
    return None if good else f"must be one of {', '.join(_TYPES)}, or a list of them"


def _count_fault(value: Any) -> str | None:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if good else "must be a whole number, 0 or more"


def _names_fault(value: Any) -> str | None:
    good = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return None if good else "must be a list of names"


def _pattern_fault(value: Any) -> str | None:
    if not isinstance(value, str):
        return "must be a string"
    try:
        compiled(value)
    except ValueError as error:
        return str(error)
    return None


_LISTS: Final = ("allOf", "anyOf", "oneOf")
_NESTED: Final = ("properties", "additionalProperties", "items", "not", *_LISTS)
_CHECKS: Final[Mapping[str, Callable[[Any], str | None]]] = {
    "type": _type_fault,
    "const": lambda _: None,
    "enum": lambda value: None if isinstance(value, list) and value else "must be a list with a value at least",
    "required": _names_fault,
    "pattern": _pattern_fault,
    **dict.fromkeys(_COUNTED, _count_fault),
    **dict.fromkeys(_BOUNDS, lambda value: None if _is_number(value) else "must be a number"),
}
