# SPDX-License-Identifier: Apache-2.0
"""Time, as an argument: what the shell may ask of a clock. The real one is made in main/process.py (design law 2)."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is recorded, monotonic time for what is measured, and the one way to wait."""

    def now(self) -> datetime:
        """Return the time of day, aware, in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go back, those in which the machine slept included."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""
