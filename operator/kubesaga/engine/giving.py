# SPDX-License-Identifier: Apache-2.0
"""What an attempt is given: params, requests and variables with their expressions evaluated, as their place may see them."""

from __future__ import annotations

import json
from typing import Any, Final

from kubesaga.api.names import Deed
from kubesaga.api.workflow import wait_of
from kubesaga.engine.compiling import rendered_env
from kubesaga.engine.definition import Kind, Step
from kubesaga.engine.draft import Draft
from kubesaga.engine.language.expressions import render
from kubesaga.engine.language.schemas import violation
from kubesaga.engine.wait_times import fault_of
from kubesaga.errors import KubesagaError

_PARAMS: Final = "params"
"""Where an http request that an Activity makes holds the params that it was made from, beside method, url, headers and body."""


class UnfitParams(KubesagaError):
    """The params of an activity do not fit the `input` of the Activity that it uses, or its wait is no time. Repeating the pass will not help."""


def recorded(draft: Draft, step: Step) -> tuple[Any, dict[str, str]] | None:
    """Return what an activity that has not begun is given all the same: a replay repeats the input of another run."""
    known = draft.of(step)
    return (known.input, known.env or {}) if step.deed is Deed.DO and known.input is not None else None


def rendered(draft: Draft, step: Step, scope: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    """Return the input and the environment of a deed that begins. Raises ExpressionError, UnfitParams."""
    if step.of_activity:
        scope = _call_of(draft, step, scope)
    if (wait := wait_of(step.work)) is not None:
        return _time_given(draft, step, scope, wait.times), {}
    if step.use is None:
        return _made(draft, step, scope, step.work.params or {})
    params = render(step.work.params or {}, scope, draft.evaluator, "params")
    if step.use.input is not None and (fault := violation(step.use.input, params, draft.evaluator, "params")):
        raise UnfitParams(f"{fault} (the input of the Activity {step.use.name})")
    given, env = _made(draft, step, {"inputs": params}, None)
    if step.work.http is None:
        return params, env
    return ({**given, _PARAMS: params} if params else given), env


def _time_given(draft: Draft, step: Step, scope: dict[str, Any], times: dict[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = render(times, scope, draft.evaluator, str(step.kind))
    for field, value in given.items():
        if fault := fault_of(field, value):
            raise UnfitParams(f"{step.kind}.{field}: {fault}")
    return given


def _call_of(draft: Draft, step: Step, scope: dict[str, Any]) -> dict[str, Any]:
    """Return what an Activity's own undo or fallback sees: the params of the deed it belongs to, and for an undo its output."""
    done = draft.definition.steps[step.name]
    known = draft.of(done)
    if known.input is None:
        # It never began, so that nothing is recorded, or it was given nothing.
        params = {} if known.attempt else render(done.work.params or {}, scope, draft.evaluator, "params")
    else:
        params = known.input.get(_PARAMS, {}) if done.kind is Kind.HTTP else known.input
    return {"inputs": params, "output": known.output} if step.deed is Deed.UNDO else {"inputs": params}


def _made(draft: Draft, step: Step, scope: dict[str, Any], params: Any) -> tuple[Any, dict[str, str]]:
    http, pod = step.work.http, step.work.pod
    if http is not None:
        request = {"method": http.method, "url": http.url, "headers": http.headers, "body": http.body}
        given = {name: value for name, value in request.items() if value is not None}
        return render(given, scope, draft.evaluator, "http"), {}
    env = render(rendered_env(pod.env), scope, draft.evaluator, "pod.env") if pod is not None else {}
    return render(params, scope, draft.evaluator, "params"), _environment(env)


def _environment(values: dict[str, Any]) -> dict[str, str]:
    """Return the values of environment variables as text: strings as they are, anything else as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
