# SPDX-License-Identifier: Apache-2.0
"""Many runs with nothing in them but slots: they ask the real ledger as the operator does, and cost microseconds.

What a run has recorded stands in its `Record`; that alone outlives the operator. A pass is in two parts, `begin` and
`finish`, so that other things can happen between what it was told and what it wrote, and its write can fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from kubesaga.api.limits import Concurrency
from kubesaga.api.names import Deed
from kubesaga.api.reasons import Reason
from kubesaga.engine.admission.ledger import Ledger
from kubesaga.engine.admission.rules import GuardStates, OperatorLimits
from kubesaga.engine.admission.standing import Place, Standing
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.definition import StepKey
from kubesaga.engine.guarding import GuardKey, GuardSettings
from kubesaga.engine.slots import Admission, AskedFor, AttemptWant, Blocked, Granted, Refused, RunWant, Want
from kubesaga.testing.clock import START
from kubesaga.testing.unguarded import Unguarded

NAMESPACE = "shop"
WORKFLOW = "order"

MakeLedger = Callable[[OperatorLimits, GuardStates, Callable[[RunKey], None]], Ledger]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One deed of a run, and what guards it."""

    name: str
    deed: Deed = Deed.DO
    guard: GuardKey | None = None
    settings: GuardSettings | None = None

    @property
    def key(self) -> StepKey:
        """Which of a run's deeds."""
        return self.deed, self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is stored of a run: all that a new operator finds."""

    version: int = 1
    suspended: bool = False
    cancelled: bool = False
    queued: bool = False
    since: datetime | None = None
    started: bool = False
    ended: str = ""
    """How it ended: `done`, or a reason."""
    key: str = ""
    group: str = ""
    running: Mapping[StepKey, datetime] = field(default_factory=dict)
    waiting: Mapping[StepKey, datetime] = field(default_factory=dict)
    over: frozenset[StepKey] = frozenset()
    refused: Mapping[StepKey, Reason] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Member:
    """A run: what never changes of it, what is stored, and what happens to it."""

    key: RunKey
    uid: str
    workflow: str
    created: datetime
    priority: int
    group: str
    business_key: str
    revision: Concurrency | None
    """The limits in the revision that it works from."""
    parts: tuple[Part, ...]
    one_by_one: bool
    record: Record = field(default_factory=Record)
    finished: set[StepKey] = field(default_factory=set)
    """Attempts that have ended, which is not recorded yet."""

    @property
    def scope(self) -> tuple[str, str]:
        """Whose limits it is under."""
        return self.key.namespace, self.workflow or f"/{self.uid}"

    def standing(self, record: Record | None = None) -> Standing | None:
        """Return how it stands by its record; None once it has ended."""
        known = record or self.record
        if known.ended:
            return None
        guards = {part.key: part.guard for part in self.parts}

        def places(of: Mapping[StepKey, datetime]) -> dict[StepKey, Place]:
            return {key: Place(since=since, guard=guards[key], urgent=key[0] is Deed.UNDO) for key, since in of.items()}

        return Standing(
            key=self.key, uid=self.uid, version=str(known.version), workflow=self.workflow, created=self.created,
            priority=self.priority, group=known.group, business_key=known.key, started=known.started,
            queued=known.queued, held=places(known.running), waiting=places(known.waiting),
        )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Pass:
    """A pass that is under way."""

    member: Member
    base: Record
    new: Record


class Crowd:
    """All of it."""

    def __init__(
        self,
        limits: Concurrency | None = None,
        *,
        operator: OperatorLimits | None = None,
        guards: GuardStates | None = None,
        make: MakeLedger = Ledger,
    ) -> None:
        """`limits`: of the Workflow `order`. `make` builds the ledger, so that a test can give a broken one."""
        self.operator = operator or OperatorLimits()
        self.guards = guards or Unguarded()
        self.workflows: dict[tuple[str, str], Concurrency | None] = {(NAMESPACE, WORKFLOW): limits}
        self.members: dict[RunKey, Member] = {}
        self.under_way: dict[RunKey, Pass] = {}
        self.pending: dict[RunKey, None] = {}
        """The runs that somebody has a reason to look at."""
        self.later: dict[RunKey, None] = {}
        """Those whose last pass failed: they are looked at again after a while."""
        self.begun: list[str] = []
        """What was started, in order: `run`, or `run/activity`."""
        self.now = START
        self._make = make
        self._number = 0
        self.boot()

    # --- what happens -----------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """A new operator: it knows what is recorded, and looks at every run."""
        self.under_way.clear()
        self.pending.clear()
        self.later.clear()
        self.ledger = self._make(self.operator, self.guards, self._wake)
        for (namespace, workflow), limits in self.workflows.items():
            self.ledger.configure(namespace, workflow, limits, self.now)
        standings = [standing for member in self.members.values() if (standing := member.standing()) is not None]
        self.ledger.restore(standings, self.now)
        for key in self.members:
            self._wake(key)

    def add(
        self,
        name: str,
        *parts: str | Part,
        workflow: str = WORKFLOW,
        namespace: str = NAMESPACE,
        priority: int = 0,
        group: str = "",
        key: str = "",
        revision: Concurrency | None = None,
        age: float = 0,
        one_by_one: bool = False,
    ) -> Member:
        """Create a run, as old as the crowd's clock says, or `age` seconds older; with nothing to do, it runs until `end`."""
        self._number += 1
        run = RunKey(namespace=namespace, name=name)
        self.members[run] = Member(
            key=run, uid=f"{name}-{self._number}", workflow=workflow, created=self.now - timedelta(seconds=age),
            priority=priority, group=group, business_key=key, revision=revision, one_by_one=one_by_one,
            parts=tuple(part if isinstance(part, Part) else Part(name=part) for part in parts),
        )  # fmt: skip
        self._wake(run)
        return self.members[run]

    def limit(self, limits: Concurrency | None, *, workflow: str = WORKFLOW, namespace: str = NAMESPACE) -> None:
        """Change a Workflow's limits."""
        self.workflows[namespace, workflow] = limits
        self.ledger.configure(namespace, workflow, limits, self.now)

    def end(self, name: str, part: str | StepKey = "", *, namespace: str = NAMESPACE) -> None:
        """An attempt of a run has ended; without `part`, all that the run has under way, and the run."""
        member = self.members[RunKey(namespace=namespace, name=name)]
        if part:
            member.finished.add((Deed.DO, part) if isinstance(part, str) else part)
        else:
            self.touch(name, namespace=namespace, cancelled=True)
            member.finished |= set(member.record.running)
        self._wake(member.key)

    def touch(
        self, name: str, *, namespace: str = NAMESPACE, suspended: bool | None = None, cancelled: bool | None = None
    ) -> None:
        """Somebody edits a run: a pass over it that is under way will conflict."""
        member = self.members[RunKey(namespace=namespace, name=name)]
        record = replace(member.record, version=member.record.version + 1)
        if suspended is not None:
            record = replace(record, suspended=suspended)
        if cancelled is not None:
            record = replace(record, cancelled=cancelled)
        member.record = record
        self._wake(member.key)

    def remove(self, name: str, *, namespace: str = NAMESPACE) -> None:
        """The object of a run is gone."""
        run = RunKey(namespace=namespace, name=name)
        del self.members[run]
        self._wake(run)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    # --- passes -----------------------------------------------------------------------------------------------------

    def settle(self, most: int = 100_000) -> None:
        """Make passes until nobody has any reason to be looked at."""
        for _ in range(most):
            if not self.pending:
                self.pending, self.later = self.later, {}
            if not self.pending:
                return
            self.look(next(iter(self.pending)))
        raise AssertionError("it does not come to rest")

    def look(self, run: RunKey | str) -> None:
        """Make one pass."""
        if (under_way := self.begin(run)) is not None:
            self.finish(under_way)

    def begin(self, run: RunKey | str) -> Pass | None:
        """Make a pass up to its write; None: there was nothing to write."""
        key = run if isinstance(run, RunKey) else RunKey(namespace=NAMESPACE, name=run)
        self.pending.pop(key, None)
        self.later.pop(key, None)
        member = self.members.get(key)
        standing = member.standing() if member is not None else None
        if member is None or standing is None:
            self.ledger.drop(key, self.now)
            return None
        admission = self.ledger.begin(standing, member.revision, self.now)
        while True:
            new, wants = self._decide(member, admission)
            if not wants:
                break
            answers = self.ledger.ask(standing, wants, self.now)
            admission = replace(admission, answers={**admission.answers, **answers})
        under_way = self.under_way[key] = Pass(member=member, base=member.record, new=new)
        return under_way

    def finish(self, under_way: Pass, how: str = "written") -> None:
        """Write what a pass decided: `written`, `lost` (refused, nobody knows) or `unheard` (written, nobody knows).

        Where somebody has changed the run meanwhile, it conflicts instead.
        """
        member, base = under_way.member, under_way.base
        del self.under_way[member.key]
        changed = under_way.new != base
        new = replace(under_way.new, version=base.version + 1) if changed else base
        self.ledger.writing(member.key)
        if how in ("lost", "unheard"):
            self.ledger.fail(member.key, self.now)
        current = self.members.get(member.key)
        if how == "lost" or current is None or (changed and current.record is not base) or current is not member:
            self.later[member.key] = None
            return
        self._store(member, new)
        if how == "unheard":
            self.later[member.key] = None
            return
        standing = member.standing(new)
        if standing is None:
            self.ledger.drop(member.key, self.now)
        else:
            self.ledger.put(standing, self.now)
            self.ledger.settle(member.uid, self.now)

    def fail(self, run: RunKey | str) -> None:
        """A pass over a run fails before it has decided anything."""
        key = run if isinstance(run, RunKey) else RunKey(namespace=NAMESPACE, name=run)
        self.pending.pop(key, None)
        self.later[key] = None
        self.ledger.fail(key, self.now)

    # --- what is seen -----------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[str]:
        """The runs that are under way, by name."""
        return sorted(member.key.name for member in self.live() if member.record.started)

    @property
    def queued(self) -> list[str]:
        """The runs that wait to be started, by name."""
        return sorted(member.key.name for member in self.live() if member.record.queued)

    def ended(self, name: str) -> str:
        """Return how a run ended, "" if it has not."""
        return self.members[RunKey(namespace=NAMESPACE, name=name)].record.ended

    def at_work(self, name: str) -> list[str]:
        """Return the deeds of a run that are under way."""
        return sorted(part for _, part in self.members[RunKey(namespace=NAMESPACE, name=name)].record.running)

    def live(self) -> Iterable[Member]:
        """Return the runs that have not ended."""
        return [member for member in self.members.values() if not member.record.ended]

    # --- within -----------------------------------------------------------------------------------------------------

    def _wake(self, key: RunKey) -> None:
        self.pending[key] = None

    def _store(self, member: Member, new: Record) -> None:
        old, member.record = member.record, new
        if new.started and not old.started:
            self.begun.append(member.key.name)
        self.begun += [f"{member.key.name}/{key[1]}" for key in new.running if key not in old.running]
        member.finished -= new.over

    def _decide(self, member: Member, admission: Admission) -> tuple[Record, dict[AskedFor, Want]]:
        record = member.record
        if record.started:
            return self._go_on(member, record, admission)
        if record.cancelled or admission.displaced is not None:
            told = str(admission.displaced.reason) if admission.displaced is not None else "Cancelled"
            return replace(record, ended=told, queued=False), {}
        answer = admission.answers.get(None)
        if record.suspended and admission.run_limited:
            return replace(record, queued=False), {}
        if admission.run_limited and answer is None:
            key, group = (record.key, record.group) if record.queued else (member.business_key, member.group)
            return record, {None: RunWant(concurrency=member.revision, key=key, group=group)}
        match answer:
            case Blocked():
                deadline = record.since + admission.queue_timeout if record.since and admission.queue_timeout else None
                if deadline is not None and self.now >= deadline:
                    return replace(record, ended=str(Reason.QUEUE_TIMEOUT), queued=False), {}
                since, key, group = record.since or self.now, member.business_key, member.group
                return replace(record, queued=True, since=since, key=key, group=group), {}
            case Refused(reason=reason):
                return replace(record, ended=str(reason), queued=False), {}
        key, group = (answer.key, answer.group) if isinstance(answer, Granted) else ("", "")
        return self._go_on(
            member, replace(record, started=True, queued=False, since=None, key=key, group=group), admission
        )

    def _go_on(self, member: Member, record: Record, admission: Admission) -> tuple[Record, dict[AskedFor, Want]]:
        over = record.over | (member.finished & set(record.running))
        running = {key: since for key, since in record.running.items() if key not in over}
        record = replace(record, over=over, running=running)
        if record.cancelled or admission.displaced is not None:
            told = str(admission.displaced.reason) if admission.displaced is not None else "done"
            return replace(record, waiting={}, cancelled=True, ended="" if running else told), {}
        if record.suspended:
            return replace(record, waiting={}), {}
        wants: dict[AskedFor, Want] = {}
        for part in member.parts:
            if part.key in record.running or part.key in record.over:
                continue
            if member.one_by_one and (record.running or record.waiting or wants) and part.key not in record.waiting:
                break
            record = self._try(member, part, record, admission, wants)
        if member.parts and not wants and len(record.over) == len(member.parts):
            record = replace(record, ended="done")
        return record, wants

    def _try(
        self, member: Member, part: Part, record: Record, admission: Admission, wants: dict[AskedFor, Want]
    ) -> Record:
        """Begin a part that may begin; or have it wait, or turned away."""
        since = record.waiting.get(part.key, self.now)
        waiting = {key: when for key, when in record.waiting.items() if key != part.key}
        if part.guard is not None or admission.attempts_limited:
            answer = admission.answers.get(part.key)
            if answer is None:
                wants[part.key] = AttemptWant(
                    step=part.key, since=since, concurrency=member.revision, guard=part.guard, settings=part.settings
                )
                return record
            if isinstance(answer, Blocked):
                return replace(record, waiting={**waiting, part.key: since})
            if isinstance(answer, Refused):
                refused = {**record.refused, part.key: answer.reason}
                return replace(record, waiting=waiting, over=record.over | {part.key}, refused=refused)
        return replace(record, waiting=waiting, running={**record.running, part.key: self.now})
