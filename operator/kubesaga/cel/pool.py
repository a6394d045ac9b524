# SPDX-License-Identifier: Apache-2.0
"""The engine's evaluator: a few child processes, each at one expression at a time, each killed when it misbehaves."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, Final, Self

from kubesaga.cel.child import Bounds, Child, DeadlineExceeded, Died
from kubesaga.cel.sentences import why_no_json, why_no_value, why_not_compiled
from kubesaga.engine.language.expressions import EvaluatorUnavailable, ExpressionError
from kubesaga.engine.language.references import MAX_EXPRESSION, relevant
from kubesaga.engine.language.values import JSON, MAX_RESULT, encode, too_large

MAX_SCOPE: Final = 2 * 1024 * 1024
"""Largest amount of values, in bytes of JSON, that one expression may look at."""

MEMORY: Final = 256 * 1024 * 1024
"""Bytes that one child may use above what it needs to run at all."""

_FROM_OUTSIDE: Final = frozenset((signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM))
_CLOSED: Final = "the evaluator of expressions has been closed"


class CelPool:
    """Evaluates CEL expressions in child processes. An `Evaluator`, synchronous and safe for several threads at once.

    An evaluation waits for a free child as long as it must; then it has `deadline` seconds of processor time. A child
    that takes longer, needs more than `memory` bytes or breaks is replaced: the expression that did it fails with an
    ExpressionError, no other is affected. Not for the event loop's thread: it waits.

    The children are started at once and get ready in the background. `close` (or leaving the `with` block) ends them.
    """

    def __init__(self, *, size: int = 2, deadline: float = 0.25, memory: int = MEMORY) -> None:
        self._bounds = Bounds(deadline=deadline, memory=memory, result=MAX_RESULT)
        self._lock = threading.Lock()
        self._closed = False
        self._children: set[Child] = set()
        # The child that was used last is used first: it has the expressions compiled. None is one that could not be
        # started.
        self._free: queue.LifoQueue[Child | None] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(self._replacement())

    def evaluate(self, expression: str, scope: Mapping[str, JSON]) -> JSON:
        """Return the JSON value of `expression` where the keys of `scope` are the variables.

        Raises ExpressionError if it has none, EvaluatorUnavailable if that cannot be found out now.
        """
        try:
            return self._evaluate(expression, scope)
        except ValueError as error:
            raise ExpressionError(expression, str(error)) from None

    def check(self, expression: str, roots: Collection[str]) -> str | None:
        """Return a sentence on why `expression` can never be evaluated with the variables `roots`, None if it can."""
        try:
            answer = self._ask("check", expression, roots, b"{}")
        except ValueError as error:
            return str(error)
        if "fault" not in answer:
            return None
        return _sentence(answer, expression, roots, {})

    def close(self) -> None:
        """End all children. Evaluations under way fail with EvaluatorUnavailable, and so does every later one."""
        with self._lock:
            self._closed = True
            for child in self._children:
                child.kill()
        # Those at work are buried by the threads that wait for them.
        with contextlib.suppress(queue.Empty):
            while True:
                if idle := self._free.get_nowait():
                    self._discard(idle)
        self._free.put(None)  # for those who wait, one after another

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _evaluate(self, expression: str, scope: Mapping[str, JSON]) -> JSON:
        values = encode(relevant(expression, scope))
        if len(values) > MAX_SCOPE:
            raise ValueError(f"it looks at too much: {len(values):,} bytes of JSON, {MAX_SCOPE:,} are allowed")
        answer = self._ask("evaluate", expression, scope, values)
        if "fault" in answer:
            raise ValueError(_sentence(answer, expression, scope, scope))
        return answer["value"]

    def _ask(self, what: str, expression: str, roots: Collection[str], scope: bytes) -> dict[str, Any]:
        """Return a child's answer. Raises ValueError with a sentence, or EvaluatorUnavailable."""
        if len(expression) > MAX_EXPRESSION:
            raise ValueError(f"it is too long: {len(expression):,} characters, {MAX_EXPRESSION:,} are allowed")
        head = encode({"do": what, "expression": expression, "roots": sorted(roots)})
        request = head[:-1] + b',"scope":' + scope + b"}"
        try:
            return self._ask_once(request)
        except Died as died:
            if died.signal not in _FROM_OUTSIDE:
                raise ValueError("it broke the process that evaluates expressions, or needed too much memory") from None
        # Somebody else ended the child, which says nothing about the expression. If it happens again it was the
        # kernel, and the expression is what memory was needed for.
        try:
            return self._ask_once(request)
        except Died:
            raise ValueError("the process that evaluated it was killed twice; it may need too much memory") from None

    def _ask_once(self, request: bytes) -> dict[str, Any]:
        child = self._take()
        healthy = False
        try:
            answer = child.ask(request)
            healthy = "last" not in answer
        except DeadlineExceeded:
            raise ValueError(f"it took longer than {self._bounds.deadline * 1000:g} ms") from None
        except EvaluatorUnavailable:
            if self._closed:
                raise EvaluatorUnavailable(_CLOSED) from None
            raise
        finally:
            self._give_back(child, healthy=healthy)
        return answer

    def _take(self) -> Child:
        """Return a free child, when there is one; `_give_back` must follow."""
        child = self._free.get()
        try:
            if child is None:
                child = self._start()
        except BaseException:
            self._free.put(child)
            raise
        return child

    def _give_back(self, child: Child, *, healthy: bool) -> None:
        with self._lock:
            if healthy and not self._closed:
                self._free.put(child)
                return
        self._discard(child)
        self._free.put(self._replacement())

    def _discard(self, child: Child) -> None:
        with self._lock:
            self._children.discard(child)
        child.bury()

    def _replacement(self) -> Child | None:
        with contextlib.suppress(EvaluatorUnavailable):
            return self._start()
        return None

    def _start(self) -> Child:
        with self._lock:
            if self._closed:
                raise EvaluatorUnavailable(_CLOSED)
            try:
                child = Child(self._bounds)
            except OSError as error:
                raise EvaluatorUnavailable(f"no process to evaluate expressions can be started: {error}") from error
            self._children.add(child)
        return child


def _sentence(answer: Mapping[str, Any], expression: str, roots: Collection[str], scope: Mapping[str, JSON]) -> str:
    """Return a worker's fault in words."""
    text: str = answer["text"]
    match answer["fault"]:
        case "compile":
            return why_not_compiled(text, expression, roots)
        case "run":
            return why_no_value(text, expression, scope)
        case "memory":
            return "it needed too much memory"
    return too_large(int(text.split()[0])) if text.endswith(" bytes") else why_no_json(text)
