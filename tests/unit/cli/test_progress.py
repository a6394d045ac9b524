# SPDX-License-Identifier: Apache-2.0
"""Progress: in place on a terminal, one line a change elsewhere."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.cli.screen import Screen

from kubesaga.api.fields import format_time
from kubesaga.cli.progress import Progress, Terminal, plain, result_line

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLAIN = Terminal(live=False, colour=False, unicode=True)
LIVE = Terminal(live=True, colour=True, unicode=True)


def activity(phase: str, *, took: float | None = None, **fields: Any) -> dict[str, Any]:
    """An activity that started at NOW."""
    end = {} if took is None else {"completionTime": format_time(NOW + timedelta(seconds=took))}
    return {"phase": phase, "startTime": format_time(NOW), **end, **fields}


def status(**activities: dict[str, Any]) -> dict[str, Any]:
    return {"activities": activities}


def test_elsewhere_each_change_is_a_line() -> None:
    stream = io.StringIO()
    progress = Progress(["price", "reserve"], stream, PLAIN)
    progress.update({}, NOW)
    progress.update(status(price=activity("Running")), NOW)
    progress.tick(NOW + timedelta(seconds=9))
    progress.update(status(price=activity("Running")), NOW + timedelta(seconds=9))
    done = activity("Succeeded", took=0.012)
    progress.update(status(price=done, reserve=activity("Running")), NOW + timedelta(seconds=2))
    error = {"reason": "HandlerFailed", "message": "no\nstock"}
    progress.update(status(price=done, reserve=activity("Failed", took=3.2, error=error)), NOW)
    progress.close(NOW)
    assert stream.getvalue().splitlines() == [
        "● price    Running        0s",
        "✓ price    Succeeded    12ms",
        "● reserve  Running        2s",
        "✗ reserve  Failed         3s  HandlerFailed: no stock",
    ]


def test_a_terminal_shows_every_activity_once_as_it_is_now() -> None:
    screen = Screen()
    progress = Progress(["price", "reserve"], screen, LIVE)
    progress.update({}, NOW)
    progress.update(status(price=activity("Running")), NOW)
    assert screen.lines() == ["● price    Running        0s", "· reserve  Pending"]
    progress.tick(NOW + timedelta(seconds=5))
    assert screen.lines() == ["● price    Running        5s", "· reserve  Pending"]
    progress.update(status(price=activity("Succeeded", took=6)), NOW)
    progress.close(NOW)
    assert screen.lines() == ["✓ price    Succeeded      6s", "· reserve  Pending"]


FAILED = {"reason": "HandlerFailed", "message": "no truck"}
UNDOING: dict[str, Any] = {
    "compensation": {"startTime": format_time(NOW)}, "reason": "ActivityFailed", "message": "ship: no truck",
}  # fmt: skip


def test_undoing_is_told_after_what_made_it_necessary() -> None:
    stream = io.StringIO()
    progress = Progress(["book", "ship"], stream, PLAIN, loose_undos=["tell"])
    done, failed = activity("Succeeded", took=1), activity("Failed", took=2, error=FAILED)
    progress.update(status(book=done, ship=activity("Running")), NOW)
    book = {**done, "phase": "Compensating", "compensation": activity("Running")}
    progress.update({**status(book=book, ship=failed), **UNDOING}, NOW)
    book = {**done, "phase": "Compensated", "compensation": activity("Succeeded", took=3)}
    loose = {"compensation": {"startTime": format_time(NOW), "activities": {"tell": activity("Running")}}}
    progress.update({**status(book=book, ship=failed), **loose}, NOW)
    assert stream.getvalue().splitlines() == [
        "✓ book  Succeeded      1s",
        "● ship  Running        0s",
        "✗ ship  Failed            2s  HandlerFailed: no truck",
        "undoing what was done: ActivityFailed: ship: no truck",
        "↶ book  Compensating      0s",
        "↶ book  Compensated       3s",
        "● tell  Running           0s  undo",
    ]


def test_a_terminal_shows_undoing_in_place() -> None:
    screen = Screen()
    progress = Progress(["book", "ship"], screen, LIVE, loose_undos=["tell"])
    done, failed = activity("Succeeded", took=1), activity("Failed", took=2, error=FAILED)
    progress.update(status(book=done, ship=failed), NOW)
    progress.update(
        {**status(book={**done, "phase": "Compensating", "compensation": activity("Running")}, ship=failed), **UNDOING},
        NOW,
    )
    progress.tick(NOW + timedelta(seconds=4))
    assert screen.lines() == [
        "undoing what was done: ActivityFailed: ship: no truck",
        "↶ book  Compensating      4s",
        "✗ ship  Failed            2s  HandlerFailed: no truck",
    ]


@pytest.mark.parametrize(
    ("known", "row"),
    [
        pytest.param(
            activity("Waiting", reason="FallingBack", error=FAILED, fallback=activity("Running")),
            "● a  Waiting        0s  fallback running, after HandlerFailed: no truck",
            id="its fallback runs",
        ),
        pytest.param(
            activity("Waiting", error=FAILED, fallback=activity("Retrying", error={**FAILED, "message": "no van"})),
            "● a  Waiting        0s  fallback retrying: HandlerFailed: no van",
            id="its fallback is tried again",
        ),
        pytest.param(
            activity("Succeeded", took=1, error=FAILED, fallback=activity("Succeeded", took=1)),
            "✓ a  Succeeded      1s  by its fallback, after HandlerFailed: no truck",
            id="its fallback stood in",
        ),
        pytest.param(
            activity("Skipped", took=1, reason="FallbackSkipped", error=FAILED),
            "↷ a  Skipped        1s  FallbackSkipped: HandlerFailed: no truck",
            id="its fallback is skip",
        ),
        pytest.param(
            activity("Retrying", error=FAILED),
            "↻ a  Retrying       0s  HandlerFailed: no truck",
            id="it is tried again",
        ),
        pytest.param(
            activity("Compensating", compensation=activity("Retrying", error=FAILED)),
            "↶ a  Compensating      0s  undo failed, waits: HandlerFailed: no truck",
            id="its undo is tried again",
        ),
        pytest.param(
            activity("Succeeded", took=1, compensation=activity("Failed", took=2, error=FAILED)),
            "✗ a  Succeeded      2s  not undone: HandlerFailed: no truck",
            id="its undo failed",
        ),
        pytest.param(
            activity("Compensated", took=1, error=FAILED, compensation=activity("Succeeded", took=2)),
            "↶ a  Compensated      2s",
            id="it is undone",
        ),
    ],
)
def test_a_row_says_of_an_activity(known: dict[str, Any], row: str) -> None:
    stream = io.StringIO()
    Progress(["a"], stream, PLAIN).update(status(a=known), NOW)
    assert stream.getvalue().splitlines() == [row]


def test_what_is_said_stays_above() -> None:
    screen = Screen()
    progress = Progress(["a"], screen, LIVE)
    progress.say("before")
    progress.update(status(a=activity("Running")), NOW)
    progress.printed("a", "one")
    progress.printed("a", "two")
    assert screen.lines() == ["before", "a | one", "a | two", "● a  Running        0s"]


def test_what_did_not_change_is_not_drawn_again() -> None:
    screen = Screen()
    progress = Progress(["a"], screen, LIVE)
    progress.update(status(a=activity("Running")), NOW)
    before = screen.getvalue()
    progress.update(status(a=activity("Running")), NOW)
    assert screen.getvalue() == before


def test_more_activities_than_lines_show_where_the_run_is() -> None:
    """24 lines are what a stream without a size has."""
    screen = Screen()
    names = [f"a{number:02}" for number in range(60)]
    progress = Progress(names, screen, LIVE)
    ended = {name: activity("Succeeded", took=1) for name in names[:30]}
    progress.update({**status(**ended, a30=activity("Running")), "progress": "30/60"}, NOW)
    lines = screen.lines()
    assert len(lines) == 22
    assert any("a30" in line and "Running" in line for line in lines)
    assert lines[-1] == "… 39 more, 30/60 done"
    progress.close(NOW)
    assert len(screen.lines()) == 60


def test_a_long_row_is_cut_to_the_terminal() -> None:
    screen = Screen()
    progress = Progress(["a"], screen, LIVE)
    error = {"reason": "HttpFailed", "message": "x" * 500}
    progress.update(status(a=activity("Failed", took=1, error=error)), NOW)
    assert [len(line) for line in screen.lines()] == [80]


@pytest.mark.parametrize(
    ("tty", "environ", "expected"),
    [
        pytest.param(True, {"TERM": "xterm"}, Terminal(live=True, colour=True, unicode=True), id="a terminal"),
        pytest.param(True, {"TERM": "xterm", "NO_COLOR": "1"}, Terminal(live=True, colour=False, unicode=True), id="NO_COLOR"),
        pytest.param(True, {"TERM": "xterm", "NO_COLOR": ""}, Terminal(live=True, colour=True, unicode=True), id="an empty NO_COLOR says nothing"),
        pytest.param(True, {"TERM": "dumb"}, Terminal(live=False, colour=False, unicode=True), id="a dumb terminal"),
        pytest.param(False, {"TERM": "xterm"}, Terminal(live=False, colour=False, unicode=True), id="a file"),
    ],
)  # fmt: skip
def test_what_may_be_written_to_a_stream(tty: bool, environ: dict[str, str], expected: Terminal) -> None:
    stream = Screen() if tty else io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    assert Terminal.of(stream, environ) == expected


def test_where_there_is_no_unicode_there_are_other_signs() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert Terminal.of(stream, {}).symbol("Succeeded") == "+"


def test_no_text_does_anything_to_a_terminal() -> None:
    assert plain("a\x1b[2Jb\nc\u202ed") == "a [2Jb c d"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        pytest.param({"phase": "Succeeded", "reason": "AllSucceeded", "duration": "2s"}, "✓ r Succeeded in 2s", id="success"),
        pytest.param(
            {"phase": "Failed", "reason": "ActivityFailed", "message": "a: X: y", "duration": "5ms"},
            "✗ r Failed in 5ms: ActivityFailed: a: X: y",
            id="failure says why",
        ),
        pytest.param(
            {"phase": "Compensated", "reason": "ActivityFailed", "message": "a: X: y", "duration": "5ms"},
            "↶ r Compensated in 5ms: ActivityFailed: a: X: y",
            id="so does what was undone",
        ),
    ],
)  # fmt: skip
def test_the_last_line(fields: dict[str, str], line: str) -> None:
    assert result_line({"metadata": {"name": "r"}, "status": fields}, PLAIN) == line


class Closed(io.StringIO):
    """A stream whose reader has gone, as `| head` does."""

    tries = 0

    def write(self, text: str) -> int:
        """Fail."""
        self.tries += 1
        raise BrokenPipeError


def test_a_run_goes_on_though_nobody_reads_of_it_any_more() -> None:
    stream = Closed()
    progress = Progress(["a"], stream, PLAIN)
    progress.update(status(a=activity("Running")), NOW)
    progress.say("something")
    progress.close(NOW)
    assert stream.tries == 1
