# SPDX-License-Identifier: Apache-2.0
"""WorkflowEventSource: an authenticated way in for events, and what the runs that they cause are marked with."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from kubesaga.api.conditions import ConditionList
from kubesaga.api.event_types import EventType, fits
from kubesaga.api.fields import Duration, Expression, Model, ObjectName, matching, parse_duration
from kubesaga.api.names import GROUP
from kubesaga.api.object_source import KubernetesObjects, WatchProgress
from kubesaga.errors import Problem

EVENT_SOURCE_LABEL: Final = f"{GROUP}/event-source"
"""On a run that an event caused: the WorkflowEventSource where it came in."""
EVENT_ORIGIN_ANNOTATION: Final = f"{GROUP}/event-origin"
"""On such a run: the WorkflowEventSource's name, `/`, and the event's own `source`."""
EVENT_ID_ANNOTATION: Final = f"{GROUP}/event-id"
EVENT_ACTOR_ANNOTATION: Final = f"{GROUP}/event-actor"
"""The event's attribute `actorid`, cut to MAX_ACTOR characters."""
MAX_ACTOR: Final = 256
EVENT_DIGEST_ANNOTATION: Final = f"{GROUP}/event-digest"
"""Of the event's type and data: another event under the same id is told from a second delivery by it."""

DEFAULT_MAX_BODY: Final = 256 * 1024
LARGEST_MAX_BODY: Final = 1024 * 1024
DEFAULT_HMAC_HEADER: Final = "X-Kubesaga-Signature"
DEFAULT_TOLERANCE: Final = timedelta(minutes=5)
LONGEST_TOLERANCE: Final = timedelta(hours=1)
MAPPING_ROOTS: Final = ("body", "headers")
"""What the expressions of a mapping can read."""

_HEADER: Final = r"[A-Za-z0-9][A-Za-z0-9-]*"
_KEY_IN_DATA: Final = r"[A-Za-z0-9._-]+"


def _text(pattern: str, longest: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "minLength": 1, "maxLength": longest, "pattern": f"^({pattern})$"})


HeaderName = Annotated[
    str,
    Field(min_length=1, max_length=128),
    matching(_HEADER, "is not a name for a header; use letters, digits and -"),
    _text(_HEADER, 128),
]
SecretKey = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matching(_KEY_IN_DATA, "is not a key of a Secret; use letters, digits, ., _ and -"),
    _text(_KEY_IN_DATA, 253),
]


class SourceType(StrEnum):
    """How deliveries look; or, of Kubernetes, that there are none."""

    CLOUD_EVENTS = "CloudEvents"
    WEBHOOK = "Webhook"
    SLACK = "Slack"
    THENA = "Thena"
    KUBERNETES = "Kubernetes"


class Encoding(StrEnum):
    """How a signature is written."""

    HEX = "Hex"
    BASE64 = "Base64"


class SecretKeyRef(Model):
    """One value of a Secret, in the namespace of the source."""

    name: ObjectName
    """The Secret's name. The gateway's ServiceAccount must be allowed to get it."""
    key: SecretKey
    """The key in its data."""


class Hmac(Model):
    """A signature of the body: HMAC with SHA-256 (RFC 2104) under a shared secret."""

    secret_ref: SecretKeyRef
    """The shared secret, of at least 16 bytes; newlines at its end do not count."""
    header: HeaderName | None = None
    """The header that bears the signature. Default: `X-Kubesaga-Signature`. Not for Slack, which has its own."""
    prefix: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    """What stands before the signature in the header, such as `sha256=`. Not for Slack."""
    encoding: Encoding | None = None
    """How the signature is written. Default: Hex. Not for Slack."""
    timestamp_header: HeaderName | None = None
    """The header that bears the time of sending, in seconds since 1970. With it, what is signed is the time, a `.`, and the body. Not for Slack."""
    tolerance: Duration | None = None
    """How far that time may be from now, at most 1h. Default: 5m. Only with `timestampHeader`, or for Slack."""


class Bearer(Model):
    """A token in the header `Authorization: Bearer …`."""

    secret_ref: SecretKeyRef
    """The token, of at least 16 bytes; newlines at its end do not count."""


class NoAuth(Model):
    """Whoever reaches the gateway may send."""


class Auth(Model):
    """How a delivery proves that it may come in."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["hmac"]}, {"required": ["bearer"]}, {"required": ["none"]}]}
    )

    hmac: Hmac | None = None
    """By a signature of the body. For Slack: by the app's signing secret."""
    bearer: Bearer | None = None
    """By a token."""
    none: NoAuth | None = None
    """Not at all: anybody who reaches the gateway can start the runs that this source may cause."""


class Mapping(Model):
    """How the body of a webhook becomes an event: CEL without `${}` over `body` and `headers` (names in small letters)."""

    type: Expression
    """The event's type, such as `"github:" + headers["x-github-event"]`."""
    id: Expression
    """What is the same when the same event is delivered again, and never for another one."""
    source: Expression | None = None
    """Where the event happened. Default: the name of the WorkflowEventSource."""
    subject: Expression | None = None
    """What it is about."""
    time: Expression | None = None
    """When it happened, RFC 3339."""
    data: Expression | None = None
    """What is read as `event.data`. Default: the body."""

    def expressions(self, path: str) -> Iterator[tuple[str, str]]:
        """Yield where each expression stands, and the expression."""
        for name, expression in self.wire().items():
            yield f"{path}.{name}", expression


class SourceRateLimit(Model):
    """How many events come in: in no window of `period` more than `limit`."""

    limit: Annotated[int, Field(ge=1, le=100_000)]
    """How many events. A batch counts as many."""
    period: Duration
    """In what time."""


def _one_of_two(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": [first, second]}


_OTHERS: Final = [kind for kind in SourceType if kind is not SourceType.SLACK]
_FOR_WEBHOOK: Final = {"required": ["mapping"], "properties": {"type": {"enum": ["Webhook"]}}}
_OF_DELIVERIES: Final = ("auth", "mapping", "eventTypes", "rateLimit", "maxBodyBytes")
_FOR_KUBERNETES: Final = {
    "required": ["kubernetes"],
    "properties": {"type": {"enum": ["Kubernetes"]}},
    "not": {"anyOf": [{"required": [name]} for name in _OF_DELIVERIES]},
}
_FOR_DELIVERIES: Final = {
    "required": ["auth"],
    "properties": {"type": {"enum": [str(kind) for kind in SourceType if kind is not SourceType.KUBERNETES]}},
    "not": {"required": ["kubernetes"]},
}
_NOT_SLACKS: Final = ("header", "prefix", "encoding", "timestampHeader")
_FOR_SLACK: Final = {
    "properties": {
        "type": {"enum": ["Slack"]},
        "auth": {
            "required": ["hmac"],
            "properties": {"hmac": {"not": {"anyOf": [{"required": [name]} for name in _NOT_SLACKS]}}},
        },
    }
}
_BY_TYPE: Final[dict[str, Any]] = {
    "allOf": [
        _one_of_two(
            _FOR_WEBHOOK,
            {"not": {"anyOf": [{"required": ["mapping"]}, {"properties": {"type": {"enum": ["Webhook"]}}}]}},
        ),
        _one_of_two(_FOR_KUBERNETES, _FOR_DELIVERIES),
        _one_of_two(_FOR_SLACK, {"properties": {"type": {"enum": [str(kind) for kind in _OTHERS]}}}),
    ]
}


class WorkflowEventSourceSpec(Model):
    """Who may send events here, and what they look like."""

    model_config = ConfigDict(json_schema_extra=_BY_TYPE)

    type: SourceType
    """CloudEvents: CloudEvents 1.0 over HTTP. Webhook: any JSON, by `mapping`. Slack: the Events API. Thena: platform events. Kubernetes: changes of the cluster's objects, which the operator watches."""
    auth: Auth | None = None
    """How a delivery proves that it may come in. Required, but for Kubernetes, which has none."""
    kubernetes: KubernetesObjects | None = None
    """Which objects, and which of their changes. For Kubernetes, and only there."""
    mapping: Mapping | None = None
    """How a body becomes an event. For Webhook, and only there."""
    event_types: Annotated[
        list[EventType],
        Field(
            max_length=256, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
        ),
    ] = Field(default_factory=list)
    """The types that may come in here; others are answered with success and cause nothing. Empty: every type.

    They are known then to the Workflows of the namespace (their condition `EventKnown`). Not for Kubernetes, whose types are known by themselves."""
    rate_limit: SourceRateLimit | None = None
    """How many events come in; more are refused (429). Counted by each gateway pod. Default: any number."""
    max_body_bytes: Annotated[int, Field(ge=1, le=LARGEST_MAX_BODY)] | None = None
    """Largest body of a delivery, at most what the gateway takes at all. Default: 262144."""

    @property
    def proof(self) -> Auth:
        """How a delivery proves that it may come in. To be asked of sources that take deliveries alone."""
        assert self.auth is not None, "the gateway knows no source of Kubernetes objects"
        return self.auth

    @property
    def body_limit(self) -> int:
        """Largest body of a delivery, in bytes."""
        return DEFAULT_MAX_BODY if self.max_body_bytes is None else self.max_body_bytes

    @property
    def registered(self) -> list[EventType]:
        """The event types that are known because of this source."""
        return self.event_types if self.kubernetes is None else self.kubernetes.event_types()

    def takes(self, type_: str) -> bool:
        """Tell whether events of a type may come in here."""
        return not self.event_types or any(fits(known.type, type_) for known in self.event_types)

    def problems(self, path: str) -> Iterator[Problem]:
        """Yield what is wrong beyond single fields; the CRD's schema says the same."""
        if self.type is SourceType.KUBERNETES:
            yield from self._object_problems(path)
            return
        if self.kubernetes is not None:
            yield Problem(f"{path}.kubernetes", f"goes with Kubernetes alone; {self.type} has none")
        if (self.type is SourceType.WEBHOOK) != (self.mapping is not None):
            told = (
                "is required for Webhook" if self.mapping is None else f"goes with Webhook alone; {self.type} has none"
            )
            yield Problem(f"{path}.mapping", told)
        if self.auth is None:
            yield Problem(f"{path}.auth", "is required")
        else:
            yield from self._auth_problems(self.auth, f"{path}.auth")

    def _object_problems(self, path: str) -> Iterator[Problem]:
        given = {to_camel(name) for name in self.model_fields_set}
        for name in _OF_DELIVERIES:
            if name in given:
                yield Problem(f"{path}.{name}", f"{_NO_DELIVERIES[name]}; remove it")
        if self.kubernetes is None:
            yield Problem(f"{path}.kubernetes", "is required for Kubernetes: which objects are watched")
        else:
            yield from self.kubernetes.problems(f"{path}.kubernetes")

    def _auth_problems(self, auth: Auth, path: str) -> Iterator[Problem]:
        chosen = [name for name in ("hmac", "bearer", "none") if getattr(auth, name) is not None]
        if len(chosen) != 1:
            there = " and ".join(chosen) or "none of them"
            yield Problem(path, f"must have exactly one of hmac, bearer and none, but has {there}")
        if auth.hmac is not None:
            yield from _hmac_problems(auth.hmac, self.type, f"{path}.hmac")
        elif self.type is SourceType.SLACK:
            yield Problem(f"{path}.hmac", "is required for Slack: the app's signing secret")


_NO_DELIVERIES: Final = {
    "auth": "is about deliveries, and Kubernetes has none: the operator watches",
    "mapping": "goes with Webhook alone; Kubernetes has none",
    "eventTypes": "is not for Kubernetes: the types of its events are made of kubernetes.kind, and known by themselves",
    "rateLimit": "is about deliveries, and Kubernetes has none: no change of an object is left out",
    "maxBodyBytes": "is about deliveries, and Kubernetes has none",
}


def _hmac_problems(hmac: Hmac, kind: SourceType, path: str) -> Iterator[Problem]:
    slack = kind is SourceType.SLACK
    written = hmac.wire()
    for name in _NOT_SLACKS:
        if slack and name in written:
            yield Problem(f"{path}.{name}", "is Slack's own; remove it")
    if hmac.tolerance is None:
        return
    if not slack and hmac.timestamp_header is None:
        yield Problem(f"{path}.tolerance", "needs timestampHeader: without a time there is nothing to be tolerant of")
    if parse_duration(hmac.tolerance) > LONGEST_TOLERANCE:
        yield Problem(f"{path}.tolerance", f"{hmac.tolerance} is too long: at most 1h is allowed")


class WorkflowEventSourceStatus(Model):
    """What was found out about the source."""

    observed_generation: int | None = None
    """The `metadata.generation` that this status is about."""
    conditions: ConditionList = Field(default_factory=list)
    """`Ready`: deliveries are taken, or the objects are watched. `Ready: False` names the field that is wrong, or what is missing."""
    watch: WatchProgress | None = None
    """Of Kubernetes: how far the watch has come."""


def resource_kind() -> dict[str, Any]:
    """Return names, columns and the like of the CRD."""
    return {
        "kind": "WorkflowEventSource",
        "plural": "workfloweventsources",
        "singular": "workfloweventsource",
        "shortNames": ["kes"],
        "columns": [
            {"name": "Type", "type": "string", "jsonPath": ".spec.type"},
            {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
            {
                "name": "Reason",
                "type": "string",
                "jsonPath": '.status.conditions[?(@.type=="Ready")].reason',
                "priority": 1,
            },
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    }
