# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, and when: faults as values, rules that say where they strike, plans that hold rules.

A plan is a pure function of the calls and events that it is shown, so that a seed repeats its decisions. What it cannot
repeat is the order in which a kubelet and two processors do things.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from tests.faults.calls import UNCOUNTED, Call


class Blow(StrEnum):
    """What happens to a call."""

    BEFORE = "killed before"
    """SIGKILL; the call never reaches the API server."""
    AFTER = "killed after"
    """The API server carries it out; SIGKILL before the operator gets the answer."""
    LOST = "answer lost"
    """Carried out; the connection breaks instead of an answer, and the operator lives on."""
    DROPPED = "request lost"
    """The connection breaks, and the API server never heard of it."""
    REFUSED = "refused"
    """Answered with `status`, not carried out."""
    SLOW = "slow"
    """Carried out, answered `seconds` later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one call."""

    blow: Blow
    status: int = 503
    retry_after: int | None = None
    seconds: float = 2.0

    def __str__(self) -> str:
        more = {Blow.REFUSED: f" {self.status}", Blow.SLOW: f" by {self.seconds:g} s"}.get(self.blow, "")
        return f"{self.blow}{more}"


BEFORE, AFTER, LOST, DROPPED = (Fault(blow=blow) for blow in (Blow.BEFORE, Blow.AFTER, Blow.LOST, Blow.DROPPED))
MOMENTS = (BEFORE, AFTER, LOST)


def refused(status: int, retry_after: int | None = None) -> Fault:
    """Return the fault of an answer that is an error."""
    return Fault(blow=Blow.REFUSED, status=status, retry_after=retry_after)


class Twist(StrEnum):
    """What happens to an event of a watch."""

    DROP = "dropped"
    DUPLICATE = "told twice"
    DELAY = "told a second late, after younger ones"
    REPLAY = "told again a second later, after younger ones"
    GONE = "answered with 410 instead"
    BROKEN = "answered with an error 500 instead"
    CUT = "cut in the middle of its line"
    FREEZE = "the last thing that is heard on its connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event of a watch that is about to be told. `about` says what it shows, in a word."""

    resource: str
    type: str
    about: str
    object: Any = field(compare=False, default=None)

    @property
    def label(self) -> str:
        """As plans name it, such as `workflowruns ADDED` or `pods MODIFIED Succeeded`."""
        return f"{self.resource} {self.type} {self.about}".rstrip()


class Plan(Protocol):
    """Decides what goes wrong. `nth` counts from 1 the calls or events of that label since the plan began."""

    @property
    def title(self) -> str:
        """What it is, in words."""

    def blow(self, call: Call, nth: int) -> Fault | None:
        """Return what happens to a call."""

    def twist(self, event: Event, nth: int) -> Twist | None:
        """Return what happens to an event."""

    def stale(self, resource: str) -> bool:
        """Tell whether listings of a resource show the past: as of the first status of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """A place in a plan: the `nth` call or event of a label and the `times - 1` after it. nth 0: all of them."""

    label: str
    nth: int = 1
    times: int = 1

    def covers(self, label: str, nth: int) -> bool:
        """Tell whether it is here."""
        named = self.label in ("*", label) or (self.label.endswith("*") and label.startswith(self.label[:-1]))
        return named and (self.nth == 0 or self.nth <= nth < self.nth + self.times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A plan of faults at given places."""

    title: str
    blows: Sequence[tuple[At, Fault]] = ()
    twists: Sequence[tuple[At, Twist]] = ()
    stale_lists: frozenset[str] = frozenset()

    def blow(self, call: Call, nth: int) -> Fault | None:
        """See Plan."""
        return next((fault for at, fault in self.blows if at.covers(call.label, nth)), None)

    def twist(self, event: Event, nth: int) -> Twist | None:
        """See Plan."""
        return next((twist for at, twist in self.twists if at.covers(event.label, nth)), None)

    def stale(self, resource: str) -> bool:
        """See Plan."""
        return resource in self.stale_lists


CALM = Fixed(title="nothing goes wrong")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A plan drawn from a seed: a share of all writes, reads and events goes wrong, until `most` faults have struck."""

    seed: int
    most: int = 12

    @property
    def title(self) -> str:
        """See Plan."""
        return f"mix of seed {self.seed}"

    def blow(self, call: Call, nth: int) -> Fault | None:
        """See Plan."""
        if call.resource.partition("/")[0] in UNCOUNTED:
            return None
        odds = self._draw(call.label, nth)
        if call.mutates:
            return _drawn(odds, _WRITE_ODDS)
        return _drawn(odds, _READ_ODDS) if call.verb in ("get", "list") else None

    def twist(self, event: Event, nth: int) -> Twist | None:
        """See Plan."""
        return _drawn(self._draw(event.label, nth), _EVENT_ODDS)

    def stale(self, resource: str) -> bool:
        """See Plan."""
        return self._draw(f"stale {resource}", 0) < 0.3

    def _draw(self, label: str, nth: int) -> float:
        """Return a number from 0 up to 1 that depends on the seed and the place alone."""
        digest = hashlib.sha256(f"{self.seed}/{label}/{nth}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


_WRITE_ODDS: tuple[tuple[float, Fault], ...] = (
    (0.06, BEFORE), (0.06, AFTER), (0.07, LOST), (0.04, DROPPED), (0.03, refused(429, 1)), (0.03, refused(500)),
    (0.03, refused(503)), (0.03, refused(504)), (0.03, Fault(blow=Blow.SLOW, seconds=0.5)),
)  # fmt: skip
_READ_ODDS: tuple[tuple[float, Fault], ...] = ((0.02, refused(500)), (0.02, DROPPED), (0.02, refused(429, 1)))
_EVENT_ODDS: tuple[tuple[float, Twist], ...] = (
    (0.04, Twist.DROP), (0.05, Twist.DUPLICATE), (0.06, Twist.DELAY), (0.06, Twist.REPLAY), (0.03, Twist.GONE),
    (0.03, Twist.CUT),
)  # fmt: skip


def _drawn(number: float, odds: Sequence[tuple[float, Any]]) -> Any:
    for share, what in odds:
        if number < share:
            return what
        number -= share
    return None


class Script:
    """A plan in play: counts what it is shown, and notes what has struck. It is over when `stop` is called."""

    def __init__(self, plan: Plan = CALM, notice: Callable[[str], None] = lambda told: None) -> None:
        self.plan = plan
        self.struck: list[str] = []
        self._notice = notice
        self._seen: Counter[str] = Counter()
        self._over = False

    def stop(self) -> None:
        """From now on nothing goes wrong."""
        self._over = True

    @property
    def _done(self) -> bool:
        return self._over or (isinstance(self.plan, Mix) and len(self.struck) >= self.plan.most)

    def blow(self, call: Call) -> Fault | None:
        """Count a call; return what happens to it."""
        self._seen[call.label] += 1
        fault = None if self._done else self.plan.blow(call, self._seen[call.label])
        if fault is not None:
            self.strike(f"{call.label} {self._seen[call.label]}: {fault}")
        return fault

    def twist(self, event: Event) -> Twist | None:
        """Count an event; return what happens to it."""
        self._seen[event.label] += 1
        twist = None if self._done else self.plan.twist(event, self._seen[event.label])
        if twist is not None:
            self.strike(f"{event.label} {self._seen[event.label]}: {twist}")
        return twist

    def stale(self, resource: str) -> bool:
        """Tell whether a listing shows the past."""
        return not self._done and self.plan.stale(resource)

    def note_stale(self, resource: str) -> None:
        """Take note that a listing of the past was given."""
        self.strike(f"list {resource}: of the past")

    def strike(self, told: str) -> None:
        """Take note that something went wrong."""
        self.struck.append(told)
        self._notice(told)
