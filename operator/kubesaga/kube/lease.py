# SPDX-License-Identifier: Apache-2.0
"""Leader election on one coordination.k8s.io/v1 Lease: at most one process may write.

Two rules make it safe without comparing the clocks of machines:
- A candidate waits until the record has not changed for the lease's duration *on its own monotonic clock*.
- The holder counts from the moment *before* it sent its last successful renewal, and gives up after the renew deadline,
  which is shorter than the duration. What no election can do is to stop a write that is already on its way; therefore
  writes go through `KubeClient.fenced(elector.valid_for)`, and the objects themselves are written by compare-and-swap.

So a holder that dies is replaced one duration and one retry period after its last renewal at the latest, requests not
counted in. A Lease that somebody deletes frees nobody's way earlier: who knows a holder waits for it as before.

A record that names our own identity is ours from before a restart and is taken back at once. The old process, should it
still live, sees another acquireTime in the record at its next renewal, and stops.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kubesaga.kube.client import KubeClient, Object
from kubesaga.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from kubesaga.kube.resources import LEASES

_log = logging.getLogger(__name__)
_TWINS = (
    "another process has taken the Lease under our own identity %s: replicas need an identity each (KUBESAGA_IDENTITY), "
    "or they take it from each other again and again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTiming:
    """Seconds, as in client-go: `duration` > `renew_deadline` > `retry_period`."""

    duration: float = 15.0
    """How long others wait after the last renewal that they saw."""
    renew_deadline: float = 10.0
    """How long after its last renewal the holder considers itself the holder."""
    retry_period: float = 2.0
    """Pause between two renewals, or two looks at another's record."""

    def __post_init__(self) -> None:
        if not self.duration > self.renew_deadline > self.retry_period > 0:
            raise ValueError("a Lease needs duration > renew deadline > retry period > 0")


class Elector:
    """One candidate. `acquire`, then `run` until `on_lost` is called or the task is cancelled; `release` in the end.

    That is also for who was cancelled in `acquire`: the write that takes the Lease may have been on its way.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]],
        on_lost: Callable[[], None],
        timing: LeaseTiming = LeaseTiming(),
    ) -> None:
        if not identity:
            raise ValueError("a candidate needs an identity: an empty one means that nobody holds the Lease")
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._on_lost = on_lost
        self._timing = timing
        self._renewed_at = -math.inf
        self._version = ""
        self._acquire_time = ""
        self._seen: tuple[Any, float] = (None, 0.0)
        self._taking: asyncio.Task[bool] | None = None
        """The last write that takes the Lease: under way, answered or failed."""
        self._failing: tuple[float, str] | None = None
        """Since when each step has failed, and how the last one did."""

    def valid_for(self) -> float:
        """Return for how many seconds it is still certain that nobody else holds the Lease; 0 if it is not."""
        return max(0.0, self._renewed_at + self._timing.renew_deadline - self._clock())

    def trouble(self) -> str | None:
        """Return the error of the last try, where all tries of a whole lease duration have failed; else None."""
        since, told = self._failing or (math.inf, "")
        return told if self._clock() - since > self._timing.duration else None

    async def acquire(self) -> None:
        """Return when the Lease is ours. Waits for ever; what stands in the way is logged."""
        while not await self._try(self._attempt):
            await self._sleep(self._pause())
        _log.info("%s holds the Lease %s/%s", self._identity, self._namespace, self._name)

    def _pause(self) -> float:
        """Return how long to wait before the next look: not beyond the moment at which the holder's time is over."""
        known, since = self._seen
        left = since + self._duration(known or {}) - self._clock()
        return min(left, self._timing.retry_period) if left > 0 else self._timing.retry_period

    async def run(self) -> None:
        """Renew until the Lease is lost; then call `on_lost` and return."""
        while self.valid_for() > 0:
            await self._sleep(min(self._timing.retry_period, self.valid_for()))
            # A process that was frozen for longer than its deadline must not renew: others may have come and gone.
            if self.valid_for() > 0:
                await self._try(self._renew)
        _log.error("%s has lost the Lease %s/%s", self._identity, self._namespace, self._name)
        self._on_lost()

    async def release(self) -> None:
        """Let the next candidate in at once. Does nothing if the Lease is not ours, or was never.

        A write that takes it is carried out also when we are told to stop meanwhile: it is waited for, some seconds at
        most. Where its answer was lost, the record says whether it has taken it.
        """
        in_doubt = await self._taking_is_in_doubt()
        if in_doubt:
            self._version = ""
        held, self._renewed_at = self.valid_for() > 0, -math.inf
        if held or in_doubt:
            try:
                await self._let_go()
            except ApiError as error:
                _log.warning("the Lease runs out by itself, it cannot be released: %s", error)

    async def _try(self, step: Callable[[], Awaitable[bool]]) -> bool:
        """Do one step; an error of the API server is a step that did not succeed, and the next one reads first."""
        try:
            done = await step()
        except ApiError as error:
            level = logging.INFO if isinstance(error, (Conflict, AlreadyExists, NotFound)) else logging.WARNING
            _log.log(level, "the Lease %s/%s: %s", self._namespace, self._name, error)
            self._version = ""
            self._failing = (self._failing[0] if self._failing else self._clock(), str(error))
            return False
        self._failing = None
        return done

    async def _attempt(self) -> bool:
        """Take the Lease if nobody holds it."""
        try:
            record = await self._read()
        except NotFound:
            # Deleted by somebody, which its holder does not know before its next renewal.
            known, _ = self._seen
            return await self._create() if self._free(known or {}) else False
        spec = record.get("spec") or {}
        if not self._free(spec):
            return False
        holder = spec.get("holderIdentity") or ""
        transitions = (spec.get("leaseTransitions") or 0) + (holder != self._identity)
        self._version = record["metadata"]["resourceVersion"]
        return await self._take(lambda taken: self._write(taken | {"leaseTransitions": transitions}))

    def _free(self, spec: dict[str, Any]) -> bool:
        known, since = self._seen
        if spec != known:
            since = self._clock()
            self._seen = (spec, since)
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity, (known or {}).get("holderIdentity")):
            _log.info("%s waits: %s holds the Lease %s/%s", self._identity, holder, self._namespace, self._name)
        return holder in ("", self._identity) or self._clock() - since >= self._duration(spec)

    def _duration(self, spec: dict[str, Any]) -> float:
        """Return what the holder has promised, which may be more than what we would."""
        return max(self._timing.duration, float(spec.get("leaseDurationSeconds") or 0))

    async def _create(self) -> bool:
        def create(taken: dict[str, Any]) -> Awaitable[Object]:
            body = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": taken | {"leaseTransitions": 0},
            }
            return self._client.create(LEASES, self._namespace, body, within=self._limit())

        return await self._take(create)

    async def _take(self, write: Callable[[dict[str, Any]], Awaitable[Object]]) -> bool:
        """Take it by a write that nobody cuts off: the server would carry it out all the same. `release` waits for it."""
        self._taking = asyncio.create_task(self._taken(write))
        await asyncio.wait({self._taking})
        return self._taking.result()

    async def _taken(self, write: Callable[[dict[str, Any]], Awaitable[Object]]) -> bool:
        started, moment = self._clock(), self._stamp()
        self._acquire_time = moment  # before it is sent: where the answer is lost, the record is known by it
        record = await write(
            {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": math.ceil(self._timing.duration),
                "acquireTime": moment,
                "renewTime": moment,
            }
        )
        self._version = record["metadata"]["resourceVersion"]
        self._renewed_at = started
        return True

    async def _renew(self) -> bool:
        if not self._version and not await self._still_ours():
            return False
        started = self._clock()
        try:
            await self._write({"renewTime": self._stamp()}, within=min(self._limit(), self.valid_for()))
        except (Conflict, NotFound):
            # Whoever touched it may have taken it: a process of our own name does not wait for us to be late.
            await self._still_ours()
            return False
        self._renewed_at = started
        return True

    async def _still_ours(self) -> bool:
        """Look whose the record is after an answer was lost or somebody touched it. If not ours, it is lost for good."""
        try:
            record = await self._read()
        except NotFound:
            return await self._create()  # deleted by somebody; if another is faster, the name is taken and we see whose
        if not self._is_ours(record):
            self._renewed_at = -math.inf
            if (record.get("spec") or {}).get("holderIdentity") == self._identity:
                _log.error(_TWINS, self._identity)
            return False
        self._version = record["metadata"]["resourceVersion"]
        return True

    async def _let_go(self) -> None:
        moment = self._stamp()
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": moment, "acquireTime": moment}
        if self._version:
            with suppress(Conflict):
                await self._write(spec)
                return
        # The last renewal was cut off, and its answer with the version in it.
        record = await self._read()
        if self._is_ours(record):
            self._version = record["metadata"]["resourceVersion"]
            await self._write(spec)

    async def _taking_is_in_doubt(self) -> bool:
        """Wait for a write that takes the Lease; tell whether the last one may have taken it without an answer."""
        if self._taking is None:
            return False
        await asyncio.wait({self._taking})
        return self._taking.cancelled() or self._taking.exception() is not None

    def _is_ours(self, record: Object) -> bool:
        spec = record.get("spec") or {}
        return (spec.get("holderIdentity"), spec.get("acquireTime")) == (self._identity, self._acquire_time)

    async def _read(self) -> Object:
        return await self._client.get(LEASES, self._namespace, self._name, within=self._limit())

    async def _write(self, spec: dict[str, Any], *, within: float | None = None) -> Object:
        body = {"metadata": {"resourceVersion": self._version}, "spec": spec}
        limit = self._limit() if within is None else within
        record = await self._client.merge_patch(LEASES, self._namespace, self._name, body, within=limit)
        self._version = record["metadata"]["resourceVersion"]
        return record

    def _limit(self) -> float:
        # Half the deadline: one request that hangs leaves time for another.
        return self._timing.renew_deadline / 2

    def _stamp(self) -> str:
        return self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
