# SPDX-License-Identifier: Apache-2.0
"""Starts processes that outlive the shell, and ends them."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .errors import ClusterError
from .state import Process


def start(command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None) -> Process:
    """Starts a process in a session of its own, output appended to `log`."""
    with log.open("ab") as output:
        started = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            cwd="/",
            start_new_session=True,
        )
    return Process(pid=started.pid, started=_start_ticks(started.pid) or 0)


def alive(process: Process) -> bool:
    """Whether this very process runs; a zombie does not."""
    return _start_ticks(process.pid) == process.started


def _start_ticks(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the program's name, in brackets, may hold spaces
    return None if fields[0] == "Z" else int(fields[19])


def stop(running: Sequence[Process], grace: float) -> None:
    """Ends processes: asks all of them, waits `grace` seconds at most, kills those that are left."""
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for process in running:
            if alive(process):
                os.kill(process.pid, number)
        until(lambda: not any(map(alive, running)), patience)


def wait_for(condition: Callable[[], bool], *, what: str, process: Process | None, log: Path, seconds: float) -> None:
    """Waits for a condition; fails at once where the process that should bring it about has died."""
    end = time.monotonic() + seconds
    while not condition():
        if process is not None and not alive(process):
            raise ClusterError(f"{what}: the process died; see {log}:\n{_tail(log)}")
        if time.monotonic() > end:
            raise ClusterError(f"{what}: not within {seconds:.0f} s; see {log}:\n{_tail(log)}")
        time.sleep(0.05)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits for a condition; whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-8:])
