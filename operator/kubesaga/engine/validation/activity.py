# SPDX-License-Identifier: Apache-2.0
"""What is wrong with an Activity that is right field by field. Whether what it uses is there, `resolving` finds out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, Final

from kubesaga.api.activity import ActivityTypeSpec
from kubesaga.api.failure import Fallback, Retry, Undo
from kubesaga.api.names import Deed
from kubesaga.api.parsing import field_path, parse_activity_spec
from kubesaga.api.work import Work
from kubesaga.engine.compiling import work_of
from kubesaga.engine.language.expressions import Evaluator, ExpressionError, expressions_in, problems_in
from kubesaga.engine.language.nearest import nearest
from kubesaga.engine.language.references import scan
from kubesaga.engine.language.schemas import problems_of_schema
from kubesaga.engine.scope import ACTIVITY_ROOTS, ACTIVITY_UNDO_ROOTS
from kubesaga.engine.uses import Known, size_of
from kubesaga.engine.validation.deeds import Spot
from kubesaga.engine.validation.guards import problems_of_guards, timeout_warnings
from kubesaga.engine.validation.sites import short, templates
from kubesaga.engine.validation.work import over_limit, problems_of_spot
from kubesaga.engine.validation.workflow import MAX_PROBLEMS, is_too_deep, nesting
from kubesaga.errors import InvalidSpec, Problem

MAX_ACTIVITY_BYTES: Final = 256 * 1024
"""Largest spec of an Activity, as JSON: every revision that uses it holds it."""


def problems_of_activity(spec: ActivityTypeSpec, evaluator: Evaluator, path: str = "spec") -> list[Problem]:
    """Return all that is wrong with an Activity's spec by itself; nothing means that it can be used."""
    spots = tuple(_spots(spec, path))
    if boundless := list(_bounds(spec, spots, path)):
        return boundless
    rules = chain(
        _aliases(spec, path),
        chain.from_iterable(problems_of_spot(spot, None, "") for spot in spots),
        over_limit(spec.resources, None, field_path(path, "resources"), ""),
        problems_of_guards(spec, path),
        _skipped(spots),
        chain.from_iterable(_expressions(spec, spot, evaluator) for spot in spots),
        _retries(spec, spots, evaluator, path),
        _schemas(spec, evaluator, path),
    )
    return list(dict.fromkeys(islice(rules, MAX_PROBLEMS)))


def known_of(namespace: str, name: str, document: Any, evaluator: Evaluator) -> Known:
    """Return an Activity as it can be used, or with all that is wrong with it."""
    kept = document if isinstance(document, dict) else {}
    try:
        spec = parse_activity_spec(document)
    except InvalidSpec as error:
        return Known(namespace=namespace, name=name, document=kept, problems=error.problems)
    problems = tuple(problems_of_activity(spec, evaluator))
    return Known(namespace=namespace, name=name, document=kept, spec=spec, problems=problems)


def warnings_of_activity(spec: ActivityTypeSpec, path: str = "spec") -> list[Problem]:
    """Return what is allowed in a valid Activity and probably not meant."""
    found = [] if (spec.description or "").strip() else [
        Problem(field_path(path, "description"), "is empty; say in a sentence what the Activity does")
    ]  # fmt: skip
    return [*found, *timeout_warnings(spec.timeout, spec, path)]


def _spots(spec: ActivityTypeSpec, path: str) -> Iterator[Spot]:
    """Yield what it does, its undo, and what stands in where its bulkhead rejects."""
    yield Spot(work=work_of(spec), path=path)
    if spec.compensation is not None:
        yield Spot(work=spec.compensation, path=field_path(path, "compensation"), deed=Deed.UNDO)
    if spec.bulkhead is not None and spec.bulkhead.fallback is not None:
        yield Spot(work=spec.bulkhead.fallback, path=field_path(path, "bulkhead", "fallback"), deed=Deed.FALLBACK)


def _bounds(spec: ActivityTypeSpec, spots: tuple[Spot, ...], path: str) -> Iterator[Problem]:
    values = [(field_path(path, "input"), spec.input), (field_path(path, "output"), spec.output)]
    for spot in spots:
        body = spot.work.http.body if spot.work.http is not None else None
        values += [(field_path(spot.path, "params"), spot.work.params), (field_path(spot.path, "http", "body"), body)]
    too_deep = [where for where, value in values if is_too_deep(value)]
    yield from (nesting(where) for where in too_deep)
    if not too_deep and (size := size_of(spec.wire())) > MAX_ACTIVITY_BYTES:
        yield Problem(path, f"is {size:,} bytes as JSON; at most {MAX_ACTIVITY_BYTES:,} are allowed")


def _aliases(spec: ActivityTypeSpec, path: str) -> Iterator[Problem]:
    for number, alias in enumerate(spec.aliases):
        if alias in spec.aliases[:number]:
            yield Problem(field_path(path, "aliases", number), f"{alias} stands here twice; remove one")


def _skipped(spots: tuple[Spot, ...]) -> Iterator[Problem]:
    for spot in spots:
        for name in ("params", "timeout", "resources", "retry") if spot.skips else ():
            if getattr(spot.work, name) is not None:
                told = "has no meaning beside activity: skip, which does nothing; remove it"
                yield Problem(field_path(spot.path, name), told)


# --- expressions ----------------------------------------------------------------------------------------------------


def _expressions(spec: ActivityTypeSpec, spot: Spot, evaluator: Evaluator) -> Iterator[Problem]:
    roots = ACTIVITY_UNDO_ROOTS if spot.deed is Deed.UNDO else ACTIVITY_ROOTS
    for where, value in templates(spot.work):
        here = field_path(spot.path, *where)
        found = list(problems_in(value, roots, evaluator, here))
        yield from found or _unknown_inputs(spec, value, here)


def _unknown_inputs(spec: ActivityTypeSpec, value: object, path: str) -> Iterator[Problem]:
    """Yield the reads of params that a closed schema does not know."""
    schema = spec.input or {}
    known = schema.get("properties")
    if schema.get("additionalProperties") is not False or not isinstance(known, dict):
        return
    try:
        found = list(expressions_in(value, path))
    except ExpressionError:
        return  # told already
    for where, source in found:
        for read in scan(source).reads:
            name = read.members[0] if read.root == "inputs" and not read.bound and read.members else None
            if isinstance(name, str) and name not in known:
                told = f"in `{short(source)}`: there is no {name} in the input; {nearest(name, known, 'names there')}"
                yield Problem(where, told)


def _retries(spec: ActivityTypeSpec, spots: tuple[Spot, ...], evaluator: Evaluator, path: str) -> Iterator[Problem]:
    retries: list[tuple[Retry | None, str]] = [(spec.retry, field_path(path, "retry"))]
    retries += [(_retry_of(spot.work), field_path(spot.path, "retry")) for spot in spots]
    for retry, where in retries:
        if retry is not None and retry.when is not None and (fault := evaluator.check(retry.when.strip(), {"error"})):
            yield Problem(field_path(where, "when"), f"in `{short(retry.when)}`: {fault}")


def _retry_of(work: Work) -> Retry | None:
    return work.retry if isinstance(work, Undo | Fallback) else None


def _schemas(spec: ActivityTypeSpec, evaluator: Evaluator, path: str) -> Iterator[Problem]:
    for name, schema in (("input", spec.input), ("output", spec.output)):
        if schema is None:
            continue
        here = field_path(path, name)
        found = list(problems_of_schema(schema, here, evaluator))
        yield from found
        kinds = schema.get("type", "object")
        if not found and "object" not in (kinds if isinstance(kinds, list) else [kinds]):
            yield Problem(field_path(here, "type"), "must be object: that is what params and outputs are")
