# SPDX-License-Identifier: Apache-2.0
"""Objects of the cluster as a source of events: which ones, which changes, and what the events are called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema

from kubesaga.api.event_types import EventClass, EventType
from kubesaga.api.fields import Expression, Model, Time, matching
from kubesaga.api.names import GROUP, MANAGED_BY, MANAGED_BY_LABEL, digest
from kubesaga.errors import Problem

WHEN_ROOTS: Final = ("object", "old", "event")
"""What `when` can read."""

_LABEL_KEY: Final = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?"
_LONGEST_KEY: Final = 317
_LABEL_VALUE: Final = r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?"
_API_VERSION: Final = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9]+((alpha|beta)[0-9]+)?"
_KIND: Final = r"[A-Z][A-Za-z0-9]*"


def _text(pattern: str, sentence: str, longest: int, shortest: int = 1) -> tuple[Any, ...]:
    schema: dict[str, Any] = {"type": "string", "maxLength": longest, "pattern": f"^({pattern})$"}
    if shortest:
        schema["minLength"] = shortest
    return Field(min_length=shortest, max_length=longest), matching(pattern, sentence), WithJsonSchema(schema)


LabelKey = Annotated[str, *_text(_LABEL_KEY, "is not the name of a label", _LONGEST_KEY)]
LabelValue = Annotated[str, *_text(_LABEL_VALUE, "is not the value of a label", 63, 0)]
ApiVersion = Annotated[
    str, *_text(_API_VERSION, "is not an apiVersion; write it as manifests do, such as v1 or apps/v1", 253)
]
Kind = Annotated[str, *_text(_KIND, "is not a kind; write it as manifests do, such as ConfigMap", 63)]


def _checked_keys(labels: dict[str, str]) -> dict[str, str]:
    for key in labels:
        if len(key) > _LONGEST_KEY or not re.fullmatch(_LABEL_KEY, key):
            raise ValueError(f"{key!r} is not the name of a label")
    return labels


class ObjectEvent(StrEnum):
    """What happens to an object."""

    ADDED = "Added"
    MODIFIED = "Modified"
    DELETED = "Deleted"


class LabelOperator(StrEnum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"

    @property
    def with_values(self) -> bool:
        """Tell whether it goes with values."""
        return self in (LabelOperator.IN, LabelOperator.NOT_IN)


_WITH_VALUES: Final[dict[str, Any]] = {"required": ["values"], "properties": {"operator": {"enum": ["In", "NotIn"]}}}
_WITHOUT_VALUES: Final[dict[str, Any]] = {
    "properties": {"operator": {"enum": ["Exists", "DoesNotExist"]}},
    "not": {"required": ["values"]},
}


class LabelRequirement(Model):
    """One thing that a label must be."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [_WITH_VALUES, _WITHOUT_VALUES]})

    key: LabelKey
    """The label."""
    operator: LabelOperator
    """In, NotIn (also fulfilled where the label is not there), Exists, DoesNotExist."""
    values: Annotated[list[LabelValue], Field(min_length=1, max_length=64)] | None = None
    """With In and NotIn: of what."""

    def text(self) -> str:
        """Return it in the API server's words."""
        listed = ",".join(sorted(self.values or ()))
        match self.operator:
            case LabelOperator.IN:
                return f"{self.key} in ({listed})"
            case LabelOperator.NOT_IN:
                return f"{self.key} notin ({listed})"
            case LabelOperator.EXISTS:
                return self.key
            case LabelOperator.DOES_NOT_EXIST:
                return f"!{self.key}"


class LabelSelector(Model):
    """Which objects, by their labels. All that is given must hold."""

    match_labels: Annotated[dict[str, LabelValue], Field(max_length=32), AfterValidator(_checked_keys)] = Field(
        default_factory=dict
    )
    """Labels with the values that they must have."""
    match_expressions: Annotated[list[LabelRequirement], Field(max_length=32)] = Field(default_factory=list)
    """Labels compared in other ways."""

    def text(self) -> str:
        """Return it in the API server's words, the same for the same meaning."""
        equal = [f"{key}={value}" for key, value in self.match_labels.items()]
        return ",".join(sorted([*equal, *(each.text() for each in self.match_expressions)]))


class KubernetesObjects(Model):
    """Which objects of the source's own namespace are watched, and which of their changes are events."""

    api_version: ApiVersion
    """Their apiVersion, such as `v1` or `apps/v1`."""
    kind: Kind
    """Their kind, such as `ConfigMap`. The administrator says which kinds may be watched (`KUBESAGA_WATCHABLE_KINDS`)."""
    selector: LabelSelector | None = None
    """Which of them. Default: all but those that Kubesaga itself makes, which never count."""
    events: Annotated[
        list[ObjectEvent],
        Field(min_length=1, max_length=3, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = Field(default_factory=lambda: list(ObjectEvent))
    """Which changes are events. Default: all three."""
    when: Expression | None = None
    """CEL without `${}`, over `object` (as it is then; deleted: as it was last), `old` (as it was before, null if that is not known), and `event` (Added, Modified or Deleted)."""

    @property
    def named(self) -> str:
        """The kind as the administrator lists it: `apps/v1/Deployment`."""
        return f"{self.api_version}/{self.kind}"

    @property
    def label_selector(self) -> str:
        """In the API server's words: what is asked for, and nothing that Kubesaga itself makes."""
        own = f"{MANAGED_BY_LABEL}!={MANAGED_BY}"
        asked = self.selector.text() if self.selector is not None else ""
        return f"{asked},{own}" if asked else own

    @property
    def subject(self) -> str:
        """The same for all that watch the same objects: how far one has come means nothing to another."""
        return digest(self.api_version, self.kind, self.label_selector, length=16)

    def event_type(self, event: ObjectEvent) -> str:
        """Return the type of an event, such as `kubernetes:configmap:added`."""
        return f"kubernetes:{self.kind.lower()}:{event.lower()}"

    def event_types(self) -> list[EventType]:
        """Return the types of events that come of it."""
        told = {ObjectEvent.ADDED: "was added", ObjectEvent.MODIFIED: "was changed", ObjectEvent.DELETED: "was deleted"}
        return [
            EventType.model_validate(
                {
                    "type": self.event_type(event), "class": EventClass.SYSTEM,
                    "description": f"A {self.kind} ({self.api_version}) {told[event]}", "schema": dict(_DATA),
                }
            )
            for event in self.events
        ]  # fmt: skip

    def problems(self, path: str) -> Iterator[Problem]:
        """Yield what is wrong beyond single fields; the CRD's schema says the same."""
        if len(set(self.events)) != len(self.events):
            yield Problem(f"{path}.events", "names an event twice")
        for number, each in enumerate(self.selector.match_expressions if self.selector else ()):
            if each.operator.with_values is (each.values is None):
                told = "is required with" if each.operator.with_values else "does not go with"
                yield Problem(f"{path}.selector.matchExpressions[{number}].values", f"{told} {each.operator}")

    def loop(self) -> str | None:
        """Return why a run of such an event would cause the next event, None if it need not."""
        group = self.api_version.rpartition("/")[0]
        if group == GROUP:
            return f"objects of {GROUP} cannot be watched: each run changes them, so that runs would cause runs without end"
        if self.kind == "Event" and group in ("", "events.k8s.io"):
            return "Events cannot be watched: each run posts some, so that runs would cause runs without end"
        return None


_DATA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["object"],
    "properties": {"object": {"type": "object"}, "old": {"type": "object"}, "truncated": {"type": "boolean"}},
}


class WatchProgress(Model):
    """How far the watch of objects has come: an operator that takes over goes on from there."""

    subject: Annotated[str, Field(max_length=64)]
    """A digest of what is watched."""
    resource_version: Annotated[str, Field(max_length=64)]
    """Everything up to this version of the objects has been told."""
    time: Time
    """When that was."""
