# SPDX-License-Identifier: Apache-2.0
"""A WorkflowAction, or an event, as the engine sees it: what somebody wants of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubesaga.api.action import Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One WorkflowAction, or one event of a messenger, for one run that has not been answered yet."""

    uid: str
    """The metadata.uid of the WorkflowAction, or of the messenger; recorded in the run when the command is applied."""
    name: str
    """The name of the WorkflowAction, or of the messenger."""
    verb: Verb
    target_uid: str | None = None
    """The uid of the run that is meant; None: whichever bears the name."""
    activity: str | None = None
    waiters: tuple[str, ...] = ()
    """For an event: the waitFors that it may be for, in the Workflow's order; one of them gets it."""
    value: Any = None
    """What a Signal carries; an event as a whole."""
    by: str | None = None
    problem: str | None = None
    """What is wrong with the WorkflowAction by itself; it is then refused whatever the run does."""
