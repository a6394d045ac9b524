# SPDX-License-Identifier: Apache-2.0
"""Whether an event is what its type promises: by the schema that the source gives to the type, where it gives one."""

from __future__ import annotations

from collections.abc import Sequence

from kubesaga.api.event_source import WorkflowEventSourceSpec
from kubesaga.api.event_types import find_type
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.language.schemas import problems_of_schema, violation
from kubesaga.engine.validation.sources import schema_path
from kubesaga.errors import Problem
from kubesaga.gateway.event import Event
from kubesaga.gateway.refusal import Refusal
from kubesaga.gateway.sources import Source

_Checked = tuple[WorkflowEventSourceSpec, dict[str, Sequence[Problem]]]


class EventSchemas:
    """Holds events against schemas. It remembers which schemas of the sources as they are now are sound."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._checked: dict[tuple[str, str], _Checked] = {}

    def check(self, source: Source, event: Event, path: str = "") -> None:
        """Raise Refusal unless the event's data is as its type says. `path` is where the event stands in the body.

        It waits for the evaluator. Raises EvaluatorUnavailable.
        """
        known = find_type(event.type, source.spec.event_types)
        if known is None or known.schema_ is None:
            return
        if problems := self._problems(source, known.type):
            told = f"the schema of {known.type} cannot be used, so no event of the type is taken: {problems[0].message}"
            raise Refusal(422, "SchemaUnusable", told, path=problems[0].path)
        where = f"{path}.data" if path else "data"
        if "data_base64" in event.content:
            raise Refusal(422, "SchemaViolated", f"is no JSON, and the schema of {known.type} asks for it", path=where)
        fault = violation(known.schema_, event.content.get("data"), self._evaluator, where)
        if fault is not None:
            told = f"{fault.message} (the schema of {known.type})"
            raise Refusal(422, "SchemaViolated", told, path=fault.path)

    def _problems(self, source: Source, type_: str) -> Sequence[Problem]:
        """Return what is wrong with the schema of a type, which the source's status says too."""
        key = (source.namespace, source.name)
        spec, found = self._checked.get(key, (None, {}))
        if spec is not source.spec:
            found = {}
            self._checked[key] = (source.spec, found)
        if type_ not in found:
            number = [known.type for known in source.spec.event_types].index(type_)
            schema = source.spec.event_types[number].schema_ or {}
            found[type_] = list(problems_of_schema(schema, schema_path(number), self._evaluator))
        return found[type_]
