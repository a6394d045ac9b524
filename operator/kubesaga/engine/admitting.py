# SPDX-License-Identifier: Apache-2.0
"""What an attempt needs before it may begin: a slot of its Workflow and of the operator, and a way through its guard."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from kubesaga.api.names import Deed
from kubesaga.api.reasons import Reason
from kubesaga.api.run import BlockedBy
from kubesaga.engine.definition import Kind, Step
from kubesaga.engine.draft import Draft
from kubesaga.engine.guarding import GuardKey
from kubesaga.engine.slots import Answer, AttemptWant, Blocked, Granted, Refused

REASONS = {
    BlockedBy.BULKHEAD: Reason.BULKHEAD_FULL,
    BlockedBy.RATE_LIMIT: Reason.RATE_LIMITED,
    BlockedBy.CIRCUIT_BREAKER: Reason.CIRCUIT_OPEN,
}
"""Why an attempt waits; for any other limit AwaitingSlot."""


def answer_for(draft: Draft, step: Step, given: Any) -> Answer:
    """Return whether an attempt may begin now. `given`: what it would be given.

    Where the ledger has not been asked, that is written down as wanted, and the pass will be made again.
    """
    admission = draft.snapshot.admission
    guard = guard_of(draft, step, given)
    if guard is None and not admission.attempts_limited:
        return Granted()
    since = draft.of(step).queued_time or draft.now
    answer = admission.answers.get(step.key)
    if answer is None:
        draft.wants[step.key] = AttemptWant(
            step=step.key, since=since, concurrency=draft.definition.spec.concurrency, guard=guard,
            settings=step.guard_settings,
        )  # fmt: skip
        return Blocked(by=BlockedBy.MAX_ACTIVITIES, message="")
    if not isinstance(answer, Blocked):
        return answer
    if answer.until is not None:
        draft.wakes.append(answer.until)
    return answer if step.deed is Deed.UNDO else _patience(draft, answer, since)


def _patience(draft: Draft, answer: Blocked, since: datetime) -> Blocked | Refused:
    """Refuse what has waited for as long as it may. An undo waits for as long as undoing may take."""
    at_guard = answer.by in (BlockedBy.BULKHEAD, BlockedBy.RATE_LIMIT)
    limits = (
        (draft.snapshot.admission.queue_timeout, Reason.QUEUE_TIMEOUT, "concurrency.queuing.timeout"),
        (answer.patience if at_guard else None, Reason.BULKHEAD_TIMEOUT, "bulkhead.timeout"),
    )
    for limit, reason, field in limits:
        if limit is None:
            continue
        if draft.now >= since + limit:
            told = f"it waited {limit.total_seconds():g} s for {answer.by} ({field}), and was not begun"
            return Refused(reason=reason, message=told)
        draft.wakes.append(since + limit)
    return answer


def guard_of(draft: Draft, step: Step, given: Any) -> GuardKey | None:
    """Return the guard that stands before an attempt."""
    if step.guard is None:
        return None
    host = _host(given) if step.kind is Kind.HTTP else ""
    return GuardKey(owner=step.guard, caller=draft.run.key.namespace, host=host)


def _host(given: Any) -> str:
    url = given.get("url") if isinstance(given, Mapping) else None
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return ""  # no such address: the executor will say so
    return f"{(parts.hostname or '').lower()}{port}"
