# SPDX-License-Identifier: Apache-2.0
"""Whether and when a failed activity is tried again: arithmetic on attempts, times and policies.

`maxAttempts` counts the first attempt (S120); the waits grow by `multiplier` up to `max` (S121, S122). The jitter is not
drawn but computed from the attempt's identity: the engine is pure, and a pass that is repeated decides the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, Final

from kubesaga.api.failure import Retry
from kubesaga.api.fields import parse_duration
from kubesaga.api.reasons import Reason

UNCHARGED: Final = frozenset({Reason.EVICTED, Reason.NODE_LOST})
"""Failures of the cluster, not of the activity: they are tried again without counting toward `maxAttempts`."""

LONGEST_RETRY_AFTER: Final = timedelta(hours=1)
"""A server that asks to wait longer than this is asked again after this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed activity is tried again."""

    max_attempts: int = 3
    initial: timedelta = timedelta(seconds=1)
    multiplier: float = 2.0
    longest: timedelta = timedelta(minutes=1)
    jitter: float = 0.1
    when: str | None = None
    """A CEL condition over the error; None: `error.retryable`."""
    budget: timedelta | None = None

    def pause(self, failures: int, seed: str) -> timedelta:
        """Return how long to wait after the `failures`-th failure that counts, from 1.

        min(longest, initial * multiplier^(failures - 1)), longer or shorter by up to the share `jitter`; `seed` stands
        for the attempt.
        """
        try:
            grown = self.initial.total_seconds() * self.multiplier ** max(0, failures - 1)
        except OverflowError:
            grown = self.longest.total_seconds()
        seconds = min(grown, self.longest.total_seconds())
        return timedelta(seconds=seconds * (1 + self.jitter * (2 * _share(seed) - 1)))


DEFAULT: Final = RetryPolicy()


def policy_of(*given: Retry | None) -> RetryPolicy:
    """Return a deed's policy, field by field: of whoever is named first and says something, then the defaults."""
    policy = DEFAULT
    for retry in reversed(given):
        if retry is not None:
            policy = replace(policy, **_given(retry))
    return policy


def _given(retry: Retry) -> dict[str, Any]:
    backoff = retry.backoff
    values: dict[str, Any] = {
        "max_attempts": retry.max_attempts,
        "when": retry.when,
        "budget": parse_duration(retry.budget) if retry.budget else None,
    }
    if backoff is not None:
        values |= {
            "initial": parse_duration(backoff.initial) if backoff.initial else None,
            "multiplier": backoff.multiplier,
            "longest": parse_duration(backoff.max) if backoff.max else None,
            "jitter": backoff.jitter,
        }
    assert values.keys() <= {field.name for field in fields(RetryPolicy)}
    return {name: value for name, value in values.items() if value is not None}


def _share(seed: str) -> float:
    """Return a number from 0 up to 1 that looks drawn and is always the same for a seed."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") / 2**64
