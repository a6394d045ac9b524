# SPDX-License-Identifier: Apache-2.0
"""What executors inside this process share: the table of their attempts, and what may be an output.

Such attempts live in memory alone. When the operator dies they are gone, and the engine starts them again or calls
their outcome unknown; within one life of the operator this table is what makes a start idempotent.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Attempt, AttemptId, Failed, Observation, Outcome, RunKey, Stage, Succeeded
from kubesaga.executors.base import Wake

MAX_DEPTH: Final = 100
"""How many levels of objects and arrays an output may have."""
MAX_MESSAGE_BYTES: Final = 1024

PUT_OFF: Final = 1.0
"""Seconds after which a run whose attempt was put off is looked at again."""

MayBegin = Callable[[], bool]
"""Asked, in any thread, just before something with an effect begins: is it still certain that we lead? If not, another
operator begins it under the same idempotency key."""

_INT64: Final = range(-(2**63), 2**63)
_NOTHING: Final[Mapping[AttemptId, Observation]] = MappingProxyType({})


def always() -> bool:
    """Allow everything, where nobody else could be at work on the same runs."""
    return True


class AttemptTable:
    """Attempts that have begun and were not released. Used in the operator's event loop only."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._seen: dict[str, dict[AttemptId, Observation]] = {}
        self._runs: dict[AttemptId, RunKey] = {}
        self._names: dict[RunKey, set[AttemptId]] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def begin(self, attempt: Attempt) -> bool:
        """Enter an attempt. False: it is there already, live or ended, and must not be begun again."""
        if attempt.id in self._runs:
            return False
        self._runs[attempt.id] = attempt.run
        self._names.setdefault(attempt.run, set()).add(attempt.id)
        self._record(attempt.id, Observation(stage=Stage.RUNNING, held=True))
        return True

    def wait(self, attempt: AttemptId, message: str) -> None:
        """Record that a live attempt has not come to its work yet."""
        if self.is_live(attempt):
            self._record(attempt, Observation(stage=Stage.WAITING, message=message, held=True))

    def run(self, attempt: AttemptId) -> None:
        """Record that a waiting attempt is at its work now."""
        if self.is_live(attempt):
            self._record(attempt, Observation(stage=Stage.RUNNING, held=True))
            self._wake(self._runs[attempt])

    def end(self, attempt: AttemptId, outcome: Outcome) -> None:
        """Record how a live attempt ended. What has ended or was released stays as it is: the first end counts."""
        if self.is_live(attempt):
            self._record(attempt, Observation(stage=Stage.ENDED, outcome=outcome, held=True))
            self._wake(self._runs[attempt])

    def put_off(self, attempt: AttemptId) -> None:
        """Let go of an attempt that was not allowed to begin; should we lead after all, a later pass starts it anew."""
        run = self._runs.get(attempt)
        if run is not None and self.is_live(attempt):
            self.forget(attempt)
            asyncio.get_running_loop().call_later(PUT_OFF, self._wake, run)

    def forget(self, attempt: AttemptId) -> None:
        """Let go of an attempt; one that is not there is no error."""
        run = self._runs.pop(attempt, None)
        if run is not None:
            self._names[run].discard(attempt)
            if not self._names[run]:
                del self._names[run]
            of_run = self._seen[attempt.run_uid]
            del of_run[attempt]
            if not of_run:
                del self._seen[attempt.run_uid]

    def is_live(self, attempt: AttemptId) -> bool:
        """Tell whether the attempt has begun and not ended."""
        return attempt in self._runs and self._seen[attempt.run_uid][attempt].stage is not Stage.ENDED

    def live(self) -> list[AttemptId]:
        """Return all attempts that have not ended."""
        return [attempt for attempt in self._runs if self.is_live(attempt)]

    def observe(self, run_uid: str) -> Mapping[AttemptId, Observation]:
        """Return what is known of the attempts of a run now."""
        of_run = self._seen.get(run_uid)
        return _NOTHING if of_run is None else dict(of_run)

    def runs_at(self, run: RunKey) -> set[str]:
        """Return the uids of the runs of that name that have attempts here."""
        return {attempt.run_uid for attempt in self._names.get(run, ())}

    def _record(self, attempt: AttemptId, seen: Observation) -> None:
        self._seen.setdefault(attempt.run_uid, {})[attempt] = seen


class NotJson(Exception):
    """A value that has no JSON. The text names the place in the value and says what is there."""


def plain_json(value: Any, path: str = "output", depth: int = 0) -> Any:
    """Return a copy of a JSON value made of dict, list, str, int, float, bool and None alone; tuples become lists.

    Raises NotJson for everything else: what another reader would see differently is refused, not changed.
    """
    match value:
        case None | bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            number = int(value)  # a subclass would be searched for in the range, one integer after the other
            if number not in _INT64:
                raise NotJson(f"{path} is an integer beyond 64 bits; write it as a string")
            return number
        case float():
            if not math.isfinite(value):
                raise NotJson(f"{path} is {value}, which is no JSON number")
            return float(value)
    if not isinstance(value, dict | list | tuple):
        raise NotJson(f"{path} is a {type(value).__name__}, which JSON does not have")
    if depth >= MAX_DEPTH:
        raise NotJson(f"{path} lies deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        return {_key(key, path): plain_json(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
    return [plain_json(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise NotJson(f"{path} has the key {key!r}, a {type(key).__name__}; the keys of a JSON object are strings")
    return str.__str__(key)


def output_outcome(value: Any, max_bytes: int) -> Succeeded | Failed:
    """Return the outcome of a deed that was done and gave `value`: an output must be a JSON object, or None, and fit.

    The size is that of the shortest JSON text in UTF-8. Such failures are not retryable: the deed is done, and
    doing it again would not make its output another.
    """
    if value is None:
        return Succeeded()
    try:
        output = plain_json(value)
    except NotJson as error:
        return Failed(reason=Reason.OUTPUT_INVALID, message=shortened(f"{error}."), retryable=False)
    if not isinstance(output, dict):
        message = f'the output is {_described(output)}; it must be a JSON object such as {{"result": …}}, or nothing.'
        return Failed(reason=Reason.OUTPUT_INVALID, message=message, retryable=False)
    size = json_size(output)
    if size > max_bytes:
        return too_large(f"{size} bytes", max_bytes)
    return Succeeded(output=output)


def json_size(value: Any) -> int:
    """Return how many bytes a JSON value has, written without spaces in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode(errors="surrogatepass"))


def too_large(size: str, max_bytes: int) -> Failed:
    """Return the outcome of a deed that was done and gave more than may be kept."""
    message = (
        f"the output has {size} as JSON and {max_bytes} are allowed (KUBESAGA_MAX_OUTPUT_BYTES); "
        "nothing of it was kept: return a reference to what is large."
    )
    return Failed(reason=Reason.OUTPUT_TOO_LARGE, message=message, retryable=False)


def _described(value: Any) -> str:
    names = {bool: "a truth value", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names[type(value)]


def shortened(text: str, max_bytes: int = MAX_MESSAGE_BYTES) -> str:
    """Return a text of at most so many bytes of UTF-8, with an ellipsis where it was cut."""
    raw = text.encode(errors="replace")
    if len(raw) <= max_bytes:
        return raw.decode()
    return raw[: max_bytes - 3].decode(errors="ignore") + "…"
