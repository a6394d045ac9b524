# SPDX-License-Identifier: Apache-2.0
"""What is told while a run goes on, beside its progress: log lines, and what handlers print.

All of it becomes lines of the progress on standard error, so that it does not run into what is redrawn there, and
standard output holds the result alone.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

Say = Callable[[str], None]


@contextlib.contextmanager
def told_by(say: Say) -> Iterator[None]:
    """Let all that is logged, from warnings on, and printed inside be said."""
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [_SayingHandler(say)]
    lines = _SayingStream(say)
    try:
        with contextlib.redirect_stdout(lines), contextlib.redirect_stderr(lines):
            yield
    finally:
        root.handlers[:] = before


class _SayingHandler(logging.Handler):
    def __init__(self, say: Say) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Say a record, unless the announcer wrote it: what becomes of the run is shown by its progress already."""
        if hasattr(record, "workflow_id"):
            return
        for line in f"{record.levelname.lower()}: {self.format(record)}".splitlines():
            self._say(line)


class _SayingStream(io.TextIOBase):
    """Says whole lines. Each thread has a line of its own, for handlers print from several."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say
        self._begun: Any = threading.local()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Take a piece of text."""
        *lines, rest = (getattr(self._begun, "text", "") + text).split("\n")
        self._begun.text = rest
        for line in lines:
            self._say(line)
        return len(text)
