# SPDX-License-Identifier: Apache-2.0
"""One try of one activity: its identity, what it is given, what is observed of it, how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from kubesaga.api.names import Deed, idempotency_key, pod_name
from kubesaga.api.reasons import Reason
from kubesaga.api.work import Resources, Work


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RunKey:
    """Where a run is found."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptId:
    """Which try of which activity of which run; the uid keeps a new run of an old name apart."""

    run_uid: str
    activity: str
    number: int
    deed: Deed = Deed.DO

    def pod_name(self, run: str) -> str:
        """Return the name of the one pod that this attempt can have; `run` is the run's name."""
        return pod_name(run, self.run_uid, self.activity, self.number, self.deed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """All that an executor needs to carry out one try. Made from the status alone, so that a repeated start is the same."""

    id: AttemptId
    run: RunKey
    workflow: str
    """Name of the Workflow, "" for a run with its own spec."""
    activity: Work
    """What is to be done."""
    input: Any
    """Params of a pod or handler; method, url, headers, body of an http request."""
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Resources | None = None
    service_account: str | None = None
    deadline: datetime | None = None
    """When the engine will stop the attempt; executors may end it themselves by then."""

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of one deed."""
        return idempotency_key(self.id.run_uid, self.id.activity, self.id.deed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The attempt did what it should; `output` is a JSON value (an object, or None for no output)."""

    output: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The attempt ended without success. A value, never an exception (design law 7)."""

    reason: Reason
    message: str = ""
    retryable: bool = True
    output: Any = None
    retry_after: float | None = None
    """Seconds that the other side asked to wait before another attempt."""
    in_doubt: bool = False
    """It may have had its effect all the same: it was cut off, or no answer came to what was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """The attempt is over and nobody knows how it ended; its effect may have happened."""

    message: str = ""


Outcome = Succeeded | Failed | Unknown


class Stage(StrEnum):
    """How far an attempt is, as its executor sees it."""

    WAITING = "Waiting"
    """Begun but not doing its work yet: a pod that pulls its image or has no node."""
    RUNNING = "Running"
    ENDED = "Ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What an executor says of an attempt now. No observation: the executor knows nothing of it."""

    stage: Stage
    outcome: Outcome | None = None
    """Present exactly when the stage is ENDED."""
    reason: Reason | None = None
    """Why it waits."""
    message: str = ""
    pod_name: str | None = None
    begun: bool = True
    """False: there is nothing of it yet, because something outside does not allow it now. Starting is to be tried again."""
    held: bool = False
    """True while the executor holds something for this attempt that `release` will let go: a pod's finalizer, a kept result."""
