# SPDX-License-Identifier: Apache-2.0
"""Whether an event has to be told to live runs of a Workflow, as far as the Workflow itself says: by the event's type.

It is read as it is stored, valid or not: what is wrong in it now is no reason to keep events from runs that began before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubesaga.api.event_types import fits
from kubesaga.api.limits import OnConflict
from kubesaga.api.triggers import TIMER_EVENTS
from kubesaga.kube.client import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """The types of event, patterns among them, that live runs of one Workflow may wait for."""

    own: tuple[str, ...] = ()
    """Those that the Workflow waits for as it is now."""
    by_key: tuple[str, ...] = ()
    """Of the Workflow as it is now, those that come as the run of a trigger, which finds the live run of its key."""
    older: tuple[str, ...] = ()
    """Those that revisions of live runs wait for, by the status; what comes to them by key is not among them."""

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self.own or self.older)

    def waits_for(self, type_: str) -> bool:
        """Tell whether an event of a type that came in is to be given to live runs by a messenger."""
        if type_ in TIMER_EVENTS:
            return False
        own = _any_fits(self.own, type_) and not _any_fits(self.by_key, type_)
        return own or _any_fits(self.older, type_)


def awaited_by(workflow: Object) -> Awaited:
    """Return what runs of a Workflow may wait for: those that its spec makes, and those of older revisions."""
    spec, status = _object(workflow.get("spec")), _object(workflow.get("status"))
    signals = _object(spec.get("concurrency")).get("onConflict") == OnConflict.SIGNAL
    return Awaited(
        own=tuple(_in_spec(spec)), by_key=tuple(_triggering(spec)) if signals else (),
        older=tuple(_texts(status.get("awaitedEvents"))),
    )  # fmt: skip


def _any_fits(patterns: tuple[str, ...], type_: str) -> bool:
    return any(fits(pattern, type_) for pattern in patterns)


def _in_spec(spec: Mapping[str, Any]) -> Iterator[str]:
    for where in ("activities", "finally"):
        for activity in _list(spec.get(where)):
            yield from _texts([_object(_object(activity).get("waitFor")).get("event")])


def _triggering(spec: Mapping[str, Any]) -> Iterator[str]:
    for trigger in map(_object, _list(spec.get("triggers"))):
        yield from (
            event for event in _texts([trigger.get("event")]) if "schedule" not in trigger and event not in TIMER_EVENTS
        )


def _texts(values: Any) -> Iterator[str]:
    yield from (value for value in _list(values) if isinstance(value, str))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
