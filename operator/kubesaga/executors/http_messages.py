# SPDX-License-Identifier: Apache-2.0
"""What is sent and what an answer means: an attempt's request, where a redirect leads, the outcome. Values only."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Final

from yarl import URL

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Attempt, Failed, Outcome, Succeeded
from kubesaga.executors.egress import parse_url, shown_url
from kubesaga.executors.in_process import output_outcome, shortened

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_RETRYABLE: Final = frozenset({408, 425, 429})
_PASSED_ON: Final = frozenset({502, 504})
"""A gateway answers so when it had no usable answer from the server behind it, which may have had the effect."""
_SHOWN: Final = 200
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_OURS: Final = frozenset({"x-kubesaga-run", "x-kubesaga-attempt"})
_FRAMING: Final = frozenset(
    {
        "host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "expect",
        "proxy-authorization", "proxy-connection",
    }
)  # fmt: skip
"""How a request is framed and where it goes follows from the url and the body; another word on it smuggles requests."""
_HARMLESS: Final = frozenset({"accept", "content-type"})
"""What of the author's headers another host may see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. `headers` are the author's, and the body's type."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None

    def __str__(self) -> str:
        return f"{self.method} {shown_url(self.url)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back; `body` is decompressed, and of an answer that is no success only its beginning."""

    status: int
    content_type: str = ""
    charset: str | None = None
    location: str | None = None
    retry_after: float | None = None
    """Seconds that the server asks to wait before another request."""
    body: bytes = b""


def _invalid(message: str) -> Failed:
    return Failed(reason=Reason.INVALID_INPUT, message=shortened(message), retryable=False)


def request_of(attempt: Attempt) -> Request | Failed:
    """Return the request that an attempt's input (method, url, headers, body) describes, or what is wrong with it."""
    given: Mapping[str, Any] = attempt.input or {}
    method = given.get("method") or "GET"
    if method not in METHODS:
        return _invalid(f"the method is {method!r}; it is one of {', '.join(sorted(METHODS))}.")
    url = parse_url(given.get("url"))
    if isinstance(url, Failed):
        return url
    headers = _headers(given.get("headers") or {})
    if isinstance(headers, Failed):
        return headers
    body, content_type = _body(given.get("body"))
    if content_type and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = content_type
    return Request(method=method, url=url, headers=headers, body=body)


def _headers(given: Mapping[str, Any]) -> dict[str, str] | Failed:
    headers: dict[str, str] = {}
    for name, value in given.items():
        if not _TOKEN.fullmatch(name):
            return _invalid(f"headers: {name[:100]!r} is not the name of a header.")
        if name.lower() in _FRAMING:
            return _invalid(f"headers.{name} cannot be set: it follows from the url and the body.")
        if name.lower() in _OURS:
            return _invalid(f"headers.{name} cannot be set: the operator says there which attempt this is.")
        text = json.dumps(value) if isinstance(value, bool | int | float) else value
        if not isinstance(text, str):
            return _invalid(f"headers.{name} must be a string, and is {'absent' if value is None else 'none'}.")
        if _UNSAFE.search(text):
            return _invalid(f"headers.{name} holds a line break or another control character.")
        headers[name] = text
    return headers


def _body(given: Any) -> tuple[bytes | None, str]:
    if given is None:
        return None, ""
    if isinstance(given, str):
        return given.encode(errors="replace"), "text/plain; charset=utf-8"
    return json.dumps(given, separators=(",", ":")).encode(), "application/json"


def redirected(request: Request, answer: Answer) -> Request | Failed:
    """Return the request that follows a redirect (RFC 9110, 15.4), or why it must not be sent.

    Another origin gets none of the author's headers but Accept and Content-Type.
    """
    url = parse_url(answer.location, base=request.url)
    if isinstance(url, Failed):
        return replace(url, message=f"{request} answered {answer.status} and a Location that cannot be used.")
    if (request.url.scheme, url.scheme) == ("https", "http"):
        message = f"{request} answered {answer.status} and leads from https to http, to {shown_url(url)}."
        return Failed(reason=Reason.EGRESS_DENIED, message=message, retryable=False)
    headers = dict(request.headers)
    if url.origin() != request.url.origin():
        headers = {name: value for name, value in headers.items() if name.lower() in _HARMLESS}
    to_get = answer.status == 303 and request.method != "HEAD"
    to_get = to_get or (answer.status in (301, 302) and request.method == "POST")
    if not to_get:
        return replace(request, url=url, headers=headers)
    headers = {name: value for name, value in headers.items() if not name.lower().startswith("content-")}
    return Request(method="GET", url=url, headers=headers, body=None)


def is_expected(status: int, expected: Collection[int] | None) -> bool:
    """Tell whether a status counts as success."""
    return 200 <= status <= 299 if expected is None else status in expected


def outcome_of(request: Request, answer: Answer, expected: Collection[int] | None, max_bytes: int) -> Outcome:
    """Return what the last answer means for the attempt."""
    if not is_expected(answer.status, expected):
        text = "".join(letter if letter.isprintable() else " " for letter in _text(answer))
        message = f"{request} answered {answer.status}: {' '.join(text.split())[:_SHOWN]}".rstrip(": ")
        retryable = answer.status >= 500 or answer.status in _RETRYABLE
        return Failed(
            reason=Reason.HTTP_STATUS, message=shortened(message), retryable=retryable, retry_after=answer.retry_after,
            in_doubt=answer.status in _PASSED_ON,
        )  # fmt: skip
    if not answer.body:
        return Succeeded()
    value = _json(answer)
    return output_outcome(value if isinstance(value, dict) else {"body": value}, max_bytes)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After header asks to wait (RFC 9110, 10.2.3); None if it says nothing of use.

    A date is taken against the answer's own Date: the clocks of two machines are not compared.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text) if len(text) <= 9 else None
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())


def _json(answer: Answer) -> Any:
    """Return the body's JSON; its text where it is none, or calls itself text and is no object.

    (A version, 1.10, or a code, 007, sent as text/plain, is no number.)
    """
    declared = answer.content_type == "application/json" or answer.content_type.endswith("+json")
    text = _text(answer)
    if not declared and not text.lstrip().startswith("{"):
        return text
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_refused)
    except (ValueError, RecursionError):
        return text
    return value if declared or isinstance(value, dict) else text


def _integer(text: str) -> int | float:
    """Read an integer as the API server does: what does not fit 64 bits is a float64."""
    number = int(text) if len(text) <= 20 else 2**64
    return number if -(2**63) <= number < 2**63 else _finite(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is beyond a float64")
    return number


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _text(answer: Answer) -> str:
    try:
        return answer.body.decode(answer.charset or "utf-8", errors="replace").removeprefix("\ufeff")
    except LookupError:  # no such charset
        return answer.body.decode(errors="replace")


class BrokenBody(Exception):
    """A body that cannot be decompressed."""


class BodyReader:
    """Collects a body, decompressed, up to a limit; a bomb is not unpacked any further than that."""

    ENCODINGS: Final = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})

    def __init__(self, encoding: str, limit: int) -> None:
        if encoding not in self.ENCODINGS:
            raise BrokenBody(f"its Content-Encoding is {encoding[:50]!r}, and gzip and deflate are understood")
        self._encoding = encoding
        self._limit = limit
        self._received = 0
        self._unpacker: zlib._Decompress | None = None
        self.body = bytearray()

    @property
    def full(self) -> bool:
        """Tell whether there is more than the limit."""
        return len(self.body) > self._limit or self._received > self._limit + 65536

    def feed(self, chunk: bytes) -> None:
        """Take the next piece as it was received."""
        self._received += len(chunk)
        if self._encoding in ("", "identity"):
            self.body += chunk[: self._room()]
            return
        while chunk and not self.full:
            if self._unpacker is None or self._unpacker.eof:  # gzip may have several members, one after the other
                self._unpacker = zlib.decompressobj(self._window(chunk))
            try:
                self.body += self._unpacker.decompress(chunk, self._room())
            except zlib.error as error:
                raise BrokenBody(f"its {self._encoding} body is broken") from error
            chunk = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail

    def end(self) -> None:
        """Say that the body is complete. Raises BrokenBody if it is not."""
        if self._unpacker is not None and not self._unpacker.eof:
            raise BrokenBody(f"its {self._encoding} body breaks off")

    def _room(self) -> int:
        return self._limit + 1 - len(self.body)

    def _window(self, chunk: bytes) -> int:
        if self._encoding != "deflate":
            return 16 + zlib.MAX_WBITS
        # RFC 9110 means the zlib format; some send the bare one.
        return zlib.MAX_WBITS if chunk[0] & 0x0F == 8 else -zlib.MAX_WBITS
