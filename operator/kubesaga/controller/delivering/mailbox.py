# SPDX-License-Identifier: Apache-2.0
"""Events on their way from one run to others, between the pass that offers one and the passes that take it.

A memory, made anew from the statuses: a run that has an event to give names in its status whom it is for, and offers it again at each
pass until all have answered; a run that has taken one has its uid in its own status, and says so again when it is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from kubesaga.controller.actions import Actions
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.command import Command
from kubesaga.engine.decision import Offer
from kubesaga.engine.snapshot import Reply


@dataclass(slots=True, kw_only=True)
class _Sender:
    """A run that has an event to give."""

    key: RunKey
    open: dict[RunKey, Command] = field(default_factory=dict)
    """What its recipients have not answered."""
    replies: dict[str, Reply] = field(default_factory=dict)
    """What they have, by their uid."""


class Mailbox:
    """The WorkflowActions, and the events of other runs: what a pass over a run has to answer."""

    def __init__(self, actions: Actions, wake: Callable[[RunKey], None] = lambda _key: None) -> None:
        """`wake` brings about a pass over a run."""
        self._actions = actions
        self._wake = wake
        self._senders: dict[str, _Sender] = {}
        self._by_recipient: dict[RunKey, dict[str, Command]] = {}

    # --- for who has an event to give

    def offer(self, key: RunKey, offer: Offer) -> None:
        """Have the recipients asked that have not been; who is not among them need not answer any more."""
        sender = self._senders.setdefault(offer.command.uid, _Sender(key=key))
        wanted = {RunKey(namespace=key.namespace, name=each.run): each for each in offer.recipients}
        for gone in [recipient for recipient in sender.open if recipient not in wanted]:
            self._close(offer.command.uid, sender, gone)
        for recipient, each in wanted.items():
            if recipient in sender.open or each.uid in sender.replies:
                continue
            command = replace(offer.command, target_uid=each.uid, waiters=tuple(each.activities))
            sender.open[recipient] = command
            self._by_recipient.setdefault(recipient, {})[command.uid] = command
            self._wake(recipient)
        if not wanted:
            del self._senders[offer.command.uid]

    def replies(self, uid: str) -> Mapping[str, Reply]:
        """Return what the recipients of a run, by its uid, have said, by theirs."""
        sender = self._senders.get(uid)
        return dict(sender.replies) if sender is not None else {}

    def gone(self, key: RunKey) -> None:
        """A run does not exist any more: nobody waits for an answer to what it offered."""
        for uid in [uid for uid, sender in self._senders.items() if sender.key == key]:
            sender = self._senders.pop(uid)
            for recipient in list(sender.open):
                self._close(uid, sender, recipient)

    # --- for who is offered one (see Actions)

    def of_run(self, run: RunKey, uid: str | None) -> tuple[Command, ...]:
        """Return what waits for an answer under this run's name."""
        offered = tuple(_meant(command, uid) for command in self._by_recipient.get(run, {}).values())
        return (*self._actions.of_run(run, uid), *offered)

    async def answer(self, command: Command, run: RunKey, *, applied: bool, message: str) -> None:
        """Pass the answer on."""
        sender = self._senders.get(command.uid)
        if sender is None or run not in sender.open:
            if not command.waiters:
                await self._actions.answer(command, run, applied=applied, message=message)
            return
        asked = self._close(command.uid, sender, run)
        sender.replies[asked.target_uid or ""] = Reply(applied=applied, message=message)
        self._wake(sender.key)

    def _close(self, uid: str, sender: _Sender, recipient: RunKey) -> Command:
        left = self._by_recipient[recipient]
        left.pop(uid)
        if not left:
            del self._by_recipient[recipient]
        return sender.open.pop(recipient)


def _meant(command: Command, uid: str | None) -> Command:
    """Return a command as the run with this uid is given it; None: there is no such run."""
    if uid is None or uid == command.target_uid:
        return command
    return replace(command, problem=f"the run that bears the name now is another one; its uid is {uid}")
