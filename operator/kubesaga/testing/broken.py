# SPDX-License-Identifier: Apache-2.0
"""Operators that break a law on purpose: what does not notice them checks nothing."""

from __future__ import annotations

from typing import Any

from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.loader import Loaded
from kubesaga.controller.reconciler import Reconciler
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.decision import Decision, Release
from kubesaga.engine.snapshot import Run


class Broken:
    """Ways to break a law on purpose, so that the checks are seen to fail."""

    EARLY = "act before writing"
    STALE = "act on stale copies"
    RELEASE = "release before recording"
    NAMELESS = "forget the attempt's name"


class StaleRecords(KubeRecords):
    """Breaks law 5: believes whatever the watch tells last."""

    def saw(self, key: RunKey, body: dict[str, Any]) -> bool:
        self._bodies[key] = body
        self._suspect.discard(key)
        return True

    def is_confirmed(self, run: Run) -> bool:  # noqa: ARG002 - it believes everything
        return True


class EarlyReconciler(Reconciler):
    """Breaks law 1: acts, then writes."""

    async def _write_down(self, run: Run, loaded: Loaded, decision: Decision) -> Run:
        await self._actuator.perform(run, decision.effects)
        return await super()._write_down(run, loaded, decision)


class ReleasingReconciler(Reconciler):
    """Breaks law 5: lets go of pods before their outcome is in the status."""

    async def _write_down(self, run: Run, loaded: Loaded, decision: Decision) -> Run:
        early = [effect for effect in decision.effects if isinstance(effect, Release)]
        await self._actuator.perform(run, early)
        return await super()._write_down(run, loaded, decision)
