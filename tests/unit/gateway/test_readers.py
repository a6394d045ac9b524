# SPDX-License-Identifier: Apache-2.0
"""Whatever is delivered, reading it ends in events that can be kept, or in a refusal: never in anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubesaga.api.parsing import parse_event_source_spec
from kubesaga.engine.language.expressions import ExpressionError
from kubesaga.gateway.cloudevents import read_cloudevents
from kubesaga.gateway.event import Event
from kubesaga.gateway.headers import Headers
from kubesaga.gateway.payload import parse_json
from kubesaga.gateway.refusal import Refusal
from kubesaga.gateway.slack import Challenge, read_slack
from kubesaga.gateway.thena import read_thena
from kubesaga.gateway.webhook import read_webhook

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
)
FIELDS = st.sampled_from(
    [
        "specversion", "id", "source", "type", "time", "subject", "data", "data_base64", "datacontenttype", "ext", "Ext",
        "event", "event_id", "event_time", "team_id", "challenge", "eventId", "eventType", "payload", "orgId", "actor",
        "message", "timestamp", "metadata",
    ]
)  # fmt: skip
LIKELY = st.sampled_from(
    [
        "1.0",
        "e-1",
        "/desk",
        "event_callback",
        "url_verification",
        {"type": "message"},
        1767225600,
        "2026-01-01T00:00:00Z",
    ]
)
OBJECTS = st.dictionaries(FIELDS, LIKELY | VALUES, max_size=12)
BODIES = (OBJECTS | st.lists(OBJECTS, max_size=3) | VALUES).map(lambda value: json.dumps(value).encode()) | st.binary()
TYPES = st.sampled_from(
    ["application/cloudevents+json", "application/cloudevents-batch+json", "application/json", "text/plain", "", "a/b", ";;=;"]
)  # fmt: skip
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20)
HEADERS = st.lists(st.tuples(st.sampled_from(["ce-id", "ce-type", "ce-source", "ce-specversion", "ce-é", "ce-", "x"]), TEXTS), max_size=6)  # fmt: skip

HOOK = parse_event_source_spec(
    {"type": "Webhook", "auth": {"none": {}}, "mapping": {"type": "body.type", "id": "body.id", "data": "body"}}
)

T = TypeVar("T")


class Paths:
    """An evaluator of `body` and `body.NAME`."""

    def evaluate(self, expression: str, scope: Any) -> Any:
        value = scope["body"]
        if expression == "body":
            return value
        name = expression.removeprefix("body.")
        if not isinstance(value, dict) or name not in value:
            raise ExpressionError(expression, "no such key")
        return value[name]

    def check(self, expression: str, roots: Any) -> None:
        return None


def read(media_type: str, headers: list[tuple[str, str]], body: bytes) -> list[Event]:
    """Read a delivery as every kind of source does."""
    given = Headers([("Content-Type", media_type), *headers])
    found: list[Event] = []
    for reader in (
        lambda: read_cloudevents(given, body, signed=False),
        lambda: read_cloudevents(given, body, signed=True),
        lambda: [read_thena(given, body)],
        lambda: [each for each in [read_slack(given, body)] if each and not isinstance(each, Challenge)],
        lambda: [read_webhook("hook", HOOK, given, body, Paths())],
    ):
        events, refusal = attempted(lambda reader=reader: (given.check(), reader())[1])
        found += events or ()
        assert refusal is None or (400 <= refusal.status < 500 and json.dumps(refusal.body()))
    return found


def attempted(read: Callable[[], T]) -> tuple[T | None, Refusal | None]:
    """Return what came out: a value or a refusal."""
    try:
        return read(), None
    except Refusal as refusal:
        return None, refusal


@given(TYPES, HEADERS, BODIES)
@example(
    "application/json", [("ce-id", "%"), ("ce-type", "%zz"), ("ce-source", "a"), ("ce-specversion", "1.0")], b"1e999"
)
@example("application/json", [], b'{"eventId":"1","eventType":"a","payload":1,"timestamp":"9999-12-31T23:59:59-23:59"}')
@example("application/json", [], b'{"eventId":"1","eventType":"a","payload":1,"timestamp":"0001-01-01T00:00:00+23:59"}')
@example("application/cloudevents+json", [], b'{"specversion":"1.0","id":"1","source":"a","type":"b","data":1e999}')
def test_a_delivery_is_read_or_refused(media_type: str, headers: list[tuple[str, str]], body: bytes) -> None:
    for event in read(media_type, headers, body):
        text, refusal = attempted(event.text)
        assert refusal is None or refusal.status in (400, 413)
        assert text is None or json.loads(text) == event.wire()
        assert all(isinstance(value, str | int | bool) for value in event.attributes.values())


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
def test_json_is_read_as_the_standard_library_reads_it_or_refused(text: bytes) -> None:
    value, refusal = attempted(lambda: parse_json(text))
    if refusal is None:
        assert value == json.loads(text, parse_int=as_kubernetes_reads)
    else:
        assert refusal.status == 400


def as_kubernetes_reads(digits: str) -> int | float:
    number = int(digits)
    return number if -(2**63) <= number < 2**63 else float(number)


@pytest.mark.parametrize("depth", [1, 63, 64])
def test_as_deep_as_is_allowed(depth: int) -> None:
    assert parse_json(depth * b"[" + depth * b"]") is not None


def test_one_deeper_is_refused() -> None:
    with pytest.raises(Refusal, match="64 levels deep"):
        parse_json(65 * b"[" + 65 * b"]")
