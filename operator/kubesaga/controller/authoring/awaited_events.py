# SPDX-License-Identifier: Apache-2.0
"""Which types of event the live runs of a Workflow may wait for: what its status tells the gateway.

A run works from its own revision, so a Workflow that waits for nothing any more may have runs that do. What they wait for
stands in `status.awaitedEvents` beside what the Workflow as it is now waits for. The status says so before the Workflow
is changed, and nothing is taken out of it before it is known that no live run needs it:

    What a revision waits for is in it, as long as a live run in memory works from that; all of them are in memory before
    a Workflow is looked at for the first time. A run that begins from a revision that is not in it (its pass had read the
    Workflow before the change, or it replays an old run) has the Workflow looked at again. Until that can have happened,
    what stood there stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from kubesaga.api.canonical import may_be_revision_of
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.controller.clock import Clock
from kubesaga.controller.definitions import Definitions
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.event_waits import awaited_by_messenger
from kubesaga.engine.snapshot import Unusable
from kubesaga.errors import KubesagaError
from kubesaga.kube.errors import ApiError

_PASS: Final = timedelta(seconds=60)
"""Longer than any pass that begins a run from a Workflow that it read before that was changed."""
_AGAIN: Final = timedelta(minutes=5)
"""How soon it is looked whether what older revisions wait for is still needed. That it stands there longer costs
messengers that nobody takes."""

Named = Callable[[], Iterable[tuple[str, str]]]
"""Returns namespace and name of the revision of each live run that has begun."""


class AwaitedEvents:
    """Asked at each look at a Workflow, told of each change of a run."""

    def __init__(self, definitions: Definitions, named: Named, clock: Clock) -> None:
        self._definitions = definitions
        self._named = named
        self._clock = clock
        self._looked: dict[RunKey, set[str]] = {}
        """By Workflow the revisions that were taken into account, or will be."""
        self._since: dict[RunKey, tuple[int, datetime]] = {}
        """By Workflow the generation that was looked at last, and since when that is."""

    async def of(
        self, key: RunKey, generation: int, current: tuple[str, WorkflowSpec] | None, recorded: Iterable[str]
    ) -> list[str]:
        """Return the types that runs of a Workflow may wait for, sorted.

        `current` is its revision as it is now and what that holds, None: it is not valid. `recorded` is what its status
        says. Raises ApiError.
        """
        others = self._live(key) - ({current[0]} if current is not None else set())
        self._looked[key] = others | ({current[0]} if current is not None else set())
        found, unsure = (
            set(awaited_by_messenger(current[1]) if current is not None else ()),
            self._is_new(key, generation),
        )
        for revision in sorted(others):
            try:
                definition, _ = await self._definitions.of_revision(key.namespace, revision, key.name)
            except ApiError:
                raise
            except KubesagaError:
                unsure = True
                continue
            if not isinstance(definition, Unusable):
                found.update(awaited_by_messenger(definition.spec))
        return sorted(found.union(recorded) if unsure else found)

    def next_look(self, spec: WorkflowSpec | None, awaited: Iterable[str]) -> datetime | None:
        """Return when to look again whether all of it is still awaited; None: the Workflow as it is now waits for all."""
        extra = set(awaited).difference(awaited_by_messenger(spec) if spec is not None else ())
        return self._clock.now() + _AGAIN if extra else None

    def run_changed(self, body: Mapping[str, Any]) -> RunKey | None:
        """Return the Workflow that is to be looked at, because a run of it works from a revision that is news."""
        spec, status = body.get("spec") or {}, body.get("status") or {}
        name = (spec.get("workflowRef") or {}).get("name") or (status.get("replay") or {}).get("workflow")
        revision = status.get("workflowRevision")
        if not name or not revision or status.get("completionTime"):
            return None
        key = RunKey(namespace=body["metadata"]["namespace"], name=name)
        known = self._looked.setdefault(key, set())
        if revision in known:
            return None
        known.add(revision)
        return key

    def gone(self, key: RunKey) -> None:
        """Take in that a Workflow is gone: there is nothing to write what its runs wait for into."""
        self._since.pop(key, None)
        self._looked.pop(key, None)
        if live := self._live(key):
            self._looked[key] = live

    def _live(self, key: RunKey) -> set[str]:
        return {
            name
            for namespace, name in self._named()
            if namespace == key.namespace and may_be_revision_of(name, key.name)
        }

    def _is_new(self, key: RunKey, generation: int) -> bool:
        """Tell whether passes may be under way that began before the Workflow became what it is."""
        now, known = self._clock.now(), self._since.get(key)
        if known is None or known[0] != generation:
            known = self._since[key] = (generation, now)
        return now < known[1] + _PASS
