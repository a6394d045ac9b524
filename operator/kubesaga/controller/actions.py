# SPDX-License-Identifier: Apache-2.0
"""WorkflowActions as a pass needs them: those that wait, by the run that is meant, and a way to answer them."""

from __future__ import annotations

from typing import Protocol

from kubesaga.engine.attempt import RunKey
from kubesaga.engine.command import Command
from kubesaga.engine.decision import Answer
from kubesaga.engine.guarding import GuardOwner


class Actions(Protocol):
    """The WorkflowActions."""

    def of_run(self, run: RunKey, uid: str | None) -> tuple[Command, ...]:
        """Return what waits for an answer under this run's name, oldest first.

        What means a run with another uid than this one has that as its `problem`. `uid` None: there is no such run.
        """

    async def answer(self, command: Command, run: RunKey, *, applied: bool, message: str) -> None:
        """Write the answer to a command of `of_run`. Repeating it is harmless: the first answer stays.

        One that was deleted meanwhile needs none.
        """


class Breakers(Protocol):
    """Who applies a ResetBreaker: `guards.Guards`."""

    async def obey(self, owner: GuardOwner, command: Command) -> Answer:
        """Apply a ResetBreaker, once however often it is repeated. Raises ApiError when that is not known."""
