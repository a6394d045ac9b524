# SPDX-License-Identifier: Apache-2.0
"""Where expressions stand in a spec, and who reads them there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from kubesaga.api.failure import Retry
from kubesaga.api.names import Deed
from kubesaga.api.parsing import field_path
from kubesaga.api.waits import Sleep
from kubesaga.api.work import Work
from kubesaga.api.workflow import WorkflowSpec, wait_of
from kubesaga.engine.language.expressions import ExpressionError, expressions_in
from kubesaga.engine.scope import BASE_ROOTS, QUEUE_ROOTS, RETRY_ROOTS, SET_ROOTS
from kubesaga.engine.validation.deeds import Spot, default_path, spots_of
from kubesaga.errors import Problem

MAX_EXPRESSIONS: Final = 5_000
MAX_CHARACTERS: Final = 256 * 1024
"""Most expressions in one spec, and most characters in them together: all are compiled whenever the spec is checked."""

WAIT_ROOTS: Final = frozenset({"received", "inputs", "event", "run"})
"""Roots in `waitFor.when`: the event that came, and of the run what never changes."""


class Reader(Enum):
    """Who reads an expression, which decides what has a value by then."""

    ACTIVITY = auto()
    FINALLY = auto()
    FALLBACK = auto()
    FINAL_FALLBACK = auto()
    """The fallback of an activity of `finally`."""
    UNDO = auto()
    LOOSE_UNDO = auto()
    """A listed undo that undoes no activity: it runs after all others."""
    EVERY_ACTIVITY = auto()
    """What holds for all activities, wherever they stand."""
    OUTPUTS = auto()
    QUEUE = auto()
    """A run that has not started: no activity has."""
    WAIT = auto()
    """Whoever gives events to runs, at any moment of the run."""

    @property
    def may_be_early(self) -> bool:
        """Tell whether it reads also where what should have come before it did not succeed."""
        return self in (Reader.FINALLY, Reader.FINAL_FALLBACK, Reader.UNDO, Reader.LOOSE_UNDO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One expression where it stands."""

    path: str
    source: str
    reader: Reader
    name: str | None = None
    """The activity that the reader belongs to."""
    in_set: bool = False
    in_retry: bool = False

    @property
    def roots(self) -> frozenset[str]:
        """The variables that it may use."""
        if self.in_retry:
            return RETRY_ROOTS
        if self.reader is Reader.QUEUE:
            return QUEUE_ROOTS
        if self.reader is Reader.WAIT:
            return WAIT_ROOTS
        return SET_ROOTS if self.in_set else BASE_ROOTS


def sites(spec: WorkflowSpec, path: str) -> Iterator[Site | Problem]:
    """Yield every expression, and a problem for each string that cannot be taken apart."""
    for spot in spots_of(spec, path):
        reader, name = _reader(spot), spot.of.name if spot.of is not None else None
        for where, value in templates(spot.work):
            yield from _in_value(value, field_path(spot.path, *where), reader, name)
        if spot.of is not None and spot.deed is Deed.DO:
            activity = spot.of.activity
            if activity.when is not None:
                here = field_path(spot.path, "when")
                yield Site(path=here, source=activity.when.strip(), reader=reader, name=name)
            if activity.wait_for is not None and activity.wait_for.when is not None:
                here = field_path(spot.path, "waitFor", "when")
                yield Site(path=here, source=activity.wait_for.when.strip(), reader=Reader.WAIT, name=name)
            yield from _in_value(activity.set, field_path(spot.path, "set"), reader, name, in_set=True)
        yield from _in_retry(*spot.retry, reader, name)
    if spec.error_handling is not None and spec.error_handling.activity_error is not None:
        here = field_path(default_path(path), "retry")
        yield from _in_retry(spec.error_handling.activity_error.retry, here, Reader.EVERY_ACTIVITY, None)
    yield from _in_value(spec.outputs, field_path(path, "outputs"), Reader.OUTPUTS, None)
    if spec.concurrency is not None:
        here = field_path(path, "concurrency")
        yield from _in_value(spec.concurrency.key, field_path(here, "key"), Reader.QUEUE, None)
        fair = spec.concurrency.queuing.fairness_key if spec.concurrency.queuing is not None else None
        yield from _in_value(fair, field_path(here, "queuing", "fairnessKey"), Reader.QUEUE, None)


def excess(spec: WorkflowSpec) -> str | None:
    """Return a sentence if there are more expressions in a spec than may be."""
    lengths = [len(site.source) for site in sites(spec, "") if isinstance(site, Site)]
    if len(lengths) > MAX_EXPRESSIONS:
        return f"holds {len(lengths):,} expressions; at most {MAX_EXPRESSIONS:,} are allowed"
    if sum(lengths) > MAX_CHARACTERS:
        return f"holds {sum(lengths):,} characters of expressions; at most {MAX_CHARACTERS:,} are allowed"
    return None


def literal_fault(value: Any) -> str | None:
    """Return what is wrong with a value that is taken as it stands: an expression in it would never be evaluated."""
    try:
        found = next(iter(expressions_in(value)), None)
    except ExpressionError as error:
        found = (error.path, error.expression)
    if found is None:
        return None
    told = f"holds the expression `{short(found[1])}`, but is taken as it stands"
    return f"{told}; use `set`, or write the expression where the value is read"


def short(source: str) -> str:
    """Return an expression as it is shown in a sentence."""
    return source if len(source) <= 80 else f"{source[:77]}..."


# --------------------------------------------------------------------------------------------------------------------


def _reader(spot: Spot) -> Reader:
    match spot.deed:
        case Deed.UNDO:
            return Reader.UNDO if spot.of is not None else Reader.LOOSE_UNDO
        case Deed.FALLBACK:
            if spot.of is None:
                return Reader.EVERY_ACTIVITY
            return Reader.FINAL_FALLBACK if spot.of.final else Reader.FALLBACK
    return Reader.FINALLY if spot.of is not None and spot.of.final else Reader.ACTIVITY


def _in_retry(retry: Retry | None, path: str, reader: Reader, name: str | None) -> Iterator[Site]:
    if retry is not None and retry.when is not None:
        source = retry.when.strip()
        yield Site(path=field_path(path, "when"), source=source, reader=reader, name=name, in_retry=True)


def templates(work: Work) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the fields of a deed that are rendered when it starts."""
    if work.pod is not None:
        for number, variable in enumerate(work.pod.env or ()):
            yield ("pod", "env", number, "value"), variable.value
    if work.http is not None:
        yield ("http", "url"), work.http.url
        yield ("http", "headers"), work.http.headers
        yield ("http", "body"), work.http.body
    if (wait := wait_of(work)) is not None:
        for name, value in wait.times.items():
            yield ("sleep" if isinstance(wait, Sleep) else "waitFor", name), value
    yield ("params",), work.params


def _in_value(
    value: Any, path: str, reader: Reader, name: str | None, *, in_set: bool = False
) -> Iterator[Site | Problem]:
    for where, text in _texts(value, path):
        try:
            sources = [source for _, source in expressions_in(text)]
        except ExpressionError as error:
            yield Problem(where, error.message)
            continue
        yield from (Site(path=where, source=source, reader=reader, name=name, in_set=in_set) for source in sources)


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield path, value
        case dict():
            for key, item in value.items():
                yield from _texts(item, field_path(path, key))
        case list():
            for number, item in enumerate(value):
                yield from _texts(item, field_path(path, number))
