# SPDX-License-Identifier: Apache-2.0
"""CloudEvents 1.0 over HTTP: binary, structured and batched content (HTTP protocol binding 1.0.2, JSON format 1.0.2).

Read by the specification and not by its Python SDK: that one (2.2) takes headers as a dictionary, in which a second
`ce-id` is lost without a word, knows no batches, and takes times that are not RFC 3339.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from kubesaga.engine.language.values import JSON
from kubesaga.gateway.event import Event, event_of
from kubesaga.gateway.headers import Headers, is_json
from kubesaga.gateway.payload import parse_json
from kubesaga.gateway.refusal import malformed, too_large, unsupported

MAX_BATCH: Final = 100
"""How many events one delivery may hold."""

_STRUCTURED: Final = "application/cloudevents+json"
_BATCH: Final = "application/cloudevents-batch+json"


def read_cloudevents(headers: Headers, body: bytes, *, signed: bool) -> Sequence[Event]:
    """Return the events of a delivery. Raises Refusal.

    `signed`: the body alone is what the sender has proven. The attributes of binary content are headers, which anybody
    on the way could have changed, so it is not taken then.
    """
    media_type = headers.media_type()
    if media_type == _STRUCTURED:
        return [_structured(parse_json(body))]
    if media_type == _BATCH:
        return _batch(parse_json(body))
    if media_type.startswith("application/cloudevents"):
        raise unsupported(f"of CloudEvents' formats {_STRUCTURED} and {_BATCH} are taken")
    if signed:
        raise unsupported(
            f"the signature covers the body alone: send {_STRUCTURED} or {_BATCH}, where the body is the whole event"
        )
    return [_binary(headers, media_type, body)]


def _binary(headers: Headers, media_type: str, body: bytes) -> Event:
    attributes: dict[str, JSON] = {}
    for name, value in headers.attributes().items():
        try:
            attributes[name] = unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise malformed("holds bytes that are no UTF-8", f"header ce-{name}") from None
    if "datacontenttype" in attributes:
        raise malformed("is the header content-type in binary content", "header ce-datacontenttype")
    if not attributes:
        raise malformed(
            "is required in a CloudEvent: this is neither binary content (ce- headers) nor application/cloudevents+json",
            "header ce-id",
        )
    content: dict[str, JSON] = {}
    if body:
        if not media_type:
            raise unsupported("is required where there is a body")
        attributes["datacontenttype"] = media_type
        content = _data(media_type, body)
    return event_of(attributes, content, named="header ce-{}")


def _data(media_type: str, body: bytes) -> dict[str, JSON]:
    if is_json(media_type):
        return {"data": parse_json(body)}
    if media_type.startswith("text/"):
        try:
            return {"data": body.decode()}
        except UnicodeDecodeError:
            raise malformed("the body is not UTF-8") from None
    return {"data_base64": base64.b64encode(body).decode()}


def _batch(value: JSON) -> Sequence[Event]:
    if not isinstance(value, list):
        raise malformed("a batch must be a list of events")
    if len(value) > MAX_BATCH:
        raise too_large(f"the batch has {len(value):,} events, and at most {MAX_BATCH} are allowed")
    return [_structured(item, f"[{number}]") for number, item in enumerate(value)]


def _structured(value: JSON, path: str = "") -> Event:
    if not isinstance(value, Mapping):
        raise malformed("an event must be an object", path)
    if "data" in value and "data_base64" in value:
        raise malformed(
            "goes with no data: an event has one of the two", f"{path}.data_base64" if path else "data_base64"
        )
    content = {name: value[name] for name in ("data", "data_base64") if name in value}
    if "data_base64" in content and not _is_base64(content["data_base64"]):
        raise malformed("is not base64", f"{path}.data_base64" if path else "data_base64")
    attributes = {name: item for name, item in value.items() if name not in content}
    return event_of(attributes, content, path)


def _is_base64(text: JSON) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        return False
    return isinstance(text, str)
