# SPDX-License-Identifier: Apache-2.0
"""What runs work from: the Workflow as it is now for a new run, the pinned revision for a started one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from kubesaga.api.canonical import revision_name
from kubesaga.api.names import WORKFLOW_LABEL, label_value
from kubesaga.api.parsing import parse_workflow_spec
from kubesaga.api.reasons import Reason
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.controller.pins import Pins
from kubesaga.controller.reading import FreshReads
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.compiling import compile_definition
from kubesaga.engine.definition import Definition
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.engine.snapshot import Run, Unusable
from kubesaga.engine.uses import Catalogue, size_of, split_uses, with_uses
from kubesaga.engine.validation.resolving import Resolution, resolve, works_of
from kubesaga.engine.validation.workflow import problems_of
from kubesaga.errors import DefinitionMissing, InvalidSpec, Problem

_KEPT: Final = 512

MAX_REVISION_BYTES: Final = 1024 * 1024
"""Largest content of a revision, as JSON: etcd refuses objects of about 1.5 MiB."""

Spec = dict[str, Any]


class Revisions(Protocol):
    """Immutable copies of specs, named by their content."""

    async def ensure(self, namespace: str, owner_name: str, spec: Spec, labels: Mapping[str, str] | None = None) -> str:
        """Make sure that there is a revision of this spec; return its name. `labels` are put on a new one."""

    async def read(self, namespace: str, name: str) -> Mapping[str, Any]:
        """Return the spec. Raises DefinitionMissing."""


ReadWorkflow = Callable[[str, str], Awaitable[Spec | None]]
"""Returns the spec of a Workflow as it is now, by namespace and name; None if there is none."""


ReadActivities = Callable[[str], Awaitable[Catalogue]]
"""Returns the Activities that runs of a namespace may use, as they are now."""


async def _no_activities(_: str) -> Catalogue:
    return Catalogue()


class Definitions:
    """Resolves runs to definitions. Compiled ones are kept by revision: a thousand runs share one."""

    def __init__(
        self,
        read_workflow: ReadWorkflow,
        revisions: Revisions,
        evaluator: Evaluator,
        read_activities: ReadActivities = _no_activities,
    ) -> None:
        self._workflows = FreshReads[tuple[str, str], Spec | None](lambda key: read_workflow(*key))
        self._read_activities = read_activities
        self._revisions = revisions
        self._evaluator = evaluator
        self.users: set[RunKey] = set()
        """The Workflows that use Activities, or mean to."""
        self.pins = Pins()
        """The revisions that passes under way rely on; `release` ends that."""
        self._compiled: OrderedDict[tuple[str, str], Definition] = OrderedDict()
        self._with_uses: OrderedDict[tuple[str, str], WorkflowSpec] = OrderedDict()
        """Specs that use Activities, by what would be their revision if they did not."""

    async def of_run(self, run: Run) -> tuple[Definition | Unusable, str | None]:
        """Return what a run works from and the name of that revision, or why it has nothing to work from."""
        if run.status.workflow_revision is not None:
            return await self.of_revision(run.key.namespace, run.status.workflow_revision, run.workflow)
        if run.spec.workflow_spec is not None:
            return await self._current(run, run.key.name, "", run.spec.workflow_spec)
        if run.spec.workflow_ref is None:
            told = "spec: name a Workflow in workflowRef, or write one into workflowSpec"
            return Unusable(reason=Reason.INVALID_SPEC, message=told), None
        name = run.spec.workflow_ref.name
        spec = await self._workflows.read((run.key.namespace, name))
        if spec is None:
            told = f"spec.workflowRef.name: there is no Workflow {name!r} in namespace {run.key.namespace!r}"
            return Unusable(reason=Reason.WORKFLOW_NOT_FOUND, message=told), None
        return await self._current(run, name, name, spec)

    def forget(self, namespace: str, revision: str) -> None:
        """A revision is about to be deleted: who needs it must look whether it is there."""
        self._compiled.pop((namespace, revision), None)

    async def of_source(self, run: Run, revision: str, name: str) -> tuple[Definition | Unusable, str | None]:
        """Return what a run that begins as a replay works from: the revision of its source, a run of the Workflow `name`."""
        self.pins.pin(run.key.namespace, revision, run.key)
        return await self.of_revision(run.key.namespace, revision, name)

    async def of_revision(self, namespace: str, revision: str, name: str) -> tuple[Definition | Unusable, str | None]:
        """Return what a revision defines and its name again; `name` is the Workflow's."""
        definition = self._compiled.get((namespace, revision))
        if definition is None:
            try:
                document = await self._revisions.read(namespace, revision)
            except DefinitionMissing as error:
                return Unusable(reason=Reason.REVISION_NOT_FOUND, message=str(error)), None
            spec, uses = split_uses(document, namespace)
            definition = compile_definition(name, parse_workflow_spec(spec), uses)
            self._keep(namespace, revision, definition)
        return definition, revision

    async def pin(
        self, namespace: str, owner: str, name: str, document: Spec, *, run: RunKey | None = None
    ) -> tuple[Definition, str]:
        """Return the definition of a document and the name of its revision, which is there when this returns.

        name "": the document stands in a run. For a `run` the revision stays there until `pins.release`, and then as long
        as the run names it.
        Raises InvalidSpec, with all that is wrong, before anything is stored: what is not valid leaves nothing behind.
        """
        revision = revision_name(owner, document)
        definition = self._compiled.get((namespace, revision))
        if definition is None:
            definition, document = await self._define(namespace, owner, name, document, revision)
            revision = revision_name(owner, document)
        self.pins.pin(namespace, revision, run)
        await self._revisions.ensure(namespace, owner, document, {WORKFLOW_LABEL: label_value(name)} if name else {})
        self._keep(namespace, revision, definition)
        return definition, revision

    async def _define(
        self, namespace: str, owner: str, name: str, document: Spec, alone: str
    ) -> tuple[Definition, Spec]:
        """Return the definition of a document, and the content of its revision: with the Activities as they are now.

        `alone` is what its revision is called where it uses none.
        """
        path, key = "spec" if name else "spec.workflowSpec", (namespace, alone)
        spec = self._with_uses.get(key) or parse_workflow_spec(document, path)
        works = works_of(spec, path)
        resolution = Resolution(namespace=namespace)
        self._note_user(namespace, name, key, spec if works else None)
        if works:
            catalogue = await self._read_activities(namespace)
            resolution = await asyncio.to_thread(resolve, works, catalogue, namespace, self._evaluator)
            content = with_uses(document, resolution.uses)
            known = self._compiled.get((namespace, revision_name(owner, content)))
            if known is not None and not resolution.problems:
                return known, content
            document = content
        problems = await asyncio.to_thread(problems_of, spec, self._evaluator, path, resolution)
        if not problems and works and (size := size_of(document)) > MAX_REVISION_BYTES:
            told = f"is {size:,} bytes as JSON with the Activities that it uses; at most {MAX_REVISION_BYTES:,} are allowed"
            problems = [Problem(path, told)]
        if problems:
            raise InvalidSpec(problems)
        return compile_definition(name, spec, resolution.uses), document

    def _note_user(self, namespace: str, name: str, key: tuple[str, str], spec: WorkflowSpec | None) -> None:
        """Keep in mind that a Workflow uses Activities, or (`spec` is None) that it does not."""
        user = RunKey(namespace=namespace, name=name)
        if spec is None:
            self.users.discard(user)
            return
        if name:
            self.users.add(user)
        self._with_uses[key] = spec
        while len(self._with_uses) > _KEPT:
            self._with_uses.popitem(last=False)

    async def _current(
        self, run: Run, owner: str, name: str, document: Spec
    ) -> tuple[Definition | Unusable, str | None]:
        try:
            return await self.pin(run.key.namespace, owner, name, document, run=run.key)
        except InvalidSpec as error:
            where = f"Workflow {name}: " if name else ""
            return Unusable(reason=Reason.INVALID_SPEC, message=f"{where}{error}"), None

    def _keep(self, namespace: str, revision: str, definition: Definition) -> None:
        self._compiled[(namespace, revision)] = definition
        while len(self._compiled) > _KEPT:
            self._compiled.popitem(last=False)
