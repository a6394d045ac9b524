# SPDX-License-Identifier: Apache-2.0
"""The kinds of value that fields hold: durations, quantities, names, JSON; how each is checked and what its schema says."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST: Final = timedelta(days=366)

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([eE][+-]?[0-9]{1,2})|(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?")
_SUFFIX: Final = {
    None: Decimal(1), "m": Decimal("0.001"),
    "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15, "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30, "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50, "Ei": Decimal(2) ** 60,
}  # fmt: skip


def parse_duration(text: str) -> timedelta:
    """Return the duration written as `500ms`, `90s`, `1h30m` or `2d`. Raises ValueError with a sentence."""
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write a number with ms, s, m, h or d, such as 90s or 1h30m")
    try:
        length = timedelta(seconds=sum(float(n) * _UNIT_SECONDS[unit] for n, unit in _DURATION_PART.findall(text)))
    except OverflowError:
        length = timedelta.max
    if length <= timedelta(0):
        raise ValueError(f"{text!r} is no time at all; a duration is above zero")
    if length > _LONGEST:
        raise ValueError(f"{text!r} is over a year; the longest duration is 366d")
    return length


def format_duration(length: timedelta) -> str:
    """Return a duration as people read it: `0s`, `850ms` below a second, `4m12s`, `1d2h`."""
    milliseconds = max(0, round(length.total_seconds() * 1000))
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    rest, parts = milliseconds // 1000, []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_quantity(text: str | int | float) -> Decimal:
    """Return a Kubernetes quantity (`100m`, `64Mi`, `2`) as a number of its base unit. Raises ValueError with a sentence."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None or isinstance(text, bool):
        raise ValueError(f"{text!r} is not a quantity; write a number such as 2, 500m or 64Mi")
    number, exponent, suffix = match.groups()
    return Decimal(number + (exponent or "")) * _SUFFIX[suffix]


def parse_time(text: str) -> datetime:
    """Return an RFC 3339 time as an aware datetime in UTC."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def format_time(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC with milliseconds, e.g. `2026-11-22T10:00:05.120Z` (S88)."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _checked_duration(text: str) -> str:
    parse_duration(text)
    return text


def _checked_quantity(value: Any) -> str:
    parse_quantity(value)
    return str(value)


def matching(pattern: str, sentence: str) -> AfterValidator:
    """Return what holds a text against a pattern; `sentence` tells what is wrong with one that does not match."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"{text!r} {sentence}")
        return text

    return AfterValidator(check)


ACTIVITY_NAME: Final = r"[A-Za-z_][A-Za-z0-9_-]*"
VARIABLE_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"

Duration = Annotated[
    str,
    Field(max_length=32),
    AfterValidator(_checked_duration),
    WithJsonSchema({"type": "string", "pattern": r"^([0-9]+([.][0-9]+)?(ms|s|m|h|d))+$", "maxLength": 32}),
]
"""A length of time such as `500ms`, `90s`, `1h30m`, `2d`: above zero, at most 366d."""

Quantity = Annotated[
    str,
    BeforeValidator(_checked_quantity),
    Field(max_length=32),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 0,
            "maxLength": 32,
            "pattern": "^([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]{1,2}|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$",
        }
    ),
]
"""An amount of a resource as Kubernetes writes it: 2, 500m, 64Mi."""

Time = Annotated[
    datetime,
    BeforeValidator(lambda value: parse_time(value) if isinstance(value, str) else value),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A moment, RFC 3339 in UTC."""

ActivityName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matching(
        ACTIVITY_NAME, "is not a name for an activity; start with a letter or _, go on with letters, digits, _ or -"
    ),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 63, "pattern": f"^{ACTIVITY_NAME}$"}),
]
VariableName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matching(VARIABLE_NAME, "is not a name for a variable; start with a letter or _, go on with letters, digits or _"),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 63, "pattern": f"^{VARIABLE_NAME}$"}),
]
ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matching(
        r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", "is not a name of a Kubernetes object; use small letters, digits, - and ."
    ),
    WithJsonSchema(
        {"type": "string", "minLength": 1, "maxLength": 253, "pattern": r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"}
    ),
]
EnvName = Annotated[
    str,
    Field(min_length=1, max_length=255),
    matching(r"[A-Za-z_][A-Za-z0-9_.-]*", "is not a name for an environment variable; use letters, digits, _, . and -"),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[A-Za-z_][A-Za-z0-9_.-]*$"}),
]
Expression = Annotated[str, Field(min_length=1, max_length=4096)]
"""A CEL expression without `${}`."""

OPAQUE_OBJECT: Final = {
    "type": "object",
    "x-kubernetes-preserve-unknown-fields": True,
    "x-kubernetes-map-type": "atomic",
}
"""Schema of an object that the API server stores as one piece: cheap at every later write (design.md, measured ground)."""

OPAQUE_LIST: Final = {
    "type": "array",
    "x-kubernetes-list-type": "atomic",
    "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}
"""The same for a list of objects."""

OpaqueObject = Annotated[dict[str, Any], WithJsonSchema(OPAQUE_OBJECT)]
"""A JSON object whose shape is the author's; kept whole by the API server."""

IMMUTABLE: Final = {
    "x-kubernetes-validations": [
        {"rule": "self == oldSelf", "message": "is fixed when the run is created; create another WorkflowRun"}
    ]
}
"""A field that the API server lets nobody change (Kubernetes 1.25 and later); adding or removing it is another rule.

Where an opaque object's own key is renamed and the number of keys stays, the API server sees no change either
(unstructuredMap.Equal of k8s.io/apiserver); the operator does, by its digest of the spec.
"""

AnyValue = Annotated[Any, WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})]
"""Any JSON value."""


class Model(BaseModel):
    """Base of everything on the wire: camelCase names, unknown fields refused, values never changed in place."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    def wire(self) -> dict[str, Any]:
        """Return the object as plain JSON values under its wire names, absent fields left out."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")
