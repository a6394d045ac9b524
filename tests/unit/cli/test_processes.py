# SPDX-License-Identifier: Apache-2.0
"""Pod activities as processes of this machine end as they would in a cluster."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kubesaga.api.reasons import Reason
from kubesaga.api.workflow import Activity
from kubesaga.engine.attempt import Attempt, AttemptId, Failed, Observation, Outcome, RunKey, Stage, Succeeded
from kubesaga.executors.process_launcher import TERMINATION_LOG
from kubesaga.executors.process_logs import NoTerminationLog, SharedLog, termination_logs
from kubesaga.executors.processes import ProcessExecutor, expand, why_not_local

RUN = RunKey(namespace="here", name="run")
UID = "0b0c"


def attempt_of(pod: Mapping[str, Any], name: str = "act", **fields: Any) -> Attempt:
    activity = Activity.model_validate({"name": name, "pod": {"image": "any", **pod}})
    return Attempt(
        id=AttemptId(run_uid=UID, activity=name, number=1), run=RUN, workflow="w", activity=activity,
        input=fields.pop("input", {}), **fields,
    )  # fmt: skip


def shell(script: str, **pod: Any) -> Attempt:
    return attempt_of({"command": ["sh", "-c", script], **pod})


@dataclass
class World:
    """An executor, what it has printed, and a way to wait for what it does."""

    executor: ProcessExecutor
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    lines: list[tuple[str, str]] = field(default_factory=list)

    def observation(self, attempt: Attempt) -> Observation:
        return self.executor.observe(RUN, UID)[attempt.id]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(holds), 30)

    async def outcome(self, attempt: Attempt) -> Outcome:
        await self.executor.start(attempt)
        await self.until(lambda: self.observation(attempt).stage is Stage.ENDED)
        outcome = self.observation(attempt).outcome
        assert outcome is not None
        return outcome


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """The executor with the logs that this machine has."""
    try:
        logs = await termination_logs(tmp_path)
    except NoTerminationLog as error:
        pytest.skip(str(error))
    tasks: set[asyncio.Task[None]] = set()

    async def notify() -> None:
        async with world.changed:
            world.changed.notify_all()

    def wake(*_: object) -> None:
        task = asyncio.get_running_loop().create_task(notify())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def printed(activity: str, line: str) -> None:
        world.lines.append((activity, line))
        wake()

    base = {"PATH": os.defpath, "HOME": "/home/nobody"}
    world = World(ProcessExecutor(wake, logs, folder=tmp_path, base=base, on_line=printed, grace=0.3))
    yield world
    await world.executor.close()
    await asyncio.gather(*tasks)
    assert set(os.listdir(tmp_path)) <= {"room"}, "something was left behind"


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        pytest.param("true", Succeeded(), id="nothing written is no output"),
        pytest.param('echo \'{"a": 1}\' > /dev/termination-log', Succeeded(output={"a": 1}), id="an object is the output"),
        pytest.param("echo hello > /dev/termination-log", Succeeded(output={"message": "hello"}), id="text is a message"),
        pytest.param("echo printed", Succeeded(), id="what is printed is no output"),
        pytest.param(
            "echo broken > /dev/termination-log; exit 3",
            Failed(reason=Reason.CONTAINER_FAILED, message="exit code 3: broken"),
            id="a failure is explained by the log",
        ),
        pytest.param(
            "echo one; echo two >&2; exit 3",
            Failed(reason=Reason.CONTAINER_FAILED, message="exit code 3: one\ntwo"),
            id="or by what was printed last",
        ),
        pytest.param(
            "for i in $(seq 200); do echo line $i; done; exit 1",
            Failed(
                reason=Reason.CONTAINER_FAILED,
                message="exit code 1: " + "\n".join(f"line {number}" for number in range(121, 201)),
            ),
            id="the last eighty lines of it",
        ),
        pytest.param(
            "kill -KILL $$$$",  # $$ is one $ for the kubelet
            Failed(reason=Reason.CONTAINER_FAILED, message="exit code 137 (SIGKILL)", in_doubt=True),
            id="killed by a signal",
        ),
        pytest.param("kill -PIPE $$$$", Failed(reason=Reason.CONTAINER_FAILED, message="exit code 141"), id="no signal is ignored"),
        pytest.param("sleep 1000 & echo '{}' > /dev/termination-log", Succeeded(output={}), id="what is left in the background ends too"),
        pytest.param("cat; test ! -t 0", Succeeded(), id="there is nothing to read and no terminal"),
        pytest.param("echo x > /dev/null; test -c /dev/urandom && test -d /dev/shm && test -L /dev/stdout", Succeeded(), id="the rest of /dev is there"),
    ],
)  # fmt: skip
async def test_an_end(world: World, script: str, outcome: Outcome) -> None:
    assert await world.outcome(shell(script)) == outcome


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        pytest.param(
            {"command": ["no-such-command"]}, "no-such-command: No such file or directory", id="no such command"
        ),
        pytest.param({"command": ["/etc/passwd"]}, "/etc/passwd: Permission denied", id="not executable"),
        pytest.param(
            {"command": ["true"], "workingDir": "/no/such"}, "/no/such: No such file or directory", id="no such folder"
        ),
    ],
)
async def test_a_command_that_cannot_be_started(world: World, pod: dict[str, Any], message: str) -> None:
    assert await world.outcome(attempt_of(pod)) == Failed(reason=Reason.CONTAINER_CANNOT_RUN, message=message)


async def test_an_output_beyond_what_kubernetes_keeps(world: World) -> None:
    outcome = await world.outcome(shell("head -c 5000 /dev/zero | tr '\\0' x > /dev/termination-log"))
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.OUTPUT_TOO_LARGE


async def test_the_environment_is_the_pods_and_little_else(world: World) -> None:
    attempt = attempt_of(
        {
            "command": ["env"],
            "env": [
                {"name": "WHO", "value": "${inputs.who}"},
                {"name": "GREETING", "value": "hello $(WHO), $$(WHO), $(NOBODY)"},
                {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
            ],
        },
        env={"WHO": "$(HOME)"},
        input={"p": "ü$x"},
    )
    await world.outcome(attempt)
    assert dict(line.partition("=")[::2] for _, line in world.lines) == {
        "PATH": os.defpath,
        "HOME": "/home/nobody",
        "WHO": "$(HOME)",
        "GREETING": "hello $(HOME), $(WHO), $(NOBODY)",
        "KUBESAGA_PARAMS": '{"p":"ü$x"}',
        "KUBESAGA_NAMESPACE": "here",
        "KUBESAGA_WORKFLOW": "w",
        "KUBESAGA_RUN": "run",
        "KUBESAGA_ACTIVITY": "act",
        "KUBESAGA_ATTEMPT": "1",
        "KUBESAGA_DEED": "do",
        "KUBESAGA_IDEMPOTENCY_KEY": "0b0c/act/do",
    }


async def test_references_in_the_command_are_replaced(world: World) -> None:
    pod = {"command": ["echo", "$(A)"], "args": ["$$(A)", "$(B)"], "env": [{"name": "A", "value": "x y"}]}
    await world.outcome(attempt_of(pod))
    assert world.lines == [("act", "x y $(A) $(B)")]


async def test_each_of_many_at_once_has_a_log_of_its_own(world: World) -> None:
    attempts = [
        attempt_of({"command": ["sh", "-c", f"echo {number} > {TERMINATION_LOG}"]}, f"a{number}") for number in range(8)
    ]
    outcomes = await asyncio.gather(*(world.outcome(attempt) for attempt in attempts))
    assert outcomes == [Succeeded(output={"message": str(number)}) for number in range(8)]


async def test_a_start_that_is_repeated_starts_nothing(world: World) -> None:
    attempt = shell("echo begun; sleep 1000")
    await world.executor.start(attempt)
    await world.executor.start(attempt)
    await world.until(lambda: bool(world.lines))
    assert world.lines == [("act", "begun")]
    assert world.executor.runs_at(RUN) == {UID}


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        pytest.param(
            "trap 'echo bye; exit 5' TERM; echo begun; sleep 1000 & wait",
            Failed(reason=Reason.CONTAINER_FAILED, message="exit code 5: begun\nbye", in_doubt=True),
            id="one that cleans up",
        ),
        pytest.param(
            "trap '' TERM; echo begun; while :; do sleep 1000; done",
            Failed(reason=Reason.CONTAINER_FAILED, message="exit code 137 (SIGKILL): begun", in_doubt=True),
            id="one that does not care",
        ),
    ],
)
async def test_a_process_that_is_stopped(world: World, script: str, outcome: Outcome) -> None:
    attempt = shell(script)
    await world.executor.start(attempt)
    await world.until(lambda: bool(world.lines))
    await world.executor.stop(attempt.id, RUN, "test")
    await world.executor.stop(attempt.id, RUN, "test")
    await world.until(lambda: world.observation(attempt).stage is Stage.ENDED)
    assert world.observation(attempt).outcome == outcome


async def test_a_released_attempt_is_forgotten(world: World) -> None:
    attempt = shell("sleep 1000")
    await world.executor.start(attempt)
    await world.executor.release(attempt.id, RUN)
    assert world.executor.observe(RUN, UID) == {}
    assert world.executor.runs_at(RUN) == set()
    await world.executor.stop(attempt.id, RUN, "what is not there is no error")


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"), ("x$(A)y$(A)", "x1y1"), ("$$(A)", "$(A)"), ("$$$(A)", "$1"), ("$$$$(A)", "$$(A)"), ("$(NO)", "$(NO)"),
        ("$(A", "$(A"), ("$A", "$A"), ("$()", "$()"), ("$", "$"), ("$$", "$"), ("5$ and $$5", "5$ and $5"),
    ],
)  # fmt: skip
def test_references_as_the_kubelet_reads_them(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


@pytest.mark.parametrize(
    ("pod", "problems"),
    [
        pytest.param({"command": ["x"]}, [], id="a command"),
        pytest.param(
            {"args": ["x"]},
            ["p.pod.command: is needed to run it as a local process: the image's own entrypoint is in the image"],
            id="no command",
        ),
        pytest.param(
            {"command": ["x"], "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]},
            ["p.pod.env[1].valueFrom: there are no Secrets and ConfigMaps without a cluster; give a value, or say optional: true"],
            id="a ConfigMap",
        ),
    ],
)  # fmt: skip
def test_what_no_local_process_can_be(pod: dict[str, Any], problems: list[str]) -> None:
    activity = Activity.model_validate({"name": "a", "pod": {"image": "i", **pod}})
    assert [str(problem) for problem in why_not_local(activity, "p")] == problems


async def test_one_log_for_all_is_lent_to_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs = SharedLog(path)
    order: list[str] = []

    async def borrow(name: str) -> None:
        async with logs.lend() as log:
            assert log.read() == ""
            order.append(f"{name} has it")
            path.write_text(name)
            await asyncio.sleep(0)
            assert log.read() == name
            order.append(f"{name} is done")

    await asyncio.gather(borrow("a"), borrow("b"))
    assert order == ["a has it", "a is done", "b has it", "b is done"]
    with pytest.raises(NoTerminationLog, match="is used by another `kubesaga run`"):
        SharedLog(path)
    logs.close()
    assert not path.exists()


async def test_a_log_that_was_there_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    SharedLog(path).close()
    assert path.exists()


async def test_pods_need_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(NoTerminationLog, match="on Linux alone"):
        await termination_logs(tmp_path)
