# SPDX-License-Identifier: Apache-2.0
"""Holds manifests against everything that the operator would hold them against, without a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from kubesaga.api.event_types import CATALOGUE, EventType, fits, known_types
from kubesaga.api.fields import ObjectName
from kubesaga.api.parsing import (
    field_path,
    parse_action_spec,
    parse_event_source_spec,
    parse_run_spec,
    parse_workflow_spec,
)
from kubesaga.api.run import WorkflowRunSpec
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.cli.documents import Finding, Manifest
from kubesaga.engine.inputs import resolve_inputs
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.uses import NOTHING, Catalogue, Known, Uses
from kubesaga.engine.validation.activity import known_of, warnings_of_activity
from kubesaga.engine.validation.resolving import resolve, resolve_inside, works_of
from kubesaga.engine.validation.sources import problems_of_source
from kubesaga.engine.validation.workflow import problems_of, problems_of_run, warnings_of
from kubesaga.errors import InvalidSpec, Problem

_FIELDS: Final = ("apiVersion", "kind", "metadata", "spec", "status")
_MADE_ANEW: Final = ("WorkflowRun", "WorkflowAction")
"""The kinds whose objects are created and never applied again: they may leave their names to the API server."""
_NAME: Final[TypeAdapter[str]] = TypeAdapter(ObjectName)


@dataclass(slots=True, kw_only=True)
class Checked:
    """What came out."""

    findings: list[Finding] = field(default_factory=list)
    specs: dict[int, WorkflowSpec] = field(default_factory=dict)
    """The specs of the Workflows that can be read, by the place of their manifest."""
    activities: Sequence[Known] = ()
    """The Activities among the manifests."""
    sources: Sequence[Manifest] = ()
    """The WorkflowEventSources among them."""


def check(manifests: Sequence[Manifest], checker: Evaluator) -> Checked:
    """Check manifests: Workflows with the Activities among them that they use, and runs against the Workflows that they name."""
    sources = [manifest for manifest in manifests if manifest.kind == "WorkflowEventSource"]
    checked = Checked(activities=activities_in(manifests, checker), sources=sources)
    for number, manifest in enumerate(manifests):
        checked.findings += check_header(manifest)
        if manifest.kind == "Workflow":
            _check_workflow(number, manifest, checker, checked)
        elif manifest.kind == "Activity":
            checked.findings += _check_activity(manifest, checker, checked)
        elif manifest.kind == "WorkflowEventSource":
            checked.findings += _check_source(manifest, checker)
        elif manifest.kind == "WorkflowAction":
            checked.findings += _check_action(manifest)
    for manifest in manifests:
        if manifest.kind == "WorkflowRun":
            _check_run(manifest, manifests, checker, checked)
    return checked


def check_header(manifest: Manifest) -> list[Finding]:
    """Return what is wrong with an object around its spec: keys that are there twice included, wherever they are."""
    return [manifest.finding(problem) for problem in _header(manifest)]


def _header(manifest: Manifest) -> Iterator[Problem]:
    yield from manifest.document.problems
    for name in manifest.value:
        if name not in _FIELDS:
            yield Problem(field_path("", name), f"there is no such field; the fields here are {', '.join(_FIELDS)}")
    metadata = manifest.value.get("metadata")
    if not isinstance(metadata, dict):
        yield Problem("metadata", "is required, with a name in it")
        return
    if "name" not in metadata and not (manifest.kind in _MADE_ANEW and metadata.get("generateName")):
        yield Problem("metadata.name", "is required")
    for name in ("name", "namespace"):
        if name in metadata and (fault := name_fault(metadata[name])):
            yield Problem(f"metadata.{name}", fault)


def name_fault(value: Any) -> str | None:
    """Return why a value cannot be the name of a Kubernetes object, None if it can."""
    if not isinstance(value, str):
        return "must be a string; put it in quotes"
    try:
        _NAME.validate_python(value)
    except ValidationError as error:
        context = error.errors()[0].get("ctx", {})
        return str(context.get("error") or "must have 1 to 253 characters")
    return None


def _check_workflow(number: int, manifest: Manifest, checker: Evaluator, checked: Checked) -> None:
    catalogue = catalogue_of(checked.activities, manifest.namespace, complete=False)
    types = types_in(checked.sources, manifest.namespace)
    spec, _, findings = check_spec(manifest, manifest.value.get("spec"), "spec", checker, catalogue, types=types)
    checked.findings += findings
    if spec is not None:
        checked.specs[number] = spec


def check_spec(
    manifest: Manifest,
    document: Any,
    path: str,
    checker: Evaluator,
    catalogue: Catalogue,
    namespace: str = "",
    types: Mapping[str, EventType] = CATALOGUE,
) -> tuple[WorkflowSpec | None, Uses, list[Finding]]:
    """Return a Workflow's spec that stands at a path of a manifest, None if it cannot be read; what it uses; what to tell of it."""
    if document is None:
        return None, NOTHING, [manifest.finding(Problem(path, "is required"))]
    try:
        spec = parse_workflow_spec(document, path)
    except InvalidSpec as error:
        return None, NOTHING, [manifest.finding(problem) for problem in error.problems]
    resolution = resolve(works_of(spec, path), catalogue, manifest.namespace or namespace, checker)
    findings = [manifest.finding(problem) for problem in problems_of(spec, checker, path, resolution)]
    warnings = [*resolution.elsewhere, *warnings_of(spec, path, resolution.uses, types)]
    findings += [manifest.finding(problem, warning=True) for problem in warnings]
    return spec, resolution.uses, findings


def activities_in(manifests: Sequence[Manifest], checker: Evaluator) -> list[Known]:
    """Return the Activities among manifests."""
    return [
        known_of(manifest.namespace, manifest.name, manifest.value.get("spec"), checker)
        for manifest in manifests
        if manifest.kind == "Activity"
    ]


def catalogue_of(activities: Sequence[Known], namespace: str, *, complete: bool) -> Catalogue:
    """Return the Activities for Workflows of a namespace. Without a cluster nobody says which one is the operator's catalogue:

    those without a namespace are taken to be in that of the Workflow, and those of a single other one for the catalogue.
    """
    others = {known.namespace for known in activities} - {"", namespace}
    placed = [replace(known, namespace=known.namespace or namespace) for known in activities]
    return Catalogue(placed, shared=others.pop() if len(others) == 1 else "", complete=complete)


def _check_activity(manifest: Manifest, checker: Evaluator, checked: Checked) -> list[Finding]:
    if manifest.value.get("spec") is None:
        return [manifest.finding(Problem("spec", "is required"))]
    known = known_of(manifest.namespace, manifest.name, manifest.value["spec"], checker)
    findings = [manifest.finding(problem) for problem in known.problems]
    if known.spec is not None:
        catalogue = catalogue_of(checked.activities, manifest.namespace, complete=False)
        resolution = resolve_inside(known.spec, catalogue, manifest.namespace, checker)
        findings += [manifest.finding(problem) for problem in resolution.problems]
        warnings = [*resolution.elsewhere, *warnings_of_activity(known.spec)]
        findings += [manifest.finding(problem, warning=True) for problem in warnings]
    return findings


def _check_source(manifest: Manifest, checker: Evaluator) -> list[Finding]:
    document = manifest.value.get("spec")
    if document is None:
        return [manifest.finding(Problem("spec", "is required"))]
    return [manifest.finding(problem) for problem in problems_of_source(document, checker)]


def types_in(sources: Sequence[Manifest], namespace: str) -> Mapping[str, EventType]:
    """Return the event types that Workflows of a namespace know: the catalogue's, and those of the sources that can be read.

    As with Activities, what has no namespace is taken to be in the same one.
    """
    registered: list[EventType] = []
    for source in sources:
        if "" in (source.namespace, namespace) or source.namespace == namespace:
            try:
                registered += parse_event_source_spec(source.value.get("spec")).registered
            except InvalidSpec:
                continue  # told with the source
    return known_types(registered)


def check_run_spec(manifest: Manifest) -> tuple[WorkflowRunSpec | None, list[Finding]]:
    """Return a WorkflowRun's spec, None if it cannot be read; and what is wrong with it, what it runs left aside."""
    document = manifest.value.get("spec")
    if document is None:
        return None, [manifest.finding(Problem("spec", "is required"))]
    try:
        spec = parse_run_spec(document)
    except InvalidSpec as error:
        return None, [manifest.finding(problem) for problem in error.problems]
    return spec, [manifest.finding(problem) for problem in problems_of_run(spec)]


def _check_action(manifest: Manifest) -> list[Finding]:
    document = manifest.value.get("spec")
    if document is None:
        return [manifest.finding(Problem("spec", "is required"))]
    try:
        parse_action_spec(document)
    except InvalidSpec as error:
        return [manifest.finding(problem) for problem in error.problems]
    return []


def _check_run(manifest: Manifest, manifests: Sequence[Manifest], checker: Evaluator, checked: Checked) -> None:
    spec, findings = check_run_spec(manifest)
    checked.findings += findings
    workflow: WorkflowSpec | None = None
    if spec is not None and spec.workflow_spec is not None:
        catalogue = catalogue_of(checked.activities, manifest.namespace, complete=False)
        workflow, _, findings = check_spec(manifest, spec.workflow_spec, "spec.workflowSpec", checker, catalogue)
        checked.findings += findings
    elif spec is not None and spec.workflow_ref is not None:
        workflow = _workflow_of(manifest, spec.workflow_ref.name, manifests, checked)
    if spec is not None and workflow is not None and spec.deliver:
        checked.findings += _check_delivery(manifest, spec, workflow)
    elif spec is not None and workflow is not None:
        checked.findings += [manifest.finding(problem) for problem in input_problems(workflow, spec.inputs or {})]


def _check_delivery(manifest: Manifest, spec: WorkflowRunSpec, workflow: WorkflowSpec) -> list[Finding]:
    """Return what is odd about a run that gives its event to live runs of a Workflow."""
    try:
        type_ = str(json.loads(spec.event or "")["type"])
    except (ValueError, LookupError, TypeError):
        return []  # which problems_of_run says
    waits = [each.wait_for.event for each in (*workflow.activities, *workflow.finally_) if each.wait_for is not None]
    if any(event is not None and fits(event, type_) for event in waits):
        return []
    told = (
        f"no activity of the Workflow waits for events of type {type_}, so only runs of its older revisions can take it"
    )
    return [manifest.finding(Problem("spec.event", told), warning=True)]


def _workflow_of(run: Manifest, name: str, manifests: Sequence[Manifest], checked: Checked) -> WorkflowSpec | None:
    """Return the Workflow that a run names: of its own file, else the only one. Others may be in the cluster."""
    named = [
        (manifest, checked.specs[number])
        for number, manifest in enumerate(manifests)
        if number in checked.specs and (manifest.name, manifest.namespace) == (name, run.namespace)
    ]
    own = [spec for manifest, spec in named if manifest.source == run.source]
    if own:
        return own[0]
    return named[0][1] if len(named) == 1 else None


def input_problems(workflow: WorkflowSpec, given: dict[str, Any]) -> Sequence[Problem]:
    """Return what is wrong with inputs, as `spec.inputs.NAME`."""
    try:
        resolve_inputs(workflow.inputs, given)
    except InvalidSpec as error:
        return error.problems
    return ()
