# SPDX-License-Identifier: Apache-2.0
"""A WorkflowAction as the engine sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubesaga.api.action import Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One WorkflowAction for one run that has not been answered yet."""

    uid: str
    """The WorkflowAction's metadata.uid; recorded in the run when the command is applied."""
    name: str
    """The WorkflowAction's name."""
    verb: Verb
    target_uid: str | None = None
    """The uid of the run that is meant; None: whichever bears the name."""
    activity: str | None = None
    value: Any = None
    """What a Signal carries."""
    by: str | None = None
    problem: str | None = None
    """What is wrong with the WorkflowAction by itself; it is then refused whatever the run does."""
