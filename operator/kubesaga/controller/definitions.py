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
from kubesaga.controller.pins import Pins
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.compiling import compile_definition
from kubesaga.engine.definition import Definition
from kubesaga.engine.expressions import Evaluator
from kubesaga.engine.snapshot import Run, Unusable
from kubesaga.engine.validation import problems_of
from kubesaga.errors import DefinitionMissing, InvalidSpec

_KEPT: Final = 512

Spec = dict[str, Any]


class Revisions(Protocol):
    """Immutable copies of specs, named by their content."""

    async def ensure(self, namespace: str, owner_name: str, spec: Spec, labels: Mapping[str, str] | None = None) -> str:
        """Make sure that there is a revision of this spec; return its name. `labels` are put on a new one."""

    async def read(self, namespace: str, name: str) -> Mapping[str, Any]:
        """Return the spec. Raises DefinitionMissing."""


ReadWorkflow = Callable[[str, str], Awaitable[Spec | None]]
"""Returns the spec of a Workflow as it is now, by namespace and name; None if there is none."""


class Definitions:
    """Resolves runs to definitions. Compiled ones are kept by revision: a thousand runs share one."""

    def __init__(self, read_workflow: ReadWorkflow, revisions: Revisions, evaluator: Evaluator) -> None:
        self._read_workflow = read_workflow
        self._revisions = revisions
        self._evaluator = evaluator
        self.pins = Pins()
        """The revisions that passes under way rely on; `release` ends that."""
        self._compiled: OrderedDict[tuple[str, str], Definition] = OrderedDict()
        self._reading: dict[tuple[str, str], asyncio.Future[Spec | None]] = {}
        self._next: dict[tuple[str, str], asyncio.Future[Spec | None]] = {}

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
        spec = await self._workflow(run.key.namespace, name)
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
            definition = compile_definition(name, parse_workflow_spec(document))
            self._keep(namespace, revision, definition)
        return definition, revision

    async def check(self, name: str, document: Any) -> Definition:
        """Return the definition of a document; name "": it stands in a run. Raises InvalidSpec with all that is wrong."""
        path = "spec" if name else "spec.workflowSpec"
        spec = parse_workflow_spec(document, path)
        problems = await asyncio.to_thread(problems_of, spec, self._evaluator, path)
        if problems:
            raise InvalidSpec(problems)
        return compile_definition(name, spec)

    async def pin(
        self, namespace: str, owner: str, name: str, document: Spec, *, run: RunKey | None = None
    ) -> tuple[Definition, str]:
        """Return the definition of a document and the name of its revision, which is there when this returns.

        For a `run` it stays there until `pins.release`, and then as long as the run names it.
        Raises InvalidSpec before anything is stored: what is not valid leaves nothing behind.
        """
        revision = revision_name(owner, document)
        definition = self._compiled.get((namespace, revision))
        if definition is None:
            definition = await self.check(name, document)
        self.pins.pin(namespace, revision, run)
        await self._revisions.ensure(namespace, owner, document, {WORKFLOW_LABEL: label_value(name)} if name else {})
        self._keep(namespace, revision, definition)
        return definition, revision

    async def _current(
        self, run: Run, owner: str, name: str, document: Spec
    ) -> tuple[Definition | Unusable, str | None]:
        try:
            return await self.pin(run.key.namespace, owner, name, document, run=run.key)
        except InvalidSpec as error:
            where = f"Workflow {name}: " if name else ""
            return Unusable(reason=Reason.INVALID_SPEC, message=f"{where}{error}"), None

    async def _workflow(self, namespace: str, name: str) -> Spec | None:
        """Read a Workflow, once for all runs that ask in the meantime, but never by a read that began before they asked."""
        key = (namespace, name)
        if key not in self._next:
            self._next[key] = asyncio.ensure_future(self._read_after(self._reading.get(key), key))
        return await asyncio.shield(self._next[key])

    async def _read_after(self, before: asyncio.Future[Spec | None] | None, key: tuple[str, str]) -> Spec | None:
        if before is not None:
            await asyncio.wait({before})
        reading = self._reading[key] = self._next.pop(key)
        try:
            return await self._read_workflow(*key)
        finally:
            if self._reading.get(key) is reading:
                del self._reading[key]

    def _keep(self, namespace: str, revision: str, definition: Definition) -> None:
        self._compiled[(namespace, revision)] = definition
        while len(self._compiled) > _KEPT:
            self._compiled.popitem(last=False)
