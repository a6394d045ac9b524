# SPDX-License-Identifier: Apache-2.0
"""Executors whose attempts are ended by hand; one loses them when the operator dies, the other, like pods, does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kubesaga.engine.attempt import Attempt, AttemptId, Observation, Outcome, RunKey, Stage, Succeeded, Unknown
from kubesaga.executors.base import Wake


@dataclass(slots=True)
class FakeExecutor:
    """Keeps attempts in a dictionary. It records every start, so that a test can count them."""

    wake: Wake = lambda _key: None
    survives: bool = False
    """True: attempts outlive the operator, as pods do."""
    attempts: dict[AttemptId, tuple[RunKey, Observation]] = field(default_factory=dict)
    started: list[Attempt] = field(default_factory=list)
    """Every attempt that really began, in order; a repeated start of what is there is none."""
    stopped: list[AttemptId] = field(default_factory=list)
    released: list[AttemptId] = field(default_factory=list)

    async def start(self, attempt: Attempt) -> None:
        """Begin an attempt unless it is there."""
        if attempt.id not in self.attempts:
            self.started.append(attempt)
            self.attempts[attempt.id] = (attempt.run, Observation(stage=Stage.RUNNING, held=True))

    def observe(self, run: RunKey, run_uid: str) -> Mapping[AttemptId, Observation]:
        """Return what is known of a run's attempts."""
        return {
            attempt: seen for attempt, (key, seen) in self.attempts.items() if key == run and attempt.run_uid == run_uid
        }

    async def stop(self, attempt: AttemptId, run: RunKey, reason: str) -> None:  # noqa: ARG002 - see Executor
        """End an attempt as of unknown outcome, unless it has ended."""
        self.stopped.append(attempt)
        if attempt in self.attempts and self.attempts[attempt][1].stage is not Stage.ENDED:
            self.end(attempt, Unknown(message="stopped"))

    async def release(self, attempt: AttemptId, run: RunKey) -> None:  # noqa: ARG002 - see Executor
        """Forget an attempt; a surviving one stays there, but is no longer held."""
        self.released.append(attempt)
        if not self.survives:
            self.attempts.pop(attempt, None)
        elif attempt in self.attempts:
            key, seen = self.attempts[attempt]
            self.attempts[attempt] = (key, replace(seen, held=False))

    def runs_at(self, run: RunKey) -> set[str]:
        """Return the uids of the runs of that name that have attempts here."""
        return {attempt.run_uid for attempt, (key, _) in self.attempts.items() if key == run}

    def end(self, attempt: AttemptId, outcome: Outcome | None = None) -> None:
        """End an attempt; well, unless told otherwise."""
        key, seen = self.attempts[attempt]
        self.attempts[attempt] = (key, replace(seen, stage=Stage.ENDED, outcome=outcome or Succeeded(), reason=None))
        self.wake(key)

    def running(self) -> list[AttemptId]:
        """Return the attempts that have not ended."""
        return [attempt for attempt, (_, seen) in self.attempts.items() if seen.stage is not Stage.ENDED]

    def crash(self) -> None:
        """Die with the operator."""
        if not self.survives:
            self.attempts.clear()
