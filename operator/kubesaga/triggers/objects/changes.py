# SPDX-License-Identifier: Apache-2.0
"""The event that a change of a watched object is.

The same change is told again after a crash, so its id is made of what the change is, and of nothing that depends on
who saw it when: the object's uid, its resourceVersion (deleted: the last one), and what happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kubesaga.api.names import digest
from kubesaga.api.object_source import KubernetesObjects, ObjectEvent
from kubesaga.errors import InvalidSpec
from kubesaga.kube.client import Object
from kubesaga.kube.resources import Resource
from kubesaga.triggers.events import Event, event_of
from kubesaga.triggers.making import Provenance, origin_of

_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_VALUES: Final = ("data", "stringData")
_IDENTITY: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What has happened to one object."""

    event: ObjectEvent
    object: Object
    """As it is then; deleted: as it was last."""
    old: Object | None
    """Modified: as it was before, None if that is not known."""

    @property
    def uid(self) -> str:
        """The object's."""
        return str(self.object["metadata"]["uid"])

    @property
    def name(self) -> str:
        """The object's."""
        return str(self.object["metadata"]["name"])


def change_of(old: Object | None, new: Object | None) -> Change:
    """Return the change from one state of an object to the next; None: it is not there."""
    if new is None:
        assert old is not None, "something has changed"
        return Change(event=ObjectEvent.DELETED, object=old, old=None)
    return Change(event=ObjectEvent.ADDED if old is None else ObjectEvent.MODIFIED, object=new, old=old)


def cleaned(obj: Object, objects: KubernetesObjects) -> Object:
    """Return what expressions and runs see of an object: without bookkeeping, and of a Secret without its values."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    if annotations := metadata.get("annotations"):
        metadata["annotations"] = {name: text for name, text in annotations.items() if name != _LAST_APPLIED}
    rest = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind", "metadata")}
    if is_secret(objects):
        rest = {name: value for name, value in rest.items() if name not in _VALUES}
    return {"apiVersion": objects.api_version, "kind": objects.kind, "metadata": metadata, **rest}


def is_secret(objects: KubernetesObjects) -> bool:
    """Tell whether they hold what must not get into the records of runs."""
    return objects.named == "v1/Secret"


def scope_of(objects: KubernetesObjects, change: Change) -> dict[str, Any]:
    """Return what the source's `when` reads."""
    old = None if change.old is None else cleaned(change.old, objects)
    return {"object": cleaned(change.object, objects), "old": old, "event": str(change.event)}


def event_of_change(objects: KubernetesObjects, resource: Resource, change: Change) -> Event:
    """Return the event of a change. What is too large for a run loses `old` first, then all but the object's identity."""
    metadata = change.object["metadata"]
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"{change.uid}/{metadata['resourceVersion']}/{change.event.lower()}",
        "source": resource.path(metadata["namespace"]),
        "type": objects.event_type(change.event),
        "subject": change.name,
    }
    if time := _time(change):
        document["time"] = time
    whole = cleaned(change.object, objects)
    least = {**whole, "metadata": {name: metadata[name] for name in _IDENTITY if name in metadata}}
    for data in (
        {"object": whole} | ({} if change.old is None else {"old": cleaned(change.old, objects)}),
        {"object": whole},
        {"object": {name: least[name] for name in ("apiVersion", "kind", "metadata")}, "truncated": True},
    ):
        try:
            return event_of({**document, "data": data})
        except InvalidSpec as error:
            refused = error
    raise refused


def provenance_of(source: str, event: Event) -> Provenance:
    """Return the marks of the runs of such an event. Its id says all: told again, it may bear an `old` that was not known before."""
    return Provenance(
        source=source, origin=origin_of(source, event.source), event_id=event.id,
        digest=digest(event.type, event.id, length=32),
    )  # fmt: skip


def is_truncated(event: Event) -> bool:
    """Tell whether only the object's identity is left."""
    return isinstance(event.data, dict) and "truncated" in event.data


def _time(change: Change) -> str | None:
    """Return when it happened, where the object says so."""
    metadata = change.object["metadata"]
    match change.event:
        case ObjectEvent.ADDED:
            found = metadata.get("creationTimestamp")
        case ObjectEvent.DELETED:
            found = metadata.get("deletionTimestamp")
        case ObjectEvent.MODIFIED:
            found = None
    return found if isinstance(found, str) else None
