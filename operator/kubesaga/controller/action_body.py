# SPDX-License-Identifier: Apache-2.0
"""A WorkflowAction's body, read: which object it means, what it asks for, how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from kubesaga.api.action import Verb
from kubesaga.api.fields import ObjectName
from kubesaga.api.names import FINISHED_LABEL
from kubesaga.api.parsing import parse_action_spec
from kubesaga.controller.records import Body
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.command import Command
from kubesaga.engine.guarding import GuardOwner
from kubesaga.errors import InvalidSpec

_NAME: Final[TypeAdapter[str]] = TypeAdapter(ObjectName)
_SOME_VERB: Final = Verb.RETRY
"""Stands for a verb that cannot be read; the command has a `problem` then and is never applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionBody:
    """A WorkflowAction as it was read."""

    body: Body
    command: Command
    run: RunKey | None
    """The run that is meant; None: it means a guard, or that cannot be read, and the command says so in its `problem`."""
    guard: GuardOwner | None = None
    """Whose circuit breakers are meant."""

    @property
    def version(self) -> str:
        """Its metadata.resourceVersion."""
        return str(self.body["metadata"]["resourceVersion"])

    @property
    def answered(self) -> bool:
        """Tell whether its status says what became of it."""
        return bool((self.body.get("status") or {}).get("phase"))

    @property
    def waits(self) -> bool:
        """Tell whether it needs an answer. Nobody waits for that of an action that is being deleted."""
        return not self.answered and "deletionTimestamp" not in self.body["metadata"]

    @property
    def marked(self) -> bool:
        """Tell whether it bears the label that takes it out of the watch."""
        return (self.body["metadata"].get("labels") or {}).get(FINISHED_LABEL) == "true"

    @property
    def order(self) -> tuple[str, str]:
        """What the actions of a run are sorted by: oldest first."""
        return str(self.body["metadata"].get("creationTimestamp", "")), self.command.name

    def command_for(self, uid: str | None) -> Command:
        """Return the command as the run with this uid is given it; None: there is no such run."""
        command = self.command
        if command.problem is not None or uid is None or command.target_uid in (None, uid):
            return command
        told = f"spec.targetRef.uid: the run that bears the name now is another one; its uid is {uid}"
        return replace(command, problem=told)


def read_action(key: RunKey, body: Body) -> ActionBody:
    """Return an action as it is on the wire: what cannot be read of it is its problem."""
    body["metadata"].pop("managedFields", None)
    document = body.get("spec")
    uid = body["metadata"]["uid"]
    try:
        spec = parse_action_spec({} if document is None else document)
    except InvalidSpec as error:
        verb, name = _text(document, "action"), _target_name(document)
        command = Command(
            uid=uid, name=key.name, verb=Verb(verb) if verb in tuple(Verb) else _SOME_VERB,
            by=_text(document, "requestedBy"), problem=str(error),
        )  # fmt: skip
        run = RunKey(namespace=key.namespace, name=name) if name is not None else None
        return ActionBody(body=body, command=command, run=run)
    command = Command(
        uid=uid, name=key.name, verb=spec.action, target_uid=spec.target_ref.uid, activity=spec.activity,
        value=spec.value, by=spec.requested_by,
    )  # fmt: skip
    kind, name = spec.target_ref.kind, spec.target_ref.name
    if kind == "WorkflowRun":
        return ActionBody(body=body, command=command, run=RunKey(namespace=key.namespace, name=name))
    owner = GuardOwner(kind=kind, namespace=key.namespace, name=name, activity=spec.activity or "")
    return ActionBody(body=body, command=command, run=None, guard=owner)


def _target_name(document: Any) -> str | None:
    """Return the name of the run that is meant though not all can be read; None: it is not the name of a run."""
    target = document.get("targetRef") if isinstance(document, dict) else None
    if not isinstance(target, dict) or target.get("kind", "WorkflowRun") != "WorkflowRun":
        return None
    try:
        return _NAME.validate_python(target.get("name"), strict=True)
    except ValidationError:
        return None


def _text(document: Any, field: str) -> str | None:
    value = document.get(field) if isinstance(document, dict) else None
    return value if isinstance(value, str) else None
