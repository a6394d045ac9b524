# SPDX-License-Identifier: Apache-2.0
"""Activity: what many Workflows do in the same way, written down once. They name it in `uses`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from kubesaga.api.conditions import ConditionList
from kubesaga.api.failure import Retry, Undo
from kubesaga.api.fields import Duration, ObjectName, OpaqueObject
from kubesaga.api.guard_status import GuardsStatus
from kubesaga.api.limits import Guarded
from kubesaga.api.work import INLINE, ActivityId, HttpActivity, PodActivity, Resources, one_of


class ActivityTypeSpec(Guarded):
    """What is done, and what stands around it: exactly one of `pod`, `http` and `handler`.

    Expressions in it read `inputs`, the params that it is given, and in `compensation` also `output`, what it yielded.
    """

    model_config = ConfigDict(json_schema_extra=one_of(*INLINE))

    aliases: Annotated[list[ActivityId], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "set"})] = (
        Field(default_factory=list)
    )
    """Other ids that `uses` may name it by, also ones that no object can bear."""
    class_: Annotated[Literal["System", "Integration", "Data"] | None, Field(alias="class")] = None
    """What sort of thing it is, for people."""
    version: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """For people; what a run works from is its revision."""
    description: Annotated[str, Field(max_length=4096)] | None = None
    """What it is for, for people."""
    input: OpaqueObject | None = None
    """A JSON Schema (draft 2020-12) that the params must fit; those that do not fail the activity before any attempt (InvalidInput)."""
    output: OpaqueObject | None = None
    """A JSON Schema that the output must fit; one that does not fails the activity (OutputInvalid)."""
    pod: PodActivity | None = None
    """Run one container to its end, in a pod of its own; the params are in KUBESAGA_PARAMS."""
    http: HttpActivity | None = None
    """Send one HTTP request, made from the params by `${inputs.NAME}`."""
    handler: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """The id of a Python function registered in the operator with `@kubesaga.activity(ID)`; it is given the params."""
    timeout: Duration | None = None
    """Longest time of one attempt, where the activity that uses it sets none."""
    resources: Resources | None = None
    """Of a pod; the activity that uses it overrides them, field by field."""
    retry: Retry | None = None
    """Trying again; the activity that uses it overrides it, field by field. Its `when` reads `error` alone."""
    compensation: Undo | None = None
    """How to undo it, where the activity that uses it has no undo of its own."""
    allowed_namespaces: (
        Annotated[list[ObjectName], Field(max_length=1000, json_schema_extra={"x-kubernetes-list-type": "set"})] | None
    ) = None
    """Whose runs may use it, where it is of the operator's catalogue; its own namespace always may. Default: all."""


class ActivityTypeStatus(GuardsStatus):
    """What the operator found."""

    observed_generation: int | None = None
    """The `metadata.generation` that this status is about."""
    conditions: ConditionList = Field(default_factory=list)
    """`Ready`: it can be used. `Ready: False` names the field that is wrong."""


def resource_kind() -> dict[str, Any]:
    """Return names, columns and the like of the CRD."""
    return {
        "kind": "Activity",
        "plural": "activities",
        "singular": "activity",
        "shortNames": ["kact"],
        "columns": [
            {"name": "Class", "type": "string", "jsonPath": ".spec.class"},
            {"name": "Version", "type": "string", "jsonPath": ".spec.version"},
            {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
            {
                "name": "Breaker",
                "type": "string",
                "jsonPath": '.status.circuitBreakers[?(@.state!="Closed")].state',
            },
            {"name": "Calls", "type": "integer", "jsonPath": ".status.bulkheads[0].running"},
            {"name": "Queued", "type": "integer", "jsonPath": ".status.bulkheads[0].queued"},
            {
                "name": "Reason",
                "type": "string",
                "jsonPath": '.status.conditions[?(@.type=="Ready")].reason',
                "priority": 1,
            },
            {"name": "Description", "type": "string", "jsonPath": ".spec.description", "priority": 1},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    }
