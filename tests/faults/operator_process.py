# SPDX-License-Identifier: Apache-2.0
"""The operator as a process that is started again whenever it ends, as Kubernetes would."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEASE_LOST = 70
KILLED = -signal.SIGKILL
FASTEST_RESTART = 0.2
"""Seconds before it is started again if it ended by itself."""


class OperatorProcess:
    """`kubesaga controller` for one namespace, through the proxy at `url`. `mutant`: see mutants.py."""

    def __init__(self, folder: Path, namespace: str, *, name: str = "operator-0", mutant: str = "") -> None:
        self.name = name
        self.life = 0
        self.exits: list[int] = []
        """How each life ended: the exit status, negative for a signal."""
        self.settings = {
            "namespaces": namespace, "lease_namespace": namespace, "identity": name, "http_host": "127.0.0.1",
            "http_port": "0", "cel_processes": "1", "resync_interval": "1", "max_interruptions": "100",
            "handlers": "faults_handlers",
        }  # fmt: skip
        self._folder = folder
        self._mutant = mutant
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def log_file(self) -> Path:
        """What it logs, over all its lives."""
        return self._folder / f"{self.name}.log"

    @property
    def kubeconfig(self) -> Path:
        """How it reaches the proxy."""
        return self._folder / f"{self.name}.kubeconfig"

    def point_to(self, url: str, token: str = "") -> None:
        """Write its kubeconfig."""
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "faults",
            "clusters": [{"name": "faults", "cluster": {"server": url}}],
            "users": [{"name": "faults", "user": {"token": token} if token else {}}],
            "contexts": [{"name": "faults", "context": {"cluster": "faults", "user": "faults"}}],
        }  # fmt: skip
        self.kubeconfig.write_text(json.dumps(config))

    def start(self) -> None:
        """Start it, and keep starting it."""
        self._wanted.set()
        if self._task is None:
            self._task = asyncio.create_task(self._supervise())

    async def kill(self, *, hold: bool = False) -> None:
        """End it as a crash does; it is started again at once, or (`hold`) not before `start`."""
        if hold:
            self._wanted.clear()
        process = self._process
        if process is not None and process.returncode is None:
            self.signal(signal.SIGKILL)
            await process.wait()

    @property
    def ending(self) -> bool:
        """Tell whether its last life is over and not noted yet."""
        return self._process is not None and self._process.returncode is not None and len(self.exits) < self.life

    def signal(self, number: int) -> None:
        """Send a signal, such as SIGSTOP."""
        assert self._process is not None
        # Not by its own method, which looks whether it has ended, and takes the exit status from who waits for it.
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    async def close(self) -> None:
        """End it for good."""
        self._wanted.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.kill()

    async def _supervise(self) -> None:
        while True:
            await self._wanted.wait()
            self.life += 1
            with self.log_file.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command(), env=self._environment(), cwd=self._folder, stdout=log, stderr=log
                )
            status = await self._process.wait()
            self.exits.append(status)
            if status != KILLED:
                await asyncio.sleep(FASTEST_RESTART)

    def _command(self) -> list[str]:
        start = ["-m", "tests.faults.mutants", self._mutant] if self._mutant else ["-m", "kubesaga"]
        return [sys.executable, *start, "controller", "--kubeconfig", str(self.kubeconfig)]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}:{Path(__file__).parent}",
            **{f"KUBESAGA_{name.upper()}": value for name, value in self.settings.items()},
        }
