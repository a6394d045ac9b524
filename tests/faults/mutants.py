# SPDX-License-Identifier: Apache-2.0
"""Operators that break a law on purpose, so that the harness is seen to notice: `python -m tests.faults.mutants NAME controller …`.

Each is one change of the operator's own code, made in its process after it is loaded and before it starts.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.reconciler import Reconciler
from kubesaga.engine.attempt import Attempt
from kubesaga.engine.decision import Release
from kubesaga.executors.pods import PodExecutor
from kubesaga.kube.client import KubeClient
from kubesaga.kube.errors import ServerUnavailable


def acts_before_it_writes() -> None:
    """Deeds first, then the status."""
    write = Reconciler._write_down

    async def early(self: Any, run: Any, loaded: Any, decision: Any) -> Any:
        await self._actuator.perform(run, [deed for deed in decision.effects if type(deed).__name__ != "Tidy"])
        return await write(self, run, loaded, decision)

    Reconciler._write_down = early  # type: ignore[method-assign]


def lets_go_before_it_writes() -> None:
    """Pods lose their finalizer before their end is in the status: as soon as it is seen."""
    write = Reconciler._write_down

    async def careless(self: Any, run: Any, loaded: Any, decision: Any) -> Any:
        kinds = loaded.snapshot.holders
        ended = [
            attempt for attempt, seen in loaded.snapshot.observed.items() if seen.outcome is not None and seen.pod_name
        ]
        await self._actuator.perform(run, [Release(attempt=attempt, kind=kinds[attempt]) for attempt in ended])
        return await write(self, run, loaded, decision)

    Reconciler._write_down = careless  # type: ignore[method-assign]


def believes_old_copies() -> None:
    """Whatever the watch told last is the present, and nothing needs to be confirmed."""

    def saw(self: Any, key: Any, body: Any) -> bool:
        self._bodies[key] = body
        self._suspect.discard(key)
        return True

    KubeRecords.saw = saw  # type: ignore[method-assign]
    KubeRecords.is_confirmed = lambda self, run: True  # type: ignore[method-assign]


def forgets_names() -> None:
    """Each creation of a pod is of another one."""
    create = KubeClient.create
    numbers = itertools.count()

    async def nameless(self: Any, resource: Any, namespace: Any, body: Any, **more: Any) -> Any:
        if resource.plural == "pods":
            name = f"{body['metadata']['name'][:40]}-{os.getpid()}-{next(numbers)}"
            body = {**body, "metadata": {**body["metadata"], "name": name}}
        return await create(self, resource, namespace, body, **more)

    KubeClient.create = nameless  # type: ignore[method-assign]


def does_not_wait() -> None:
    """Attempts begin before their time."""
    from kubesaga.engine import advance, reconcile

    due, wake = advance.start_due, reconcile.wake_time
    early = timedelta(seconds=0.4)

    def hasty(draft: Any) -> None:
        draft.now += early
        due(draft)
        draft.now -= early

    def earlier(draft: Any, status: Any) -> Any:
        when = wake(draft, status)
        return None if when is None else when - early

    advance.start_due = hasty
    reconcile.wake_time = earlier


def takes_silence_for_consent() -> None:
    """A status write without an answer counts as done."""
    write = KubeRecords.write_status

    async def trusting(self: Any, run: Any, old: Any, new: Any) -> str:
        try:
            return await write(self, run, old, new)
        except ServerUnavailable:
            self._suspect.discard(run.key)
            self._confirmed[run.key] = run.version
            version: str = run.version
            return version

    KubeRecords.write_status = trusting  # type: ignore[method-assign]


def makes_up_keys() -> None:
    """Each attempt bears an idempotency key of its own."""
    Attempt.idempotency_key = property(lambda self: f"{self.id.run_uid}/{self.id.activity}/{self.id.number}/do")  # type: ignore[method-assign,assignment]


def keeps_pods() -> None:
    """Pods are never let go."""

    async def release(self: Any, attempt: Any, run: Any) -> None:
        self._memory.forget(attempt)

    PodExecutor.release = release  # type: ignore[method-assign]


def never_looks_again() -> None:
    """What a watch has not told does not exist: no comparison with a listing, ever."""
    from kubesaga.controller.resync import Resync

    async def look(self: Any) -> None:
        return

    Resync.look = look  # type: ignore[method-assign]


MUTANTS: Final[dict[str, Callable[[], None]]] = {
    "acts before it writes": acts_before_it_writes,
    "lets go before it writes": lets_go_before_it_writes,
    "believes old copies": believes_old_copies,
    "forgets names": forgets_names,
    "does not wait": does_not_wait,
    "takes silence for consent": takes_silence_for_consent,
    "makes up keys": makes_up_keys,
    "keeps pods": keeps_pods,
    "never looks again": never_looks_again,
}


def main() -> None:
    """Become the operator, changed."""
    name = sys.argv.pop(1)
    from kubesaga.cli.app import main as kubesaga
    from kubesaga.main import controller  # noqa: F401 - all that a mutant may change must be loaded

    MUTANTS[name]()
    kubesaga(prog_name="kubesaga")


if __name__ == "__main__":
    main()
