# SPDX-License-Identifier: Apache-2.0
"""Second step of a pass: turn where something calls for it, then start what may start."""

from __future__ import annotations

import json
from typing import Any

from kubesaga.api.names import activity_id, pod_name
from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.api.run import ActivityPhase
from kubesaga.engine.definition import Kind, Step, rendered_env
from kubesaga.engine.draft import Draft
from kubesaga.engine.expressions import ExpressionError, condition, render
from kubesaga.engine.retrying import cancel_waiting, give_up, start_due
from kubesaga.engine.scope import scope_of


def turn(draft: Draft) -> None:
    """Give the orders to stop that shutdown, deletion and deadlines call for, and write down why the run fails."""
    if draft.ending is not None:
        draft.reason, draft.message = draft.ending, REASON_TEXT[draft.ending]
        _stop_all(draft, list(draft.definition.steps.values()), draft.ending, "the run is being stopped")
        return
    if draft.deadline is not None and draft.now >= draft.deadline and not main_is_over(draft):
        told = f"the run took longer than {draft.definition.spec.timeout}"
        draft.fail_run(Reason.DEADLINE_EXCEEDED, told)
        _stop_all(draft, draft.definition.main, Reason.DEADLINE_EXCEEDED, told)
    if draft.reason is not None:
        give_up(draft, draft.definition.main)
    if draft.finally_deadline is not None and draft.now >= draft.finally_deadline:
        told = f"finally took longer than {draft.definition.spec.timeout}"
        _stop_all(draft, draft.definition.final, Reason.DEADLINE_EXCEEDED, told)


def _stop_all(draft: Draft, steps: list[Step], reason: Reason, message: str) -> None:
    cancel_waiting(draft, steps, reason, message)
    for step in draft.running(steps):
        draft.order_to_stop(step.name, ActivityPhase.CANCELLED, reason, message)


def advance(draft: Draft) -> None:
    """Start every activity that may start now; a skipped one lets its dependents start in the same pass."""
    if draft.ending is not None or draft.run.spec.suspend:
        return
    start_due(draft)
    while draft.reason is None and (ready := _ready(draft)):
        for step in ready:
            if draft.reason is None:
                _begin(draft, step)
    if main_is_over(draft):
        _advance_finally(draft)


def _ready(draft: Draft) -> list[Step]:
    return [
        step
        for step in draft.definition.main
        if draft.of(step.name).phase is ActivityPhase.PENDING
        and all(draft.of(need).phase.satisfies for need in step.needs)
    ]


def main_is_over(draft: Draft) -> bool:
    """Tell whether nothing before `finally` runs, and nothing more of it will."""
    main = draft.definition.main
    if draft.active(main):
        return False
    return draft.reason is not None or not _ready(draft)


def _advance_finally(draft: Draft) -> None:
    final = draft.definition.final
    if not final:
        return
    if draft.finally_start_time is None:
        draft.finally_start_time = draft.now
    late = draft.finally_deadline is not None and draft.now >= draft.finally_deadline
    while not late and not draft.active(final):
        pending = [step for step in final if draft.of(step.name).phase is ActivityPhase.PENDING]
        if not pending:
            return
        _begin(draft, pending[0])


def final_is_over(draft: Draft) -> bool:
    """Tell whether everything of `finally` has ended, or its time is up."""
    final = draft.definition.final
    if draft.active(final):
        return False
    late = draft.finally_deadline is not None and draft.now >= draft.finally_deadline
    return late or all(draft.of(step.name).phase.ended for step in final)


def _begin(draft: Draft, step: Step) -> None:
    """Write down that an activity starts, with everything its attempt is given; or that it is skipped, or cannot start."""
    try:
        scope = scope_of(draft)
        if step.activity.when is not None and not condition(step.activity.when, scope, draft.evaluator, "when"):
            draft.move(
                step.name, ActivityPhase.SKIPPED, id=activity_id(draft.run.uid, step.name), completion_time=draft.now,
                reason=Reason.CONDITION_FALSE,
            )  # fmt: skip
            draft.note("ActivitySkipped", f"{step.name} is skipped: its condition is false", activity=step.name)
            return
        given = render(_given(step), scope, draft.evaluator, "http" if step.activity.http else "params")
        pod = step.activity.pod
        env = _environment(render(rendered_env(pod.env), scope, draft.evaluator, "pod.env")) if pod is not None else {}
    except ExpressionError as error:
        draft.end(step.name, ActivityPhase.FAILED, Reason.EXPRESSION_FAILED, str(error), retryable=False)
        return
    if (told := draft.excess(given, env)) is not None:
        draft.end(step.name, ActivityPhase.FAILED, Reason.INVALID_INPUT, told, retryable=False)
        return
    draft.move(
        step.name, ActivityPhase.RUNNING, id=activity_id(draft.run.uid, step.name), attempt=1, start_time=draft.now,
        input=given or None, env=env or None,
        pod_name=pod_name(draft.run.key.name, draft.run.uid, step.name, 1) if step.kind is Kind.POD else None,
        worker=draft.snapshot.worker if step.kind.in_process else None,
    )  # fmt: skip
    draft.note("ActivityStarted", f"{step.name} starts", activity=step.name)


def _given(step: Step) -> Any:
    http = step.activity.http
    if http is None:
        return step.activity.params or {}
    request = {"method": http.method, "url": http.url, "headers": http.headers, "body": http.body}
    return {name: value for name, value in request.items() if value is not None}


def _environment(values: dict[str, Any]) -> dict[str, str]:
    """Return the values of environment variables as text: strings as they are, anything else as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
