# SPDX-License-Identifier: Apache-2.0
"""Pod activities as processes of this machine, for `kubesaga run --pods local`: the kubelet's part, in small.

What is to run is read from the pod that a cluster would get, and how it ended is told in the kubelet's words to the same
reader (`pod_outcome`), so that a Workflow sees no difference. What is not the same: the command is this machine's, not
the image's; resources are not enforced; there are no Secrets, ConfigMaps and Services.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from kubesaga.api.parsing import field_path
from kubesaga.api.reasons import Reason
from kubesaga.api.workflow import Activity
from kubesaga.engine.attempt import Attempt, AttemptId, Failed, Observation, RunKey
from kubesaga.errors import Problem
from kubesaga.executors.base import Wake
from kubesaga.executors.in_process import AttemptTable
from kubesaga.executors.pod_manifest import CONTAINER, build_pod
from kubesaga.executors.pod_outcome import observe_pod
from kubesaga.executors.process_logs import Log, TerminationLogs, launched

GRACE: Final = 30.0
"""Seconds from SIGTERM to SIGKILL: Kubernetes' own default."""
_LOG_BYTES: Final = 2048
_LOG_LINES: Final = 80
"""How much of a failed container's output the kubelet takes for its message where it wrote none."""
_LONGEST_LINE: Final = 8192
_LAST_WORDS: Final = 1.0
"""Seconds to read what is still in the pipe once the process has ended and its group was killed."""
_REFERENCE: Final = re.compile(r"\$(?:\$|\(([^)]*)\))")

OnLine = Callable[[str, str], None]
"""Is told each line that an activity's process prints: the activity's name, the line."""


def why_not_local(activity: Activity, path: str) -> Iterator[Problem]:
    """Yield what keeps a pod activity, whose field has that path, from being a local process."""
    if activity.pod is None:
        return
    if not activity.pod.command:
        told = "is needed to run it as a local process: the image's own entrypoint is in the image"
        yield Problem(field_path(path, "pod", "command"), told)
    for number, var in enumerate(activity.pod.env or ()):
        source = var.value_from
        selector = source and (source.secret_key_ref or source.config_map_key_ref)
        if selector and not selector.optional:
            told = "there are no Secrets and ConfigMaps without a cluster; give a value, or say optional: true"
            yield Problem(field_path(path, "pod", "env", number, "valueFrom"), told)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What a container is told to do."""

    command: list[str]
    env: dict[str, str]
    cwd: str | None


class ProcessExecutor:
    """Carries out the attempts of pod activities, in one event loop; to be closed.

    `base` is the environment that every process has beside its own. `folder` is an empty folder of ours.
    """

    def __init__(
        self,
        wake: Wake,
        logs: TerminationLogs,
        *,
        folder: Path,
        base: Mapping[str, str],
        on_line: OnLine = lambda _activity, _line: None,
        grace: float = GRACE,
        max_output_bytes: int = 65536,
    ) -> None:
        self._table = AttemptTable(wake)
        self._logs = logs
        self._folder = folder
        self._base = dict(base)
        self._on_line = on_line
        self._grace = grace
        self._max_output_bytes = max_output_bytes
        self._tasks: dict[AttemptId, asyncio.Task[None]] = {}
        self._groups: dict[AttemptId, int] = {}
        """The process groups that are not known to be empty."""
        self._kills: dict[AttemptId, asyncio.TimerHandle] = {}

    async def start(self, attempt: Attempt) -> None:
        """See Executor."""
        if not self._table.begin(attempt):
            return
        pod = build_pod(attempt)
        if isinstance(pod, Failed):
            self._table.end(attempt.id, pod)
            return
        task = asyncio.create_task(self._carry_out(attempt, pod), name=f"process {attempt.id.activity}")
        self._tasks[attempt.id] = task
        task.add_done_callback(partial(self._over, attempt.id))

    def observe(self, run: RunKey, run_uid: str) -> Mapping[AttemptId, Observation]:  # noqa: ARG002 - see Executor
        """See Executor."""
        return self._table.observe(run_uid)

    def runs_at(self, run: RunKey) -> set[str]:
        """See Executor."""
        return self._table.runs_at(run)

    async def stop(self, attempt: AttemptId, run: RunKey, reason: str) -> None:  # noqa: ARG002 - see Executor
        """See Executor. SIGTERM to the process and its children, SIGKILL after the grace."""
        if attempt in self._kills or not self._table.is_live(attempt):
            return
        if attempt not in self._groups:
            told = f"it was told to stop ({reason}) before it had begun"
            self._table.end(attempt, Failed(reason=Reason.POD_DELETED, message=told))
            self._end(attempt)
            return
        self._signal(attempt, signal.SIGTERM)
        loop = asyncio.get_running_loop()
        self._kills[attempt] = loop.call_later(self._grace, self._signal, attempt, signal.SIGKILL)

    async def release(self, attempt: AttemptId, run: RunKey) -> None:  # noqa: ARG002 - see Executor
        """See Executor. What is still running is killed."""
        self._end(attempt)
        self._table.forget(attempt)

    def kill(self) -> None:
        """Kill every process at once."""
        for attempt in list(self._groups):
            self._signal(attempt, signal.SIGKILL)

    async def close(self) -> None:
        """Kill what is left, and wait until it is gone."""
        tasks = list(self._tasks.values())
        for attempt in list(self._tasks):
            self._end(attempt)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._logs.close()

    async def _carry_out(self, attempt: Attempt, pod: dict[str, Any]) -> None:
        async with self._logs.lend() as log:
            end = await self._run(attempt.id, log, _order_of(pod, self._base))
        seen = observe_pod({**pod, "status": _status_of(end)}, max_output_bytes=self._max_output_bytes)
        outcome = seen.outcome
        assert outcome is not None, "its container has terminated"
        if isinstance(outcome, Failed) and attempt.id in self._kills:
            outcome = replace(outcome, in_doubt=True)
        self._table.end(attempt.id, outcome)

    async def _run(self, attempt: AttemptId, log: Log, order: _Order) -> dict[str, Any]:
        """Run a process to its end; return that in the kubelet's words."""
        path = self._folder / f"order-{attempt.deed}-{attempt.activity}-{attempt.number}"
        async with launched(log.order(order.command, order.env, order.cwd), path) as started:
            process = started.process
            self._groups[attempt] = process.pid
            reading = asyncio.create_task(self._read(attempt.activity, started.printed))
            try:
                code = await process.wait()
                self._signal(attempt, signal.SIGKILL)  # a container ends with its first process
                await asyncio.wait({reading}, timeout=_LAST_WORDS)
            finally:
                self._signal(attempt, signal.SIGKILL)
                del self._groups[attempt]
                reading.cancel()
            if problem := started.problem():
                return {"exitCode": 128, "reason": "StartError", "message": problem}
            exit_code = code if code >= 0 else 128 - code
            message = log.read()
            if exit_code and not message and reading.done() and not reading.cancelled():
                message = _end_of(reading.result())
            return {"exitCode": exit_code, "message": message}

    async def _read(self, activity: str, printed: asyncio.StreamReader) -> bytes:
        """Hand each line on as it is printed; return the end of all."""
        kept, line = b"", b""
        while chunk := await printed.read(65536):
            kept = (kept + chunk)[-_LOG_BYTES:]
            *lines, line = (line + chunk).split(b"\n")
            if len(line) > _LONGEST_LINE:
                lines, line = [*lines, line], b""
            for complete in lines:
                self._on_line(activity, complete.decode(errors="replace"))
        if line:
            self._on_line(activity, line.decode(errors="replace"))
        return kept

    def _end(self, attempt: AttemptId) -> None:
        """Kill an attempt's process, or let it not begin."""
        if attempt in self._groups:
            self._signal(attempt, signal.SIGKILL)
        elif (task := self._tasks.get(attempt)) is not None:
            task.cancel()

    def _signal(self, attempt: AttemptId, number: signal.Signals) -> None:
        group = self._groups.get(attempt)
        if group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)

    def _over(self, attempt: AttemptId, task: asyncio.Task[None]) -> None:
        self._tasks.pop(attempt, None)
        if (timer := self._kills.pop(attempt, None)) is not None:
            timer.cancel()
        if not task.cancelled() and (error := task.exception()) is not None:
            told = f"the process could not be started: {error}"
            self._table.end(attempt, Failed(reason=Reason.CONTAINER_CANNOT_RUN, message=told))


def expand(text: str, known: Mapping[str, str]) -> str:
    """Return a text with its `$(NAME)` replaced and `$$` as one `$`, as the kubelet does; unknown names stay as they are.

    Source: Kubernetes' documentation of `Container.args` and `EnvVar.value` (API reference, Pod v1).
    """
    return _REFERENCE.sub(lambda match: "$" if match[1] is None else known.get(match[1], match[0]), text)


def _order_of(pod: dict[str, Any], base: Mapping[str, str]) -> _Order:
    container = pod["spec"]["containers"][0]
    declared: dict[str, str] = {}
    for var in container.get("env", ()):
        if "value" in var:  # a valueFrom that got here is optional, and not there
            declared[var["name"]] = expand(var["value"], declared)
    words = [*container.get("command", ()), *container.get("args", ())]
    return _Order(
        command=[expand(word, declared) for word in words], env={**base, **declared}, cwd=container.get("workingDir")
    )


def _status_of(end: dict[str, Any]) -> dict[str, Any]:
    phase = "Succeeded" if end["exitCode"] == 0 else "Failed"
    return {
        "phase": phase,
        "containerStatuses": [{"name": CONTAINER, "containerID": "process", "state": {"terminated": end}}],
    }


def _end_of(printed: bytes) -> str:
    return "\n".join(printed.decode(errors="replace").splitlines()[-_LOG_LINES:])
