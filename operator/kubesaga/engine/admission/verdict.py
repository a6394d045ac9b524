# SPDX-License-Identifier: Apache-2.0
"""What a guard says to a call that is about to begin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kubesaga.api.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """It may begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It may not, and waiting is no use: the call fails without an attempt."""

    reason: Reason
    message: str
    until: datetime | None
    """When it is worth asking again; None: when the call that is under way as a probe has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """It has to wait."""

    reason: Reason
    message: str
    until: datetime
    """When to ask again, at the latest."""


Verdict = Pass | Refused | Blocked

PASS: Final = Pass()
