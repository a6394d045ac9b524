# SPDX-License-Identifier: Apache-2.0
"""A world in which nobody can create a WorkflowAction."""

from __future__ import annotations

from kubesaga.engine.attempt import RunKey
from kubesaga.engine.command import Command


class NoActions:
    """No WorkflowActions (see `controller.actions.Actions`)."""

    def of_run(self, run: RunKey, uid: str | None) -> tuple[Command, ...]:  # noqa: ARG002 - see Actions
        """Return nothing."""
        return ()

    async def answer(self, command: Command, run: RunKey, *, applied: bool, message: str) -> None:  # noqa: ARG002 - see Actions
        """Raise LookupError: whoever has a command does not have it from here."""
        raise LookupError(f"there is no WorkflowAction {command.name!r} for {run}")
