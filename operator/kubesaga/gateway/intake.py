# SPDX-License-Identifier: Apache-2.0
"""The way of one delivery: whose is it, is it proven, is there room, what are its events, which runs do they cause.

Nothing that depends on the source is said before the delivery has proven itself, and nothing of the body is looked at.
No run is made before everything that can be wrong with the delivery has been looked at. What is answered with success
has its runs in the API server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final, Protocol

from kubesaga.api.event_source import SourceType
from kubesaga.engine.language.expressions import Evaluator, EvaluatorUnavailable
from kubesaga.gateway.cloudevents import read_cloudevents
from kubesaga.gateway.event import Event
from kubesaga.gateway.headers import Headers
from kubesaga.gateway.proofs import Verdict, judge, secret_of
from kubesaga.gateway.rates import Rates
from kubesaga.gateway.refusal import Refusal, too_large, unavailable, unproven
from kubesaga.gateway.runs import Made, make, provenance_of
from kubesaga.gateway.schemas import EventSchemas
from kubesaga.gateway.secrets import Secrets, SecretUnusable
from kubesaga.gateway.series import Series
from kubesaga.gateway.slack import Challenge, read_slack
from kubesaga.gateway.sources import Source, Sources
from kubesaga.gateway.thena import read_thena
from kubesaga.gateway.webhook import read_webhook
from kubesaga.kube.client import Object
from kubesaga.kube.errors import ApiError
from kubesaga.triggers.causes import Caused, WorkflowTriggers
from kubesaga.triggers.making import RunMaker, origin_of

_log: Final = logging.getLogger("kubesaga.gateway")
_AT_ONCE: Final = 16
"""Runs of one delivery that are created at the same time."""
_COMPLAINTS: Final = 60.0
"""Seconds between two log lines about the same trouble."""


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """Return the time of day."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a sender reads whose delivery was taken."""

    status: int = 202
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """One event, and what is to come of it."""

    event: Event
    welcome: bool
    causes: Sequence[tuple[Object, Caused]] = ()
    faults: Sequence[tuple[str, str]] = ()
    """What kept triggers from being looked at, by the name of their Workflow."""
    filtered: Mapping[str, int] = field(default_factory=dict)
    """How many triggers that wait for its type filter it out, by the name of their Workflow."""
    stopped: Sequence[tuple[str, str]] = ()
    """The triggers that match and have stopped themselves, each after its Workflow."""

    @property
    def became(self) -> str:
        """Return what has become of the event, in one word."""
        if not self.welcome:
            return "unwelcome"
        return "caused" if self.causes else "stopped" if self.stopped else "unmatched"


class Intake:
    """Takes deliveries. One for the process; it remembers nothing of any delivery."""

    def __init__(
        self, sources: Sources, secrets: Secrets, maker: RunMaker, triggers: WorkflowTriggers, *,
        evaluator: Evaluator, series: Series, clock: Clock,
    ) -> None:  # fmt: skip
        self._sources = sources
        self._secrets = secrets
        self._maker = maker
        self._triggers = triggers
        self._evaluator = evaluator
        self._schemas = EventSchemas(evaluator)
        self._series = series
        self._clock = clock
        self._rates = Rates(clock.monotonic)
        self._told: dict[str, float] = {}

    async def deliver(self, namespace: str, name: str, headers: Headers, body: bytes) -> Answer:
        """Take a delivery. Raises Refusal."""
        received = self._clock.monotonic()
        source = self._sources.find(namespace, name)
        if source is None:
            self._complain(f"a delivery came for the event source {namespace}/{name}, which is not there or not valid")
            raise unproven()
        await self._check_proof(source, headers, body)
        try:
            answer = await self._take(source, headers, body, received)
        except EvaluatorUnavailable as error:
            self._complain(f"expressions cannot be evaluated: {error}")
            raise unavailable("the delivery cannot be looked at now: try again later") from error
        except Refusal as refusal:
            self._count(source, refusal.status, refusal.reason)
            refusal.counted = True
            raise
        self._count(source, answer.status, "")
        return answer

    # --- is it proven

    async def _check_proof(self, source: Source, headers: Headers, body: bytes) -> None:
        """Raise Refusal unless the delivery proves that it may come in."""
        ref = secret_of(source.spec)
        if ref is None:
            return
        now = self._clock.now().timestamp()
        verdict = Verdict.WRONG
        used = b""
        for fresh in (False, True):
            try:
                secret = await self._secrets.get(source.namespace, ref, fresh=fresh)
            except SecretUnusable as error:
                self._complain(f"deliveries for {source.namespace}/{source.name} cannot be proven: {error}")
                continue
            except ApiError as error:
                raise unavailable("the delivery cannot be checked now: try again later") from error
            if secret != used:
                verdict, used = judge(source.spec, headers, body, secret, now), secret
            if verdict is not Verdict.WRONG:
                break
        if verdict is Verdict.WRONG:
            raise unproven()
        if verdict is Verdict.STALE:
            told = "the signature is right, but the time that it covers is too far from now: check the clock, or sign again"
            raise Refusal(401, "Stale", told, headers={"WWW-Authenticate": "Kubesaga"})

    # --- what is in it

    async def _take(self, source: Source, headers: Headers, body: bytes, received: float) -> Answer:
        spec = source.spec
        self._rates.take(source.namespace, source.name, spec.rate_limit)
        if len(body) > spec.body_limit:
            raise too_large(f"the body has {len(body):,} bytes, and spec.maxBodyBytes allows {spec.body_limit:,}")
        read = await self._read(source, headers, body)
        if isinstance(read, Challenge):
            return Answer(status=200, body={"challenge": read.text})
        self._series.received.labels(source.namespace, source.name).inc(len(read))
        if len(read) > 1:
            self._rates.take(source.namespace, source.name, spec.rate_limit, len(read) - 1)
        many = spec.type is SourceType.CLOUD_EVENTS
        paths = [f"[{number}]" if many and len(read) > 1 else "" for number in range(len(read))]
        events = [(event, event.text(path), path) for event, path in zip(read, paths, strict=True)]
        _check_ids(read)
        taken = await asyncio.to_thread(self._match, source, events)
        self._tell_faults(source, taken)
        made = await self._make(source, taken, received)
        self._count_events(source, taken)
        return Answer(body={"events": [_told(each, runs) for each, runs in zip(taken, made, strict=True)]})

    async def _read(self, source: Source, headers: Headers, body: bytes) -> Sequence[Event] | Challenge:
        match source.spec.type:
            case SourceType.CLOUD_EVENTS:
                return read_cloudevents(headers, body, signed=source.spec.proof.hmac is not None)
            case SourceType.WEBHOOK:
                return [await asyncio.to_thread(read_webhook, source.name, source.spec, headers, body, self._evaluator)]
            case SourceType.THENA:
                return [read_thena(headers, body)]
            case SourceType.KUBERNETES:
                raise AssertionError("Sources.find gives none")
            case SourceType.SLACK:
                found = read_slack(headers, body)
                if isinstance(found, Challenge):
                    return found
                return [] if found is None else [found]

    def _match(self, source: Source, events: Sequence[tuple[Event, str, str]]) -> Sequence[_Taken]:
        """Hold events, each with its text and its place, against their schemas and the triggers of the namespace.

        Called in a thread: it waits for the evaluator. Raises Refusal.
        """
        for event, _, path in events:
            self._schemas.check(source, event, path)
        workflows = self._sources.workflows(source.namespace)
        return [self._match_one(source, event, text, workflows) for event, text, _ in events]

    def _match_one(self, source: Source, event: Event, text: str, workflows: Sequence[Object]) -> _Taken:
        if not source.spec.takes(event.type):
            return _Taken(event=event, welcome=False)
        causes: list[tuple[Object, Caused]] = []
        faults: list[tuple[str, str]] = []
        filtered: dict[str, int] = {}
        stopped: list[tuple[str, str]] = []
        wire = event.wire()
        for workflow in workflows:
            matches = self._triggers.match(workflow, wire, text, origin_of(source.name, event.source))
            causes += [(workflow, caused) for caused in matches.caused]
            name = workflow["metadata"]["name"]
            faults += [(name, fault) for fault in matches.faults]
            filtered |= {name: matches.filtered} if matches.filtered else {}
            stopped += [(name, trigger) for trigger in matches.stopped]
        return _Taken(event=event, welcome=True, causes=causes, faults=faults, filtered=filtered, stopped=stopped)

    def _tell_faults(self, source: Source, taken: Sequence[_Taken]) -> None:
        for workflow, fault in (each for event in taken for each in event.faults):
            self._series.trigger_faults.labels(source.namespace, workflow).inc()
            where = f"{source.namespace}/{workflow}"
            self._complain(f"a trigger of {where} cannot be held against an event of {source.name}: {fault}")

    # --- what comes of it

    async def _make(self, source: Source, taken: Sequence[_Taken], received: float) -> Sequence[Sequence[Made]]:
        """Make all runs. Raises the first Refusal once no creation is under way any more."""
        room = asyncio.Semaphore(_AT_ONCE)

        async def made_of(each: _Taken, workflow: Object, caused: Caused) -> Made:
            async with room:
                about = provenance_of(source, each.event)
                made = await make(self._maker, workflow["metadata"]["name"], caused, about)
            result = "created" if made.created else "existing"
            self._series.runs.labels(source.namespace, made.workflow, result).inc()
            if made.created:
                self._series.latency.observe(self._clock.monotonic() - received)
            return made

        jobs = [asyncio.create_task(made_of(each, *cause)) for each in taken for cause in each.causes]
        # All of them end before the answer: what a sender is told must not be overtaken by a run that comes later.
        if jobs:
            await asyncio.wait(jobs)
        done = iter([job.result() for job in jobs])
        found = [list(islice(done, len(each.causes))) for each in taken]
        for each, runs in zip(taken, found, strict=True):
            if names := ", ".join(run.name for run in runs if run.created):
                _log.info(
                    "the event %s (%s) of %s made %s", each.event.id, each.event.type, source.name, names,
                    extra={"namespace": source.namespace},
                )  # fmt: skip
        return found

    def _count_events(self, source: Source, taken: Sequence[_Taken]) -> None:
        for each in taken:
            self._series.events.labels(source.namespace, source.name, each.became).inc()
            for workflow, caused in each.causes:
                if not caused.delivers:
                    self._series.triggers.labels(source.namespace, workflow["metadata"]["name"], "matched").inc()
            for name, number in each.filtered.items():
                self._series.triggers.labels(source.namespace, name, "filtered").inc(number)
            for name, _ in each.stopped:
                self._series.triggers.labels(source.namespace, name, "stopped").inc()

    def _count(self, source: Source, status: int, reason: str) -> None:
        self._series.deliveries.labels(source.namespace, source.name, str(status), reason).inc()

    def _complain(self, told: str) -> None:
        """Log what is wrong, the same thing once a minute: strangers must not be able to fill the log."""
        now = self._clock.monotonic()
        if now - self._told.get(told, -_COMPLAINTS) < _COMPLAINTS:
            return
        if len(self._told) >= 100:
            if now - max(self._told.values()) < _COMPLAINTS / 100:
                return
            self._told.clear()
        self._told[told] = now
        _log.warning("%s", told)


def _check_ids(events: Sequence[Event]) -> None:
    """Raise Refusal where a batch has two events under one id: one of them would be lost."""
    seen: dict[tuple[str, str], str] = {}
    for number, event in enumerate(events):
        if seen.setdefault((event.source, event.id), event.digest()) != event.digest():
            told = "is the id of another event of the batch, with another type or other data: an id is for one event"
            raise Refusal(409, "IdReused", told, path=f"[{number}].id")


def _told(taken: _Taken, runs: Sequence[Made]) -> dict[str, Any]:
    shown = [
        {"name": run.name, "workflow": run.workflow, "trigger": run.trigger, "created": run.created}
        | ({"delivers": True} if run.trigger is None else {})
        for run in runs
    ]
    event: dict[str, Any] = {"id": taken.event.id, "type": taken.event.type, "runs": shown}
    if taken.stopped:
        event["stopped"] = [{"workflow": workflow, "trigger": trigger} for workflow, trigger in taken.stopped]
    return event if taken.welcome else {**event, "ignored": "the source takes no events of this type (spec.eventTypes)"}
