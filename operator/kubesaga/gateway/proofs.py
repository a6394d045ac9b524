# SPDX-License-Identifier: Apache-2.0
"""Does a delivery prove who sends it? Every comparison takes the same time, whatever is compared.

Slack: "Verifying requests from Slack", version v0. Others: HMAC-SHA256 over the body, or over time, `.` and body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from kubesaga.api.event_source import (
    DEFAULT_HMAC_HEADER,
    DEFAULT_TOLERANCE,
    Bearer,
    Encoding,
    Hmac,
    SecretKeyRef,
    SourceType,
    WorkflowEventSourceSpec,
)
from kubesaga.api.fields import parse_duration
from kubesaga.gateway.headers import Headers

SHORTEST_SECRET: Final = 16
"""Bytes. What is shorter can be guessed."""
_SECONDS: Final = re.compile(r"[0-9]{1,11}")


class Verdict(Enum):
    """What a delivery has proven."""

    PROVEN = auto()
    WRONG = auto()
    STALE = auto()
    """The signature is right, the time that is signed too far from now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """How signatures of one source look."""

    header: str
    prefix: str
    encoding: Encoding
    timestamp_header: str | None
    tolerance: timedelta
    before_time: bytes = b""
    between: bytes = b"."


def secret_of(spec: WorkflowEventSourceSpec) -> SecretKeyRef | None:
    """Return where the secret is that deliveries are held against; None where everybody may send."""
    chosen = spec.proof.hmac or spec.proof.bearer
    return chosen.secret_ref if chosen else None


def signing_of(spec: WorkflowEventSourceSpec, how: Hmac) -> Signing:
    """Return how the signatures of a source look."""
    tolerance = parse_duration(how.tolerance) if how.tolerance else DEFAULT_TOLERANCE
    if spec.type is SourceType.SLACK:
        return Signing(
            header="X-Slack-Signature", prefix="v0=", encoding=Encoding.HEX, tolerance=tolerance,
            timestamp_header="X-Slack-Request-Timestamp", before_time=b"v0:", between=b":",
        )  # fmt: skip
    return Signing(
        header=how.header or DEFAULT_HMAC_HEADER, prefix=how.prefix or "", encoding=how.encoding or Encoding.HEX,
        timestamp_header=how.timestamp_header, tolerance=tolerance,
    )  # fmt: skip


def judge(spec: WorkflowEventSourceSpec, headers: Headers, body: bytes, secret: bytes, now: float) -> Verdict:
    """Return what a delivery proves to a source. `now` is in seconds since 1970."""
    match spec.proof.hmac or spec.proof.bearer:
        case Hmac() as how:
            return _judge_signature(signing_of(spec, how), headers, body, secret, now)
        case Bearer():
            return Verdict.PROVEN if _bears(headers, secret) else Verdict.WRONG
        case None:
            return Verdict.PROVEN


def _judge_signature(how: Signing, headers: Headers, body: bytes, secret: bytes, now: float) -> Verdict:
    signed, sent = body, None
    if how.timestamp_header is not None:
        time = headers.get(how.timestamp_header) or ""
        sent = int(time) if _SECONDS.fullmatch(time) else None
        signed = how.before_time + time.encode("utf-8", "surrogateescape") + how.between + body
    # Computed in any case: that there is no signature must not be told by the time it takes.
    right = hmac.compare_digest(hmac.digest(secret, signed, "sha256"), _signature(how, headers))
    if not right or (how.timestamp_header is not None and sent is None):
        return Verdict.WRONG
    if sent is not None and abs(now - sent) > how.tolerance.total_seconds():
        return Verdict.STALE
    return Verdict.PROVEN


def _signature(how: Signing, headers: Headers) -> bytes:
    """Return the signature that was sent, nothing if there is none that can be read."""
    text = headers.get(how.header) or ""
    if not text.startswith(how.prefix):
        return b""
    text = text.removeprefix(how.prefix)
    try:
        return bytes.fromhex(text) if how.encoding is Encoding.HEX else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


def _bears(headers: Headers, secret: bytes) -> bool:
    scheme, _, token = (headers.get("authorization") or "").partition(" ")
    given = token.strip().encode("utf-8", "surrogateescape")
    # Digests are compared, which are of one length.
    same = hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(secret).digest())
    return same and scheme.lower() == "bearer"
