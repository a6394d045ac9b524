# SPDX-License-Identifier: Apache-2.0
"""A run's inputs held against those that the Workflow declares."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from kubesaga.api.workflow import Input, InputType
from kubesaga.errors import InvalidSpec, Problem


def type_matches(value: Any, type_: InputType) -> bool:
    """Tell whether a JSON value is of the type. 3.0 is an integer, as in JSON Schema; true is no number."""
    if isinstance(value, bool):
        return type_ is InputType.BOOLEAN
    match type_:
        case InputType.STRING:
            return isinstance(value, str)
        case InputType.NUMBER:
            return isinstance(value, int | float)
        case InputType.INTEGER:
            return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        case InputType.OBJECT:
            return isinstance(value, dict)
        case InputType.ARRAY:
            return isinstance(value, list)
        case _:
            return False


def json_type(value: Any) -> str:
    """Return the word for a JSON value's type."""
    words = (
        (type(None), "null"),
        (bool, "a boolean"),
        (str, "a string"),
        (int, "an integer"),
        (float, "a number"),
        (list, "an array"),
    )
    return next((word for kind, word in words if isinstance(value, kind)), "an object")


def resolve_inputs(declared: list[Input], given: Mapping[str, Any], max_bytes: int | None = None) -> dict[str, Any]:
    """Return all inputs with defaults filled in; one that is neither given nor has a default is null.

    Raises InvalidSpec with a problem for each input that is missing, unknown or of the wrong type, and where all together
    are larger, as JSON, than `max_bytes`.
    """
    problems = [_unknown(name, declared) for name in given if all(name != known.name for known in declared)]
    values: dict[str, Any] = {}
    for known in declared:
        path = f"spec.inputs.{known.name}"
        value = given.get(known.name, known.default)
        if value is None:
            if known.required:
                problems.append(
                    Problem(path, f"the Workflow needs this input; give {known.name}, of type {known.type}")
                )
        elif not type_matches(value, known.type):
            problems.append(Problem(path, f"must be of type {known.type}, but is {json_type(value)}"))
        values[known.name] = value
    if max_bytes is not None and (size := len(json.dumps(values, default=str))) > max_bytes:
        problems.append(Problem("spec.inputs", f"are {size} bytes together; a run takes {max_bytes} bytes of inputs"))
    if problems:
        raise InvalidSpec(problems)
    return values


def _unknown(name: str, declared: list[Input]) -> Problem:
    names = [known.name for known in declared]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"its inputs are {', '.join(names)}" if names else "it has none"
    return Problem(f"spec.inputs.{name}", f"the Workflow has no such input; {hint}")
