# SPDX-License-Identifier: Apache-2.0
"""One run played by the pure engine alone: a script says how each attempt ends, the clock jumps to the next deadline.

`Play(definition, {"set_sla": wrong(), "undo assign_agent": [wrong(), good()]}).go()` plays until nothing happens any more.
A deed without a line in the script succeeds. Read `log`, `status`, `phases` then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from kubesaga.api.action import Verb
from kubesaga.api.names import Deed
from kubesaga.api.reasons import Reason
from kubesaga.api.run import RunPhase, WorkflowRunStatus
from kubesaga.engine.admission.ledger import Ledger
from kubesaga.engine.admission.standing import standing_of
from kubesaga.engine.attempt import AttemptId, Failed, Observation, Outcome, Stage, Succeeded, Unknown
from kubesaga.engine.command import Command
from kubesaga.engine.decision import Answer, Decision, Note, Offer, Release, Start, Stop
from kubesaga.engine.definition import Definition, Kind
from kubesaga.engine.reconcile import reconcile
from kubesaga.engine.snapshot import Listener, Reply, Snapshot, Source
from kubesaga.testing.builders import snapshot
from kubesaga.testing.clock import START
from kubesaga.testing.paths import PathEvaluator
from kubesaga.testing.unguarded import open_ledger

HANGS: Final = Observation(stage=Stage.RUNNING, held=True)
"""Stands in a script for an attempt that does not end by itself."""

Line = Outcome | Observation
_PASSES: Final = 500


def good(output: Any = None) -> Succeeded:
    """Return the end of an attempt that succeeds."""
    return Succeeded(output=output)


def wrong(
    message: str = "no", reason: Reason = Reason.HANDLER_FAILED, *, retryable: bool = False, in_doubt: bool = False
) -> Failed:
    """Return the end of an attempt that fails, for good unless `retryable`."""
    return Failed(reason=reason, message=message, retryable=retryable, in_doubt=in_doubt)


class Play:
    """One run. What its attempts are told to do stands in `log`, e.g. `do reserve#1`, `undo reserve#1`, `stop do pack#1`."""

    def __init__(
        self,
        definition: Definition,
        script: Mapping[str, Line | Sequence[Line]] | None = None,
        *,
        ledger: Ledger | None = None,
    ) -> None:
        self._definition = definition
        self._ledger = ledger or open_ledger()
        self._version = 0
        self._script = {
            name: list(lines) if isinstance(lines, Sequence) else [lines] for name, lines in (script or {}).items()
        }
        self._seen: dict[AttemptId, Observation] = {}
        self._kinds: dict[AttemptId, Kind] = {}
        self._commands: list[Command] = []
        self.now: datetime = START
        self.spec: dict[str, Any] = {}
        self.deleting = False
        self.namespace_ending = False
        self.source: Source | None = None
        self.listeners: tuple[Listener, ...] = ()
        self.offered: list[str] = []
        self.replies: dict[str, Reply] = {}
        self.status = WorkflowRunStatus()
        self.log: list[str] = []
        self.notes: list[Note] = []
        self.answers: dict[str, Answer] = {}
        self.inputs: dict[str, Any] = {}
        """What each attempt was given, by its line in the log."""

    def replay(self, script: Mapping[str, Line | Sequence[Line]] | None = None, **replay_of: Any) -> Play:
        """Return a run that replays this one."""
        play = Play(self._definition, script)
        play.spec = {"workflowRef": None, "replayOf": {"run": "order-0", **replay_of}}
        play.source = Source(name="order-0", uid="uid-0", workflow="order", event=None, status=self.status)
        return play

    @property
    def phases(self) -> dict[str, str]:
        """The phase of each activity that is in the status."""
        return {name: str(activity.phase) for name, activity in self.status.activities.items()}

    @property
    def ended(self) -> str:
        """Phase and reason of the run."""
        return f"{self.status.phase} {self.status.reason}"

    def condition(self, type_: str) -> str:
        """Return status and reason of a condition."""
        found = next(condition for condition in self.status.conditions if condition.type == type_)
        return f"{found.status} {found.reason}"

    def command(self, verb: Verb, activity: str | None = None, *, uid: str = "", **more: Any) -> None:
        """Create a WorkflowAction."""
        uid = uid or f"action-{len(self._commands) + len(self.answers) + 1}"
        self._commands.append(Command(uid=uid, name=uid, verb=verb, activity=activity, **more))

    def go(self, until: str | None = None) -> Play:
        """Play until nothing happens any more, or until a line `until` has come into the log."""
        for _ in range(_PASSES):
            decision = self.step()
            if until is not None and until in self.log:
                return self
            if decision.status.finished and not self._seen:
                return self
            parked = decision.status.phase is RunPhase.COMPENSATION_FAILED
            if not self._changed and (decision.wake_at is None or parked):
                return self
            if not self._changed and decision.wake_at is not None:
                self.now = max(self.now, decision.wake_at)
        raise AssertionError(f"the run does not come to rest: {self.status.phase}, {self.log[-20:]}")

    def step(self) -> Decision:
        """Make one pass and do what it says."""
        snap = snapshot(self._definition, self.status, spec=self.spec, deleting=self.deleting)
        snap = replace(
            snap, run=replace(snap.run, version=str(self._version)), observed=dict(self._seen), holders=dict(self._kinds), commands=tuple(self._commands),
            namespace_ending=self.namespace_ending, source=self.source, replies=self.replies,
        )  # fmt: skip
        decision = self._decide(snap)
        before = (self.status, dict(self._seen), len(self._commands))
        self.status = decision.status
        self.notes += decision.notes
        self._book(snap, decision)
        for effect in decision.effects:
            self._do(effect)
        self._changed = before != (self.status, self._seen, len(self._commands))
        return decision

    def _decide(self, snap: Snapshot) -> Decision:
        """Make the pass; where it takes slots, as often as there is something to ask for, as the operator does."""
        standing = standing_of(snap.run, snap.source)
        if standing is None:
            return reconcile(snap, self.now, PathEvaluator())
        snap = replace(snap, admission=self._ledger.begin(standing, self._definition.spec.concurrency, self.now))
        while True:
            decision = reconcile(snap, self.now, PathEvaluator())
            if (summons := decision.summons) is not None:
                found = tuple(each for each in self.listeners if summons.only in (None, each.key))
                snap = replace(snap, listeners=found)
            elif decision.wants:
                answers = {**snap.admission.answers, **self._ledger.ask(standing, decision.wants, self.now)}
                snap = replace(snap, admission=replace(snap.admission, answers=answers))
            else:
                return decision

    def _book(self, snap: Snapshot, decision: Decision) -> None:
        run = snap.run
        if decision.status != run.status:
            self._version += 1
        standing = standing_of(replace(run, status=decision.status, version=str(self._version)))
        if standing is None:
            self._ledger.drop(run.key, self.now)
        else:
            self._ledger.put(standing, self.now)
            self._ledger.settle(run.uid, self.now)

    def _do(self, effect: object) -> None:
        match effect:
            case Start(attempt=attempt, kind=kind):
                line = _line(attempt.id)
                self.log.append(line)
                self.inputs[line] = attempt.input
                self._seen[attempt.id] = self._end(attempt.id)
                self._kinds[attempt.id] = kind
            case Stop(attempt=attempt_id):
                if attempt_id in self._seen:
                    self.log.append(f"stop {_line(attempt_id)}")
                    self._seen[attempt_id] = Observation(
                        stage=Stage.ENDED, outcome=Unknown(message="stopped"), held=True
                    )
            case Release(attempt=attempt_id):
                del self._seen[attempt_id]
            case Offer(recipients=recipients):
                self.offered = [each.run for each in recipients]
            case Answer(command=command):
                self._commands.remove(command)
                self.answers[command.uid] = effect

    def _end(self, attempt: AttemptId) -> Observation:
        name = attempt.activity if attempt.deed is Deed.DO else f"{attempt.deed} {attempt.activity}"
        lines = self._script.get(name) or [good()]
        line = lines.pop(0) if len(lines) > 1 else lines[0]
        return line if isinstance(line, Observation) else Observation(stage=Stage.ENDED, outcome=line, held=True)


def _line(attempt: AttemptId) -> str:
    return f"{attempt.deed} {attempt.activity}#{attempt.number}"
