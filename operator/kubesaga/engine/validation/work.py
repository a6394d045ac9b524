# SPDX-License-Identifier: Apache-2.0
"""Rules over one deed, be it an activity, an undo or a fallback: it does exactly one thing, and what it is given fits to that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from kubesaga.api.failure import Fallback
from kubesaga.api.fields import parse_quantity
from kubesaga.api.names import Deed
from kubesaga.api.parsing import field_path
from kubesaga.api.work import INLINE, EnvVar, PodActivity, ResourceList, Resources, Work
from kubesaga.api.workflow import Activity, WorkflowSpec, wait_of
from kubesaga.engine.compiling import merged_resources
from kubesaga.engine.uses import named_by
from kubesaga.engine.validation import http
from kubesaga.engine.validation.deeds import Spot, spots_of
from kubesaga.errors import Problem

RESERVED_ENV: Final = "KUBESAGA_"
"""How the names of the variables begin that the operator gives every pod."""

_OUR_EXPRESSION: Final = re.compile(r"\$\{\s*(?:workflow|inputs|event|activities|run|output|item|error)\s*\.")
"""`${inputs.x}` is never a shell's: the name of a shell's variable holds no dot. `${HOME}` and `${x:-y}` are let alone."""


_WORD: Final = {Deed.DO: "an activity", Deed.UNDO: "an undo", Deed.FALLBACK: "a fallback"}


def problems(spec: WorkflowSpec, path: str) -> Iterator[Problem]:
    """Yield what is wrong with each deed by itself."""
    yield from over_limit(spec.resources, None, field_path(path, "resources"), "")
    for spot in spots_of(spec, path):
        yield from problems_of_spot(spot, spec.resources, field_path(path, "resources"))


def problems_of_spot(spot: Spot, default: Resources | None, default_path: str) -> Iterator[Problem]:
    """Yield what is wrong with a deed by itself; `default` are the resources of all pods, which stand at `default_path`."""
    yield from _kind(spot)
    work = spot.work
    if work.resources is not None and not spot.skips:
        yield from _resources(spot, default, default_path)
    if work.pod is not None:
        yield from _pod(work.pod, field_path(spot.path, "pod"))
    if work.http is not None:
        yield from http.problems(work.http, field_path(spot.path, "http"))
    if work.handler is not None and "${" in work.handler:
        yield Problem(field_path(spot.path, "handler"), "is fixed: no expression is evaluated here")


def _kind(spot: Spot) -> Iterator[Problem]:
    given = _given(spot.work)
    if not given:
        if not isinstance(spot.work, Activity):
            skip = "write activity: skip, or " if spot.deed is Deed.FALLBACK else ""
            kinds = INLINE if spot.deed is Deed.DO else ("uses", *INLINE)
            yield Problem(spot.path, f"does nothing; {skip}give it one of {', '.join(kinds[:-1])} and {kinds[-1]}")
    elif len(given) > 1:
        advice = "make two of it" if spot.deed is Deed.DO else "keep one of them"
        yield Problem(spot.path, f"has {' and '.join(given)}, but {_WORD[spot.deed]} does one thing; {advice}")
    elif given == ["http"] and spot.work.params is not None:
        told = "an http request has no params; write the values into its url, headers and body"
        yield Problem(field_path(spot.path, "params"), told)


def _given(work: Work) -> list[str]:
    given = [name for name in ("uses", *INLINE) if getattr(work, name) is not None]
    if isinstance(work, Activity):
        given += [name for name, wait in (("sleep", work.sleep), ("waitFor", work.wait_for)) if wait is not None]
    return ["activity", *given] if isinstance(work, Fallback) and work.activity is not None else given


# --- resources ------------------------------------------------------------------------------------------------------


def _resources(spot: Spot, default: Resources | None, default_path: str) -> Iterator[Problem]:
    where = field_path(spot.path, "resources")
    waits = wait_of(spot.work) is not None  # validation.waits refuses what stands beside a wait
    if not waits and named_by(spot.work) is None and spot.work.pod is None and (given := _given(spot.work)):
        yield Problem(where, f"only a pod has resources; this is {given[0]}, which runs in the operator")
        return
    yield from over_limit(spot.work.resources, default, where, default_path)


def over_limit(own: Resources | None, default: Resources | None, where: str, default_path: str) -> Iterator[Problem]:
    """Yield the requests that are above their limit once the Workflow's defaults are filled in."""
    merged = merged_resources(own, default)
    if own is None or merged is None or merged.requests is None or merged.limits is None:
        return
    for name in ("cpu", "memory"):
        request, limit = getattr(merged.requests, name), getattr(merged.limits, name)
        own_request, own_limit = _amount(own.requests, name), _amount(own.limits, name)
        if request is None or limit is None or (own_request is None and own_limit is None):
            continue
        if parse_quantity(request) > parse_quantity(limit):
            side = "requests" if own_request is not None else "limits"
            origin = _origin(default_path, own_request, own_limit)
            told = f"the request of {request} is above the limit of {limit}{origin}"
            yield Problem(field_path(where, side, name), f"{told}; lower the request or raise the limit")


def _amount(amounts: ResourceList | None, name: str) -> str | None:
    return None if amounts is None else getattr(amounts, name)


def _origin(default_path: str, own_request: str | None, own_limit: str | None) -> str:
    if own_request is not None and own_limit is not None:
        return ""
    return f" (the {'limit' if own_limit is None else 'request'} is {default_path}'s)"


# --- pods -----------------------------------------------------------------------------------------------------------


def _pod(pod: PodActivity, path: str) -> Iterator[Problem]:
    if "${" in pod.image:
        yield Problem(field_path(path, "image"), "is fixed: no expression is evaluated in an image's name")
    for name, words in (("command", pod.command), ("args", pod.args)):
        for number, word in enumerate(words or ()):
            if match := _OUR_EXPRESSION.search(word):
                yield Problem(field_path(path, name, number), _not_here(match.group()))
    if pod.working_dir and (match := _OUR_EXPRESSION.search(pod.working_dir)):
        yield Problem(field_path(path, "workingDir"), _not_here(match.group()))
    yield from _env(pod.env or [], field_path(path, "env"))


def _not_here(begin: str) -> str:
    told = f"{begin}…}} would not be evaluated: ${{…}} is the shell's here, so that no value can become a command"
    return f"{told}; give the value in env or params and read it as a variable of the shell"


def _env(variables: list[EnvVar], path: str) -> Iterator[Problem]:
    names: set[str] = set()
    for number, variable in enumerate(variables):
        here = field_path(path, number)
        if variable.name in names:
            yield Problem(field_path(here, "name"), f"{variable.name} stands here twice; remove one")
        names.add(variable.name)
        if variable.name.startswith(RESERVED_ENV):
            told = f"names that start with {RESERVED_ENV} are the operator's; choose another"
            yield Problem(field_path(here, "name"), told)
        yield from _value(variable, here)


def _value(variable: EnvVar, path: str) -> Iterator[Problem]:
    if variable.value is None and variable.value_from is None:
        yield Problem(path, 'has neither value nor valueFrom; give one (value: "" for an empty one)')
    if variable.value is not None and variable.value_from is not None:
        yield Problem(path, "has both value and valueFrom; keep one")
    source = variable.value_from
    if source is not None and (source.secret_key_ref is None) == (source.config_map_key_ref is None):
        told = "has both" if source.secret_key_ref is not None else "needs one of"
        yield Problem(field_path(path, "valueFrom"), f"{told} secretKeyRef and configMapKeyRef; give exactly one")
