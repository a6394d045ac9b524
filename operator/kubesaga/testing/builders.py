# SPDX-License-Identifier: Apache-2.0
"""Short ways to write down a snapshot, so that a test is a row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kubesaga.api.deed import ActivityPhase, ActivityStatus
from kubesaga.api.reasons import Reason
from kubesaga.api.run import RunPhase, WorkflowRunSpec, WorkflowRunStatus
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.engine.attempt import AttemptId, Failed, Observation, RunKey, Stage, Succeeded
from kubesaga.engine.compiling import compile_definition
from kubesaga.engine.definition import Definition, Kind
from kubesaga.engine.snapshot import Limits, Run, Snapshot, Unusable, digest_of
from kubesaga.testing.clock import START

UID = "11111111-2222-3333-4444-555555555555"
KEY = RunKey(namespace="shop", name="order-1")
WORKER = "operator-a"


def definition(*activities: Mapping[str, Any] | str, **spec: Any) -> Definition:
    """Return a definition; an activity given by its name alone is a handler. Nothing is retried unless that is said."""
    spec = {"errorHandling": {"activityError": {"retry": {"maxAttempts": 1}}}, **spec}
    full = [{"name": a, "handler": a} if isinstance(a, str) else dict(a) for a in activities]
    return compile_definition("order", WorkflowSpec.model_validate({"activities": full, **spec}))


def pod(name: str, **more: Any) -> dict[str, Any]:
    """Return an activity that is a pod."""
    return {"name": name, "pod": {"image": "busybox:1.35"}, **more}


def running(attempt: int = 1, *, since: datetime = START, worker: str | None = WORKER, **more: Any) -> ActivityStatus:
    """Return the status of an activity that is under way."""
    return ActivityStatus(phase=ActivityPhase.RUNNING, attempt=attempt, start_time=since, worker=worker, **more)


def succeeded(output: Any = None, *, order: int = 1, **more: Any) -> ActivityStatus:
    """Return the status of an activity that went well."""
    return ActivityStatus(
        phase=ActivityPhase.SUCCEEDED, attempt=1, start_time=START, completion_time=START, output=output,
        completion_order=order, **more,
    )  # fmt: skip


def attempt(activity: str, number: int = 1) -> AttemptId:
    """Return the identity of an attempt of the run that `snapshot` makes."""
    return AttemptId(run_uid=UID, activity=activity, number=number)


def is_running() -> Observation:
    """Return what is seen of an attempt at work."""
    return Observation(stage=Stage.RUNNING, held=True)


def waits(reason: Reason, message: str = "because") -> Observation:
    """Return what is seen of an attempt that waits."""
    return Observation(stage=Stage.WAITING, reason=reason, message=message, held=True)


def went_well(output: Any = None) -> Observation:
    """Return what is seen of an attempt that succeeded."""
    return Observation(stage=Stage.ENDED, outcome=Succeeded(output=output), held=True)


def went_wrong(reason: Reason = Reason.HANDLER_FAILED, message: str = "no") -> Observation:
    """Return what is seen of an attempt that failed."""
    return Observation(stage=Stage.ENDED, outcome=Failed(reason=reason, message=message), held=True)


def status(
    activities: Mapping[str, ActivityStatus], phase: RunPhase = RunPhase.RUNNING, **more: Any
) -> WorkflowRunStatus:
    """Return the status of a run that has begun."""
    values = {"id": UID, "start_time": START, "workflow_revision": "order-r1", **more}
    return WorkflowRunStatus(phase=phase, activities=dict(activities), **values)


def snapshot(
    what: Definition | Unusable,
    recorded: WorkflowRunStatus | Mapping[str, ActivityStatus] | None = None,
    observed: Mapping[str, Observation] | None = None,
    *,
    spec: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    **run: Any,
) -> Snapshot:
    """Return a snapshot of one run: what it works from, what is recorded, what is seen of each activity's attempt."""
    run_spec = WorkflowRunSpec.model_validate({"workflowRef": {"name": "order"}, **(spec or {})})
    if not isinstance(recorded, WorkflowRunStatus):
        recorded = WorkflowRunStatus() if recorded is None else status(recorded)
    seen = {attempt(name): observation for name, observation in (observed or {}).items()}
    steps = what.steps if isinstance(what, Definition) else {}
    return Snapshot(
        run=Run(
            key=KEY, uid=UID, version="7", generation=1, created=START, spec=run_spec, status=recorded,
            spec_digest=digest_of(run_spec), **run,
        ),
        definition=what,
        revision="order-r1",
        observed=seen,
        holders={key: steps[key.activity].kind if key.activity in steps else Kind.POD for key in seen},
        worker=WORKER,
        limits=limits or Limits(),
    )  # fmt: skip
