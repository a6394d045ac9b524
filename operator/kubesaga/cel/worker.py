# SPDX-License-Identifier: Apache-2.0
"""The process in which CEL runs: requests on stdin, one answer to each on stdout, all of it JSON behind its length.

The library keeps Python's lock while it evaluates, has no budget for memory and can be crashed, so it lives here and
not in the operator. The process is given nothing: no environment, no files beyond the three pipes, a bounded address
space, the first place in the kernel's list of what to kill when memory runs out. It ends when its stdin does, and an
alarm ends it when one request takes far too long and nobody is left to kill it.

Run by path with `-I -S` and told where the library is, so it imports nothing of Kubesaga: starting must be quick and
small.

    request  {"do": "evaluate" | "check", "expression": "…", "roots": ["inputs", …], "scope": {…}}
    answer   {"value": …} | {"fault": "compile" | "run" | "result" | "memory", "text": "…"}, and "last": true at the end
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import resource
import signal
import struct
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn, TypeVar

EXTENSIONS: Final = (
    "bindings", "encoders", "lists", "math", "optional", "regex", "sets", "strings", "two-var-comprehensions",
)  # fmt: skip
"""What is switched on beside the standard library of CEL, by cel-cpp's names; described in docs/expressions.md."""

LENGTH: Final = struct.Struct("!I")
_ENVIRONMENTS, _PROGRAMS = 64, 512
_CAN_YIELD_OPTIONALS: Final = re.compile(r"[.\[]\s*\?|\b(?:optional|optMap|optFlatMap|extract|first|last)\b")
_LONG_NUMBER: Final = re.compile(rb"\d{19}")
_NO_ROOM: Final = re.compile(r"bad_alloc|^(?:vector|basic_string)::")
"""C++ for: there is no memory for this, or never could be."""

_OUT_OF_MEMORY: Final = b'{"fault":"memory","text":""}'
_Made = TypeVar("_Made")


class Fault(Exception):
    """An expression has no value; `kind` is one of the faults in the module's description."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind, self.text = kind, text


class Recent(OrderedDict[Any, Any]):
    """What was made before, the most recently used `size` of it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def get_or_make(self, key: Any, make: Callable[[], _Made]) -> _Made:
        if key in self:
            self.move_to_end(key)
        else:
            self[key] = make()
            if len(self) > self._size:
                self.popitem(last=False)
        made: _Made = self[key]
        return made


class Library:
    """The CEL library with what was compiled before."""

    def __init__(self) -> None:
        from cel_expr_python import cel  # found only once `main` has been told where

        self._cel = cel
        self._environments = Recent(_ENVIRONMENTS)
        self._programs = Recent(_PROGRAMS)

    def compiled(self, expression: str, roots: tuple[str, ...]) -> Any:
        return self._programs.get_or_make((expression, roots), lambda: self._compile(expression, roots))

    def _compile(self, expression: str, roots: tuple[str, ...]) -> Any:
        environment = self._environments.get_or_make(roots, lambda: self._environment(roots))
        with _faults("compile"):
            return environment.compile(expression)

    def _environment(self, roots: tuple[str, ...]) -> Any:
        config = self._cel.NewEnvConfigFromYaml("extensions:" + "".join(f"\n- name: {name}" for name in EXTENSIONS))
        return self._cel.NewEnv(config=config, variables=dict.fromkeys(roots, self._cel.Type.DYN))

    def evaluate(self, expression: str, roots: tuple[str, ...], scope: dict[str, Any]) -> Any:
        """Return the value as plain JSON values. Raises Fault."""
        value = self._run(self.compiled(expression, roots), scope)
        if value.type().name() == "ERROR" or _CAN_YIELD_OPTIONALS.search(expression):
            return _walk(value)
        return _json(value.plain_value())

    def check(self, expression: str, roots: tuple[str, ...]) -> None:
        """Raise Fault if the expression can never have a value. It is also tried without any values: some faults (a
        macro whose function is missing from the library) only show when it is made ready to run.
        """
        try:
            self._run(self.compiled(expression, roots), {})
        except Fault as fault:
            if fault.kind == "compile" or "reference resolve" in fault.text:
                raise

    def _run(self, program: Any, scope: dict[str, Any]) -> Any:
        with _faults("run"):
            return program.eval(data=scope)


@contextlib.contextmanager
def _faults(kind: str) -> Iterator[None]:
    """Turn what the library raises into a fault of this kind, or into a MemoryError where that is what it means."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if _NO_ROOM.search(str(error)):
            raise MemoryError from None
        raise Fault(kind, str(error)) from None


def _walk(value: Any) -> Any:
    """Return the value as plain JSON values, one by one: slow, but optional values inside lists and maps are found,
    on which the library's own conversion of the whole corrupts memory.
    """
    kind = value.type().name()
    if kind.startswith("LIST"):
        return [_walk(item) for item in value.value()]
    if kind.startswith("MAP"):
        return {_key(key): _walk(item) for key, item in value.value().items()}
    if kind != "ERROR":
        return _json(value.value())
    try:
        text = value.plain_value()
    except TypeError:  # the library has no Python value for an optional and calls it an error, without a text
        raise Fault("result", "an optional value") from None
    raise Fault("run", str(text))


def _json(value: Any) -> Any:
    """Return a Python value as JSON has it. Timestamps and durations become what CEL's string() makes of them."""
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        return {_key(key): _json(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, datetime.datetime):
        return f"{value:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + f"{_fraction(value.microsecond)}Z"
    if isinstance(value, datetime.timedelta):
        size = abs(value)
        sign = "-" if value < datetime.timedelta() else ""
        return f"{sign}{size.days * 86400 + size.seconds}{_fraction(size.microseconds)}s"
    raise Fault("result", "bytes" if isinstance(value, (bytes, bytearray)) else "a type")


def _fraction(microseconds: int) -> str:
    """Return `.500` or `.500001`: three or six digits, none for a whole second."""
    if microseconds == 0:
        return ""
    return f".{microseconds // 1000:03}" if microseconds % 1000 == 0 else f".{microseconds:06}"


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    raise Fault("result", f"a map with the key {json.dumps(key)}")


def _int(digits: str) -> int | float:
    value = int(digits)
    return value if -(2**63) <= value < 2**63 else float(digits)


def answer(library: Library, request: bytes, limit: int) -> bytes:
    """Return the answer to one request, as JSON. After a MemoryError or SystemError the process is of no use."""
    try:
        asked = json.loads(request, parse_int=_int if _LONG_NUMBER.search(request) else None)
        expression, roots = asked["expression"], tuple(asked["roots"])
        if asked["do"] == "check":
            library.check(expression, roots)
            return b'{"value":null}'
        value = library.evaluate(expression, roots, asked["scope"])
        text = json.dumps(
            {"value": value}, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
        ).encode()
        if (size := len(text) - len(b'{"value":}')) <= limit:
            return text
        fault = Fault("result", f"{size} bytes")
    except Fault as found:
        fault = found
    except RecursionError:
        fault = Fault("result", "nesting")
    except ValueError:
        fault = Fault("result", "NaN")
    return json.dumps({"fault": fault.kind, "text": fault.text[:2000]}).encode()


def serve(library: Library, limit: int, patience: float, most: int) -> None:
    """Answer requests until stdin ends, or until the process keeps more than `most` bytes of address space.

    What it keeps, in its caches and between its allocations, would be missing in a later evaluation, which is somebody
    else's.
    """
    while request := _receive():
        signal.setitimer(signal.ITIMER_REAL, patience)
        try:
            text = answer(library, request, limit)
        except MemoryError:
            _leave(_OUT_OF_MEMORY)
        except SystemError:
            _leave(b'{"fault":"result","text":"an optional value"}')
        if _address_space() > most:
            _leave(text)
        _send(text)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _leave(text: bytes) -> NoReturn:
    """Send the last answer, marked as such, and end without cleaning up, which might need what is broken."""
    _send(text[:-1] + b',"last":true}')
    os._exit(0)


def _receive() -> bytes:
    head = _read(LENGTH.size)
    return _read(LENGTH.unpack(head)[0]) if head else b""


def _read(size: int) -> bytes:
    text = bytearray()
    while len(text) < size:
        piece = os.read(0, size - len(text))
        if not piece:
            return b""
        text += piece
    return bytes(text)


def _send(text: bytes) -> None:
    rest = memoryview(LENGTH.pack(len(text)) + text)
    while rest:
        rest = rest[os.write(1, rest) :]


def confine(memory: int) -> None:
    """Give up what an expression does not need: `memory` bytes more than now, no files to write, no processes, no
    core dumps.
    """
    with contextlib.suppress(OSError):  # no such file, or not ours to write: the kernel then picks by size, as ever
        _write("/proc/self/oom_score_adj", "1000")
    if used := _address_space():
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(limit, (most, most))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _address_space() -> int:
    """Return the bytes of address space in use; 0 where there is no /proc (a developer's Mac), which bounds it in no
    other way.
    """
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except FileNotFoundError:
        return 0


def main(library_path: str, memory: str, limit: str, patience: str) -> None:
    """Make ready, say so with an empty answer, serve."""
    warnings.simplefilter("ignore")
    sys.path.append(library_path)
    library = Library()
    library.evaluate("inputs.ready && [1].all(x, x == 1)", ("inputs",), {"inputs": {"ready": True}})
    confine(int(memory))
    _send(b"{}")
    serve(library, int(limit), float(patience), _address_space() + int(memory) // 2)


if __name__ == "__main__":
    main(*sys.argv[1:])
