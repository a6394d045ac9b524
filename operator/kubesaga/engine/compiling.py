# SPDX-License-Identifier: Apache-2.0
"""From a valid spec to a Definition: defaults filled in, the three ways to write an undo brought to one (S85, S132, S161)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubesaga.api.activity import ActivityTypeSpec
from kubesaga.api.failure import Compensation, ErrorHandling, ErrorStrategy, Fallback, ListedUndo, Retry, Undo
from kubesaga.api.fields import parse_duration
from kubesaga.api.names import Deed
from kubesaga.api.waits import Sleep
from kubesaga.api.work import EnvVar, ResourceList, Resources, Work
from kubesaga.api.workflow import Activity, WorkflowSpec, wait_of
from kubesaga.engine.definition import Definition, Kind, Step, Undoing, Use, deeds_of
from kubesaga.engine.guarding import GuardOwner, settings_of
from kubesaga.engine.language.expressions import expressions_in
from kubesaga.engine.retries import policy_of
from kubesaga.engine.uses import NOTHING, Used, Uses


def compile_definition(name: str, spec: WorkflowSpec, uses: Uses = NOTHING) -> Definition:
    """Return the definition of a valid spec (see `validation.problems_of`) and of the Activities that it uses."""
    source = _Source(name=name, spec=spec, uses=uses)
    needs = needs_of(spec.activities)
    listed = {undo.for_: undo for undo in _listed(spec) if undo.for_ is not None}
    main = tuple(
        _step(activity, source, needs[activity.name], undo=activity.compensation or listed.get(activity.name))
        for activity in spec.activities
    )
    final = tuple(_step(activity, source, (), final=True) for activity in spec.finally_)
    undoing = _undoing(source)
    undos = (*(step.undo for step in main if step.undo is not None), *undoing.loose)
    deeds = deeds_of((*main, *final), undos)
    return Definition(
        name=name, spec=spec, steps={step.name: step for step in (*main, *final)}, main=main, final=final, undos=undos,
        deeds=deeds, outputs=spec.outputs, timeout=parse_duration(spec.timeout) if spec.timeout else None,
        strategy=_run_strategy(spec), undoing=undoing, uses=uses,
        has_expressions=any(map(_has_expressions, deeds.values())) or next(expressions_in(_of_run(spec)), None) is not None,
    )  # fmt: skip


def kind_of(work: Work) -> Kind:
    """Return the one kind that valid work has."""
    if (wait := wait_of(work)) is not None:
        return Kind.SLEEP if isinstance(wait, Sleep) else Kind.WAIT_FOR
    if work.pod is not None:
        return Kind.POD
    assert work.http is not None or work.handler is not None, "what it uses has been put in its place"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What a definition is made of."""

    name: str
    spec: WorkflowSpec
    uses: Uses

    @property
    def default(self) -> ErrorHandling:
        """What holds for all activities."""
        given = self.spec.error_handling.activity_error if self.spec.error_handling is not None else None
        return given or ErrorHandling()


def _step(
    activity: Activity, source: _Source, needs: tuple[str, ...], *, final: bool = False, undo: Undo | None = None
) -> Step:
    own, default = activity.error_handling or ErrorHandling(), source.default
    fallback = own.fallback or default.fallback
    used = source.uses.of(activity)
    of_activity = undo is None and used is not None and not final
    if of_activity and used is not None:
        undo = used.spec.compensation
    name = activity.name
    return Step(
        name=name, needs=needs, when=activity.when, set=activity.set, final=final,
        strategy=own.strategy or default.strategy or _run_strategy(source.spec),
        skippable=fallback is not None and fallback.skips,
        fallback=_deed(name, Deed.FALLBACK, fallback, source, final=final) if fallback and not fallback.skips else None,
        undo=_deed(name, Deed.UNDO, undo, source, of=used if of_activity else None) if undo is not None else None,
        **_rejected(activity, used, source, final=final), **_of_work(activity, own.retry, source),
    )  # fmt: skip


def _deed(
    name: str, deed: Deed, given: Undo | Fallback, source: _Source, *, final: bool = False, of: Used | None = None
) -> Step:
    """Return an undo or a fallback; `of` is the Activity that says that it is done, if the Workflow does not."""
    where = of.namespace if of is not None else None
    return Step(
        name=name, deed=deed, final=final, of_activity=of is not None,
        **_of_work(given, given.retry, source, where=where),
    )  # fmt: skip


def _rejected(activity: Activity, used: Used | None, source: _Source, *, final: bool) -> dict[str, Any]:
    """Return what comes where the activity's bulkhead, or that of the Activity it uses, rejects it."""
    bulkhead = activity.bulkhead if used is None else used.spec.bulkhead
    fallback = bulkhead.fallback if bulkhead is not None else None
    if fallback is None or fallback.skips:
        return {"rejected_skips": fallback is not None}
    return {"rejected": _deed(activity.name, Deed.FALLBACK, fallback, source, final=final, of=used)}


def _of_work(work: Work, retry: Retry | None, source: _Source, *, where: str | None = None) -> dict[str, Any]:
    used = source.uses.of(work, where)
    default = source.default.retry
    if used is None:
        retries, use = policy_of(retry, default), None
    else:
        spec = used.spec
        retries = policy_of(retry, spec.retry, default)
        use = Use(namespace=used.namespace, name=used.name, input=spec.input, output=spec.output)
        work = work_of(spec, work)
    return {
        "work": work,
        "kind": kind_of(work),
        "use": use,
        "timeout": parse_duration(work.timeout) if work.timeout else None,
        "resources": merged_resources(work.resources, source.spec.resources),
        "retry": retries,
        **_guard(work, used, source),
    }


def work_of(spec: ActivityTypeSpec, caller: Work | None = None) -> Work:
    """Return what an Activity does, for a caller that gives params and may say some things itself."""
    given = caller or Work()
    return Work(
        pod=spec.pod, http=spec.http, handler=spec.handler, params=given.params, timeout=given.timeout or spec.timeout,
        resources=merged_resources(given.resources, spec.resources),
    )  # fmt: skip


def _guard(work: Work, used: Used | None, source: _Source) -> dict[str, Any]:
    if used is not None:
        # Also where nothing guards it: its settings are read live, and it may get some.
        owner = GuardOwner(kind="Activity", namespace=used.namespace, name=used.name)
        return {"guard": owner, "guard_settings": settings_of(used.spec)}
    settings = settings_of(work) if isinstance(work, Activity) else None
    if settings is None or not isinstance(work, Activity):
        return {}
    owner = GuardOwner(kind="Workflow", namespace=source.uses.namespace, name=source.name, activity=work.name)
    return {"guard": owner, "guard_settings": settings}


def _run_strategy(spec: WorkflowSpec) -> ErrorStrategy:
    given = spec.error_handling.workflow_error if spec.error_handling is not None else None
    return (given.strategy if given is not None else None) or ErrorStrategy.COMPENSATE


def _listed(spec: WorkflowSpec) -> list[ListedUndo]:
    return spec.compensation.activities if spec.compensation is not None else []


def _undoing(source: _Source) -> Undoing:
    given = source.spec.compensation or Compensation()
    # Listed in the order of the activities, so they run backwards (S85).
    loose = tuple(
        _deed(undo.name, Deed.UNDO, undo, source) for undo in reversed(_listed(source.spec)) if undo.for_ is None
    )
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
    checked = step.use is not None and (step.use.input or step.use.output)
    rejected = step.rejected is not None and _has_expressions(step.rejected)
    return bool(rendered or checked or rejected or step.when or step.retry.when)


def _rendered(step: Step) -> Iterator[Any]:
    """Yield the values that are rendered. In others, a description or a shell's arguments, `${` is text."""
    yield step.work.params
    yield dict(step.set or {})
    if (wait := wait_of(step.work)) is not None:
        yield wait.times
    if step.work.http is not None:
        yield [step.work.http.url, step.work.http.headers, step.work.http.body]
    if step.work.pod is not None:
        yield rendered_env(step.work.pod.env)
