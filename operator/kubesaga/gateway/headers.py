# SPDX-License-Identifier: Apache-2.0
"""The headers of a delivery, by names in small letters, with a memory of which came twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from kubesaga.gateway.refusal import malformed, unsupported

_ONCE: Final = frozenset(
    ("host", "content-type", "content-length", "transfer-encoding", "content-encoding", "authorization")
)
_PRIVATE: Final = frozenset(("authorization", "proxy-authorization", "cookie"))


class Headers:
    """What was sent. Values are as the wire had them, bytes that are no UTF-8 as surrogates."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value.strip(" \t"))

    def check(self) -> None:
        """Raise Refusal where one of the headers on which reading depends came twice: two readers could differ."""
        for name, values in self._values.items():
            if len(values) > 1 and (name in _ONCE or name.startswith("ce-")):
                raise malformed("came more than once", f"header {name}")

    def get(self, name: str) -> str | None:
        """Return the one value of a header; None where there is none, or more than one."""
        values = self._values.get(name.lower(), ())
        return values[0] if len(values) == 1 else None

    def public(self, *, without: Iterable[str] = ()) -> Mapping[str, str]:
        """Return the headers that may become part of an event: none that bears credentials, none that is no text."""
        hidden = _PRIVATE | {name.lower() for name in without}
        joined = {name: ", ".join(values) for name, values in self._values.items() if name not in hidden}
        return {name: value for name, value in joined.items() if value.isprintable()}

    def attributes(self) -> Mapping[str, str]:
        """Return the `ce-` headers without that."""
        return {name[3:]: values[0] for name, values in self._values.items() if name.startswith("ce-")}

    def media_type(self) -> str:
        """Return the type of the body without parameters, "" without one. Raises Refusal for a charset other than UTF-8."""
        text = self.get("content-type") or ""
        media, *parameters = (part.strip() for part in text.split(";"))
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset" and value.strip(' "').lower() not in ("utf-8", "utf8", "us-ascii"):
                raise unsupported("the charset must be utf-8")
        return media.lower()


def is_json(media_type: str) -> bool:
    """Tell whether a media type is JSON (RFC 6839, section 3.1)."""
    return media_type in ("application/json", "text/json") or media_type.endswith("+json")
