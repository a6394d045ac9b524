# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition. There is one limit for all waits: no test here is about how long something takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 120
"""Seconds; more than ten times what waits for work take on an idle machine of two cores. A fulfilled wait costs none."""
T = TypeVar("T")


def wait_for(
    what: str,
    look: Callable[[], T | None],
    *,
    within: float = PATIENCE,
    every: float = 0.1,
    otherwise: Callable[[], object] | None = None,
) -> T:
    """Return the first thing that `look` finds. Fails after `within` seconds, saying what was waited for.

    `otherwise` says what there is instead.
    """
    end = time.monotonic() + within
    while True:
        # Looked at once more after the end: a process that was held up has not been refused.
        late = time.monotonic() >= end
        found = look()
        if found:
            return found
        assert not late, f"waited {within:g} s for {what}" + (f"; there is {otherwise()}" if otherwise else "")
        time.sleep(every)
