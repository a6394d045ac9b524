# SPDX-License-Identifier: Apache-2.0
"""Regular expressions that strangers wrote: RE2, whose time is linear in the text whatever the pattern.

Python's own `re` can be made to work for hours by a pattern of ten characters; it is never given one of these.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Protocol

import re2

MAX_PATTERN: Final = 512
"""Longest pattern, in characters."""
_MEMORY: Final = 1 << 20
"""Bytes that one compiled pattern may take, its caches included."""


class Pattern(Protocol):
    """A compiled pattern."""

    def search(self, text: str) -> object | None:
        """Return something where the pattern fits anywhere in the text."""


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Pattern:
    """Return a pattern made ready. Raises ValueError with a sentence."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"is a pattern of {len(pattern):,} characters; at most {MAX_PATTERN} are allowed")
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    try:
        made: Pattern = re2.compile(pattern, options)
    except re2.error as error:
        fault = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error.args[0])
        raise ValueError(
            f"is no pattern of RE2: {fault} (look-around and back-references are what it leaves out)"
        ) from None
    except UnicodeEncodeError:
        raise ValueError("is no pattern: it holds half a surrogate pair, which is no Unicode character") from None
    return made


def found(pattern: Pattern, text: str) -> bool:
    """Tell whether a pattern fits anywhere in a text; never in one that is no Unicode."""
    try:
        return pattern.search(text) is not None
    except UnicodeEncodeError:
        return False
