# SPDX-License-Identifier: Apache-2.0
"""The WorkflowEventSources and Workflows that the watches have told of, ready for use."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kubesaga.api.event_source import SourceType, WorkflowEventSourceSpec
from kubesaga.api.parsing import parse_event_source_spec
from kubesaga.errors import InvalidSpec
from kubesaga.kube.client import Object
from kubesaga.kube.informer import Key
from kubesaga.kube.informers import Memory

_log: Final = logging.getLogger("kubesaga.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A WorkflowEventSource that takes deliveries."""

    namespace: str
    name: str
    spec: WorkflowEventSourceSpec


class Sources:
    """What is there. Sources that are wrong take nothing, as if they were not there."""

    def __init__(self, sources: Memory, workflows: Memory) -> None:
        """`workflows` is indexed by namespace (`namespace_of`)."""
        self._workflows = workflows
        self._known: dict[Key, Source] = {}
        sources.on_change(self._changed)

    def find(self, namespace: str, name: str) -> Source | None:
        """Return a source by its name."""
        return self._known.get((namespace, name))

    def workflows(self, namespace: str) -> Sequence[Object]:
        """Return the Workflows of a namespace, but those that are being deleted, by name."""
        found = self._workflows.by_owner(namespace)
        return sorted(
            (each for each in found if "deletionTimestamp" not in each["metadata"]),
            key=lambda each: str(each["metadata"]["name"]),
        )

    def counted(self) -> int:
        """Return how many sources take deliveries."""
        return len(self._known)

    def _changed(self, key: Key, _old: Object | None, new: Object | None) -> None:
        self._known.pop(key, None)
        if new is None or "deletionTimestamp" in new["metadata"]:
            return
        try:
            spec = parse_event_source_spec(new.get("spec"))
        except InvalidSpec as error:
            _log.warning("the event source %s/%s takes nothing: %s", *key, error)
            return
        if spec.type is SourceType.KUBERNETES:
            return  # the operator's: it takes no deliveries
        self._known[key] = Source(namespace=key[0], name=key[1], spec=spec)


def namespace_of(obj: Object) -> str:
    """Return the index key of Workflows."""
    namespace: str = obj["metadata"]["namespace"]
    return namespace
