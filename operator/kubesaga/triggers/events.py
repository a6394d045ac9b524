# SPDX-License-Identifier: Apache-2.0
"""Events: CloudEvents 1.0 as JSON, and how strictly they are read (github.com/cloudevents/spec, v1.0.2, sections 3 and 5)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubesaga.api.fields import parse_time
from kubesaga.engine.language.values import JSON, kind_of
from kubesaga.errors import InvalidSpec, Problem

MAX_EVENT: Final = 64 * 1024
"""Longest event, in characters of JSON: a run's spec takes no longer one."""
MAX_ID: Final = 1024

_REQUIRED: Final = ("id", "source", "type")
_ATTRIBUTE: Final = re.compile(r"[a-z0-9]+")
_NO_ATTRIBUTES: Final = ("data", "data_base64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. Two with the same source and id are the same event, however often it is delivered."""

    type: str
    source: str
    id: str
    document: Mapping[str, JSON]
    """The whole CloudEvent: what `event` is in expressions."""
    text: str
    """The same as JSON: what a run's `spec.event` holds."""

    @property
    def data(self) -> JSON:
        """What the event carries, None if nothing; conditions look into it."""
        return self.document.get("data")


def event_of(document: Any) -> Event:
    """Return the event of a CloudEvent in JSON's structured form. Raises InvalidSpec with all that is wrong with it."""
    if not isinstance(document, Mapping):
        raise InvalidSpec([Problem("", f"an event must be a JSON object, but this is {kind_of(document)}")])
    if problems := list(_problems(document)):
        raise InvalidSpec(problems)
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (ValueError, TypeError, RecursionError):
        raise InvalidSpec([Problem("data", "holds what JSON does not have, or is nested too deeply")]) from None
    if len(text) > MAX_EVENT:
        raise InvalidSpec(
            [Problem("", f"the event is {len(text):,} characters of JSON; at most {MAX_EVENT:,} are allowed")]
        )
    return Event(type=document["type"], source=document["source"], id=document["id"], document=document, text=text)


def _problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    if (version := document.get("specversion")) != "1.0":
        told = "is required" if version is None else f"{json.dumps(version, default=str)} is not known"
        yield Problem("specversion", f'{told}; write "1.0"')
    for name in _REQUIRED:
        value = document.get(name)
        if not isinstance(value, str) or not value:
            told = "is required" if value is None else "must not be empty" if value == "" else "must be a string"
            yield Problem(name, told)
        elif len(value) > MAX_ID:
            yield Problem(name, f"is too long: at most {MAX_ID:,} characters are allowed")
    for name, value in document.items():
        if name not in _NO_ATTRIBUTES and (fault := _fault(name, value)):
            yield Problem(str(name), fault)
    if "data" in document and "data_base64" in document:
        yield Problem("data_base64", "is there beside data; keep one")


def _fault(name: Any, value: Any) -> str | None:
    if not isinstance(name, str) or not _ATTRIBUTE.fullmatch(name):
        return "is no name of an attribute, which has small letters and digits alone; what an event carries goes under data"
    if value is not None and not isinstance(value, str | bool | int):
        return f"must be a string, a whole number or a boolean, but is {kind_of(value)}; what an event carries goes under data"
    if name == "time" and value is not None:
        try:
            parse_time(str(value))
        except (ValueError, OverflowError):
            return "is no time; write one of RFC 3339, such as 2026-11-22T10:00:05Z"
    return None
