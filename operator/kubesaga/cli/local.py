# SPDX-License-Identifier: Apache-2.0
"""The world without a cluster: the operator's own queue, reconciler and executors over records in memory.

Nothing is decided here; it is the composition root of `kubesaga run`, and beside `main` the one place below which no
clock, chance and environment is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import shutil
import signal
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kubesaga.api.names import FINISHED_LABEL
from kubesaga.api.reasons import Reason
from kubesaga.api.run import RunPhase
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.cli.given_signals import GivenSignals, unanswered
from kubesaga.cli.progress import Progress
from kubesaga.controller.actuator import Actuator
from kubesaga.controller.announcer import Announcer
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.delivering.mailbox import Mailbox
from kubesaga.controller.guards.all import Guards
from kubesaga.controller.loader import Loader
from kubesaga.controller.memory import MemoryRecords, MemoryRevisions
from kubesaga.controller.queue import Queue
from kubesaga.controller.reconciler import Reconciler
from kubesaga.engine.admission.ledger import Ledger
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.compiling import compile_definition
from kubesaga.engine.definition import Kind
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.uses import NOTHING, Catalogue, Uses
from kubesaga.executors.base import Executor, Wake
from kubesaga.main.process import SystemClock, limits_of, operator_limits_of
from kubesaga.settings import Settings

if TYPE_CHECKING:
    from kubesaga.executors.processes import ProcessExecutor

_TICK: Final = 0.5
_LEFT: Final = 130
"""Exit status after the third Ctrl-C: 128 and the number of SIGINT, as a shell's."""
_HANDED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR")
"""What local processes have of our environment; a pod would have as little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run that is known to be right: what `kubectl create` would make, and what it works from."""

    name: str
    namespace: str
    workflow: str
    """Name of the Workflow."""
    document: Mapping[str, Any]
    """The Workflow's spec on the wire."""
    spec: WorkflowSpec
    inputs: Mapping[str, Any]
    event: str | None = None
    signals: Mapping[str, Any] = field(default_factory=dict)
    """The values of Signals, by the activity that waits for them."""
    catalogue: Catalogue = field(default_factory=Catalogue)
    """The Activities of the files."""
    uses: Uses = NOTHING
    """Those among them that it uses."""

    @property
    def key(self) -> RunKey:
        """Where the run is found."""
        return RunKey(namespace=self.namespace, name=self.name)

    @property
    def names(self) -> list[str]:
        """The activities, those of `finally` last."""
        return [activity.name for activity in [*self.spec.activities, *self.spec.finally_]]

    @property
    def loose_undos(self) -> list[str]:
        """The listed undos that undo no activity."""
        listed = self.spec.compensation.activities if self.spec.compensation is not None else []
        return [undo.name for undo in listed if undo.for_ is None]

    @property
    def kinds(self) -> set[Kind]:
        """What kinds of activities, undos and fallbacks there are that take an executor."""
        deeds = compile_definition(self.workflow, self.spec, self.uses).deeds.values()
        return {
            step.kind for deed in deeds for step in (deed, deed.rejected) if step is not None and not step.kind.waits
        }

    def run_spec(self) -> dict[str, Any]:
        """Return the WorkflowRun's spec on the wire."""
        spec: dict[str, Any] = {
            "workflowRef": {"name": self.workflow},
            "inputs": dict(self.inputs),
            "event": self.event,
        }
        return {name: value for name, value in spec.items() if value not in (None, {})}


class LocalWorld:
    """Carries one plan out."""

    def __init__(self, plan: Plan, settings: Settings, evaluator: Evaluator, progress: Progress) -> None:
        self._plan = plan
        self._settings = settings
        self._evaluator = evaluator
        self._progress = progress
        self._clock = SystemClock()
        self._finished = asyncio.Event()
        self._records = MemoryRecords(self._changed)
        self._folder: Path | None = None
        self._processes: ProcessExecutor | None = None
        self._queue: Queue | None = None
        self._shutdown: str | None = None
        self.undecided = False
        """The run was ended because it waited for a decision that nobody can take here."""

    async def run(self) -> dict[str, Any]:
        """Run to the end; return the WorkflowRun as it is then. Raises KubesagaError where it cannot be tried."""
        plan, clock = self._plan, self._clock
        async with AsyncExitStack() as stack:
            queue: Queue
            executors = await self._executors(stack, lambda key: queue.add(key))
            definitions = Definitions(
                self._read_workflow, MemoryRevisions(), self._evaluator, self._read_activities
            )  # fmt: skip
            guards = Guards(None, clock, on_change=lambda _key: queue.add(plan.key))
            ledger = Ledger(operator_limits_of(self._settings), guards, lambda key: queue.add(key))
            actions = Mailbox(GivenSignals(plan.signals, self._progress.say))
            reconciler = Reconciler(
                Loader(
                    self._records, definitions, executors, actions, namespace_ending=_never,
                    worker=secrets.token_hex(4), limits=limits_of(self._settings),
                ),
                self._records, Actuator(executors, actions), Announcer(),
                evaluator=self._evaluator, ledger=ledger, clock=clock,
            )  # fmt: skip
            queue = Queue(reconciler.process, clock, workers=1, jitter=random.random)
            self._queue = queue
            stack.enter_context(self._signals())
            self._records.create(plan.key, plan.run_spec(), clock.now())
            queue.add(plan.key)
            await self._work(queue)
        self._progress.close(clock.now())
        return self._records.bodies[plan.key]

    async def _work(self, queue: Queue) -> None:
        working = asyncio.create_task(queue.run())
        finished = asyncio.create_task(self._finished.wait())
        try:
            while not finished.done() and not working.done():
                await asyncio.wait({working, finished}, timeout=_TICK, return_when=asyncio.FIRST_COMPLETED)
                self._progress.tick(self._clock.now())
        finally:
            for task in (working, finished):
                task.cancel()
            results = await asyncio.gather(working, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _changed(self, _: RunKey, body: dict[str, Any]) -> None:
        status = body.get("status") or {}
        self._progress.update(status, self._clock.now())
        if (told := _wanting(status, self._plan.spec)) and not self.undecided:
            self.undecided = True
            # Later: this is in the middle of a write.
            asyncio.get_running_loop().call_soon(self._shut_down, "Terminate", told)
        if FINISHED_LABEL in (body["metadata"].get("labels") or {}):
            self._finished.set()

    async def _read_workflow(self, namespace: str, name: str) -> dict[str, Any] | None:
        known = (namespace, name) == (self._plan.namespace, self._plan.workflow)
        return dict(self._plan.document) if known else None

    async def _read_activities(self, _: str) -> Catalogue:
        return self._plan.catalogue

    # --- what carries activities out --------------------------------------------------------------------------------

    async def _executors(self, stack: AsyncExitStack, wake: Wake) -> dict[Kind, Executor]:
        """Return an executor for each kind of activity that there is: what is not needed is not even imported."""
        makers = {Kind.HANDLER: self._handlers, Kind.HTTP: self._http, Kind.POD: self._pods}
        return {kind: await makers[kind](stack, wake) for kind in sorted(self._plan.kinds)}

    async def _handlers(self, stack: AsyncExitStack, wake: Wake) -> Executor:
        from kubesaga.executors.handlers import HandlerExecutor
        from kubesaga.executors.registry import handlers

        executor = HandlerExecutor(
            handlers, wake, monotonic=self._clock.monotonic, threads=self._settings.handler_threads,
            max_output_bytes=self._settings.max_output_bytes,
        )  # fmt: skip
        stack.push_async_callback(executor.close)
        return executor

    async def _http(self, stack: AsyncExitStack, wake: Wake) -> Executor:
        from kubesaga.executors.egress import EgressGuard, SystemLookup
        from kubesaga.executors.egress_policy import EgressPolicy
        from kubesaga.executors.http import HttpExecutor

        lookup = SystemLookup()
        stack.callback(lookup.close)
        executor = HttpExecutor(EgressGuard(EgressPolicy(self._settings.egress_allow), lookup), wake, self._settings)
        stack.push_async_callback(executor.close)
        return executor

    async def _pods(self, stack: AsyncExitStack, wake: Wake) -> Executor:
        from kubesaga.executors.process_logs import termination_logs
        from kubesaga.executors.processes import ProcessExecutor

        self._progress.say(
            "pods run as processes of this machine: their images, resources and service accounts are ignored"
        )
        self._folder = Path(tempfile.mkdtemp(prefix="kubesaga-"))
        stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        logs = await termination_logs(self._folder)
        executor = self._processes = ProcessExecutor(
            wake, logs, folder=self._folder, base=_handed_on(os.environ),  # noqa: TID251 - see read_settings
            on_line=self._progress.printed,
            max_output_bytes=self._settings.max_output_bytes,
        )  # fmt: skip
        stack.push_async_callback(executor.close)
        return executor

    # --- Ctrl-C -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._interrupt)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _interrupt(self) -> None:
        match self._shutdown:
            case None:
                told = "cancelling: what runs is stopped, then come undos and finally; once more to leave those out"
                self._shut_down("Cancel", told)
            case "Cancel":
                self._shut_down("Terminate", "stopping what runs; once more to leave at once")
            case _:
                self._leave()

    def _shut_down(self, way: str, told: str) -> None:
        self._shutdown = way
        self._progress.say(told)
        self._records.change_spec(self._plan.key, shutdown=way)
        if self._queue is not None:
            self._queue.add(self._plan.key)

    def _leave(self) -> None:
        """End this process without waiting for anything: a handler's thread might never end."""
        if self._processes is not None:
            self._processes.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._progress.close(self._clock.now())
        os._exit(_LEFT)


async def _never(_: str) -> bool:
    """Tell that a namespace is not being deleted: here is none."""
    return False


def _wanting(status: Mapping[str, Any], spec: WorkflowSpec) -> str | None:
    """Return what is told of a run that only a WorkflowAction, or an event, could take on; None where it goes on by itself."""
    undone = next((known for known in status.get("conditions") or () if known["type"] == "Compensated"), None)
    if status.get("phase") == RunPhase.COMPENSATION_FAILED:
        why = undone["message"].partition(" Not undone: ")[2] if undone else ""
        return f"not undone: {why or status.get('message')}; in a cluster the run would wait for somebody, here it ends"
    if undone is not None and undone["reason"] == Reason.AWAITING_DECISION:
        told = "undoing waits to be approved (compensation.mode: Manual)"
        return f"{told}; in a cluster a WorkflowAction would answer, here the run ends with nothing undone"
    return unanswered(status, spec)


def _handed_on(environ: Mapping[str, str], names: Collection[str] = _HANDED_ON) -> dict[str, str]:
    return {"PATH": os.defpath} | {name: environ[name] for name in names if name in environ}
