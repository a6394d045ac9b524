# SPDX-License-Identifier: Apache-2.0
"""A valid Workflow made ready to run: activities by name, who waits for whom, what kind each is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from kubesaga.api.failure import ErrorHandling, Retry
from kubesaga.api.fields import parse_duration
from kubesaga.api.work import EnvVar, ResourceList, Resources
from kubesaga.api.workflow import Activity, WorkflowSpec
from kubesaga.engine.expressions import expressions_in
from kubesaga.engine.retries import DEFAULT, RetryPolicy, policy_of


class Kind(StrEnum):
    """What carries an activity out."""

    POD = "pod"
    HTTP = "http"
    HANDLER = "handler"

    @property
    def in_process(self) -> bool:
        """Tell whether an attempt dies with the operator."""
        return self is not Kind.POD


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An activity in its place. `needs` are the activities that must have ended well before it starts."""

    activity: Activity
    kind: Kind
    needs: tuple[str, ...]
    timeout: timedelta | None
    resources: Resources | None
    retry: RetryPolicy = DEFAULT
    final: bool = False
    """It belongs to `finally`."""

    @property
    def name(self) -> str:
        """The activity's name, unique in the Workflow."""
        return self.activity.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a run works from. Made by `compile_definition` from a spec that was found valid."""

    name: str
    """Of the Workflow; "" for a spec written into a run."""
    spec: WorkflowSpec
    steps: Mapping[str, Step]
    """All steps in order, those of `finally` last."""
    timeout: timedelta | None
    has_expressions: bool
    """False: no pass over such a run needs the evaluator."""

    @property
    def main(self) -> list[Step]:
        """The steps before `finally`, in order."""
        return [step for step in self.steps.values() if not step.final]

    @property
    def final(self) -> list[Step]:
        """The steps of `finally`, in order."""
        return [step for step in self.steps.values() if step.final]


def kind_of(activity: Activity) -> Kind:
    """Return the one kind that a valid activity has."""
    if activity.pod is not None:
        return Kind.POD
    return Kind.HTTP if activity.http is not None else Kind.HANDLER


def needs_of(activities: list[Activity]) -> dict[str, tuple[str, ...]]:
    """Return for each activity those it waits for: its `dependsOn`, by default the one before it."""
    needs: dict[str, tuple[str, ...]] = {}
    before: tuple[str, ...] = ()
    for activity in activities:
        needs[activity.name] = before if activity.depends_on is None else tuple(dict.fromkeys(activity.depends_on))
        before = (activity.name,)
    return needs


def merged_resources(own: Resources | None, default: Resources | None) -> Resources | None:
    """Return an activity's resources over the Workflow's, field by field."""
    if own is None or default is None:
        return own or default
    return Resources(
        requests=_merged_list(own.requests, default.requests), limits=_merged_list(own.limits, default.limits)
    )


def _merged_list(own: ResourceList | None, default: ResourceList | None) -> ResourceList | None:
    if own is None or default is None:
        return own or default
    return ResourceList(cpu=own.cpu or default.cpu, memory=own.memory or default.memory)


def compile_definition(name: str, spec: WorkflowSpec) -> Definition:
    """Return the definition of a valid spec (see `validation.problems_of`)."""
    needs = needs_of(spec.activities)
    steps = {activity.name: _step(activity, spec, needs[activity.name], final=False) for activity in spec.activities}
    steps |= {activity.name: _step(activity, spec, (), final=True) for activity in spec.finally_}
    return Definition(
        name=name,
        spec=spec,
        steps=steps,
        timeout=parse_duration(spec.timeout) if spec.timeout else None,
        has_expressions=any(True for value in _rendered(spec) for _ in expressions_in(value))
        or any(step.activity.when or step.retry.when for step in steps.values()),
    )


def _step(activity: Activity, spec: WorkflowSpec, needs: tuple[str, ...], *, final: bool) -> Step:
    return Step(
        activity=activity,
        kind=kind_of(activity),
        needs=needs,
        timeout=parse_duration(activity.timeout) if activity.timeout else None,
        resources=merged_resources(activity.resources, spec.resources),
        retry=policy_of(_retry_of(activity.error_handling), _default_retry(spec)),
        final=final,
    )


def _retry_of(handling: ErrorHandling | None) -> Retry | None:
    return handling.retry if handling is not None else None


def _default_retry(spec: WorkflowSpec) -> Retry | None:
    return _retry_of(spec.error_handling.activity_error) if spec.error_handling is not None else None


def _rendered(spec: WorkflowSpec) -> Iterator[Any]:
    """Yield the values that are rendered. In others, a description or a shell's arguments, `${` is text."""
    yield spec.outputs
    for activity in (*spec.activities, *spec.finally_):
        yield activity.params
        yield activity.set
        if activity.http is not None:
            yield [activity.http.url, activity.http.headers, activity.http.body]
        if activity.pod is not None:
            yield rendered_env(activity.pod.env)


def rendered_env(env: list[EnvVar] | None) -> dict[str, str]:
    """Return the values of those variables that are rendered, by name: `${` begins an expression, or `$${` stands for it."""
    return {var.name: var.value for var in env or () if var.value and "${" in var.value}
