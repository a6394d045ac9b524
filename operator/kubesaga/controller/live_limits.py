# SPDX-License-Identifier: Apache-2.0
"""The limits as Workflows and Activities have them now: taken in when this process begins to lead, and at each change.

A document that is not valid says nothing: what it said before holds. Of one that was deleted, those hold that are in the
revisions of its runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kubesaga.api.limits import Concurrency
from kubesaga.api.parsing import parse_activity_spec, parse_workflow_spec
from kubesaga.controller.clock import Clock
from kubesaga.controller.guards.all import Guards
from kubesaga.engine.admission.ledger import Ledger
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.guarding import GuardOwner, GuardSettings, settings_of
from kubesaga.errors import InvalidSpec

_GUARDS: Final = ("circuitBreaker", "bulkhead", "rateLimit")

Body = Mapping[str, Any]


class LiveLimits:
    """Tells the ledger and the guards."""

    def __init__(self, ledger: Ledger, guards: Guards, clock: Clock) -> None:
        self._ledger = ledger
        self._guards = guards
        self._clock = clock
        self._guarded: dict[RunKey, set[str]] = {}
        """The activities of each Workflow that carry guards of their own, or did."""

    def workflow(self, body: Body) -> None:
        """Take in a Workflow."""
        metadata, document = body["metadata"], body.get("spec") or {}
        key = RunKey(namespace=metadata["namespace"], name=metadata["name"])
        try:
            self._ledger.configure(key.namespace, key.name, limits_in(document), self._clock.now())
            guarded = dict(_guards_in(document)) if self._may_guard(key, document) else {}
        except InvalidSpec:
            return
        known = self._guarded.get(key, set())
        for name in known | {name for name, settings in guarded.items() if settings != GuardSettings()}:
            owner = GuardOwner(kind="Workflow", namespace=key.namespace, name=key.name, activity=name)
            self._guards.restore(owner, body.get("status") or {})
            self._guards.configure(owner, guarded.get(name))
        if guarded:
            self._guarded[key] = {name for name, settings in guarded.items() if settings != GuardSettings()}

    def activity(self, body: Body) -> None:
        """Take in an Activity."""
        metadata = body["metadata"]
        try:
            settings = settings_of(parse_activity_spec(body.get("spec") or {}))
        except InvalidSpec:
            return
        owner = GuardOwner(kind="Activity", namespace=metadata["namespace"], name=metadata["name"])
        self._guards.restore(owner, body.get("status") or {})
        self._guards.configure(owner, settings or GuardSettings())

    def activity_gone(self, key: RunKey) -> None:
        """Take in that an Activity was deleted."""
        self._guards.configure(GuardOwner(kind="Activity", namespace=key.namespace, name=key.name), None)

    def workflow_gone(self, key: RunKey) -> None:
        """Take in that a Workflow was deleted: its runs go on under the limits that it had."""
        self._ledger.workflow_gone(key.namespace, key.name)
        for name in self._guarded.pop(key, ()):
            owner = GuardOwner(kind="Workflow", namespace=key.namespace, name=key.name, activity=name)
            self._guards.configure(owner, None)

    def _may_guard(self, key: RunKey, document: Body) -> bool:
        activities = [one for part in ("activities", "finally") for one in document.get(part) or ()]
        return key in self._guarded or any(name in one for one in activities for name in _GUARDS)


def limits_in(document: Body) -> Concurrency | None:
    """Return the limits in a Workflow's spec. Raises InvalidSpec."""
    return parse_workflow_spec(dict(document)).concurrency if document.get("concurrency") is not None else None


def _guards_in(document: Body) -> Iterator[tuple[str, GuardSettings]]:
    """Yield how each activity guards itself; `GuardSettings()`: not at all."""
    spec = parse_workflow_spec(dict(document))
    for activity in (*spec.activities, *spec.finally_):
        yield activity.name, settings_of(activity) or GuardSettings()
