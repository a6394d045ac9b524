# SPDX-License-Identifier: Apache-2.0
"""How sleeps and waitFors end. An event that a messenger brought is a Signal like any other here. The engine waits itself: there is no attempt, no executor and no slot, and nothing to retry."""

from __future__ import annotations

from typing import Any

from kubesaga.api.deed import ActivityPhase
from kubesaga.api.fields import format_duration
from kubesaga.api.reasons import Reason
from kubesaga.api.run import SignalRecord
from kubesaga.engine.attempt import Failed
from kubesaga.engine.deeds import fail, succeed
from kubesaga.engine.definition import Kind, Step
from kubesaga.engine.draft import Draft


def end_waits(draft: Draft) -> None:
    """End every sleep whose time has come, and every waitFor whose Signal is there, or that has waited long enough.

    A Signal that is there counts, though the time is over too: nobody may lose one because the operator was away.
    """
    if draft.ending is not None:
        return
    for step in draft.active():
        known = draft.of(step)
        if not known.waits:
            continue
        if (signal := kept_for(draft, step)) is not None:
            draft.signals.remove(signal)
            _receive(draft, step, signal.value)
        elif known.until is not None and draft.now >= known.until:
            _end_of_time(draft, step)


def kept_for(draft: Draft, step: Step) -> SignalRecord | None:
    """Return the Signal that an activity has not taken yet."""
    return next((signal for signal in draft.signals if signal.activity == step.name), None)


def _receive(draft: Draft, step: Step, value: Any) -> None:
    if isinstance(value, dict) and value.get("success") is False:
        said = value.get("message") or value.get("error") or "the Signal says success: false"
        failure = Failed(reason=Reason.REPORTED_FAILURE, message=str(said), retryable=False, output=value)
        fail(draft, step, ActivityPhase.FAILED, failure)
    else:
        succeed(draft, step, value)


def _end_of_time(draft: Draft, step: Step) -> None:
    known = draft.of(step)
    if step.kind is Kind.SLEEP:
        succeed(draft, step, None)
        return
    waited = format_duration(draft.now - known.start_time) if known.start_time is not None else "long enough"
    what = "Signal" if known.reason is Reason.AWAITING_SIGNAL else "event"
    told = f"no {what} came to {step.name} within {(known.input or {}).get('timeout', waited)}"
    fail(draft, step, ActivityPhase.FAILED, Failed(reason=Reason.WAIT_TIMEOUT, message=told, retryable=False))
