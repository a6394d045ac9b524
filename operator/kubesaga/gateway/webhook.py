# SPDX-License-Identifier: Apache-2.0
"""Any JSON as an event, by the source's own mapping: CEL over the body and the headers, in processes that can be killed."""

from __future__ import annotations

from typing import Final

from kubesaga.api.event_source import DEFAULT_HMAC_HEADER, MAPPING_ROOTS, Mapping, WorkflowEventSourceSpec
from kubesaga.engine.language.expressions import Evaluator, ExpressionError
from kubesaga.engine.language.values import JSON
from kubesaga.gateway.event import Event, event_of
from kubesaga.gateway.headers import Headers, is_json
from kubesaga.gateway.payload import parse_json
from kubesaga.gateway.refusal import Refusal, unsupported

_TEXTS: Final = ("type", "id", "source", "subject", "time")
_PATH: Final = "spec.mapping"


def read_webhook(
    name: str, spec: WorkflowEventSourceSpec, headers: Headers, body: bytes, evaluator: Evaluator
) -> Event:
    """Return the event that a delivery is by the mapping of the source `name`. It waits for the evaluator.

    Raises Refusal, and EvaluatorUnavailable.
    """
    media_type = headers.media_type()
    if not is_json(media_type):
        raise unsupported("the body must be application/json" if media_type else "is required: application/json")
    bears = (spec.proof.hmac.header or DEFAULT_HMAC_HEADER,) if spec.proof.hmac else ()
    parsed = parse_json(body)
    scope = dict(zip(MAPPING_ROOTS, (parsed, dict(headers.public(without=bears))), strict=True))
    mapping = spec.mapping
    assert mapping is not None, "the API server and parse_event_source_spec see to it"
    attributes: dict[str, JSON] = {"specversion": "1.0", "source": name, "datacontenttype": "application/json"}
    attributes |= {field: _text(mapping, field, scope, evaluator) for field in _TEXTS if getattr(mapping, field)}
    data = parsed if mapping.data is None else _value(mapping.data, f"{_PATH}.data", scope, evaluator)
    return event_of(attributes, {"data": data}, _PATH)


def _text(mapping: Mapping, field: str, scope: dict[str, JSON], evaluator: Evaluator) -> str:
    path = f"{_PATH}.{field}"
    value = _value(getattr(mapping, field), path, scope, evaluator)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # ids are numbers as often as not
    if not isinstance(value, str):
        raise Refusal(422, "Unmappable", "must be a string or a whole number for this body", path=path)
    return value


def _value(expression: str, path: str, scope: dict[str, JSON], evaluator: Evaluator) -> JSON:
    try:
        return evaluator.evaluate(expression, scope)
    except ExpressionError as error:
        raise Refusal(422, "Unmappable", f"has no value for this delivery: {error.message}", path=path) from None
