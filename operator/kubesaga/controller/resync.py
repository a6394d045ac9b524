# SPDX-License-Identifier: Apache-2.0
"""Holds the memory of live runs against a listing, now and then: repairs what the watch has missed, and tells of it.

Kopf reports no deletion that happened while its watch was broken, and a watch can stay open and be silent
(invariant I8, faults F11, F13, F14). A watch that misses things in two looks in a row does not live.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from kubesaga.controller.clock import Clock
from kubesaga.controller.kube_records import LIVE, KubeRecords
from kubesaga.engine.attempt import RunKey
from kubesaga.kube.client import KubeClient, Selection
from kubesaga.kube.errors import ApiError
from kubesaga.kube.resources import WORKFLOW_RUNS

_log = logging.getLogger("kubesaga.workflow_engine")


class Resync:
    """Compares and repairs every `interval` seconds."""

    def __init__(
        self,
        client: KubeClient,
        records: KubeRecords,
        *,
        namespaces: Sequence[str],
        add: Callable[[RunKey], None],
        missed: Callable[[int], None],
        clock: Clock,
        interval: float,
    ) -> None:
        self._client = client
        self._records = records
        self._namespaces: Sequence[str | None] = namespaces or (None,)
        self._add = add
        self._missed = missed
        self._clock = clock
        self._interval = interval
        self._behind: dict[RunKey, int] = {}
        self._bad_looks = 0

    @property
    def healthy(self) -> bool:
        """False when the watch missed changes in two looks in a row."""
        return self._bad_looks < 2

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self._clock.sleep(self._interval)
            try:
                await self.look()
            except ApiError as error:
                _log.warning("the live runs cannot be listed for comparison: %s", error)

    async def look(self) -> None:
        """Compare once. A difference counts as missed only if it was there a whole interval ago already."""
        there: dict[RunKey, int] = {}
        for namespace in self._namespaces:
            selection = Selection(namespace=namespace, labels=LIVE)
            listing = await self._client.list(WORKFLOW_RUNS, selection, metadata_only=True)
            for item in listing.items:
                metadata = item["metadata"]
                there[RunKey(namespace=metadata["namespace"], name=metadata["name"])] = int(metadata["resourceVersion"])
        known = self._records.versions()
        behind = {key: version for key, version in there.items() if known.get(key, -1) < version}
        behind |= {key: -1 for key in known if key not in there}
        missed = [key for key, version in behind.items() if self._behind.get(key) == version]
        for key in missed:
            self._records.doubt(key)
            self._add(key)
        if missed:
            _log.warning(
                "the watch has not told of %d changes, %s among them; they are read now", len(missed), missed[0]
            )
            self._missed(len(missed))
        self._behind = behind
        self._bad_looks = self._bad_looks + 1 if missed else 0
