# SPDX-License-Identifier: Apache-2.0
"""One process that evaluates, as its parent sees it: started, asked one thing at a time, killed if it is too slow."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from kubesaga.cel.worker import LENGTH
from kubesaga.engine.language.expressions import EvaluatorUnavailable
from kubesaga.engine.language.values import decode

_WORKER: Final = Path(__file__).with_name("worker.py")
_START_SECONDS: Final = 30.0
_PATIENCE: Final = 8
"""How many deadlines a child may take by the clock on the wall while the machine gives it no processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one evaluation may cost."""

    deadline: float = 0.25
    """Seconds."""
    memory: int = 256 * 1024 * 1024
    """Bytes of address space above what the idle process has."""
    result: int = 256 * 1024
    """Bytes of JSON."""


class Died(Exception):
    """The child ended while it was asked something. `signal` is what killed it, None if it left by itself."""

    def __init__(self, killed_by: signal.Signals | None) -> None:
        super().__init__(f"it was ended by {killed_by.name if killed_by else 'itself'}")
        self.signal = killed_by


class DeadlineExceeded(Exception):
    """The child was busy with one request for longer than its deadline, and has been killed."""


class Child:
    """A child process. Not for several threads at once.

    Made without waiting: the process gets ready while nobody needs it yet. Raises OSError if it cannot be started at
    all.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._ready = False
        patience = bounds.deadline * (_PATIENCE + 2)  # the child's own alarm, for when its parent is gone
        words = [str(_WORKER), _library(), str(bounds.memory), str(bounds.result), str(patience)]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env={},
            start_new_session=True,  # Ctrl-C in a terminal is the parent's to handle
        )
        os.set_blocking(_fileno(self._process.stdin), False)
        os.set_blocking(_fileno(self._process.stdout), False)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(self, request: bytes) -> dict[str, Any]:
        """Send one request (JSON) and return the answer. Starting up is not counted in the deadline.

        Raises Died, DeadlineExceeded, or EvaluatorUnavailable if the child did not start or was not let work by the
        machine. After any of them it is of no use.
        """
        if not self._ready:
            self._get_ready()
        return self._exchange(
            LENGTH.pack(len(request)) + request, _Clock(self.pid, allowed=self._bounds.deadline, patience=_PATIENCE)
        )

    def kill(self) -> None:
        """End the process; another thread that waits for its answer gets Died. May be repeated."""
        self._process.kill()

    def bury(self) -> None:
        """End the process and give back what it held."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _get_ready(self) -> None:
        try:
            self._exchange(b"", _Clock(self.pid, allowed=_START_SECONDS, patience=1))
        except (Died, DeadlineExceeded) as error:
            raise EvaluatorUnavailable(f"the process that evaluates expressions does not start: {error}") from None
        self._ready = True

    def _exchange(self, request: bytes, clock: _Clock) -> dict[str, Any]:
        try:
            self._write(request, clock)
            (size,) = LENGTH.unpack(self._read(LENGTH.size, clock))
            if size > 2 * self._bounds.result:
                raise ValueError(f"an answer of {size} bytes")
            answer: dict[str, Any] = decode(self._read(size, clock))
        except ConnectionError:
            raise self._dead() from None
        except ValueError:  # not the worker's words: something broke it
            raise Died(None) from None
        return answer

    def _write(self, text: bytes, clock: _Clock) -> None:
        target = _fileno(self._process.stdin)
        rest = memoryview(text)
        while rest:
            self._await(target, select.POLLOUT, clock)
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(target, rest) :]

    def _read(self, size: int, clock: _Clock) -> bytes:
        source = _fileno(self._process.stdout)
        text = bytearray()
        while len(text) < size:
            self._await(source, select.POLLIN, clock)
            with contextlib.suppress(BlockingIOError):
                piece = os.read(source, size - len(text))
                if not piece:
                    raise self._dead()
                text += piece
        return bytes(text)

    def _await(self, fileno: int, event: int, clock: _Clock) -> None:
        poll = select.poll()
        poll.register(fileno, event)
        while not poll.poll(clock.milliseconds_left()):
            if clock.worked_enough():
                raise DeadlineExceeded("it took too long")
            if clock.waited_enough():
                raise EvaluatorUnavailable("the process that evaluates expressions was given no processor time")

    def _dead(self) -> Died:
        self.kill()
        code = self._process.wait()
        return Died(signal.Signals(-code) if code < 0 else None)


class _Clock:
    """How long a child has been at one request.

    What is allowed is processor time: on a machine that is short of it, or in a container that is throttled, an
    innocent expression must not fail its activity. The time on the wall, much longer, bounds how long the caller
    waits.
    """

    def __init__(self, pid: int, *, allowed: float, patience: int) -> None:
        self._pid = pid
        self._allowed = allowed
        self._worked_before = self._processor_time()
        self._next_look = time.monotonic() + allowed
        self._last_look = time.monotonic() + allowed * patience

    def milliseconds_left(self) -> float:
        """Return how long to wait before looking at the child again."""
        return max(1.0, (self._next_look - time.monotonic()) * 1000)

    def worked_enough(self) -> bool:
        """Tell whether the child has used up its time; if not, set when to look again."""
        left = self._allowed - (self._processor_time() - self._worked_before)
        self._next_look = min(time.monotonic() + max(left, 0.005), self._last_look)
        return left <= self._allowed / 20

    def waited_enough(self) -> bool:
        """Tell whether the caller should wait no longer."""
        return time.monotonic() >= self._last_look

    def _processor_time(self) -> float:
        """Return the seconds of processor time the child has had.

        The clock of another process has an id made of its pid: see clock_getcpuclockid(3) and CPUCLOCK_SCHED in Linux'
        include/linux/posix-timers_types.h. Where there is no such thing, time on the wall has to do.
        """
        try:
            return time.clock_gettime((~self._pid << 3) | 2)
        except OSError:
            return time.monotonic()


def _library() -> str:
    """Return the folder that holds the CEL library."""
    spec = importlib.util.find_spec("cel_expr_python")
    if spec is None or not spec.submodule_search_locations:
        raise EvaluatorUnavailable("the package cel-expr-python, which evaluates expressions, is not installed")
    return str(Path(next(iter(spec.submodule_search_locations))).parent)


def _fileno(pipe: IO[bytes] | None) -> int:
    assert pipe is not None, "the child was started with pipes"
    return pipe.fileno()
