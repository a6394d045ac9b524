# SPDX-License-Identifier: Apache-2.0
"""Handlers by id. `import kubesaga` loads this module, so it needs nothing but the standard library."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import entry_points
from typing import Any, Final, TypeVar

from kubesaga.errors import InvalidSettings

ENTRY_POINT_GROUP: Final = "kubesaga.handlers"
"""An installed package that names its handlers' module under this entry point is loaded without `--handlers`."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._/-]{0,252}")
_SHAPES: Final = "a handler takes (params) or (params, context), by position and without defaults"

HandlerFunction = Callable[..., Any]
"""`(params)` or `(params, context)`, plain or async; returns a JSON object or None."""
_F = TypeVar("_F", bound=HandlerFunction)


class NotRetryable(Exception):
    """To be raised by a handler when another attempt could not help: the activity fails at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a handler may know of the attempt that it carries out."""

    run: str
    """Name of the WorkflowRun."""
    namespace: str
    workflow: str
    """Name of the Workflow; "" for a run with a spec of its own."""
    activity: str
    attempt: int
    """1 for the first try."""
    idempotency_key: str
    """The same for every attempt of one deed: a service that knows such keys carries a repeated call out once."""
    deadline: datetime | None
    """When the attempt will be stopped (aware, UTC). None: no `timeout` was set."""
    deed: str = "do"
    """`do`, `undo` or `fallback`: what the attempt is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A function registered under an id."""

    id: str
    function: HandlerFunction
    takes_context: bool
    is_async: bool
    place: str
    """Where it was written: `module.function (file:line)`."""


class Registry:
    """Handlers by id. The decorator `kubesaga.activity` fills the one that is called `handlers` here."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def __len__(self) -> int:
        return len(self._handlers)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._handlers))

    def find(self, handler_id: str) -> Handler | None:
        """Return the handler of that id."""
        return self._handlers.get(handler_id)

    def activity(self, handler_id: str, /) -> Callable[[_F], _F]:
        """Register the decorated function, which stays as it is, under an id that activities name in `handler:`.

        Raises InvalidSettings for an id or a function that cannot be used, and for an id that another function has.
        """
        if not isinstance(handler_id, str) or not _ID.fullmatch(handler_id):
            raise InvalidSettings(
                f"@activity({handler_id!r}): a handler's id starts with a letter or digit and goes on with letters, "
                'digits and any of : . _ / - (253 at most); write it as @kubesaga.activity("orders:reserve")'
            )

        def register(function: _F) -> _F:
            self.add(handler_of(handler_id, function))
            return function

        return register

    def add(self, handler: Handler) -> None:
        """Register a handler. One from the same place takes the other's place (its module was loaded again)."""
        known = self._handlers.get(handler.id)
        if known is not None and known.function is not handler.function and known.place != handler.place:
            raise InvalidSettings(
                f"handler {handler.id!r} is registered twice: in {known.place} and in {handler.place}; "
                "give one of them another id"
            )
        self._handlers[handler.id] = handler

    def update(self, other: Registry) -> None:
        """Register all handlers of another registry."""
        for handler_id in other:
            self.add(other._handlers[handler_id])


handlers: Final = Registry()
"""What `kubesaga.activity` fills."""

activity = handlers.activity


def handler_of(handler_id: str, function: HandlerFunction) -> Handler:
    """Look at a function as a handler. Raises InvalidSettings with a sentence if it cannot be one."""
    place = _place(function)
    if not callable(function) or inspect.isclass(function):
        raise InvalidSettings(f"handler {handler_id!r}: {place} is not a function; decorate a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidSettings(f"handler {handler_id!r}: {place} has a yield; a handler returns its output")
    return Handler(
        id=handler_id,
        function=function,
        takes_context=_takes_context(handler_id, function, place),
        is_async=inspect.iscoroutinefunction(function)
        or inspect.iscoroutinefunction(getattr(function, "__call__", None)),  # noqa: B004 - an object's async __call__
        place=place,
    )


def _takes_context(handler_id: str, function: HandlerFunction, place: str) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise InvalidSettings(f"handler {handler_id!r}: the signature of {place} cannot be read: {error}") from None
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    plain = all(p.kind in by_position and p.default is inspect.Parameter.empty for p in parameters)
    if not plain or len(parameters) not in (1, 2):
        shown = ", ".join(str(parameter) for parameter in parameters)
        raise InvalidSettings(f"handler {handler_id!r}: {place} takes ({shown}); {_SHAPES}")
    return len(parameters) == 2


def _place(function: HandlerFunction) -> str:
    inner = inspect.unwrap(function)
    name = f"{getattr(inner, '__module__', '?')}.{getattr(inner, '__qualname__', repr(inner))}"
    code = getattr(inner, "__code__", None)
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"


def load_handlers(modules: Sequence[str], registry: Registry = handlers) -> Registry:
    """Import modules by name, and those that installed packages name in the entry points `kubesaga.handlers`.

    Importing fills the default registry; another one given as `registry` has its handlers too, afterwards.
    Raises InvalidSettings that names the module and the cause. What is on sys.path is the caller's business.
    """
    for module in modules:
        _load(f"handlers module {module!r}", partial(importlib.import_module, module))
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: (point.name, point.value)):
        _load(f"entry point {point.name} = {point.value!r} of {ENTRY_POINT_GROUP}", point.load)
    if registry is not handlers:
        registry.update(handlers)
    return registry


def _load(what: str, load: Callable[[], object]) -> None:
    try:
        load()
    except InvalidSettings as error:
        raise InvalidSettings(f"{what}: {error}") from error
    except Exception as error:
        raise InvalidSettings(f"{what} could not be imported: {type(error).__name__}: {error}") from error
    except SystemExit as error:
        raise InvalidSettings(f"{what} ended the program while it was imported (exit {error.code})") from error
