# SPDX-License-Identifier: Apache-2.0
"""What is known of one play, as plain values: the API server's own history, the operator's writes, and real effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.calls import Sent
from tests.faults.saga import Saga


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of one object, as a watch of the API server told it to an observer that no fault touches."""

    resource: str
    type: str
    object: Mapping[str, Any]

    @property
    def number(self) -> int:
        """The resourceVersion: one count for all kinds, as they are all in one etcd."""
        return int(self.object["metadata"]["resourceVersion"])

    @property
    def uid(self) -> str:
        """The object's."""
        return str(self.object["metadata"]["uid"])

    @property
    def status(self) -> Mapping[str, Any]:
        """The object's."""
        return self.object.get("status") or {}

    def activity(self, name: str) -> Mapping[str, Any]:
        """Return what a run's status says of an activity."""
        found: Mapping[str, Any] = (self.status.get("activities") or {}).get(name) or {}
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A handler or HTTP service was called. `at` is monotonic, `clock` the time of day, both in seconds."""

    run: str
    activity: str
    attempt: int
    key: str
    at: float
    clock: float

    @property
    def deed(self) -> str:
        """do, undo or fallback: the last word of the key."""
        return self.key.rpartition("/")[2]

    @property
    def place(self) -> str:
        """Which attempt of which deed, such as `charge/do/2`."""
        return f"{self.activity}/{self.deed}/{self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One play."""

    plan: str
    sagas: Mapping[str, Saga]
    """By the run's name."""
    versions: Sequence[Version]
    """Of the runs and their pods, oldest first."""
    calls: Sequence[Sent]
    effects: Sequence[Effect]
    struck: Sequence[str]
    alone: bool = True
    """False: several operators are at work on purpose, and each begins what it finds begun by another."""
    deaths: int = 0
    """How often the operator was killed or ended."""
    exits: Sequence[int] = ()
    """How its lives ended that ended in this play."""
    waited_for: str = ""
    """What did not come to pass in time; "" if all came to rest."""
    seconds: float = 0.0

    def of_run(self, name: str) -> list[Version]:
        """Return the versions of a run."""
        return [
            each
            for each in self.versions
            if each.resource == "workflowruns" and each.object["metadata"]["name"] == name
        ]

    def pods_of(self, uid: str) -> dict[str, list[Version]]:
        """Return the versions of the pods of a run, by the pod's uid."""
        found: dict[str, list[Version]] = {}
        for each in self.versions:
            owners = each.object["metadata"].get("ownerReferences") or ()
            if each.resource == "pods" and any(owner["uid"] == uid for owner in owners):
                found.setdefault(each.uid, []).append(each)
        return found

    @property
    def writes(self) -> int:
        """How many steps the operator took, or tried to take."""
        return sum(sent.call.mutates for sent in self.calls)
