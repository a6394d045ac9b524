# SPDX-License-Identifier: Apache-2.0
"""One call of a handler: from an attempt to its outcome, in the thread where the handler runs.

A call begins at most once, whoever tries: the lane it was given to last may begin it, or it is withdrawn before.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
import logging
from collections.abc import Callable
from threading import Lock
from typing import Any

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Attempt, AttemptId, Failed, Outcome, Unknown
from kubesaga.executors.in_process import MayBegin, output_outcome, shortened
from kubesaga.executors.registry import Context, Handler, NotRetryable

logger = logging.getLogger("kubesaga.activity_executor")

OnEnd = Callable[["HandlerCall", Outcome | None], object]


class HandlerCall:
    """A handler with what it is given. `on_end` is called once, in the handler's thread.

    There, at the last moment, `may_begin` is asked; where it says no, the handler is not called, and there is no outcome.
    """

    def __init__(
        self, handler: Handler, attempt: Attempt, *, max_output_bytes: int, may_begin: MayBegin, on_end: OnEnd
    ) -> None:
        self._handler = handler
        self._attempt = attempt
        self._max_output_bytes = max_output_bytes
        self._may_begin = may_begin
        self._on_end = on_end
        self._lock = Lock()
        self._lane: object = None
        self._begun = False
        self._stopping = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def attempt(self) -> AttemptId:
        """Whose call this is."""
        return self._attempt.id

    def assign(self, lane: object) -> bool:
        """Give the call to a lane, away from the one before. False: it has begun or was withdrawn."""
        with self._lock:
            if not self._begun:
                self._lane = lane
            return not self._begun

    def begin(self, lane: object) -> bool:
        """Tell `lane` whether it is to make the call: true once."""
        with self._lock:
            may, self._begun = not self._begun and self._lane is lane, self._begun or self._lane is lane
            return may

    def withdraw(self) -> bool:
        """Keep the call from being made. False: it has begun."""
        with self._lock:
            begun, self._begun = self._begun, True
            return not begun

    def run(self) -> None:
        """Call a plain handler, in the current thread, to its end."""
        # Some builds of Python 3.14 let threads inherit the context of who starts them.
        self._on_end(self, contextvars.Context().run(self._outcome))

    def start_task(self) -> None:
        """Call an async handler in the current thread's event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run_async())

    def cancel(self, reason: str) -> None:
        """Raise CancelledError in an async handler. To be called in its event loop."""
        self._stopping = reason
        if self._task is not None:
            self._task.cancel()

    def fail(self, error: BaseException) -> None:
        """End a call that could not be made."""
        self._on_end(self, self._failed(error))

    async def _run_async(self) -> None:
        self._on_end(self, await self._outcome_async())

    def _outcome(self) -> Outcome | None:
        try:
            arguments = self._arguments()
            if not self._may_begin():
                return None
            result = self._handler.function(*arguments)
            return self._checked(result)
        except BaseException as error:  # noqa: BLE001 - SystemExit in a handler is its failure, never the operator's end
            return self._failed(error)

    async def _outcome_async(self) -> Outcome | None:
        try:
            arguments = self._arguments()
            if not self._may_begin():
                return None
            result = await self._handler.function(*arguments)
            return self._checked(result)
        except asyncio.CancelledError as error:
            if not self._stopping:
                return self._failed(error)
            return Unknown(message=f"The handler was stopped ({self._stopping}) before it ended.")
        except BaseException as error:  # noqa: BLE001 - as above
            return self._failed(error)

    def _checked(self, result: Any) -> Outcome:
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError("the handler returned a coroutine; declare it with `async def`")
        return output_outcome(result, self._max_output_bytes)

    def _arguments(self) -> tuple[Any, ...]:
        attempt = self._attempt
        params = copy.deepcopy(attempt.input) if attempt.input is not None else {}
        if not self._handler.takes_context:
            return (params,)
        context = Context(
            run=attempt.run.name,
            namespace=attempt.run.namespace,
            workflow=attempt.workflow,
            activity=attempt.id.activity,
            attempt=attempt.id.number,
            deed=attempt.id.deed,
            idempotency_key=attempt.idempotency_key,
            deadline=attempt.deadline,
        )
        return (params, context)

    def _failed(self, error: BaseException) -> Failed:
        attempt = self._attempt
        # What a handler says on purpose needs no traceback.
        on_purpose = isinstance(error, NotRetryable)
        logger.log(
            logging.WARNING if on_purpose else logging.ERROR,
            "Handler %s of run %s, activity %s, attempt %d failed%s",
            self._handler.id, attempt.run, attempt.id.activity, attempt.id.number,
            f": {shortened(str(error))}" if on_purpose else "",
            exc_info=None if on_purpose else error,
            extra={"run": attempt.run.name, "namespace": attempt.run.namespace, "activity": attempt.id.activity, "attempt": attempt.id.number},
        )  # fmt: skip
        if on_purpose:
            return Failed(reason=Reason.NOT_RETRYABLE, message=shortened(str(error)), retryable=False)
        return Failed(reason=Reason.HANDLER_FAILED, message=shortened(_text(error)))


def _text(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - __str__ is the author's code too
        return f"{name} (its text cannot be read)"
    return f"{name}: {text}" if text else name
