# SPDX-License-Identifier: Apache-2.0
"""The JSON values that expressions look at and yield: on the way to the evaluator and back, and followed by a path."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

JSON: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, list or dict with str keys; mappings and sequences are read alike."""

MAX_RESULT: Final = 256 * 1024
"""Largest value of an expression, in bytes of JSON."""

_INT64: Final = range(-(2**63), 2**63)
_LONG_NUMBER: Final = re.compile(r"\d{19}")
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no value at a path: `member` cannot be had of what the path has come to."""

    kind: str
    """`key` or `item`: it is not there. `container`: there is nothing that could have it."""
    member: str | int
    sentence: str


def follow(path: Sequence[str | int], scope: Mapping[str, JSON]) -> JSON | Missing:
    """Return the value at `path`, or what is missing."""
    value: JSON = scope
    for depth, step in enumerate(path):
        if isinstance(step, str) and isinstance(value, Mapping):
            if step not in value:
                return Missing("key", step, f"{_dotted(path[: depth + 1])}: no such key")
        elif isinstance(step, int) and isinstance(value, (list, tuple)):
            if step >= len(value):
                return Missing("item", step, f"{_dotted(path[: depth + 1])}: no such item, the list has {len(value)}")
        else:
            wanted = "an object" if isinstance(step, str) else "a list"
            found = f"{_dotted(path[:depth])} is {kind_of(value)}, not {wanted}"
            return Missing("container", step, f"{_dotted(path[: depth + 1])}: {found}")
        value = value[step]
    return value


def encode(value: JSON) -> bytes:
    """Return compact JSON of a value that an expression can look at or yield. Raises ValueError with a sentence.

    Refused are NaN and infinities (no JSON), characters that are no Unicode text, and NUL, at which the CEL library
    would cut a string off without a word.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_mapping)
        if "\\u0000" in text and _NUL.search(text):
            raise ValueError("a text holds the character NUL, which expressions cannot work with")
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half a surrogate pair, which is no Unicode character") from None
    except RecursionError:
        raise ValueError("a value is nested too deeply") from None
    except TypeError as error:
        raise ValueError(f"a value is not JSON: {error}") from None
    except ValueError as error:
        if "JSON compliant" not in str(error):
            raise
        raise ValueError("NaN and infinite numbers are not JSON") from None


def decode(text: bytes) -> JSON:
    """Return the value of JSON text; whole numbers beyond 64 bits become doubles, as in Kubernetes' own reader.

    Raises ValueError with a sentence.
    """
    shown = text.decode()
    return json.loads(shown, parse_int=_int if _LONG_NUMBER.search(shown) else None)


def kind_of(value: JSON) -> str:
    """Return what a JSON value is, in words: `a string`, `null`."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case Mapping():
            return "an object"
    return "a list"


def copy(value: JSON) -> JSON:
    """Return a copy of `value` as it comes out of the evaluator. Raises ValueError with a sentence."""
    match value:
        case None | bool():
            return value
        case int() if value in _INT64:
            return value
        case float() if math.isfinite(value):
            return value
        case str() if len(value) < 1024 and value.isascii() and "\0" not in value:
            return value
    text = encode(value)
    if len(text) > MAX_RESULT:
        raise ValueError(too_large(len(text)))
    return decode(text)


def too_large(size: int) -> str:
    """Return the sentence for a value whose JSON has `size` bytes."""
    return f"the value is too large: {size:,} bytes of JSON, {MAX_RESULT:,} are allowed"


def member(path: str, key: str) -> str:
    """Return the path of the member `key` of what stands at `path`: `params.url`, `headers["X-Id"]`."""
    if not _NAME.fullmatch(key):
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key


# --------------------------------------------------------------------------------------------------------------------


def _dotted(path: Sequence[str | int]) -> str:
    shown = ""
    for step in path:
        shown = member(shown, step) if isinstance(step, str) else f"{shown}[{step}]"
    return shown


def _mapping(value: Any) -> Any:
    """Let json write the read-only mappings that frozen values hold."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)


def _int(digits: str) -> int | float:
    value = int(digits)
    if value in _INT64:
        return value
    if math.isinf(double := float(digits)):
        raise ValueError(f"a number of {len(digits)} digits is too large even for a double")
    return double
