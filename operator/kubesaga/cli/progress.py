# SPDX-License-Identifier: Apache-2.0
"""A run as it goes on, for people: redrawn in place on a terminal, one line a change elsewhere."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TextIO

import click

from kubesaga.api.fields import format_duration, parse_time

Json = dict[str, Any]

_SYMBOLS: Final = {
    "Pending": ("·", ".", "bright_black"),
    "Running": ("●", "*", "cyan"),
    "Succeeded": ("✓", "+", "green"),
    "Failed": ("✗", "x", "red"),
    "Skipped": ("↷", "-", "bright_black"),
    "Cancelled": ("■", "#", "yellow"),
    "OutcomeUnknown": ("?", "?", "yellow"),
    "Paused": ("●", "*", "yellow"),
    "Terminated": ("■", "#", "yellow"),
    "Retrying": ("↻", "~", "yellow"),
    "Waiting": ("●", "*", "yellow"),
    "Compensating": ("↶", "<", "yellow"),
    "Compensated": ("↶", "<", "green"),
}
_UNDER_WAY: Final = frozenset({"Running", "Retrying", "Waiting", "Compensating"})
_UNDO_ENDED_BADLY: Final = frozenset({"Failed", "Cancelled", "OutcomeUnknown"})
_UP_AND_CLEAR: Final = "\x1b[{}A\r\x1b[J"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
_MARGIN: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """What may be written to a stream."""

    live: bool
    """It can be redrawn."""
    colour: bool
    unicode: bool

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str]) -> Terminal:
        """Look at a stream. NO_COLOR (no-color.org) and TERM=dumb are heeded."""
        able = stream.isatty() and environ.get("TERM", "dumb") != "dumb"
        encoding = (stream.encoding or "ascii").lower().replace("-", "")
        return cls(live=able, colour=able and not environ.get("NO_COLOR"), unicode=encoding.startswith("utf"))

    def styled(self, text: str, colour: str) -> str:
        """Return a text in a colour, where there are colours."""
        return click.style(text, fg=colour) if self.colour else text

    def symbol(self, phase: str) -> str:
        """Return the sign of a phase, in its colour."""
        sign, plain_sign, colour = _SYMBOLS.get(phase, _SYMBOLS["Pending"])
        return self.styled(sign if self.unicode else plain_sign, colour)


class Progress:
    """Shows a run's activities on a stream. `say` may be called from any thread, the others from one."""

    def __init__(
        self, names: Sequence[str], stream: TextIO, terminal: Terminal, *, loose_undos: Sequence[str] = ()
    ) -> None:
        self._activities = list(names)
        self._loose_undos = loose_undos
        self._stream = stream
        self._terminal = terminal
        self._width = max((len(name) for name in (*names, *loose_undos)), default=0)
        self._told: dict[str, str] = {}
        self._status: Json = {}
        self._rows: list[str] = []
        """What stands on the terminal and is to be redrawn."""
        self._now: datetime | None = None
        self._lock = threading.RLock()
        self._deaf = False
        """Nobody reads any more."""

    def update(self, status: Json, now: datetime) -> None:
        """Show a status on the wire."""
        before, self._status = self._status, status
        begins = _undoing(status) and not _undoing(before)
        if self._terminal.live:
            self._redraw(now, above=self._undoing_line() if begins else "")
            return
        changed = [name for name in self._names if self._is_news(name)]
        ended = [name for name in changed if self._activity(name)["phase"] not in _UNDER_WAY]
        self._write("".join(f"{self._row(name, now)}\n" for name in ended))
        self._write(self._undoing_line() if begins else "")
        self._write("".join(f"{self._row(name, now)}\n" for name in changed if name not in ended))

    def _is_news(self, name: str) -> bool:
        """Tell whether an activity is otherwise than it was told last, and take note of how it is."""
        activity = self._activity(name)
        known = f"{activity['phase']}{_words(activity)}"
        before, self._told[name] = self._told.get(name), known
        return activity["phase"] != "Pending" and before != known

    def _undoing_line(self) -> str:
        return plain(f"undoing what was done: {self._status.get('reason')}: {self._status.get('message')}") + "\n"

    def tick(self, now: datetime) -> None:
        """Let the durations of what runs go on."""
        if self._terminal.live and any(self._activity(name)["phase"] in _UNDER_WAY for name in self._names):
            self._redraw(now)

    def say(self, text: str) -> None:
        """Write a line that stays, above what is redrawn."""
        line = f"{plain(text)}\n"
        with self._lock:
            if self._rows and self._now is not None:
                self._redraw(self._now, above=line)
            else:
                self._write(line)

    def printed(self, activity: str, line: str) -> None:
        """Show a line that an activity's process has printed."""
        self.say(f"{activity} | {line}")

    def close(self, now: datetime) -> None:
        """Leave the last state standing."""
        if self._terminal.live and self._status:
            self._redraw(now, whole=True)
        self._rows = []

    @property
    def _names(self) -> list[str]:
        """The activities, and the undos that belong to none of them once there are any."""
        known = _loose_undos(self._status)
        return [*self._activities, *(name for name in self._loose_undos if name in known)]

    def _activity(self, name: str) -> Json:
        known = {**_loose_undos(self._status), **(self._status.get("activities") or {})}
        activity: Json = known.get(name) or {"phase": "Pending"}
        return activity

    def _row(self, name: str, now: datetime, columns: int | None = None) -> str:
        activity = self._activity(name)
        phase, room = activity["phase"], 12 if _undoing(self._status) else 9
        words = _words(activity) or ("undo" if name in self._loose_undos else "")
        parts = [f"{name:<{self._width}}", f"{phase:<{room}}", f"{_duration(activity, now):>6}", words]
        text = "  ".join(parts).rstrip()
        sign = "Failed" if _undo_failed(activity) else phase
        return f"{self._terminal.symbol(sign)} {text if columns is None else text[: columns - 2]}"

    def _redraw(self, now: datetime, *, above: str = "", whole: bool = False) -> None:
        columns, lines = _size(self._stream)
        with self._lock:
            shown, left_out = (list(self._names), 0) if whole else self._window(max(3, lines - _MARGIN))
            rows = [self._row(name, now, columns) for name in shown]
            if left_out:
                rows.append(f"… {left_out} more, {self._status.get('progress', '')} done")
            if rows != self._rows or above:
                erased = _UP_AND_CLEAR.format(len(self._rows)) if self._rows else ""
                # Without wrapping each row takes one line, also where its letters are wider than one column.
                self._write("".join([erased, above, _NO_WRAP, *(f"{row}\n" for row in rows), _WRAP]))
            self._rows, self._now = rows, now

    def _window(self, room: int) -> tuple[list[str], int]:
        """Return the activities to show: all, or those around the first that is under way."""
        if len(self._names) <= room:
            return list(self._names), 0
        room -= 1
        names = self._names
        phases = [self._activity(name)["phase"] for name in names]
        here = next((n for n, phase in enumerate(phases) if phase in _UNDER_WAY), None)
        if here is None:
            here = phases.index("Pending") if "Pending" in phases else 0
        first = max(0, min(here - room // 3, len(names) - room))
        return names[first : first + room], len(names) - room

    def _write(self, text: str) -> None:
        if self._deaf:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            # Whoever reads has had enough (`| head`). The run goes on to its end: it has effects that nobody may break off.
            self._deaf = True


class NoProgress(Progress):
    """Shows nothing but what is said."""

    def __init__(self, stream: TextIO, terminal: Terminal) -> None:
        super().__init__((), stream, terminal)

    def update(self, status: Json, now: datetime) -> None:
        """Show nothing."""

    def printed(self, activity: str, line: str) -> None:
        """Show nothing."""

    def close(self, now: datetime) -> None:
        """Show nothing."""


def result_line(body: Json, terminal: Terminal) -> str:
    """Return how a finished run ended, in one line."""
    status = body["status"]
    phase, reason, message = status["phase"], status.get("reason"), status.get("message")
    why = "" if phase == "Succeeded" else f": {reason}: {plain(message or '')}".rstrip(": ")
    took = f" in {status['duration']}" if status.get("duration") else ""
    return f"{terminal.symbol(phase)} {body['metadata']['name']} {phase}{took}{why}"


def plain(text: str) -> str:
    """Return a text as one line that does nothing to a terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text).rstrip()


def _undoing(status: Json) -> bool:
    return "startTime" in (status.get("compensation") or {})


def _loose_undos(status: Json) -> Json:
    known: Json = (status.get("compensation") or {}).get("activities") or {}
    return known


def _undo_failed(activity: Json) -> bool:
    return (activity.get("compensation") or {}).get("phase") in _UNDO_ENDED_BADLY


def _duration(activity: Json, now: datetime) -> str:
    """Return how long the activity took, or its undo where there is one."""
    timed = activity.get("compensation") or activity
    if "startTime" not in timed:
        return ""
    end = parse_time(timed["completionTime"]) if "completionTime" in timed else now
    return format_duration(end - parse_time(timed["startTime"]))


def _words(activity: Json) -> str:
    """Return why an activity is as it is."""
    undo, fallback = activity.get("compensation") or {}, activity.get("fallback") or {}
    own = _why(activity)
    if _undo_failed(activity):
        return plain(f"not undone: {_why(undo)}")
    match activity["phase"]:
        case "Compensating":
            how = "undo failed, waits" if undo.get("phase") == "Retrying" else "undo is tried again, after"
            return plain(f"{how}: {_why(undo)}") if _why(undo) else ""
        case "Compensated":
            return ""
        case "Waiting" if fallback:
            stands = f"fallback {fallback['phase'].lower()}"
            return plain(f"{stands}: {_why(fallback)}" if _why(fallback) else f"{stands}, after {own}")
        case "Succeeded" if fallback:
            return plain(f"by its fallback, after {own}")
        case "Skipped" if "error" in activity:
            return plain(f"{activity.get('reason')}: {own}")
    return plain(own)


def _why(deed: Json) -> str:
    if stopping := deed.get("stopping"):
        return f"stopping: {stopping['reason']}: {stopping['message']}"
    if error := deed.get("error"):
        return f"{error['reason']}: {error['message']}"
    return ": ".join(part for part in (deed.get("reason"), deed.get("message")) if part)


def _size(stream: TextIO) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):  # a stream without a file, as in tests
        return 80, 24
    return size.columns or 80, size.lines or 24
