# SPDX-License-Identifier: Apache-2.0
"""JSON that strangers wrote, read so that no two readers could differ about it: no duplicate keys, no NaN, not too deep."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from kubesaga.engine.language.values import JSON
from kubesaga.gateway.refusal import Refusal, malformed

MAX_DEPTH: Final = 64
"""How deep a body may be nested."""
_LONGEST_NUMBER: Final = 400


def parse_json(text: bytes) -> JSON:
    """Return the value of a body. Raises Refusal (400)."""
    try:
        value: JSON = json.loads(
            text.decode(),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_whole,
        )
    except Refusal:
        raise
    except UnicodeDecodeError:
        raise malformed("the body is not UTF-8") from None
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        raise malformed(f"the body is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH:
        _check_depth(value)
    return value


def _too_deep() -> Refusal:
    return malformed(f"the body is nested more than {MAX_DEPTH} levels deep")


def _check_depth(value: JSON) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise malformed("an object of the body has the same key twice")
    return found


def _constant(text: str) -> NoReturn:
    raise malformed(f"{text} is not a number that JSON has")


def _whole(text: str) -> int | float:
    """Return a whole number; beyond 64 bits as a double, as Kubernetes' own reader does."""
    if len(text) > _LONGEST_NUMBER:
        raise malformed("a number in the body is too long")
    number = int(text)
    return number if -(2**63) <= number < 2**63 else float(number)
