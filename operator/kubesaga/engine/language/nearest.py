# SPDX-License-Identifier: Apache-2.0
"""The name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def nearest(name: str, known: Collection[str], what: str) -> str:
    """Return the end of a sentence about a name that does not exist: the one that was probably meant, or all there are."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    listed = sorted(known)
    if not listed:
        return f"there are no {what}"
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return f"the {what} are {', '.join(listed[:10])}{more}"
