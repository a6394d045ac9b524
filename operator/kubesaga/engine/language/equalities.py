# SPDX-License-Identifier: Apache-2.0
"""Conditions that only compare texts for equality: `a.b == c.d && a.e == "x"`. Most that tell whose an event is are of that kind.

Over ASCII strings, and over nothing else, CEL's `==` and `&&` are Python's, so the answer is given here, a hundred times
cheaper than by another process. Whatever is not a string, or is not there, is the evaluator's to judge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from kubesaga.engine.language.values import JSON, follow

_PATH: Final = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*){0,15}"
_TEXT: Final = r"\"[^\"\\\n]*\"|'[^'\\\n]*'"
_SIDE: Final = rf"({_PATH}|{_TEXT})"
_EQUALITY: Final = re.compile(rf"\s*{_SIDE}\s*==\s*{_SIDE}\s*", re.ASCII)
_LONGEST: Final = 1024

_Side = tuple[str, ...] | str
"""A path, or a text."""


def holds(expression: str, scope: Mapping[str, JSON]) -> bool | None:
    """Return whether a condition holds; None: it is of another kind, or about something else than ASCII texts."""
    pairs = _pairs(expression) if len(expression) <= _LONGEST else None
    if pairs is None:
        return None
    answers = [_equal(_value(left, scope), _value(right, scope)) for left, right in pairs]
    return None if None in answers else all(answers)


@lru_cache(maxsize=1024)
def _pairs(expression: str) -> tuple[tuple[_Side, _Side], ...] | None:
    found: list[tuple[_Side, _Side]] = []
    at = 0
    while (match := _EQUALITY.match(expression, at)) is not None:
        found.append((_side(match[1]), _side(match[2])))
        at = match.end()
        if at == len(expression):
            return tuple(found)
        if not expression.startswith("&&", at):
            return None
        at += 2
    return None


def _side(text: str) -> _Side:
    return text[1:-1] if text[0] in "\"'" else tuple(text.split("."))


def _value(side: _Side, scope: Mapping[str, JSON]) -> JSON:
    return side if isinstance(side, str) else follow(side, scope)


def _equal(left: JSON, right: JSON) -> bool | None:
    return left == right if _is_plain(left) and _is_plain(right) else None


def _is_plain(value: JSON) -> bool:
    return isinstance(value, str) and value.isascii() and "\0" not in value
