# SPDX-License-Identifier: Apache-2.0
"""Where runs are recorded, as the reconciler needs it: read the newest copy, compare and swap the status, mark."""

from __future__ import annotations

from typing import Any, Protocol

from kubesaga.engine.attempt import RunKey
from kubesaga.engine.snapshot import Run

Body = dict[str, Any]
"""A WorkflowRun as it is on the wire."""


class Conflict(Exception):
    """The run is no longer the version that the pass was based on: the pass is dropped and the key queued again."""


class Records(Protocol):
    """The record of runs. Reads never return a copy older than the last write made through it (design law 5)."""

    async def read(self, key: RunKey, *, confirmed: bool = False) -> Body | None:
        """Return the newest copy, None if there is no such run.

        `confirmed`: from the record itself, unless the copy at hand came from there: a watch may tell of the past.
        """

    def is_confirmed(self, run: Run) -> bool:
        """Tell whether this version came from the record itself: by a read of it, or as the answer to our own write."""

    async def write_status(self, run: Run, old: Body, new: Body) -> str:
        """Replace the status; return the new version. Raises Conflict."""

    async def claim(self, run: Run, labels: dict[str, str]) -> str:
        """Put our finalizer and labels on a run; return the new version. Raises Conflict."""

    async def tidy(self, run: Run) -> None:
        """Take our finalizer off and mark the run finished. A run that is gone is no error. Raises Conflict."""
