# SPDX-License-Identifier: Apache-2.0
"""Activities: read for those who use them, and told in their status whether they can be used.

They are listed anew for each run that begins (once for all that begin meanwhile), as its Workflow is read anew: what was
applied before a run was created is what it works from. Only what is made of them is kept in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from kubesaga.api.activity import ActivityTypeStatus
from kubesaga.api.conditions import with_condition
from kubesaga.api.reasons import Reason
from kubesaga.controller.authoring.workflows import sentence_of
from kubesaga.controller.clock import Clock
from kubesaga.controller.live_limits import LiveLimits
from kubesaga.controller.reading import FreshReads
from kubesaga.controller.status_patch import merge_patch
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.uses import Catalogue, Known, works_in
from kubesaga.engine.validation.activity import known_of, warnings_of_activity
from kubesaga.engine.validation.resolving import resolve_inside
from kubesaga.errors import InvalidSpec, Problem
from kubesaga.kube import errors
from kubesaga.kube.client import KubeClient, Selection
from kubesaga.kube.resources import ACTIVITIES

_log = logging.getLogger("kubesaga.workflow_engine")

_VALID: Final = "The Activity is valid and can be used."

_OWN: Final = ("conditions",)
"""What of the status is read back; the rest is of others."""

Body = Mapping[str, Any]


class Activities:
    """Reads Activities. `shared` is the namespace of the operator's catalogue, "" for none."""

    def __init__(self, client: KubeClient, evaluator: Evaluator, *, shared: str) -> None:
        self._client = client
        self._evaluator = evaluator
        self.shared = shared
        self._lists = FreshReads[str, list[Known]](self._list)
        self._made: dict[RunKey, tuple[str, int, Known]] = {}
        """What was made of each, with its uid and generation."""

    async def catalogue(self, namespace: str) -> Catalogue:
        """Return the Activities that runs of a namespace may use, as they are now."""
        places = [place for place in dict.fromkeys((namespace, self.shared)) if place]
        lists = await asyncio.gather(*(self._lists.read(place) for place in places))
        return Catalogue((known for listed in lists for known in listed), shared=self.shared)

    async def known(self, body: Body) -> Known:
        """Return what an Activity comes to."""
        metadata = body["metadata"]
        key = RunKey(namespace=metadata["namespace"], name=metadata["name"])
        uid, generation = metadata["uid"], metadata.get("generation", 0)
        made = self._made.get(key)
        if made is None or made[:2] != (uid, generation):
            known = await asyncio.to_thread(known_of, key.namespace, key.name, body.get("spec"), self._evaluator)
            made = self._made[key] = (uid, generation, known)
        return made[2]

    async def _list(self, namespace: str) -> list[Known]:
        listing = await self._client.list(ACTIVITIES, Selection(namespace=namespace))
        there = {item["metadata"]["name"] for item in listing.items}
        for key in [key for key in self._made if key.namespace == namespace and key.name not in there]:
            del self._made[key]
        return [await self.known(item) for item in listing.items]


class ActivityReconciler:
    """Takes one Activity at a time. Its status is written only when it changes."""

    def __init__(
        self, client: KubeClient, activities: Activities, evaluator: Evaluator, limits: LiveLimits, clock: Clock
    ) -> None:
        self._client = client
        self._limits = limits
        self._activities = activities
        self._evaluator = evaluator
        self._clock = clock
        self._seen: dict[RunKey, tuple[str, int]] = {}
        self.users: set[RunKey] = set()
        """The Activities that use others."""

    def changed(self, key: RunKey, body: Body, *, gone: bool) -> bool:
        """Tell whether what people wrote has changed, and not the status alone."""
        metadata = body.get("metadata") or {}
        if gone:
            return self._seen.pop(key, None) is not None
        seen = (metadata.get("uid", ""), metadata.get("generation", 0))
        before, self._seen[key] = self._seen.get(key), seen
        return seen != before

    async def process(self, key: RunKey) -> datetime | None:
        """Check the Activity as it is now."""
        try:
            body = await self._client.get(ACTIVITIES, key.namespace, key.name)
        except errors.NotFound:
            self.users.discard(key)
            self._limits.activity_gone(key)
            return None
        self._limits.activity(body)
        if "deletionTimestamp" in body["metadata"]:
            return None
        old = {
            name: value for name, value in (body.get("status") or {}).items() if name in ("observedGeneration", *_OWN)
        }
        status = await self._status(key, body, old)
        patch = merge_patch(old, status.wire())
        if not patch:
            return None
        version = body["metadata"]["resourceVersion"]
        try:
            await self._client.merge_patch(
                ACTIVITIES, key.namespace, key.name,
                {"metadata": {"resourceVersion": version}, "status": patch}, subresource="status",
            )  # fmt: skip
        except (errors.Conflict, errors.NotFound):
            return self._clock.now()
        return None

    async def _status(self, key: RunKey, body: Body, document: Body) -> ActivityTypeStatus:
        old = ActivityTypeStatus.model_validate({name: document[name] for name in _OWN if name in document})
        known = await self._activities.known(body)
        problems = [*known.problems, *await self._problems_inside(key, known)]
        if problems or known.spec is None:
            good, reason, message = False, Reason.INVALID_SPEC, str(InvalidSpec(problems))
            _log.warning("Activity %s/%s is not valid: %s", key.namespace, key.name, message)
        else:
            good, reason, message = True, Reason.VALID, sentence_of(_VALID, warnings_of_activity(known.spec))
        now, generation = self._clock.now(), body["metadata"].get("generation", 0)
        conditions = with_condition(
            old.conditions, "Ready", "True" if good else "False", reason, message, now=now, generation=generation
        )  # fmt: skip
        return ActivityTypeStatus(observed_generation=generation, conditions=conditions)

    async def _problems_inside(self, key: RunKey, known: Known) -> list[Problem]:
        spec = known.spec
        if spec is None or not any(True for _ in works_in(spec)):
            self.users.discard(key)
            return []
        self.users.add(key)
        catalogue = await self._activities.catalogue(key.namespace)
        resolution = await asyncio.to_thread(resolve_inside, spec, catalogue, key.namespace, self._evaluator)
        return resolution.problems
