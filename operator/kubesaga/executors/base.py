# SPDX-License-Identifier: Apache-2.0
"""What every executor can do. The reconciler knows executors only by this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from kubesaga.engine.attempt import Attempt, AttemptId, Observation, RunKey

Wake = Callable[[RunKey], None]
"""Called, from the event loop's thread, when something about an attempt of that run has changed."""


class Executor(Protocol):
    """Carries out attempts of one kind.

    All four are idempotent by the attempt's identity; what is not there is no error for `stop` and `release`.
    An exception means that nothing is known of the deed's outcome: the pass is repeated and does the same again.
    A start that can never succeed is no exception: the attempt is then observed as ENDED with a Failed outcome.
    """

    async def start(self, attempt: Attempt) -> None:
        """Begin the attempt unless it has begun. Returns at once; the end is told by `wake` and seen by `observe`."""

    def observe(self, run: RunKey, run_uid: str) -> Mapping[AttemptId, Observation]:
        """Return what is known now of the attempts of a run, from memory: no I/O."""

    async def stop(self, attempt: AttemptId, run: RunKey, reason: str) -> None:
        """Make the attempt end soon. Its end is observed as any other."""

    async def release(self, attempt: AttemptId, run: RunKey) -> None:
        """Let go of what was held until the outcome was recorded. The attempt need not be observed any more."""

    def runs_at(self, run: RunKey) -> set[str]:
        """Return the uids of the runs of that name that have attempts here, also of runs that are gone."""
