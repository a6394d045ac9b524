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
}
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

    def __init__(self, names: Sequence[str], stream: TextIO, terminal: Terminal) -> None:
        self._names = names
        self._stream = stream
        self._terminal = terminal
        self._width = max((len(name) for name in names), default=0)
        self._told: dict[str, str] = {}
        self._status: Json = {}
        self._rows: list[str] = []
        """What stands on the terminal and is to be redrawn."""
        self._now: datetime | None = None
        self._lock = threading.RLock()

    def update(self, status: Json, now: datetime) -> None:
        """Show a status on the wire."""
        self._status = status
        if self._terminal.live:
            self._redraw(now)
            return
        for name in self._names:
            activity = self._activity(name)
            known = f"{activity['phase']}{_words(activity)}"
            if activity["phase"] != "Pending" and self._told.get(name) != known:
                self._told[name] = known
                self._write(self._row(name, now) + "\n")

    def tick(self, now: datetime) -> None:
        """Let the durations of what runs go on."""
        if self._terminal.live and any(self._activity(name)["phase"] == "Running" for name in self._names):
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

    def _activity(self, name: str) -> Json:
        activity: Json = (self._status.get("activities") or {}).get(name) or {"phase": "Pending"}
        return activity

    def _row(self, name: str, now: datetime, columns: int | None = None) -> str:
        activity = self._activity(name)
        phase = activity["phase"]
        parts = [f"{name:<{self._width}}", f"{phase:<9}", f"{_duration(activity, now):>6}", _words(activity)]
        text = "  ".join(parts).rstrip()
        return f"{self._terminal.symbol(phase)} {text if columns is None else text[: columns - 2]}"

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
        """Return the activities to show: all, or those around the first that has not ended."""
        if len(self._names) <= room:
            return list(self._names), 0
        room -= 1
        active = (i for i, name in enumerate(self._names) if self._activity(name)["phase"] in ("Pending", "Running"))
        first = max(0, min(next(active, 0) - room // 3, len(self._names) - room))
        return list(self._names[first : first + room]), len(self._names) - room

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


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


def _duration(activity: Json, now: datetime) -> str:
    if "startTime" not in activity:
        return ""
    end = parse_time(activity["completionTime"]) if "completionTime" in activity else now
    return format_duration(end - parse_time(activity["startTime"]))


def _words(activity: Json) -> str:
    """Return why an activity is as it is."""
    if stopping := activity.get("stopping"):
        return plain(f"stopping: {stopping['reason']}: {stopping['message']}")
    if error := activity.get("error"):
        return plain(f"{error['reason']}: {error['message']}")
    return plain(": ".join(part for part in (activity.get("reason"), activity.get("message")) if part))


def _size(stream: TextIO) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):  # a stream without a file, as in tests
        return 80, 24
    return size.columns or 80, size.lines or 24
