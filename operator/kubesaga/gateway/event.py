# SPDX-License-Identifier: Apache-2.0
"""One event, as CloudEvents 1.0 has it: what a run keeps in `spec.event` and expressions read as `event`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from kubesaga.engine.language.values import JSON, encode
from kubesaga.gateway.refusal import malformed, too_large

MAX_EVENT: Final = 64 * 1024
"""Largest event, in bytes of JSON: every write of the run's status reads it again."""

_LONGEST: Final[Mapping[str, int]] = {"id": 256, "type": 256, "source": 1024}
_LONGEST_OTHER: Final = 4096
_ATTRIBUTE: Final = re.compile(r"[a-z0-9]{1,64}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
REQUIRED: Final = ("specversion", "id", "source", "type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event whose attributes have been checked: made by `event_of` alone."""

    attributes: Mapping[str, str | int | bool]
    content: Mapping[str, JSON] = field(default_factory=dict)
    """`data`, or `data_base64`, or nothing."""

    @property
    def id(self) -> str:
        """Unique for its source."""
        return str(self.attributes["id"])

    @property
    def type(self) -> str:
        """What happened."""
        return str(self.attributes["type"])

    @property
    def source(self) -> str:
        """Where it happened."""
        return str(self.attributes["source"])

    def wire(self) -> dict[str, JSON]:
        """Return the event in CloudEvents' JSON format."""
        return {**self.attributes, **self.content}

    def text(self, path: str = "") -> str:
        """Return it as JSON text. Raises Refusal if it is too large, or holds what expressions cannot work with."""
        try:
            text = encode(self.wire())
        except ValueError as error:
            raise malformed(f"the event cannot be kept: {error}", path) from None
        if len(text) > MAX_EVENT:
            told = f"the event has {len(text):,} bytes as JSON, and at most {MAX_EVENT:,} are allowed: send a reference to the data instead of the data"
            raise too_large(told, path)
        return text.decode()

    def digest(self) -> str:
        """Return a digest of type and data, which are the same in each delivery of the same event."""
        return hashlib.sha256(encode([self.type, dict(sorted(self.content.items()))])).hexdigest()[:32]


def event_of(attributes: Mapping[str, JSON], content: Mapping[str, JSON], path: str = "", named: str = "{}") -> Event:
    """Return the event of these attributes (CloudEvents 1.0, section 3.1). Raises Refusal with where and why.

    `path` is where the event stands in the body; `named` is how an attribute is called there (`header ce-{}`).
    """

    def place(name: str) -> str:
        told = named.format(name)
        return f"{path}.{told}" if path else told

    kept = {name: value for name, value in attributes.items() if value is not None}
    for name in REQUIRED:
        if name not in kept:
            raise malformed("is required in a CloudEvent", place(name))
    if kept["specversion"] != "1.0":
        raise malformed("must be 1.0, the version of CloudEvents that is taken here", place("specversion"))
    for name, value in kept.items():
        if fault := _fault(name, value):
            raise malformed(fault, place(name))
    return Event(attributes=kept, content=content)


def _fault(name: str, value: JSON) -> str | None:
    if not _ATTRIBUTE.fullmatch(name):
        return "is not a name of an attribute; those are of small letters and digits"
    if name in ("data", "data_base64"):
        return "is not a name of an attribute"
    if name in (*REQUIRED, "subject", "time", "datacontenttype", "dataschema") and not isinstance(value, str):
        return "must be a string"
    if not isinstance(value, str | bool | int):
        return "must be a string, a whole number, true or false"
    return _text_fault(name, value) if isinstance(value, str) else None


def _text_fault(name: str, text: str) -> str | None:
    longest = _LONGEST.get(name, _LONGEST_OTHER)
    if not text:
        return "must not be empty"
    if len(text) > longest:
        return f"is too long: at most {longest} characters are allowed"
    if any(sign < " " or "\x7f" <= sign <= "\x9f" or "\ud800" <= sign <= "\udfff" for sign in text):
        return "holds control characters, or bytes that are no UTF-8"
    if name == "time" and not _is_time(text):
        return "is not a time as RFC 3339 has it, such as 2026-11-22T10:00:05Z"
    return None


def _is_time(text: str) -> bool:
    if not _TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(re.sub(r"\.\d+", "", text.upper()).replace("Z", "+00:00"))
    except ValueError:
        return False
    return True
