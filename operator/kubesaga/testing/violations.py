# SPDX-License-Identifier: Apache-2.0
"""What the history of a World must never show: the invariants I1 to I9 of docs/faults.md, and the laws of the design."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from kubesaga.api.deed import ActivityPhase
from kubesaga.api.names import FINISHED_LABEL, Deed
from kubesaga.api.run import RunPhase
from kubesaga.engine.attempt import Attempt, AttemptId, RunKey, Stage
from kubesaga.engine.transitions import ACTIVITY_MOVES, RUN_MOVES, UNDO_MOVES
from kubesaga.testing.api_server import FakeApiServer
from kubesaga.testing.executors import FakeExecutor


class History(Protocol):
    """A World, as far as it is judged here."""

    api: FakeApiServer
    actions_api: FakeApiServer
    keys: list[RunKey]
    found: list[str]
    done: set[AttemptId]

    @property
    def pods(self) -> FakeExecutor:
        """The attempts that outlive the operator."""

    @property
    def handlers(self) -> FakeExecutor:
        """Those that do not."""

    def deed(self, run: RunKey, attempt: AttemptId) -> dict[str, Any]:
        """Return what is stored now of the deed that an attempt is for."""

    def stored(self, key: RunKey) -> dict[str, Any]:
        """Return the status of a run as it is stored now."""


_NEEDS: Final = {"pack": ("reserve",), "label": ("reserve",), "send": ("pack", "label", "rest", "paid")}
_WAITS: Final = ("rest", "paid")
"""They may begin and end in one write."""
_UNENDED: Final = ("Pending", "Queued", "Running", "Retrying")
_UNDOABLE: Final = ("reserve", "pack", "label")


def is_finished(body: dict[str, Any] | None) -> bool:
    """Tell whether a run is gone, or finished and tidied up."""
    return body is None or body["metadata"].get("labels", {}).get(FINISHED_LABEL) == "true"


def check_release(world: History, attempt: AttemptId, run: RunKey) -> list[str]:
    """Return what is wrong with letting an attempt go now."""
    known = world.deed(run, attempt)
    later = known.get("attempt", 0) > attempt.number or known.get("phase") in ("Retrying", "Waiting")
    unended = known.get("phase", "Pending") in ("Pending", "Running") and not known.get("completionTime")
    if run in world.api.objects and unended and not later:
        return [f"I3: {attempt} is released though its outcome is not recorded"]
    return []


def check_start(world: History, attempt: Attempt, *, pod: bool, starts: int) -> list[str]:
    """Return what is wrong with starting an attempt now."""
    found: list[str] = []
    mine = world.deed(attempt.run, attempt.id)
    if mine.get("phase") != "Running" or mine.get("attempt") != attempt.id.number:
        found.append(f"law 1: {attempt.id} is started, the status says {mine.get('phase')}")
    if pod and starts > 1:
        found.append(f"I1: {attempt.id} has a second pod")
    if not pod and starts > 1 + mine.get("interruptions", 0):
        found.append(f"law 1: {attempt.id} is started again, which the status does not say")
    status = world.stored(attempt.run)
    return found + (_undo_out_of_order if attempt.id.deed is Deed.UNDO else _out_of_order)(status, attempt.id)


def _out_of_order(status: dict[str, Any], attempt: AttemptId) -> list[str]:
    activities = status.get("activities", {})
    found = [
        f"order: {attempt} is started before {need} has ended well"
        for need in _NEEDS.get(attempt.activity, ())
        if activities.get(need, {}).get("phase") not in ("Succeeded", "Skipped")
    ]
    if "startTime" in status.get("compensation", {}) and attempt.activity != "audit":
        found.append(f"I4: {attempt} is started though undoing has begun")
    return found


def _undo_out_of_order(status: dict[str, Any], attempt: AttemptId) -> list[str]:
    activities = status.get("activities", {})
    order = activities[attempt.activity].get("completionOrder")
    if order is None:
        return [f"I4: {attempt} is started though nothing was done"]
    return [
        f"I4: {attempt} is started before {name}, which completed later, was undone"
        for name, activity in activities.items()
        if name in _UNDOABLE and activity.get("completionOrder", 0) > order
        and activity.get("compensation", {}).get("phase", "Pending") in _UNENDED
    ]  # fmt: skip


def violations(world: History) -> list[str]:
    """Return everything that the history shows to be wrong."""
    return [*world.found, *_moves(world), *_left_behind(world), *_not_undone(world), *_wrong_answers(world)]


def _moves(world: History) -> list[str]:
    found: list[str] = []
    last: dict[str, dict[str, Any]] = {}
    for body in world.api.history:
        uid, status = body["metadata"]["uid"], body.get("status") or {}
        before = last.get(uid, {})
        last[uid] = status
        old, new = before.get("phase"), status.get("phase")
        if old != new and RunPhase(str(new)) not in RUN_MOVES[RunPhase(old) if old else None]:
            found.append(f"I2: {uid} moves from {old} to {new}")
        if old is not None and RunPhase(old).finished and status != before:
            found.append(f"I2: {uid} is finished and its status changes")
        found += [*_twice_applied(uid, status), *_ill_waited(uid, before, status)]
        for name, activity in status.get("activities", {}).items():
            found += _undo_moves(uid, name, before.get("activities", {}).get(name, {}), activity)
            if activity.get("attempt", 1) > 2:
                found.append(f"I5: {uid} {name} has {activity['attempt']} attempts, two are allowed")
            due = before.get("activities", {}).get(name, {}).get("nextAttemptTime")
            if due is not None and activity.get("attemptStartTime", due) < due:
                found.append(f"I5: {uid} {name} did not wait until {due}")
            was = ActivityPhase(before.get("activities", {}).get(name, {}).get("phase", "Pending"))
            now = ActivityPhase(activity["phase"])
            waits = name in _WAITS and was is ActivityPhase.PENDING and now in ACTIVITY_MOVES[ActivityPhase.WAITING]
            if was is not now and not waits and not _reaches(was, now):
                found.append(f"I2: {uid} {name} moves from {was} to {now}")
    return found


def _left_behind(world: History) -> list[str]:
    checks: list[tuple[Callable[[RunKey], bool], str]] = [
        (lambda key: not is_finished(world.api.objects.get(key)), "I8: {} does not come to its end"),
        (lambda key: bool((world.api.objects.get(key) or {"metadata": {}})["metadata"].get("finalizers")), "I9: {} keeps a finalizer"),
    ]  # fmt: skip
    found = [text.format(key) for check, text in checks for key in world.keys if check(key)]
    found += [
        f"I9: the pod of {attempt} is still held" for attempt, (_, seen) in world.pods.attempts.items() if seen.held
    ]
    found += [
        f"I9: {attempt} still runs"
        for executor in (world.pods, world.handlers)
        for attempt, (_, seen) in executor.attempts.items()
        if seen.stage is not Stage.ENDED
    ]
    return found


def _reaches(was: ActivityPhase, now: ActivityPhase) -> bool:
    """Tell whether one pass can bring an activity there: its end and the beginning of its undo may be one write."""
    undone = now is ActivityPhase.COMPENSATING and any(
        now in ACTIVITY_MOVES[between] for between in ACTIVITY_MOVES[was]
    )
    return now in ACTIVITY_MOVES[was] or undone


def _undo_moves(uid: str, name: str, before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    was = ActivityPhase(before.get("compensation", {}).get("phase", "Pending"))
    phase = ActivityPhase(now.get("compensation", {}).get("phase", "Pending"))
    begins = phase in (ActivityPhase.RUNNING, ActivityPhase.QUEUED)
    retried = begins and ActivityPhase.PENDING in UNDO_MOVES[was]
    # Its end, and the WorkflowAction Skip that waited for that, may be one write.
    left_out = phase is ActivityPhase.SKIPPED and ActivityPhase.FAILED in UNDO_MOVES[was]
    if was is not phase and phase not in UNDO_MOVES[was] and not retried and not left_out:
        return [f"I2: {uid} the undo of {name} moves from {was} to {phase}"]
    if before.get("completionOrder") not in (None, now.get("completionOrder")):
        return [f"I2: {uid} {name} changes its completion order"]
    return []


def _twice_applied(uid: str, status: dict[str, Any]) -> list[str]:
    applied = [action["uid"] for action in status.get("actions", [])]
    return [] if len(applied) == len(set(applied)) else [f"{uid}: an action is applied twice: {applied}"]


def _ill_waited(uid: str, before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return how a wait went wrong: it moved its end, ended too early, or yielded what no Signal brought.

    A Signal's value is its own uid here.
    """
    found: list[str] = []
    for name in _WAITS:
        was, is_ = before.get("activities", {}).get(name, {}), now.get("activities", {}).get(name, {})
        if was.get("until") not in (None, is_.get("until")):
            found.append(f"wait: {uid} {name} was to end at {was['until']} and now at {is_.get('until')}")
    rest, paid = (now.get("activities", {}).get(name, {}) for name in _WAITS)
    if rest.get("phase") == "Succeeded" and rest["completionTime"] < rest["until"]:
        found.append(f"wait: {uid} rest ends at {rest['completionTime']}, before {rest['until']}")
    applied = [action["uid"] for action in now.get("actions", []) if action["verb"] == "Signal"]
    kept = [signal["uid"] for signal in now.get("signals", [])]
    taken = [paid["output"]] if paid.get("phase") == "Succeeded" else []
    if sorted(applied) != sorted([*kept, *taken]):
        found.append(f"signal: {uid} has applied {applied}, kept {kept} and taken {taken}")
    return found


def _not_undone(world: History) -> list[str]:
    """Compare what really happened with what a run that says it is undone has left."""
    found: list[str] = []
    last = {body["metadata"]["uid"]: body.get("status") or {} for body in world.api.history}
    for uid, status in last.items():
        if status.get("errorStrategy") != "Compensate" or not RunPhase(status.get("phase", "Running")).finished:
            continue
        for name in _UNDOABLE:
            activity = status.get("activities", {}).get(name, {})
            left_out = activity.get("compensation", {}).get("phase") == "Skipped"
            did = any(
                attempt.run_uid == uid and attempt.activity == name and attempt.deed is not Deed.UNDO
                for attempt in world.done
            )
            undid = any(
                attempt.run_uid == uid and attempt.activity == name and attempt.deed is Deed.UNDO
                for attempt in world.done
            )
            if did and not undid and not left_out:
                found.append(f"I4: {uid} ends as {status.get('phase')}, but {name} was done and not undone")
    return found


def _wrong_answers(world: History) -> list[str]:
    """Compare what the WorkflowActions were told with what the runs recorded."""
    statuses = [body.get("status") or {} for body in world.api.history]
    recorded = {action["uid"] for status in statuses for action in status.get("actions", [])}
    return [
        f"{body['metadata']['name']} was told {phase}, which is not what happened"
        for body in world.actions_api.objects.values()
        if (phase := (body.get("status") or {}).get("phase"))
        and (phase == "Applied") != (body["metadata"]["uid"] in recorded)
    ]
