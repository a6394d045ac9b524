# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a WorkflowEventSource beyond its shape: its expressions, the schemas of its event types, the kind it watches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubesaga.api.event_source import MAPPING_ROOTS, WorkflowEventSourceSpec
from kubesaga.api.object_source import WHEN_ROOTS
from kubesaga.api.parsing import field_path, parse_event_source_spec
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.language.schemas import problems_of_schema
from kubesaga.engine.validation.sites import short
from kubesaga.errors import InvalidSpec, Problem


def problems_of_source(document: Any, evaluator: Evaluator) -> list[Problem]:
    """Return all that is wrong with the spec of a source as it was written. It waits for the evaluator."""
    try:
        spec = parse_event_source_spec(document)
    except InvalidSpec as error:
        return list(error.problems)
    return [*_expressions(spec, evaluator), *_schemas(spec, evaluator), *_objects(spec, evaluator)]


def schema_path(number: int) -> str:
    """Return where the schema of an event type stands, by its place among `eventTypes`."""
    return field_path("spec", "eventTypes", number, "schema")


def _expressions(spec: WorkflowEventSourceSpec, evaluator: Evaluator) -> Iterator[Problem]:
    for path, expression in spec.mapping.expressions("spec.mapping") if spec.mapping is not None else ():
        if fault := evaluator.check(expression, MAPPING_ROOTS):
            yield Problem(path, f"in `{short(expression)}`: {fault}")


def _schemas(spec: WorkflowEventSourceSpec, evaluator: Evaluator) -> Iterator[Problem]:
    for number, known in enumerate(spec.event_types):
        if known.schema_ is not None:
            yield from problems_of_schema(known.schema_, schema_path(number), evaluator)


def _objects(spec: WorkflowEventSourceSpec, evaluator: Evaluator) -> Iterator[Problem]:
    objects = spec.kubernetes
    if objects is None:
        return
    if told := objects.loop():
        yield Problem("spec.kubernetes.kind", told)
    if objects.when is not None and (fault := evaluator.check(objects.when, WHEN_ROOTS)):
        yield Problem("spec.kubernetes.when", f"in `{short(objects.when)}`: {fault}")
