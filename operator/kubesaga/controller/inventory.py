# SPDX-License-Identifier: Apache-2.0
"""What is there when this process begins to lead: every limit, and every live run, before anybody is let in anywhere.

The watches tell of all that too, but not when they have told everything. Limits hold only where all holders are known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kubesaga.controller.clock import Clock
from kubesaga.controller.kube_records import LIVE, KubeRecords
from kubesaga.controller.live_limits import LiveLimits
from kubesaga.controller.loader import run_of
from kubesaga.engine.admission.ledger import Ledger
from kubesaga.engine.admission.standing import Standing, standing_of
from kubesaga.engine.attempt import RunKey
from kubesaga.errors import KubesagaError
from kubesaga.kube.client import KubeClient, Selection
from kubesaga.kube.errors import ApiError
from kubesaga.kube.resources import ACTIVITIES, WORKFLOW_RUNS, WORKFLOWS

_log = logging.getLogger("kubesaga.workflow_engine")

_LONGEST_PAUSE = 30.0
"""Longest time, in seconds, between two tries of a listing."""


class Inventory:
    """Lists once."""

    def __init__(
        self,
        client: KubeClient,
        records: KubeRecords,
        ledger: Ledger,
        limits: LiveLimits,
        *,
        namespaces: Sequence[str],
        catalogue: str,
        clock: Clock,
    ) -> None:
        """`catalogue`: a namespace whose Activities are used too; "" for none."""
        self._client = client
        self._records = records
        self._ledger = ledger
        self._limits = limits
        self._catalogue = catalogue
        self._namespaces: Sequence[str | None] = namespaces or (None,)
        self._clock = clock

    async def take(self, add: Callable[[RunKey], None]) -> int:
        """Take in all limits and live runs; have each run looked at (`add`). Returns how many runs there are.

        What cannot be listed now is tried again until it can be: nothing begins before that.
        """
        failures = 0
        while True:
            try:
                return await self._take(add)
            except ApiError as error:
                pause = error.retry_after or min(2.0**failures, _LONGEST_PAUSE)
                failures += 1
                _log.warning(
                    "nothing begins before the live runs are listed; the next try is in %g s: %s", pause, error
                )
                await self._clock.sleep(pause)

    async def _take(self, add: Callable[[RunKey], None]) -> int:
        for namespace in self._namespaces:
            for body in (await self._client.list(WORKFLOWS, Selection(namespace=namespace))).items:
                self._limits.workflow(body)
        beside = [self._catalogue] if self._catalogue and None not in self._namespaces else []
        for namespace in dict.fromkeys((*self._namespaces, *beside)):
            for body in (await self._client.list(ACTIVITIES, Selection(namespace=namespace))).items:
                self._limits.activity(body)
        count = 0
        standings: list[Standing] = []
        for namespace in self._namespaces:
            # From etcd, not from the server's cache: the last write of whoever led before must be in it.
            async for page in self._client.pages(WORKFLOW_RUNS, Selection(namespace=namespace, labels=LIVE)):
                for body in page.items:
                    if (standing := self._take_run(body, add)) is not None:
                        standings.append(standing)
                count += len(page.items)
        # At once: whoever holds a slot may come after one who waits for it.
        self._ledger.restore(standings, self._clock.now())
        return count

    def _take_run(self, body: dict[str, Any], add: Callable[[RunKey], None]) -> Standing | None:
        key = key_of(body["metadata"])
        self._records.saw(key, body)
        add(key)
        try:
            return standing_of(run_of(key, body)[0])
        except (ValueError, KubesagaError) as error:
            _log.error("the status of WorkflowRun %s cannot be read, so nobody knows what it holds: %s", key, error)
            return None


def key_of(metadata: Mapping[str, Any]) -> RunKey:
    """Return where an object is found."""
    return RunKey(namespace=metadata["namespace"], name=metadata["name"])
