# SPDX-License-Identifier: Apache-2.0
"""Slack's Events API: `event_callback` is an event (S33, S34), `url_verification` asks for an answer, the rest is passed over.

The type is `slack:` and Slack's own with `:` for `_`: `message` is `slack:message`, `channel_created` `slack:channel:created`.
The id is Slack's `event_id`, which its retries (X-Slack-Retry-Num) repeat.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from kubesaga.api.fields import format_time
from kubesaga.engine.language.values import JSON
from kubesaga.gateway.event import Event, event_of
from kubesaga.gateway.headers import Headers
from kubesaga.gateway.payload import parse_json
from kubesaga.gateway.refusal import malformed, unsupported

_EXTENSIONS = {"team_id": "slackteam", "api_app_id": "slackapp"}


@dataclass(frozen=True, slots=True)
class Challenge:
    """Slack asks whether we are who it was told of; the answer is this text."""

    text: str


def read_slack(headers: Headers, body: bytes) -> Event | Challenge | None:
    """Return the event, or the challenge, or None for what is no event. Raises Refusal."""
    if headers.media_type() != "application/json":
        raise unsupported("the Events API sends application/json; commands and interactive messages are not taken")
    value = parse_json(body)
    if not isinstance(value, dict):
        raise malformed("the body must be an object")
    match value.get("type"):
        case "url_verification":
            challenge = value.get("challenge")
            if not isinstance(challenge, str) or not 0 < len(challenge) <= 1024:
                raise malformed("must be a text of at most 1024 characters", "challenge")
            return Challenge(challenge)
        case "event_callback":
            return _event(value)
        case str():
            return None
    raise malformed("must be a string", "type")


def _event(value: dict[str, JSON]) -> Event:
    inner = value.get("event")
    if not isinstance(inner, dict) or not isinstance(inner.get("type"), str):
        raise malformed("must be an object with a type", "event")
    if not isinstance(value.get("event_id"), str):
        raise malformed("must be a string", "event_id")
    team = value.get("team_id")
    attributes: dict[str, JSON] = {
        "specversion": "1.0",
        "id": value["event_id"],
        "type": "slack:" + inner["type"].replace("_", ":"),
        "source": f"slack/{team}" if isinstance(team, str) else "slack",
        "datacontenttype": "application/json",
        "time": _time(value.get("event_time")),
    }
    attributes |= {name: value[key] for key, name in _EXTENSIONS.items() if isinstance(value.get(key), str)}
    return event_of(attributes, {"data": inner})


def _time(seconds: JSON) -> str | None:
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 <= seconds < 2**33:
        return None
    return format_time(datetime.fromtimestamp(seconds, UTC))
