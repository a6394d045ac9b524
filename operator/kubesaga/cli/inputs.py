# SPDX-License-Identifier: Apache-2.0
"""Inputs from the command line: what somebody typed, read as the type that the Workflow declares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kubesaga.api.workflow import Input, InputType


def typed_inputs(declared: Sequence[Input], pairs: Sequence[str]) -> dict[str, Any]:
    """Return the values of `NAME=VALUE` pairs. Raises ValueError with a sentence for what is no such pair.

    A string is taken as it is, anything else as JSON. What is not JSON stays a string, and is then told to be of the
    wrong type as any other value would be.
    """
    types = {known.name: known.type for known in declared}
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"{pair!r} is not NAME=VALUE")
        values[name] = text if types.get(name, InputType.STRING) is InputType.STRING else _json(text)
    return values


def merged_inputs(*layers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return inputs where the later layer wins."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer or {})
    return merged


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
