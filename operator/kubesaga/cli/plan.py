# SPDX-License-Identifier: Apache-2.0
"""From files and options to one run that can start. All that is wrong is told at once, before anything has happened."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import click

from kubesaga.api.fields import parse_duration
from kubesaga.api.names import Deed
from kubesaga.api.parsing import parse_run_spec
from kubesaga.api.run import WorkflowRunSpec
from kubesaga.api.work import Work
from kubesaga.api.workflow import Activity, WorkflowSpec
from kubesaga.cli.checking import (
    activities_in,
    catalogue_of,
    check_header,
    check_run_spec,
    check_spec,
    input_problems,
    name_fault,
)
from kubesaga.cli.documents import Finding, Manifest, read_manifests, read_text
from kubesaga.cli.given_signals import read_signals
from kubesaga.cli.inputs import merged_inputs, typed_inputs
from kubesaga.cli.local import Plan
from kubesaga.cli.yaml_text import Unreadable, read_yaml
from kubesaga.engine.compiling import work_of
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.uses import Uses, named_by, works_in
from kubesaga.engine.validation.deeds import Spot, spots_of
from kubesaga.engine.validation.workflow import problems_of_run
from kubesaga.errors import InvalidSpec, Problem
from kubesaga.executors.registry import Registry

DEFAULT_NAMESPACE: Final = "default"


class Refused(click.ClickException):
    """Nothing was started. Each line is a problem."""

    exit_code = 2

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))

    def show(self, file: Any = None) -> None:
        """Print the lines to standard error, as they are."""
        click.echo(self.message, err=True, file=file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asks for."""

    files: tuple[str, ...]
    workflow: str | None = None
    inputs: tuple[str, ...] = ()
    inputs_file: str | None = None
    event: str | None = None
    name: str | None = None
    timeout: str | None = None
    pods_run: bool = False
    signals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """What of the files is run."""

    manifest: Manifest
    """Holds the Workflow's spec."""
    path: str
    """Where it stands in there."""
    run: Manifest | None
    """The WorkflowRun that goes with it."""

    @property
    def document(self) -> Any:
        """The Workflow's spec on the wire."""
        return _member(self.manifest.value, self.path)


def plan_of(wanted: Wanted, evaluator: Evaluator, registry: Registry) -> Plan:
    """Return the plan. Raises Refused."""
    if wanted.name is not None and (fault := name_fault(wanted.name)):
        raise Refused([f"--name: {fault}"])
    manifests = _manifests(wanted.files)
    chosen = _choose(manifests, wanted)
    findings = check_header(chosen.manifest)
    for manifest in manifests:
        findings += check_header(manifest) if manifest.kind == "Activity" else []
    namespace = chosen.manifest.namespace or DEFAULT_NAMESPACE
    catalogue = catalogue_of(activities_in(manifests, evaluator), namespace, complete=True)
    spec, uses, of_spec = check_spec(
        chosen.manifest, chosen.document, chosen.path, evaluator, catalogue, namespace
    )  # fmt: skip
    findings += of_spec
    run = WorkflowRunSpec()
    if chosen.run is not None:
        run, of_run = _run_spec(chosen.run, chosen.manifest)
        findings += of_run
    if spec is not None:
        obstacles = _cannot_run_here(spec, uses, chosen.path, wanted, registry)
        findings += [chosen.manifest.finding(problem) for problem in obstacles]
    problems = [str(finding) for finding in findings if not finding.warning]
    if problems or spec is None:
        raise Refused(problems)
    return replace(_planned(wanted, chosen, spec, run), catalogue=catalogue, uses=uses)


def _planned(wanted: Wanted, chosen: _Chosen, spec: WorkflowSpec, run: WorkflowRunSpec) -> Plan:
    workflow = chosen.manifest.name or "workflow"
    plan = Plan(
        name=wanted.name or (chosen.run.name if chosen.run else "") or f"{workflow}-{secrets.token_hex(3)}",
        namespace=chosen.manifest.namespace or DEFAULT_NAMESPACE,
        workflow=workflow,
        document=chosen.document
        if wanted.timeout is None
        else {**chosen.document, "timeout": _duration(wanted.timeout)},
        spec=spec,
        inputs=_inputs(wanted, spec, run.inputs),
        event=run.event if wanted.event is None else _event(wanted.event),
        signals=_signals(wanted, spec),
    )
    try:
        problems = problems_of_run(parse_run_spec(plan.run_spec()))
    except InvalidSpec as error:
        problems = list(error.problems)
    if problems:
        raise Refused([f"the run: {problem}" for problem in problems])
    return plan


# --- files ----------------------------------------------------------------------------------------------------------


def _manifests(files: Sequence[str]) -> list[Manifest]:
    readings = [read_manifests(name) for name in files]
    findings: list[Finding] = [finding for reading in readings for finding in reading.findings]
    if findings:
        raise Refused([str(finding) for finding in findings])
    return [manifest for reading in readings for manifest in reading.manifests]


def _choose(manifests: Sequence[Manifest], wanted: Wanted) -> _Chosen:
    """Return the one Workflow of the files: the one that was asked for, that a run names, or that is there alone."""
    workflows = [manifest for manifest in manifests if manifest.kind == "Workflow"]
    # One that only gives its event to live runs is not meant: there are none here.
    runs = [m for m in manifests if m.kind == "WorkflowRun" and _member(m.value, "spec.deliver") is not True]
    if len(runs) > 1 and wanted.name is not None:
        runs = [run for run in runs if run.name == wanted.name]
    name = wanted.workflow
    if name is None and len(runs) == 1:
        if _member(runs[0].value, "spec.workflowSpec") is not None:
            return _Chosen(manifest=runs[0], path="spec.workflowSpec", run=runs[0])
        name = _named_by(runs[0])
    named = [workflow for workflow in workflows if name is None or workflow.name == name]
    if len(named) != 1:
        raise Refused([_choice("Workflow", workflows, named, name, "--workflow")])
    own = [run for run in runs if _named_by(run) == named[0].name]
    if len(own) > 1:
        raise Refused([_choice("WorkflowRun", own, own, None, "--name")])
    return _Chosen(manifest=named[0], path="spec", run=own[0] if own else None)


def _choice(kind: str, all_: Sequence[Manifest], fitting: Sequence[Manifest], name: str | None, option: str) -> str:
    names = ", ".join(manifest.name or "(without a name)" for manifest in all_)
    if fitting:
        return f"there are {len(fitting)} of kind {kind}: {names}; say which one by {option} NAME"
    sought = f"no {kind} {name}" if name else f"no {kind}"
    return f"there is {sought} in what was given" + (f"; there are {names}" if all_ else "")


def _named_by(run: Manifest) -> str | None:
    name = _member(run.value, "spec.workflowRef.name")
    return name if isinstance(name, str) else None


def _run_spec(run: Manifest, workflow: Manifest) -> tuple[WorkflowRunSpec, list[Finding]]:
    """Return the spec of the run that goes with the Workflow, and what is wrong with that."""
    spec, findings = check_run_spec(run)
    if run is not workflow:
        findings = [*check_header(run), *findings]
    if spec is None:
        return WorkflowRunSpec(), findings
    for name, told in (("suspend", "would keep the run from ever starting"), ("shutdown", "would end the run at once")):
        if getattr(spec, name):
            findings.append(run.finding(Problem(f"spec.{name}", f"{told} here; remove it")))
    return spec, findings


def _member(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


# --- what only a cluster has ----------------------------------------------------------------------------------------


def _cannot_run_here(
    spec: WorkflowSpec, uses: Uses, path: str, wanted: Wanted, registry: Registry
) -> Iterator[Problem]:
    told: set[Problem] = set()
    for spot in spots_of(spec, path):
        for work, where in _works(spot, uses):
            for problem in _obstacles(work, where, _shown(spot), wanted, registry):
                if problem not in told:
                    yield problem
                told.add(problem)


def _works(spot: Spot, uses: Uses) -> Iterator[tuple[Work, str]]:
    """Yield what a deed comes to, with where it is written down in the Workflow; of an Activity also what that does besides."""
    named, used = named_by(spot.work), uses.of(spot.work)
    if named is None or used is None:
        yield spot.work, spot.path
        return
    where = f"{spot.path}.{named[1]}"
    yield work_of(used.spec), where
    for _, work in works_in(used.spec):
        inner = uses.of(work, used.namespace)
        yield work if inner is None else work_of(inner.spec), where


def _obstacles(work: Work, path: str, shown: str, wanted: Wanted, registry: Registry) -> Iterator[Problem]:
    if work.handler is not None and registry.find(work.handler) is None:
        known = ", ".join(registry) or "none"
        told = f"no handler {work.handler} is registered (there are: {known}); name its module: --handlers MODULE"
        yield Problem(f"{path}.handler", told)
    if work.pod is None:
        return
    if not wanted.pods_run:
        told = f"{shown} is a pod; without a cluster it runs only as a local process: --pods local"
        yield Problem(f"{path}.pod", told)
        return
    from kubesaga.executors.processes import why_not_local

    yield from why_not_local(Activity.model_construct(name="", pod=work.pod), path)  # it looks at the pod alone


def _shown(spot: Spot) -> str:
    if spot.deed is Deed.DO and spot.of is not None:
        return spot.of.name
    deed = "undo" if spot.deed is Deed.UNDO else "fallback"
    return f"the {deed} of {spot.of.name}" if spot.of is not None else f"this {deed}"


# --- inputs, event, timeout -----------------------------------------------------------------------------------------


def _inputs(wanted: Wanted, spec: WorkflowSpec, of_run: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        given = typed_inputs(spec.inputs, wanted.inputs)
    except ValueError as error:
        raise Refused([f"--input: {error}"]) from None
    of_file = _object_in("--inputs-file", wanted.inputs_file) if wanted.inputs_file is not None else None
    inputs = merged_inputs(of_run, of_file, given)
    if problems := input_problems(spec, inputs):
        raise Refused([f"input {problem.path.removeprefix('spec.inputs.')}: {problem.message}" for problem in problems])
    return inputs


def _signals(wanted: Wanted, spec: WorkflowSpec) -> dict[str, Any]:
    try:
        return read_signals(wanted.signals, spec)
    except ValueError as error:
        raise Refused([f"--signal: {error}"]) from None


def _event(name: str) -> str:
    return json.dumps(_object_in("--event", name), ensure_ascii=False, separators=(",", ":"))


def _object_in(option: str, name: str) -> dict[str, Any]:
    try:
        documents = read_yaml(read_text(name))
    except Unreadable as error:
        place = f"{name}:{error.line}" if error.line else name
        raise Refused([f"{option}: {place}: {error}"]) from None
    if len(documents) != 1 or not isinstance(documents[0].value, dict) or documents[0].problems:
        raise Refused([f"{option}: {name}: must hold one object in YAML or JSON, with no key twice"])
    value: dict[str, Any] = documents[0].value
    return value


def _duration(text: str) -> str:
    try:
        parse_duration(text)
    except ValueError as error:
        raise Refused([f"--timeout: {error}"]) from None
    return text
