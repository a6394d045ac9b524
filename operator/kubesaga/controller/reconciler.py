# SPDX-License-Identifier: Apache-2.0
"""The order of operations of one pass, and nothing else: load, decide, write down, announce, act.

The crash argument stands in `engine.reconcile`. What matters here: one status write, compared and swapped on the version
that was read; deeds only after it; a conflict drops the pass.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import datetime

from kubesaga.controller.actuator import Actuator
from kubesaga.controller.announcer import Announcer
from kubesaga.controller.clock import Clock
from kubesaga.controller.loader import Loaded, Loader
from kubesaga.controller.marks import begun_labels
from kubesaga.controller.records import Conflict, Records
from kubesaga.engine.admission.ledger import Ledger
from kubesaga.engine.admission.standing import standing_of
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.decision import Decision, Tidy
from kubesaga.engine.definition import Definition
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.reconcile import reconcile
from kubesaga.engine.snapshot import Run, Snapshot
from kubesaga.telemetry.logs import ABOUT

_log = logging.getLogger("kubesaga.state_manager")


class Reconciler:
    """Takes one run one step further."""

    def __init__(
        self,
        loader: Loader,
        records: Records,
        actuator: Actuator,
        announcer: Announcer,
        *,
        evaluator: Evaluator,
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        self._loader = loader
        self._records = records
        self._actuator = actuator
        self._announcer = announcer
        self._evaluator = evaluator
        self._ledger = ledger
        self._clock = clock

    async def process(self, key: RunKey) -> datetime | None:
        """Make one pass over a run; return when to look at it again even if nothing happens."""
        began = self._clock.monotonic()
        about = ABOUT.set({"run": key.name, "namespace": key.namespace})
        try:
            return await self._process(key)
        except Conflict:
            # It may have conflicted with a write of our own whose answer was lost: what the pass was granted stays granted
            # until the run has been read again.
            _log.debug("%s changed while it was being looked at; it is looked at again", key)
            return self._clock.now()
        except Exception:
            self._ledger.fail(key, self._clock.now())
            raise
        finally:
            self._loader.release(key)
            ABOUT.reset(about)
            self._announcer.passed(self._clock.monotonic() - began)

    async def _process(self, key: RunKey, *, confirmed: bool = False) -> datetime | None:
        loaded = await self._loader.load(key, confirmed=confirmed)
        if loaded is None:
            self._ledger.drop(key, self._clock.now())
            await self._actuator.abandon(key, keep=None)
            await self._actuator.refuse_actions(key)
            return None
        run = loaded.snapshot.run
        await self._actuator.abandon(key, keep=run.uid)
        decision = await self._admit_and_decide(loaded.snapshot)
        run = await self._write_down(run, loaded, decision)
        self._book(run, decision)
        if _acts(decision) and not (confirmed or self._records.is_confirmed(run)):
            # Nothing was written, so nothing has proved that this copy is the present: an attempt that it shows under way
            # may have ended long ago, one that it does not know of may be at work. Look again, at the record itself.
            return await self._process(key, confirmed=True)
        self._announcer.announce(run, decision, loaded.snapshot)
        await self._actuator.perform(run, [effect for effect in decision.effects if not isinstance(effect, Tidy)])
        if any(isinstance(effect, Tidy) for effect in decision.effects):
            await self._records.tidy(run)
        return decision.wake_at

    async def _admit_and_decide(self, snapshot: Snapshot) -> Decision:
        """Decide; where that takes slots, ask for them and decide anew with the answers. Nothing is written in between."""
        now, definition = self._clock.now(), snapshot.definition
        standing = standing_of(snapshot.run, snapshot.source)
        if standing is not None and isinstance(definition, Definition):
            admission = self._ledger.begin(standing, definition.spec.concurrency, now)
            snapshot = replace(snapshot, admission=admission)
        while True:
            decision = await self._decide(snapshot, now)
            if decision.summons is not None:
                found = await self._loader.listeners(snapshot.run, decision.summons)
                snapshot = replace(snapshot, listeners=found)
            elif decision.wants and standing is not None:
                answers = {**snapshot.admission.answers, **self._ledger.ask(standing, decision.wants, now)}
                snapshot = replace(snapshot, admission=replace(snapshot.admission, answers=answers))
            else:
                return decision

    async def _decide(self, snapshot: Snapshot, now: datetime) -> Decision:
        """Evaluating an expression waits for another process: then the pass is made in a thread, so that nobody else waits."""
        definition = snapshot.definition
        if snapshot.listeners or (isinstance(definition, Definition) and definition.has_expressions):
            return await asyncio.to_thread(reconcile, snapshot, now, self._evaluator)
        return reconcile(snapshot, now, self._evaluator)

    def _book(self, run: Run, decision: Decision) -> None:
        """Take in, in memory, what has been written down: who holds what now, and how calls have ended."""
        now, standing = self._clock.now(), standing_of(run)
        for call in decision.calls:
            self._ledger.passage.ended(call)
        for rejection in decision.rejections:
            self._ledger.passage.rejected(rejection)
        if standing is None:
            self._ledger.drop(run.key, now)
        else:
            self._ledger.put(standing, now)
            self._ledger.settle(run.uid, now)

    async def _write_down(self, run: Run, loaded: Loaded, decision: Decision) -> Run:
        """Claim a run that goes on with deeds of its own, and write its status if it changed. Returns the run at its new version and status."""
        self._ledger.writing(run.key)
        if not (_is_claimed(run, decision) or run.deleting or decision.status.finished or run.spec.deliver):
            labels = begun_labels(replace(run, status=decision.status))
            run = replace(run, version=await self._records.claim(run, labels), claimed=True)
        status = decision.status.wire()
        if status != loaded.status:
            run = replace(run, version=await self._records.write_status(run, loaded.status, status))
        return replace(run, status=decision.status)


def _is_claimed(run: Run, decision: Decision) -> bool:
    """Tell whether a run bears our finalizer, and the label that keeps the revision which its status is about to name."""
    revision = decision.status.workflow_revision
    return run.claimed and (revision is None or run.marked_revision == revision)


def _acts(decision: Decision) -> bool:
    """Tell whether there are deeds whose only guard is the status; Tidy is a compare-and-swap of its own."""
    return any(not isinstance(effect, Tidy) for effect in decision.effects)
