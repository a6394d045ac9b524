# SPDX-License-Identifier: Apache-2.0
"""All that `reconcile` may look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from kubesaga.api.names import digest
from kubesaga.api.reasons import Reason
from kubesaga.api.run import TriggerStatus, WorkflowRunSpec, WorkflowRunStatus
from kubesaga.engine.attempt import AttemptId, Observation, RunKey
from kubesaga.engine.command import Command
from kubesaga.engine.definition import Definition, Kind
from kubesaga.engine.slots import Admission


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """There is nothing to run: the Workflow is missing or not valid, or the run's own spec is not."""

    reason: Reason
    message: str


NO_DEFINITION: Final = Unusable(reason=Reason.DELIVERED, message="a messenger works from no Workflow")
"""What a run has that starts nothing (`spec.deliver`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The settings that decisions depend on."""

    stop_timeout: timedelta = timedelta(seconds=120)
    """How long an attempt that was told to stop may take before the run goes on without it."""
    pod_start_timeout: timedelta = timedelta(seconds=300)
    """How long a pod may wait before its attempt fails with the reason it waits for."""
    max_interruptions: int = 3
    """How often an in-process attempt is started again after the operator died during it."""
    max_run_bytes: int = 921_600
    """Largest size of all outputs, inputs and variables of a run together, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A WorkflowRun as it was read: identity, what is asked of it, what is recorded."""

    key: RunKey
    uid: str
    version: str
    """metadata.resourceVersion, compared and swapped by the status write."""
    generation: int
    created: datetime
    spec: WorkflowRunSpec
    status: WorkflowRunStatus
    spec_digest: str
    """Digest of the part of the spec that must not change (`digest_of`)."""
    deleting: bool = False
    claimed: bool = False
    """It bears our finalizer."""
    finalizers: tuple[str, ...] = ()
    """Those of others, which every write of ours must keep."""
    trigger: TriggerStatus | None = None
    """What a trigger made it of, by the marks that it bears."""
    marked_revision: str = ""
    """The label that names the revision it works from."""
    marked_finished: bool = False
    """It bears the label that takes finished runs out of the watch."""

    @property
    def workflow(self) -> str:
        """The name of the Workflow that it is a run of; "" for one with a spec of its own."""
        if self.spec.workflow_ref is not None:
            return self.spec.workflow_ref.name
        return self.status.replay.workflow if self.status.replay is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A finished run that another one replays."""

    name: str
    uid: str
    workflow: str
    """Name of its Workflow; "" for one with a spec of its own."""
    event: str | None
    status: WorkflowRunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A live run that may wait for an event, as far as that does not change while it lives."""

    key: RunKey
    uid: str
    created: datetime
    definition: Definition
    inputs: Mapping[str, Any]
    """With defaults filled in."""
    event: str | None
    """The event that made it, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a run has said to an event."""

    applied: bool
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One run with all that bears on it, read at one moment."""

    run: Run
    definition: Definition | Unusable
    """What the run works from: the pinned revision of a started run, else the Workflow as it is now."""
    revision: str | None = None
    """The name of that revision."""
    observed: Mapping[AttemptId, Observation] = field(default_factory=dict)
    holders: Mapping[AttemptId, Kind] = field(default_factory=dict)
    """Which kind of executor observes each attempt of `observed`."""
    source: Source | None = None
    """The run that a run which has not begun is to replay."""
    commands: tuple[Command, ...] = ()
    """The WorkflowActions, and events of messengers, that wait for an answer, oldest first."""
    listeners: tuple[Listener, ...] | None = None
    """The live runs that its event may be for; None: nobody has looked (`Decision.summons`)."""
    replies: Mapping[str, Reply] = field(default_factory=dict)
    """What those that it was offered to have said, by their uid."""
    namespace_ending: bool = False
    """The run is being deleted and so is its namespace: nothing new can start there."""
    admission: Admission = field(default_factory=Admission)
    """What the ledger says: which limits there are, and who may start."""
    worker: str = ""
    """This operator process; in-process attempts of another one are over."""
    limits: Limits = field(default_factory=Limits)

    def with_status(self, status: WorkflowRunStatus) -> Snapshot:
        """Return the snapshot of the same run with another status."""
        return replace(self, run=replace(self.run, status=status))


def digest_of(spec: WorkflowRunSpec) -> str:
    """Return a digest of the part of a run's spec that must not change."""
    fixed = spec.model_dump(mode="json", include={"workflow_ref", "workflow_spec", "inputs", "event"})
    if spec.deliver:
        fixed["deliver"] = True
    if spec.replay_of is not None:
        fixed["replay_of"] = spec.replay_of.model_dump(mode="json")
    return digest(json.dumps(fixed, sort_keys=True), length=16)
