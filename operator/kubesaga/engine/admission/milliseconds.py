# SPDX-License-Identifier: Apache-2.0
"""Moments as statuses record them: in whole milliseconds. What is compared over a restart must be so before it, too."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

MILLISECOND: Final = timedelta(milliseconds=1)


def floor_ms(moment: datetime) -> datetime:
    """Return the last whole millisecond that is not after a moment: what `api.fields.format_time` writes."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def ceil_ms(moment: datetime) -> datetime:
    """Return the first whole millisecond that is not before a moment."""
    floor = floor_ms(moment)
    return floor if floor == moment else floor + MILLISECOND
