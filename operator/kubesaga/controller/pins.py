# SPDX-License-Identifier: Apache-2.0
"""Which revisions somebody relies on before any record says so: what keeps them from being collected at that moment.

A pass over a new run makes sure of its revision, and only then writes on the run that it works from it. A collector that
lists runs in between does not see it. So a pin is set before the revision is made sure of and stays until the pass is
over. And what was pinned at any time since the look before the last began counts as pinned, although that pass may be
over and its run finished and gone from memory: the API server lists from a cache, which may be a moment behind.
"""

from __future__ import annotations

from kubesaga.engine.attempt import RunKey

_Revision = tuple[str, str]
"""Namespace and name."""


class Pins:
    """Set and taken off by passes, at most one for each run; asked by the collector. Exact, because all share one thread."""

    def __init__(self) -> None:
        self._now: dict[RunKey, _Revision] = {}
        self._before: set[_Revision] = set()
        self._since: set[_Revision] = set()

    def pin(self, namespace: str, revision: str, run: RunKey | None = None) -> None:
        """Keep a revision for a while, or until `release` if it is for a run."""
        self._since.add((namespace, revision))
        if run is not None:
            self._now[run] = (namespace, revision)

    def release(self, run: RunKey) -> None:
        """The pass over a run is over: what it relies on is written down, or it relies on nothing."""
        self._now.pop(run, None)

    def begin(self) -> None:
        """A collector is about to list what is in use."""
        self._before, self._since = self._since, set(self._now.values())

    def holds(self, namespace: str, revision: str) -> bool:
        """Tell whether somebody relies on a revision, or has lately."""
        return (namespace, revision) in self._since or (namespace, revision) in self._before
