# SPDX-License-Identifier: Apache-2.0
"""How many events a source takes in a time: in no window of the period more than the limit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from kubesaga.api.event_source import SourceRateLimit
from kubesaga.api.fields import parse_duration
from kubesaga.gateway.refusal import Refusal, too_large

_MOST: Final = 10_000


class _Window:
    """What was taken within the last period: when, and how much at once."""

    def __init__(self, limit: SourceRateLimit) -> None:
        self.limit = limit
        self.period = parse_duration(limit.period).total_seconds()
        self._taken: deque[tuple[float, int]] = deque()
        self._sum = 0

    def take(self, count: int, now: float) -> float:
        """Take it and return 0, or return in how many seconds there may be room."""
        while self._taken and now - self._taken[0][0] >= self.period:
            self._sum -= self._taken.popleft()[1]
        if self._sum + count <= self.limit.limit:
            self._taken.append((now, count))
            self._sum += count
            return 0.0
        missing = self._sum + count - self.limit.limit
        for moment, taken in self._taken:
            missing -= taken
            if missing <= 0:
                return max(0.001, moment + self.period - now)
        return self.period


class Rates:
    """The windows of all sources, in this process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._windows: dict[tuple[str, str], _Window] = {}

    def take(self, namespace: str, name: str, limit: SourceRateLimit | None, count: int = 1) -> None:
        """Let so many events of a source in. Raises Refusal (429, or 413 for more than there can ever be room for)."""
        key = (namespace, name)
        if limit is None:
            self._windows.pop(key, None)
            return
        if count > limit.limit:
            raise too_large(f"the delivery has {count} events, and spec.rateLimit takes {limit.limit} at most at once")
        window = self._windows.get(key)
        if window is None or window.limit != limit:
            if len(self._windows) >= _MOST:
                self._windows.clear()
            window = self._windows[key] = _Window(limit)
        if wait := window.take(count, self._clock()):
            told = f"the source takes {limit.limit} events in {limit.period}: try again later"
            raise Refusal(429, "RateLimited", told, retry_after=wait)
