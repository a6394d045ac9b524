# SPDX-License-Identifier: Apache-2.0
"""From a valid spec to a Definition: defaults filled in, the three ways to write an undo brought to one (S85, S132, S161)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubesaga.api.failure import Compensation, ErrorHandling, ErrorStrategy, Fallback, ListedUndo, Retry, Undo
from kubesaga.api.fields import parse_duration
from kubesaga.api.names import Deed
from kubesaga.api.work import EnvVar, ResourceList, Resources, Work
from kubesaga.api.workflow import Activity, WorkflowSpec
from kubesaga.engine.definition import Definition, Kind, Step, Undoing, deeds_of
from kubesaga.engine.expressions import expressions_in
from kubesaga.engine.retries import policy_of


def compile_definition(name: str, spec: WorkflowSpec) -> Definition:
    """Return the definition of a valid spec (see `validation.problems_of`)."""
    needs = needs_of(spec.activities)
    listed = {undo.for_: undo for undo in _listed(spec) if undo.for_ is not None}
    main = tuple(
        _step(activity, spec, needs[activity.name], undo=activity.compensation or listed.get(activity.name))
        for activity in spec.activities
    )
    final = tuple(_step(activity, spec, (), final=True) for activity in spec.finally_)
    undoing = _undoing(spec)
    undos = (*(step.undo for step in main if step.undo is not None), *undoing.loose)
    deeds = deeds_of((*main, *final), undos)
    return Definition(
        name=name, spec=spec, steps={step.name: step for step in (*main, *final)}, main=main, final=final, undos=undos,
        deeds=deeds, outputs=spec.outputs, timeout=parse_duration(spec.timeout) if spec.timeout else None,
        strategy=_run_strategy(spec), undoing=undoing,
        has_expressions=any(map(_has_expressions, deeds.values())) or next(expressions_in(_of_run(spec)), None) is not None,
    )  # fmt: skip


def kind_of(work: Work) -> Kind:
    """Return the one kind that valid work has."""
    if work.pod is not None:
        return Kind.POD
    return Kind.HTTP if work.http is not None else Kind.HANDLER


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


def rendered_env(env: list[EnvVar] | None) -> dict[str, str]:
    """Return the values of those variables that are rendered, by name: `${` begins an expression, or `$${` stands for it."""
    return {var.name: var.value for var in env or () if var.value and "${" in var.value}


def _merged_list(own: ResourceList | None, default: ResourceList | None) -> ResourceList | None:
    if own is None or default is None:
        return own or default
    return ResourceList(cpu=own.cpu or default.cpu, memory=own.memory or default.memory)


def _step(
    activity: Activity, spec: WorkflowSpec, needs: tuple[str, ...], *, final: bool = False, undo: Undo | None = None
) -> Step:
    name = activity.name
    own, default = activity.error_handling or ErrorHandling(), _default(spec)
    fallback = own.fallback or default.fallback
    return Step(
        name=name, needs=needs, when=activity.when, set=activity.set, final=final,
        strategy=own.strategy or default.strategy or _run_strategy(spec),
        skippable=fallback is not None and fallback.activity == "skip",
        fallback=_deed(name, Deed.FALLBACK, fallback, spec, final=final) if fallback and not fallback.activity else None,
        undo=_deed(name, Deed.UNDO, undo, spec) if undo is not None else None,
        **_of_work(activity, own.retry, spec),
    )  # fmt: skip


def _deed(name: str, deed: Deed, given: Undo | Fallback, spec: WorkflowSpec, *, final: bool = False) -> Step:
    return Step(name=name, deed=deed, final=final, **_of_work(given, given.retry, spec))


def _of_work(work: Work, retry: Retry | None, spec: WorkflowSpec) -> dict[str, Any]:
    return {
        "work": work,
        "kind": kind_of(work),
        "timeout": parse_duration(work.timeout) if work.timeout else None,
        "resources": merged_resources(work.resources, spec.resources),
        "retry": policy_of(retry, _default(spec).retry),
    }


def _default(spec: WorkflowSpec) -> ErrorHandling:
    given = spec.error_handling.activity_error if spec.error_handling is not None else None
    return given or ErrorHandling()


def _run_strategy(spec: WorkflowSpec) -> ErrorStrategy:
    given = spec.error_handling.workflow_error if spec.error_handling is not None else None
    return (given.strategy if given is not None else None) or ErrorStrategy.COMPENSATE


def _listed(spec: WorkflowSpec) -> list[ListedUndo]:
    return spec.compensation.activities if spec.compensation is not None else []


def _undoing(spec: WorkflowSpec) -> Undoing:
    given = spec.compensation or Compensation()
    # Listed in the order of the activities, so they run backwards (S85).
    loose = tuple(_deed(undo.name, Deed.UNDO, undo, spec) for undo in reversed(_listed(spec)) if undo.for_ is None)
    return Undoing(
        parallel=given.strategy == "Parallel", manual=given.mode == "Manual", timeout=parse_duration(given.timeout),
        on_cancel=given.on_cancel, in_doubt=given.in_doubt == "Undo", loose=loose,
    )  # fmt: skip


def _of_run(spec: WorkflowSpec) -> list[Any]:
    """Return what is rendered for a run as a whole."""
    limits = spec.concurrency
    queuing = limits.queuing if limits is not None else None
    return [spec.outputs, limits.key if limits else None, queuing.fairness_key if queuing else None]


def _has_expressions(step: Step) -> bool:
    rendered = any(True for value in _rendered(step) for _ in expressions_in(value))
    return bool(rendered or step.when or step.retry.when)


def _rendered(step: Step) -> Iterator[Any]:
    """Yield the values that are rendered. In others, a description or a shell's arguments, `${` is text."""
    yield step.work.params
    yield dict(step.set or {})
    if step.work.http is not None:
        yield [step.work.http.url, step.work.http.headers, step.work.http.body]
    if step.work.pod is not None:
        yield rendered_env(step.work.pod.env)
