# SPDX-License-Identifier: Apache-2.0
"""Carries out effects by handing each to the executor of its kind, and answers to whoever asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from kubesaga.controller.delivering.mailbox import Mailbox
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.decision import Answer, Effect, Offer, Release, Start, Stop
from kubesaga.engine.definition import Kind
from kubesaga.engine.snapshot import Run
from kubesaga.executors.base import Executor


class Actuator:
    """Every effect is idempotent: after a failure the next pass computes and does the same again."""

    def __init__(self, executors: Mapping[Kind, Executor], actions: Mailbox) -> None:
        self._executors = executors
        self._actions = actions

    async def perform(self, run: Run, effects: Sequence[Effect]) -> None:
        """Carry out all effects, side by side; raise the first error once all have been tried.

        An attempt that is stopped and released in one pass is stopped first: a pod that lost its finalizer could vanish.
        Offers and answers come last: one that cannot be written keeps no attempt from starting or stopping.
        """
        for kinds in ((Stop,), (Release, Start), (Offer, Answer)):
            deeds = [self._deed(run.key, effect) for effect in effects if isinstance(effect, kinds)]
            if len(deeds) == 1:
                await deeds[0]
            elif deeds:
                results = await asyncio.gather(*deeds, return_exceptions=True)
                for result in results:
                    if isinstance(result, BaseException):
                        raise result

    async def _deed(self, key: RunKey, effect: Effect) -> None:
        match effect:
            case Start(attempt=attempt, kind=kind):
                await self._executors[kind].start(attempt)
            case Stop(attempt=attempt_id, kind=kind, reason=reason):
                await self._executors[kind].stop(attempt_id, key, reason)
            case Release(attempt=attempt_id, kind=kind):
                await self._executors[kind].release(attempt_id, key)
            case Offer():
                self._actions.offer(key, effect)
            case Answer(command=command, applied=applied, message=message):
                await self._actions.answer(command, key, applied=applied, message=message)

    async def abandon(self, key: RunKey, *, keep: str | None) -> None:
        """Stop and let go of attempts of runs that are gone: of the same name, but another uid than `keep`."""
        for executor in self._executors.values():
            for uid in executor.runs_at(key) - {keep}:
                for attempt in executor.observe(key, uid):
                    await executor.stop(attempt, key, "its run is gone")
                    await executor.release(attempt, key)

    async def refuse_actions(self, key: RunKey) -> None:
        """Answer the WorkflowActions, and events, for a run that does not exist; what it offered itself is withdrawn."""
        self._actions.gone(key)
        for command in self._actions.of_run(key, None):
            message = command.problem or f"there is no WorkflowRun {key.name!r} in namespace {key.namespace!r}"
            await self._actions.answer(command, key, applied=False, message=message)
