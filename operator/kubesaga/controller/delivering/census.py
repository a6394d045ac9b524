# SPDX-License-Identifier: Apache-2.0
"""Which runs are live, at a moment that is not before a given one: for an event, that no run which was there may miss.

The watch tells of runs one by one, and of each when it comes to it: that a run is not in memory says nothing. So the API
server is asked, from its cache, for the names alone; and once for all events that come while it answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kubesaga.controller.kube_records import LIVE
from kubesaga.controller.reading import FreshReads
from kubesaga.engine.attempt import RunKey
from kubesaga.kube.client import KubeClient, Selection
from kubesaga.kube.resources import WORKFLOW_RUNS

_KEPT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    version: int
    runs: dict[RunKey, str]


class Census:
    """Lists the live runs of namespaces."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._known: dict[str, _Listed] = {}
        self._wanted: dict[str, int] = {}
        self._reads = FreshReads[str, _Listed](self._list)

    async def of(self, namespace: str, version: str) -> dict[RunKey, str]:
        """Return the uids of the runs that were live when something had this version, by key; some may be over by now."""
        wanted = int(version)
        known = self._known.get(namespace)
        while known is None or known.version < wanted:
            self._wanted[namespace] = max(wanted, self._wanted.get(namespace, 0))
            known = await self._reads.read(namespace)
        return known.runs

    async def _list(self, namespace: str) -> _Listed:
        wanted = self._wanted.pop(namespace)
        # Without a limit the server answers from its cache, once that is as new as the version.
        listing = await self._client.list(
            WORKFLOW_RUNS, Selection(namespace=namespace, labels=LIVE), resource_version=str(wanted), limit=0,
            metadata_only=True,
        )  # fmt: skip
        runs = {
            RunKey(namespace=namespace, name=item["metadata"]["name"]): str(item["metadata"]["uid"])
            for item in listing.items
        }
        self._known.pop(namespace, None)
        self._known[namespace] = _Listed(version=max(wanted, int(listing.resource_version)), runs=runs)
        while len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
        return self._known[namespace]
