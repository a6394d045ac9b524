# SPDX-License-Identifier: Apache-2.0
"""A valid Workflow made ready to run: activities by name, who waits for whom, what kind each is, what undoes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from kubesaga.api.failure import ErrorStrategy
from kubesaga.api.names import Deed
from kubesaga.api.work import Resources, Work
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.engine.guarding import GuardOwner, GuardSettings
from kubesaga.engine.retries import DEFAULT, RetryPolicy
from kubesaga.engine.uses import NOTHING, Uses


class Kind(StrEnum):
    """What carries a deed out."""

    POD = "pod"
    HTTP = "http"
    HANDLER = "handler"
    SLEEP = "sleep"
    WAIT_FOR = "waitFor"

    @property
    def in_process(self) -> bool:
        """Tell whether an attempt dies with the operator."""
        return self in (Kind.HTTP, Kind.HANDLER)

    @property
    def waits(self) -> bool:
        """Tell whether it is the engine's own: it has no attempts, needs no executor and no slot."""
        return self in (Kind.SLEEP, Kind.WAIT_FOR)


class Part(StrEnum):
    """The three parts of a run, one after the other."""

    MAIN = "main"
    UNDOING = "undoing"
    FINALLY = "finally"


StepKey = tuple[Deed, str]
"""Which deed of which activity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """The Activity that a deed uses, as far as its attempts need to know of it."""

    namespace: str
    name: str
    input: Mapping[str, Any] | None = None
    """The JSON Schema of its params."""
    output: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One deed in its place: an activity, the undo of one, or its fallback."""

    name: str
    """The activity's name; of a listed undo that undoes no activity, its own. Unique in the Workflow."""
    deed: Deed = Deed.DO
    work: Work
    """What is to be done."""
    kind: Kind
    timeout: timedelta | None = None
    """Of one attempt."""
    resources: Resources | None = None
    use: Use | None = None
    """The Activity that `work` comes from; only the params in it are the Workflow's."""
    of_activity: bool = False
    """An Activity says that it is done, as its undo or where its bulkhead rejects: what is written there sees only how it was called."""
    retry: RetryPolicy = DEFAULT
    needs: tuple[str, ...] = ()
    """The activities that must have ended well before it starts."""
    when: str | None = None
    set: Mapping[str, Any] | None = None
    final: bool = False
    """It belongs to `finally`."""
    strategy: ErrorStrategy = ErrorStrategy.COMPENSATE
    """What becomes of the run when it fails for good."""
    skippable: bool = False
    """Its fallback is `skip`."""
    fallback: Step | None = None
    undo: Step | None = None
    guard: GuardOwner | None = None
    """Whose breaker, bulkhead and rate limit stand before its attempts."""
    guard_settings: GuardSettings | None = None
    """How they were set in the revision; where they can be read live, that holds."""
    rejected: Step | None = None
    """What stands in where the bulkhead rejects it (`bulkhead.fallback`), instead of `fallback`."""
    rejected_skips: bool = False
    """Where the bulkhead rejects it, it is skipped: `bulkhead.fallback` is `skip`."""

    @property
    def key(self) -> StepKey:
        """Where its record is found."""
        return self.deed, self.name

    @property
    def part(self) -> Part:
        """The part of the run that it belongs to; a fallback belongs to where its activity does."""
        if self.deed is Deed.UNDO:
            return Part.UNDOING
        return Part.FINALLY if self.final else Part.MAIN

    @property
    def shown(self) -> str:
        """The deed in a sentence: `assign_agent`, `the undo of assign_agent`."""
        if self.deed is Deed.DO:
            return self.name
        return f"the {'undo' if self.deed is Deed.UNDO else 'fallback'} of {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoing:
    """How a run is undone (`compensation`)."""

    parallel: bool = False
    manual: bool = False
    timeout: timedelta = timedelta(minutes=5)
    on_cancel: bool = True
    in_doubt: bool = True
    """Undo what may have had its effect, though it did not succeed."""
    loose: tuple[Step, ...] = ()
    """Listed undos that undo no activity, in the order of undoing: they always run, after the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a run works from. Made by `compile_definition` from a spec that was found valid."""

    name: str
    """Of the Workflow; "" for a spec written into a run."""
    spec: WorkflowSpec
    steps: Mapping[str, Step]
    """All activities in order, those of `finally` last."""
    main: tuple[Step, ...]
    """Those before `finally`."""
    final: tuple[Step, ...]
    """Those of `finally`."""
    undos: tuple[Step, ...] = ()
    """All undos, whether or not a run calls for them."""
    deeds: Mapping[StepKey, Step]
    """Everything that there may be to do, in order: activities, each followed by its fallback, then undos."""
    outputs: Mapping[str, Any] | None = None
    """The run's outputs, to be rendered."""
    timeout: timedelta | None
    strategy: ErrorStrategy = ErrorStrategy.COMPENSATE
    """What becomes of a run that cannot succeed for a reason that is no activity's."""
    undoing: Undoing = Undoing()
    has_expressions: bool
    """False: no pass over such a run needs the evaluator."""
    uses: Uses = NOTHING
    """The Activities that it was made with."""


def deeds_of(activities: Iterable[Step], undos: Iterable[Step]) -> dict[StepKey, Step]:
    """Return all deeds by key, for a Definition."""
    done = (deed for step in activities for deed in (step, step.fallback or step.rejected) if deed is not None)
    return {deed.key: deed for deed in (*done, *undos)}
