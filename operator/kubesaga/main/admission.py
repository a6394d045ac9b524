# SPDX-License-Identifier: Apache-2.0
"""Who may start: the ledger, the guards, the limits as they are now, and what is there at the beginning, tied together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from kubesaga.controller.guards.all import Guards
from kubesaga.controller.inventory import Inventory
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.live_limits import LiveLimits
from kubesaga.engine.admission.ledger import Ledger
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.guarding import GuardKey
from kubesaga.kube.client import KubeClient
from kubesaga.kube.events import EventPoster
from kubesaga.main.execution import Base
from kubesaga.main.process import operator_limits_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What decides together who may start."""

    ledger: Ledger
    guards: Guards
    limits: LiveLimits
    inventory: Inventory


def make_admission(
    base: Base, client: KubeClient, records: KubeRecords, poster: EventPoster, wake: Callable[[RunKey], None]
) -> Admission:
    """Return it. `wake` has a run looked at."""
    settings, clock = base.settings, base.clock
    changed: set[GuardKey] = set()

    def note(guard: GuardKey) -> None:
        # It may be in the middle of an answer to the ledger, which must not be asked by its own answer.
        if not changed:
            asyncio.get_running_loop().call_soon(tell)
        changed.add(guard)

    def tell() -> None:
        news = sorted(changed)
        changed.clear()
        for guard in news:
            ledger.guard_changed(guard, clock.now())

    guards = Guards(client, clock, on_change=note, post=poster.post, metrics=base.metrics)
    ledger = Ledger(operator_limits_of(settings), guards, wake)
    limits = LiveLimits(ledger, guards, clock)
    inventory = Inventory(
        client, records, ledger, limits, namespaces=settings.namespaces, catalogue=settings.catalogue_namespace,
        clock=clock,
    )  # fmt: skip
    return Admission(ledger=ledger, guards=guards, limits=limits, inventory=inventory)
