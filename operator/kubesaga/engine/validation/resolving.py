# SPDX-License-Identifier: Apache-2.0
"""Which Activities the deeds of a document use, and whether what they are given fits to that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from kubesaga.api.activity import ActivityTypeSpec
from kubesaga.api.parsing import field_path
from kubesaga.api.work import Work
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.engine.language.expressions import Evaluator, ExpressionError, expressions_in
from kubesaga.engine.language.schemas import violation
from kubesaga.engine.uses import Catalogue, Key, Used, Uses, named_by, works_in
from kubesaga.engine.validation.deeds import spots_of
from kubesaga.errors import Problem


@dataclass(slots=True, kw_only=True)
class Resolution:
    """What became of the ids in a document."""

    namespace: str
    """Of the runs."""
    found: dict[Key, Used] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    elsewhere: list[Problem] = field(default_factory=list)
    """Ids that may be in a cluster, and are not here."""

    @property
    def uses(self) -> Uses:
        """What was found, for `compile_definition`."""
        return Uses(namespace=self.namespace, found=self.found)


def works_of(spec: WorkflowSpec, path: str = "spec") -> list[tuple[str, Work]]:
    """Return the deeds of a Workflow that use an Activity, each with its path."""
    return [(spot.path, spot.work) for spot in spots_of(spec, path) if named_by(spot.work) is not None]


def resolve(
    works: Iterable[tuple[str, Work]], catalogue: Catalogue, namespace: str, evaluator: Evaluator | None
) -> Resolution:
    """Look for the Activities that deeds, each with its path, use in runs of a namespace, and for those that these use.

    Without an evaluator nobody looks whether what they are given fits.
    """
    resolution = Resolution(namespace=namespace)
    for path, work in works:
        if (named := named_by(work)) is None:
            continue
        id_, member = named
        match found := catalogue.find(namespace, id_, namespace):
            case None:
                told = f"{id_} is not among what was given, so nothing of it is checked"
                resolution.elsewhere.append(Problem(field_path(path, member), told))
            case str():
                resolution.problems.append(Problem(field_path(path, member), found + _why(member)))
            case Used():
                resolution.found[namespace, id_] = found
                _look_inside(found, field_path(path, member), catalogue, resolution)
                resolution.problems += _misfits(work, found, path, evaluator)
    return resolution


def resolve_inside(
    spec: ActivityTypeSpec, catalogue: Catalogue, namespace: str, evaluator: Evaluator, path: str = "spec"
) -> Resolution:
    """Look for the Activities that the undo and the fallback in an Activity of a namespace use."""
    works = [(field_path(path, *place.split(".")), work) for place, work in works_in(spec)]
    return resolve(works, catalogue, namespace, evaluator)


def _look_inside(user: Used, where: str, catalogue: Catalogue, resolution: Resolution) -> None:
    for place, work in works_in(user.spec):
        if (named := named_by(work)) is None:
            continue
        id_, member = named
        found = catalogue.find(user.namespace, id_, resolution.namespace)
        if isinstance(found, Used):
            resolution.found[user.namespace, id_] = found
        elif isinstance(found, str):
            told = f"the Activity {user.name} cannot be used: spec.{place}.{member}: {found}"
            resolution.problems.append(Problem(where, told))
        else:
            told = (
                f"{id_}, which the Activity {user.name} uses, is not among what was given, so nothing of it is checked"
            )
            resolution.elsewhere.append(Problem(where, told))


def _misfits(work: Work, used: Used, path: str, evaluator: Evaluator | None) -> Iterator[Problem]:
    """Yield what a deed gives the Activity that it uses, and what that cannot take."""
    if work.resources is not None and used.spec.pod is None:
        told = f"only a pod has resources; the Activity {used.name} is none"
        yield Problem(field_path(path, "resources"), told)
    params = work.params or {}
    if used.spec.input is None or evaluator is None or not _is_literal(params):
        return
    if (fault := violation(used.spec.input, params, evaluator, field_path(path, "params"))) is not None:
        yield Problem(fault.path, f"{fault.message} (the input of the Activity {used.name})")


def _is_literal(value: object) -> bool:
    try:
        return next(expressions_in(value), None) is None
    except ExpressionError:
        return False


def _why(member: str) -> str:
    told = "; an activity without uses, pod, http and handler uses the Activity of its own name"
    return told if member == "name" else ""
