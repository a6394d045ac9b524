# SPDX-License-Identifier: Apache-2.0
"""Thena's platform events (S27-S31): `eventId`, `eventType`, `timestamp`, `orgId`, `actor`, `payload`, bare or under `message`.

The type is Thena's own (`ticket:comment:updated`), the payload is `event.data`, previous and new content included (S29);
organization and actor are the attributes `orgid`, `actorid` and `actortype`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from kubesaga.api.fields import format_time
from kubesaga.engine.language.values import JSON
from kubesaga.gateway.event import Event, event_of
from kubesaga.gateway.headers import Headers
from kubesaga.gateway.payload import parse_json
from kubesaga.gateway.refusal import malformed, unsupported


def read_thena(headers: Headers, body: bytes) -> Event:
    """Return the event. Raises Refusal."""
    if headers.media_type() != "application/json":
        raise unsupported("platform events are application/json")
    value = parse_json(body)
    path = ""
    if isinstance(value, dict) and "eventId" not in value and isinstance(value.get("message"), dict):
        value, path = value["message"], "message"
    if not isinstance(value, dict):
        raise malformed("the body must be an object")
    for name in ("eventId", "eventType"):
        if not isinstance(value.get(name), str):
            raise malformed("must be a string", f"{path}.{name}" if path else name)
    if "payload" not in value:
        raise malformed("is required", f"{path}.payload" if path else "payload")
    organization, actor = value.get("orgId"), value.get("actor")
    attributes: dict[str, JSON] = {
        "specversion": "1.0",
        "id": value["eventId"],
        "type": value["eventType"],
        "source": f"thena/{organization}" if _is_id(organization) else "thena",
        "datacontenttype": "application/json",
        "time": _time(value.get("timestamp")),
        "orgid": organization if _is_id(organization) else None,
    }
    if isinstance(actor, dict):
        attributes |= {f"actor{name}": actor[name] for name in ("id", "type") if _is_id(actor.get(name))}
    return event_of(attributes, {"data": value["payload"]}, path)


def _is_id(value: JSON) -> bool:
    return isinstance(value, str) and bool(value)


def _time(value: JSON) -> JSON:
    """Return a time in RFC 3339: it comes so, or in milliseconds since 1970. One that is neither is left out."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**43:
        return format_time(datetime.fromtimestamp(value / 1000, UTC))
    if not isinstance(value, str) or "T" not in value:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return format_time(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None
