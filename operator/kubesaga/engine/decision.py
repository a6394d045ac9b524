# SPDX-License-Identifier: Apache-2.0
"""What a pass decided: one next status, then deeds that may be repeated, then what to announce, then when to look again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kubesaga.api.reasons import Reason
from kubesaga.api.run import RecipientStatus, WorkflowRunStatus
from kubesaga.engine.attempt import Attempt, AttemptId, RunKey
from kubesaga.engine.command import Command
from kubesaga.engine.definition import Kind
from kubesaga.engine.guarding import GuardKey
from kubesaga.engine.slots import AskedFor, Want


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Carry out an attempt that the status already records as running. Repeating it starts nothing twice."""

    attempt: Attempt
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Make an attempt end. Repeating it is harmless, and so is stopping what is not there."""

    attempt: AttemptId
    kind: Kind
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Let go of what was held until the outcome was recorded: a pod's finalizer, a result kept in memory."""

    attempt: AttemptId
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidy:
    """Take our finalizer off a finished run and mark it finished, in one write. The last deed of every run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Give an event to live runs. The status names them by then; to repeat it gives nobody an event twice."""

    command: Command
    """What each of them is to do; `waiters` and `target_uid` are each one's own."""
    recipients: tuple[RecipientStatus, ...]
    """Those that have not answered; empty: whoever was asked need not answer any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summons:
    """The live runs that an event may be for: this decision is not one yet, the pass is made again with them."""

    only: RunKey | None = None
    """One run; None: all live runs of the Workflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Tell a WorkflowAction, or a messenger, what became of it. What is applied is recorded in the run's status by then."""

    command: Command
    applied: bool
    message: str


Effect = Start | Stop | Release | Tidy | Offer | Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that people and machines should hear of, once the status is safe: an Event, a log line, a metric."""

    reason: Reason | str
    message: str
    warning: bool = False
    activity: str = ""
    event: bool = False
    """Worth a Kubernetes Event (each costs a write); every note is a log line and counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedCall:
    """An attempt behind a guard has ended, in a way that says something of what it called."""

    guard: GuardKey
    succeeded: bool
    began: datetime
    ended: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """An attempt was turned away at its guard."""

    guard: GuardKey
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The result of one pass over one run."""

    status: WorkflowRunStatus
    effects: tuple[Effect, ...] = ()
    notes: tuple[Note, ...] = ()
    wake_at: datetime | None = None
    """When to look again though nothing happens: the earliest deadline."""
    wants: Mapping[AskedFor, Want] = field(default_factory=dict)
    """Slots that were not answered for: this decision is not one yet, the pass is made again with the answers."""
    summons: Summons | None = None
    """As `wants`: what is to be looked up before there is a decision."""
    calls: tuple[EndedCall, ...] = ()
    """What the circuit breakers are to hear of, once the status is safe."""
    rejections: tuple[Rejection, ...] = ()
    """What is to be counted then."""
