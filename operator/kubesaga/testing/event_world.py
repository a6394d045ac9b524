# SPDX-License-Identifier: Apache-2.0
"""Events for live runs in the small world: messengers, and runs of the same key, while everything fails that can.

What must hold of each event, whatever happens: no run takes it twice; who is said to have taken it has, and who has is
said to; a run that was there is asked; and an event that a live run has taken starts nothing.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from kubesaga.engine.attempt import RunKey
from kubesaga.testing.violations import is_finished
from kubesaga.testing.world import World

WAITING: Final[dict[str, Any]] = {
    "activities": [
        {"name": "open", "handler": "open"},
        {"name": "reply", "waitFor": {"event": "comment", "timeout": "5m"}},
        {"name": "more", "waitFor": {"event": "comment", "when": "received.loud", "timeout": "5m"}},
        {"name": "close", "handler": "close"},
    ]
}
KEYED: Final = {"concurrency": {"key": "K", "onConflict": "Signal"}}
_MOST: Final = 8
"""Events of one history."""


class EventWorld(World):
    """One history with events. Names that begin with `m` are messengers, with `s` runs that an event starts."""

    def __init__(self, chance: random.Random, *, keyed: bool = False, broken: str = "") -> None:
        super().__init__(chance, broken=broken, workflow={**WAITING, **(KEYED if keyed else {})})
        self._keyed = keyed
        self._events = 0

    async def _step(self) -> None:
        if self._events < _MOST and self.chance.random() < 0.15:
            self._event()
        else:
            await super()._step()

    def _event(self) -> None:
        """An event comes in; the watch may be late to tell of it."""
        self._events += 1
        starts = self._keyed and self.chance.random() < 0.7
        key = RunKey(namespace="shop", name=f"{'s' if starts else 'm'}-{self._events}")
        event = {"type": "comment", "source": "desk", "id": str(self._events), "loud": self.chance.random() < 0.7}
        spec = {"workflowRef": {"name": "order"}, "event": json.dumps(event), **({} if starts else {"deliver": True})}
        self.api.create(key, f"uid-{key.name}", spec)
        self.keys.append(key)
        self.wake(key)


def event_violations(world: EventWorld) -> list[str]:
    """Return what does not hold at the end of a history."""
    last = {body["metadata"]["uid"]: body for body in world.api.history}
    taken = {uid: [act["uid"] for act in _status(body).get("actions", ())] for uid, body in last.items()}
    return [*_twice(taken, last), *_untold(taken, last), *_missed(last), *_unfinished(world)]


def _twice(taken: dict[str, list[str]], last: dict[str, Any]) -> Iterator[str]:
    for uid, events in taken.items():
        yield from (f"{uid} took {event} {count} times" for event, count in Counter(events).items() if count > 1)
        outputs = [
            activity["output"]["id"]
            for name, activity in _status(last[uid]).get("activities", {}).items()
            if name in ("reply", "more") and isinstance(activity.get("output"), dict)
        ]
        if len(set(outputs)) < len(outputs):
            yield f"{uid} has one event as the output of two waits: {outputs}"


def _untold(taken: dict[str, list[str]], last: dict[str, Any]) -> Iterator[str]:
    """Yield where what a sender says and what the recipients have done differ; a recipient that was deleted may not have said."""
    gone = {uid for uid, body in last.items() if "deletionTimestamp" in body["metadata"]}
    for uid, body in last.items():
        status = _status(body)
        applied = {each["uid"] for each in status.get("recipients", ()) if each.get("answer") == "Applied"} - gone
        takers = {other for other, events in taken.items() if uid in events} - gone
        # Who was told to end did not wait to hear what became of its event.
        if _ended_itself(status) and applied != takers:
            yield f"{uid} says that {sorted(applied)} took its event, but {sorted(takers)} did"
        if status.get("startTime") and not body["spec"].get("deliver") and takers:
            yield f"{uid} started though {sorted(takers)} took its event"


def _missed(last: dict[str, Any]) -> Iterator[str]:
    """Yield the runs that were there when a messenger came, were there when it had ended, and were not asked."""
    order = list(last)
    for uid, body in last.items():
        status = _status(body)
        if not body["spec"].get("deliver") or status.get("reason") not in ("Delivered", "NotAwaited"):
            continue
        asked = {each["uid"] for each in status.get("recipients", ())}
        earlier = order[: order.index(uid)]
        for other, run in last.items():
            there = other in earlier and not run["spec"].get("deliver")
            until = _status(run).get("completionTime") or run["metadata"].get("deletionTimestamp") or "9999"
            if there and until > status["completionTime"] and other not in asked:
                yield f"{other} was not asked by {uid}"


def _unfinished(world: EventWorld) -> Iterator[str]:
    for key in world.keys:
        if not is_finished(world.api.objects.get(key)):
            yield f"{key.name} never ended: {world.stored(key).get('phase')} {world.stored(key).get('message')}"


def _ended_itself(status: dict[str, Any]) -> bool:
    return status.get("reason") in ("Delivered", "NotAwaited", "UsedExisting")


def _status(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body.get("status") or {}
    return found
