# SPDX-License-Identifier: Apache-2.0
"""How long a sleep or a waitFor takes, from what it was given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from kubesaga.api.fields import parse_duration, parse_time

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_NOT_A_TIME: Final = "is not a time with its zone as RFC 3339 has it, such as 2026-11-22T10:00:05Z"


def fault_of(field: str, value: Any) -> str | None:
    """Return what is wrong with the value of `for`, `until` or `timeout` once it has no expression in it."""
    if not isinstance(value, str):
        wanted = "a time such as 2026-11-22T10:00:05Z" if field == "until" else "a duration such as 90s"
        return f"must be a string, {wanted}"
    try:
        _moment(value) if field == "until" else parse_duration(value)
    except ValueError as error:
        return str(error)
    return None


def end_of(given: Mapping[str, Any] | None, now: datetime) -> datetime | None:
    """Return when a wait that begins now ends at the latest; None: it has no end of its own."""
    given = given or {}
    if (moment := given.get("until")) is not None:
        return _moment(moment)
    length = given.get("for") or given.get("timeout")
    return now + parse_duration(length) if length is not None else None


def _moment(text: str) -> datetime:
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text!r} {_NOT_A_TIME}")
    try:
        return parse_time(text.upper())
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} {_NOT_A_TIME}") from None
