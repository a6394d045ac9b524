# SPDX-License-Identifier: Apache-2.0
"""What the API server does with a CRD's schema, as far as its rules are written down: is it structural, what does it refuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cel_expr_python import cel
from jsonschema import Draft202012Validator, ValidationError, validators

_KEYWORDS = frozenset(
    {
        "description", "type", "format", "default", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern",
        "minItems", "maxItems", "minProperties", "maxProperties", "required", "nullable", "properties", "items",
        "additionalProperties", "oneOf", "anyOf", "allOf", "not", "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
        "x-kubernetes-validations", "x-kubernetes-embedded-resource",
    }
)  # fmt: skip
"""JSONSchemaProps of apiextensions/v1, without what a structural schema may not have ($ref, definitions, uniqueItems …)."""

_NOT_IN_JUNCTORS = frozenset({"description", "type", "default", "additionalProperties", "nullable"})


def structural_faults(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield what keeps a schema from being structural.

    The rules: kubernetes.io, "Extend the Kubernetes API with CustomResourceDefinitions", Specifying a structural schema.
    """
    for keyword in schema.keys() - _KEYWORDS:
        yield f"{path}: {keyword} is not allowed"
    yield from _types(schema, path)
    yield from _lists(schema, path)
    for junctor in ("oneOf", "anyOf", "allOf"):
        for part in schema.get(junctor, ()):
            yield from _junctor_faults(part, schema, f"{path}.{junctor}")
    if "not" in schema:
        yield from _junctor_faults(schema["not"], schema, f"{path}.not")
    for name, part in schema.get("properties", {}).items():
        yield from structural_faults(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from structural_faults(schema[key], f"{path}.{key}")


def _types(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    free = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string")
    if "type" not in schema and not free:
        yield f"{path}: has no type"
    if "type" in schema and schema.get("x-kubernetes-int-or-string"):
        yield f"{path}: int-or-string has no type"
    for flag in ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"):
        if schema.get(flag, True) is not True:
            yield f"{path}: {flag} is true or absent"
    if "properties" in schema and "additionalProperties" in schema:
        yield f"{path}: properties and additionalProperties exclude each other"
    if schema.get("additionalProperties", True) is False:
        yield f"{path}: additionalProperties: false is not allowed"
    if schema.get("type") == "array" and "items" not in schema:
        yield f"{path}: an array has items"


def _lists(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    kind = schema.get("x-kubernetes-list-type")
    if kind is not None and schema.get("type") != "array":
        yield f"{path}: only arrays have a list type"
    if schema.get("x-kubernetes-map-type") is not None and schema.get("type") != "object":
        yield f"{path}: only objects have a map type"
    if kind == "set" and schema["items"].get("type") not in ("string", "integer", "boolean", "number"):
        yield f"{path}: a set is of scalars"
    if kind == "map":
        items = schema["items"]
        for key in schema.get("x-kubernetes-list-map-keys", ["(none)"]):
            if items.get("properties", {}).get(key, {}).get("type") not in ("string", "integer", "boolean", "number"):
                yield f"{path}: the key {key} is not a scalar of the items"
            if key not in items.get("required", ()) and "default" not in items["properties"][key]:
                yield f"{path}: the key {key} is neither required nor has a default"


def _junctor_faults(part: Mapping[str, Any], outside: Mapping[str, Any], path: str) -> Iterator[str]:
    for keyword in part.keys() & _NOT_IN_JUNCTORS:
        yield f"{path}: {keyword} is not allowed there"
    for name, inner in part.get("properties", {}).items():
        if name not in outside.get("properties", {}):
            yield f"{path}: {name} is not a property outside"
        else:
            yield from _junctor_faults(inner, outside["properties"][name], f"{path}.{name}")


# --- refusing documents ---------------------------------------------------------------------------------------------


def refusals(schema: Mapping[str, Any], document: Any) -> list[str]:
    """Return what the API server has against a new document. Unknown fields it prunes, so they are none of it."""
    checker = _Validator(schema)  # type: ignore[operator] - jsonschema's `extend` gives out a class without saying so
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in checker.iter_errors(document)]


def _int_or_string(_: Any, value: bool, instance: Any, __: Any) -> Iterator[ValidationError]:
    if value and (isinstance(instance, bool) or not isinstance(instance, int | str)):
        yield ValidationError(f"{instance!r} is neither a whole number nor a string")


def _list_type(_: Any, kind: str, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if not isinstance(instance, list):
        return
    if kind == "map":
        keys = [tuple(item.get(key) for key in schema["x-kubernetes-list-map-keys"]) for item in instance]
    else:
        keys = [(item,) for item in instance]
    if len(set(keys)) < len(keys):
        yield ValidationError(f"Duplicate value in {keys}")


_Validator = validators.extend(
    Draft202012Validator, {"x-kubernetes-int-or-string": _int_or_string, "x-kubernetes-list-type": _list_type}
)


# --- refusing changes -----------------------------------------------------------------------------------------------


def broken_rules(schema: Mapping[str, Any], new: Any) -> list[str]:
    """Return the messages of the rules that a new document breaks; rules that compare with the old one do not apply."""
    return [
        rule["message"]
        for rule in schema.get("x-kubernetes-validations", ())
        if "oldSelf" not in rule["rule"] and not _evaluate(rule["rule"], {"self": new})
    ]


def refused_changes(schema: Mapping[str, Any], old: Any, new: Any) -> list[str]:
    """Return the messages of the transition rules that a change breaks; a rule applies where both have the value."""
    found = [
        rule["message"]
        for rule in schema.get("x-kubernetes-validations", ())
        if not _evaluate(rule["rule"], {"self": new, "oldSelf": old})
    ]
    for name, part in schema.get("properties", {}).items():
        if isinstance(old, dict) and isinstance(new, dict) and name in old and name in new:
            found += refused_changes(part, old[name], new[name])
    return found


def _evaluate(rule: str, values: Mapping[str, Any]) -> bool:
    environment = cel.NewEnv(variables=dict.fromkeys(values, cel.Type.DYN))
    held = environment.compile(rule).eval(data=dict(values)).value()
    assert isinstance(held, bool), f"{rule}: {held!r}"
    return held
