# SPDX-License-Identifier: Apache-2.0
"""Log lines: one JSON object a line (S116-S119), or text for people. A line bears the run and activity it is about.

The named components are those of the contract: workflow_engine, activity_executor, state_manager.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

ABOUT: ContextVar[dict[str, str] | None] = ContextVar("about", default=None)
"""What the lines of this task are about: workflow_id, run, namespace."""

_EXTRA: Final = ("workflow_id", "activity", "run", "namespace", "attempt", "reason")


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object with at least timestamp, level, component, workflow_id, activity, message."""

    def format(self, record: logging.LogRecord) -> str:
        about = ABOUT.get() or {}
        line: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "component": record.name.removeprefix("kubesaga."),
            "workflow_id": "",
            "activity": "",
            **about,
        }
        line.update({name: value for name in _EXTRA if (value := getattr(record, name, None)) is not None})
        line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Formats a record for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        where = "/".join(part for name in ("run", "activity") if (part := getattr(record, name, "")))
        text = f"{moment} {record.levelname:<7} {where + ': ' if where else ''}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure(level: str, format_: str) -> None:
    """Send all log lines of the process to standard error, in that format. Libraries speak from `warning` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format_ == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("kubesaga").setLevel(level.upper())
