# SPDX-License-Identifier: Apache-2.0
"""`kubesaga run --signal ACTIVITY=VALUE`: Signals that are there from the start, since nobody can send one later, nor an event."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kubesaga.api.action import Verb
from kubesaga.api.deed import ActivityPhase
from kubesaga.api.reasons import Reason
from kubesaga.api.run import RunPhase
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.command import Command
from kubesaga.engine.language.nearest import nearest


def read_signals(texts: Sequence[str], spec: WorkflowSpec) -> dict[str, Any]:
    """Return the values by the activity that waits for them. Raises ValueError with a sentence."""
    waiters = [each.name for each in (*spec.activities, *spec.finally_) if each.wait_for is not None]
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if name not in waiters:
            raise ValueError(f"{name} is no waitFor; {nearest(name, waiters, 'activities that wait')}")
        if name in found:
            raise ValueError(f"{name} is given twice, and takes one")
        try:
            found[name] = json.loads(value) if sign else None
        except ValueError:
            raise ValueError(
                f"{name}: {value!r} is not JSON; write a string with its quotes: {name}='\"text\"'"
            ) from None
    return found


_AWAITING: Final = (Reason.AWAITING_SIGNAL, Reason.AWAITING_EVENT)


def unanswered(status: Mapping[str, Any], spec: WorkflowSpec) -> str | None:
    """Return what is told of a run in which everything that is under way waits for a Signal, or an event, without end."""
    known = status.get("activities") or {}
    live = [name for name, activity in known.items() if ActivityPhase(activity["phase"]).under_way]
    endless = [name for name in live if known[name].get("reason") in _AWAITING and "until" not in known[name]]
    if status.get("phase") != RunPhase.WAITING or not live or live != endless:
        return None
    waits = {each.name: each.wait_for for each in (*spec.activities, *spec.finally_) if each.wait_for is not None}
    events = {name: wait.event for name, wait in waits.items() if wait.event is not None and name in endless}
    what = "a Signal, which nobody can send here"
    if events:
        what = f"{', '.join(dict.fromkeys(events.values()))}, and no event comes here"
        what += "" if len(events) == len(endless) else ", nor a Signal"
    given = " ".join(f"--signal {name}={'EVENT' if name in events else 'VALUE'}" for name in endless)
    return f"{', '.join(endless)}: waits for {what}; give it from the start: {given}"


class GivenSignals:
    """The WorkflowActions (see `controller.actions.Actions`) of a world in which there are only those of the command line."""

    def __init__(self, signals: Mapping[str, Any], say: Callable[[str], None]) -> None:
        self._waiting = {
            name: Command(uid=f"signal-{name}", name=f"signal-{name}", verb=Verb.SIGNAL, activity=name, value=value)
            for name, value in signals.items()
        }
        self._say = say

    def of_run(self, run: RunKey, uid: str | None) -> tuple[Command, ...]:  # noqa: ARG002 - see Actions
        """Return the Signals that have not been taken in."""
        return tuple(self._waiting.values())

    async def answer(self, command: Command, run: RunKey, *, applied: bool, message: str) -> None:  # noqa: ARG002 - see Actions
        """Take note of the answer, and tell it where the Signal is refused."""
        if self._waiting.pop(command.activity or "", None) is not None and not applied:
            self._say(f"the Signal for {command.activity} is refused: {message}")
