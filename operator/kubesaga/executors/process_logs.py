# SPDX-License-Identifier: Apache-2.0
"""A /dev/termination-log for each local process, so that what writes its output there in a pod does so here.

Where the kernel lets us, every process sees a file of its own under that name (`process_launcher`). Where it does not,
as in most containers, but /dev may be written to, there is one such file, and processes take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, Protocol

from kubesaga.errors import KubesagaError
from kubesaga.executors.pod_output import MAX_MESSAGE_BYTES
from kubesaga.executors.process_launcher import TERMINATION_LOG

_LAUNCHER: Final = Path(__file__).with_name("process_launcher.py")


class NoTerminationLog(KubesagaError):
    """Nothing can be put at /dev/termination-log here; the message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Where one process writes its last words."""

    path: Path
    """Where we read them."""
    room: Path | None
    """An empty folder for the launcher's mounts; None: the process sees `path` as it is."""

    def order(self, command: Sequence[str], env: Mapping[str, str], cwd: str | None) -> str:
        """Return the launcher's order to become a command that has this log."""
        log, room = (str(self.path), str(self.room)) if self.room is not None else (None, None)
        return json.dumps({"command": list(command), "env": dict(env), "cwd": cwd, "log": log, "room": room})

    def read(self) -> str:
        """Return what the kubelet would: the end of the file."""
        with self.path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MAX_MESSAGE_BYTES))
            return file.read().decode(errors="replace")


class TerminationLogs(Protocol):
    """Lends logs."""

    def lend(self) -> AbstractAsyncContextManager[Log]:
        """Lend an empty log for the life of one process; wait for it where it must."""

    def close(self) -> None:
        """Leave nothing behind."""


class PrivateLogs:
    """A file a process, shown to it alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)
        self._room = folder / "room"
        self._room.mkdir()

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Log]:
        """Lend a new file."""
        path = self._folder / f"log-{next(self._numbers)}"
        path.touch()
        path.chmod(0o666)  # as the kubelet makes it: a program may have become another user by then
        try:
            yield Log(path=path, room=self._room)
        finally:
            path.unlink()

    def close(self) -> None:
        """Nothing is kept beside what the folder's owner removes."""


class SharedLog:
    """The one file that all see, lent to one process at a time, also when several of us run on this machine."""

    def __init__(self, path: Path = Path(TERMINATION_LOG)) -> None:
        self._path = path
        self._turn = asyncio.Lock()
        self._is_ours = not path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise NoTerminationLog(f"{path} is used by another `kubesaga run`; wait until that has ended") from None

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Log]:
        """Lend the file, emptied, once it is nobody else's."""
        async with self._turn:
            os.truncate(self._path, 0)
            yield Log(path=self._path, room=None)

    def close(self) -> None:
        """Remove the file if it was not there before."""
        os.truncate(self._path, 0)
        if self._is_ours:
            self._path.unlink()
        os.close(self._file)


async def termination_logs(folder: Path) -> TerminationLogs:
    """Return the best that this machine has; `folder` is empty and ours. Raises NoTerminationLog."""
    if not sys.platform.startswith("linux"):
        raise NoTerminationLog("pods run as local processes on Linux alone: they write to /dev/termination-log")
    logs = PrivateLogs(folder)
    async with logs.lend() as log:
        refused = await _try(log, folder / "trial")
    if refused is None:
        return logs
    with contextlib.suppress(OSError):
        return SharedLog()
    raise NoTerminationLog(
        f"no process can be given a {TERMINATION_LOG} of its own here: a mount namespace is refused ({refused}), and "
        "/dev cannot be written to. It works as root, and for users where the kernel grants user namespaces (sysctl "
        "user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A process that was told to become a command."""

    process: asyncio.subprocess.Process
    printed: asyncio.StreamReader
    """Standard output and error; ends when nobody is left who could write there."""
    report: int

    def problem(self) -> str:
        """Return why it could not become the command, once it has ended; "" if it could."""
        return os.read(self.report, 4096).decode(errors="replace")


@asynccontextmanager
async def launched(order: str, path: Path) -> AsyncIterator[Launched]:
    """Start the launcher with an order, which is written to `path`, as the first of a process group of its own."""
    with ExitStack() as ours, ExitStack() as childs:
        ours.callback(_remove, path)
        _write(path, order)
        reading, report = os.pipe()
        ours.callback(os.close, reading)
        childs.callback(os.close, report)
        # A pipe of our own: asyncio's keep `wait` waiting until they are closed, which a child left behind can put off.
        source, sink = os.pipe()
        childs.callback(os.close, sink)
        transport, printed = await _reader(source)
        ours.callback(transport.close)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-X", "utf8", str(_LAUNCHER), str(path), str(report),
            stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink,
            env={}, pass_fds=(report,), start_new_session=True,
        )  # fmt: skip
        childs.close()
        yield Launched(process=process, printed=printed, report=reading)


async def _reader(file: int) -> tuple[asyncio.ReadTransport, asyncio.StreamReader]:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(file, "rb", buffering=0)
    )
    return transport, reader


async def _try(log: Log, path: Path) -> str | None:
    """Return why the kernel refuses to make a log private, None if it does not."""
    async with launched(log.order((), {}, None), path) as trial:
        status = await trial.process.wait()
        if status == 0:
            return None
        return trial.problem() or (await trial.printed.read()).decode(errors="replace") or f"exit status {status}"


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)  # the environment may hold what is nobody else's business
    path.write_text(text, encoding="utf-8")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
