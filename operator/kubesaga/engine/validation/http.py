# SPDX-License-Identifier: Apache-2.0
"""Rules over an HTTP request, as far as it is literal: what an expression yields is the egress guard's to check."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from kubesaga.api.parsing import field_path
from kubesaga.api.work import HttpActivity
from kubesaga.engine.language.expressions import ExpressionError, parse
from kubesaga.errors import Problem

FORBIDDEN_HEADERS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "idempotency-key"})
"""What the operator itself sends: a second one would break the request's framing or its idempotency."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name (RFC 9110, section 5.6.2)."""
_NOT_IN_URL: Final = re.compile(r"[\x00-\x20\x7f\\]")
_NOT_IN_HEADER: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_STAND_IN: Final = "x"
"""Stands for an expression's value: it may be in every part of a URL but the port."""


def problems(request: HttpActivity, path: str) -> Iterator[Problem]:
    """Yield what is wrong with a request."""
    if fault := _url_fault(request.url):
        yield Problem(field_path(path, "url"), fault)
    seen: set[str] = set()
    for name, value in (request.headers or {}).items():
        if fault := _header_fault(name, value, seen):
            yield Problem(field_path(path, "headers", name), fault)
        seen.add(name.lower())


def _header_fault(name: str, value: str, seen: set[str]) -> str | None:
    if not _TOKEN.fullmatch(name):
        return "is not a name for a header; use letters, digits and -"
    if name.lower() in FORBIDDEN_HEADERS:
        return "is set by the operator; remove it"
    if name.lower() in seen:
        return "stands here twice: large and small letters make no difference in a header's name"
    if _NOT_IN_HEADER.search(value):
        return "holds a line break or another control character, which a header cannot have"
    return None


def _url_fault(url: str) -> str | None:
    try:
        parts = parse(url).parts
    except ExpressionError:
        return None  # told with the other expressions
    if not parts or not isinstance(parts[0], str):
        return None
    text = "".join(part if isinstance(part, str) else _STAND_IN for part in parts)
    if _NOT_IN_URL.search(text):
        return "holds a blank, a line break, a \\ or the like; write %20 for a blank"
    scheme, separator, rest = parts[0].partition("://")
    if not separator and len(parts) > 1 and re.fullmatch(r"https?:?/?", parts[0], re.IGNORECASE):
        return None
    if scheme.lower() not in ("http", "https") or not separator:
        return "must start with http:// or https://"
    return _authority_fault(text, known=len(parts) == 1 or any(mark in rest for mark in "/?#"))


def _authority_fault(text: str, *, known: bool) -> str | None:
    """Return what is wrong between `//` and the path. `known`: no expression can be a part of it."""
    try:
        split = urlsplit(text)
        if "@" in split.netloc:
            return "must not hold a user name or password: the Workflow is no place for a secret"
        if known and not split.hostname:
            return "names no host to connect to"
        return "names port 0, which nothing can listen on" if known and split.port == 0 else None
    except ValueError as error:
        return f"is not a URL: {error}"
