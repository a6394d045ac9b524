# SPDX-License-Identifier: Apache-2.0
"""Conditions after the Kubernetes API conventions: typed truths with a reason, and a time only where the truth changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from kubesaga.api.fields import Model, Time

Truth = Literal["True", "False", "Unknown"]


class Condition(Model):
    """One typed truth about an object."""

    type: Annotated[str, Field(max_length=64)]
    """What it is about, unique in the list."""
    status: Truth
    """Whether it is so."""
    reason: Annotated[str, Field(max_length=128)]
    """Why, in one word for machines."""
    message: Annotated[str, Field(max_length=8192)] = ""
    """Why, in a sentence for people."""
    last_transition_time: Time
    """When `status` changed last."""
    observed_generation: int | None = None
    """The `metadata.generation` that it is about."""


ConditionList = Annotated[
    list[Condition],
    Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]


def find(conditions: Sequence[Condition], type_: str) -> Condition | None:
    """Return the condition of that type."""
    return next((condition for condition in conditions if condition.type == type_), None)


def is_true(conditions: Sequence[Condition], type_: str) -> bool:
    """Tell whether the condition is there and True."""
    found = find(conditions, type_)
    return found is not None and found.status == "True"


def with_condition(
    conditions: Sequence[Condition],
    type_: str,
    status: Truth,
    reason: str,
    message: str = "",
    *,
    now: datetime,
    generation: int | None = None,
) -> list[Condition]:
    """Return the conditions with this one set; its transition time changes only where its status does."""
    old = find(conditions, type_)
    since = old.last_transition_time if old is not None and old.status == status else now
    new = Condition(
        type=type_, status=status, reason=reason, message=message[:8192], last_transition_time=since,
        observed_generation=generation,
    )  # fmt: skip
    if old is None:
        return [*conditions, new]
    return [new if condition.type == type_ else condition for condition in conditions]
