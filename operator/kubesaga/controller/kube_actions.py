# SPDX-License-Identifier: Apache-2.0
"""WorkflowActions as the API server records them, with a memory of those that are not done with.

An action goes through three writes, and a crash between any two of them repeats the next one: the run's status records
what is applied (the reconciler's write, guarded by the action's uid); the action's status tells the answer (compared and
swapped, so that an answer is never written over); its metadata marks it as finished, which takes it out of the watch,
and makes it the run's, to be collected with it. The memory holds it until the last of them.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from kubesaga.api.action import ActionPhase, WorkflowActionStatus
from kubesaga.api.names import API_VERSION, FINISHED_LABEL
from kubesaga.controller.action_body import ActionBody, read_action
from kubesaga.controller.actions import Breakers
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.command import Command
from kubesaga.engine.decision import Answer
from kubesaga.engine.guarding import GuardOwner
from kubesaga.kube import errors
from kubesaga.kube.client import KubeClient, Object
from kubesaga.kube.resources import ACTIVITIES, WORKFLOW_ACTIONS, WORKFLOW_RUNS, WORKFLOWS

_log = logging.getLogger("kubesaga.workflow_engine")

_DONE_KEPT: Final = 10_000


class KubeActions:
    """The WorkflowActions (see `actions.Actions`) of a cluster. Keys are those of the actions unless they say `run`."""

    def __init__(
        self,
        client: KubeClient,
        *,
        now: Callable[[], datetime],
        wake: Callable[[RunKey], None],
        look: Callable[[RunKey], None],
        breakers: Breakers | None = None,
    ) -> None:
        """`wake` brings about a pass over a run, `look` a call of `process` for an action; `breakers` obeys ResetBreaker."""
        self._client = client
        self._now = now
        self._wake = wake
        self._look = look
        self._breakers = breakers
        self._known: dict[RunKey, ActionBody] = {}
        self._suspect: set[RunKey] = set()
        self._done: OrderedDict[str, None] = OrderedDict()

    # --- the watch --------------------------------------------------------------------------------------------------

    def saw(self, key: RunKey, body: Object) -> bool:
        """Take in what the watch told; False if it is no news: our own write, or an older copy."""
        return body["metadata"]["uid"] not in self._done and self._remember(key, body)

    def lost(self, key: RunKey, body: Object) -> None:
        """Note that an action was deleted or left the selector: nobody waits for an answer any more."""
        known = self._known.get(key)
        if known is not None and known.command.uid == body["metadata"]["uid"]:
            self._forget(key)

    def doubt(self, key: RunKey) -> None:
        """Read this action from the API server the next time."""
        self._suspect.add(key)

    def versions(self) -> Mapping[RunKey, int]:
        """Return the version of each action in memory."""
        return {key: int(known.version) for key, known in self._known.items()}

    # --- a pass over a run ------------------------------------------------------------------------------------------

    def of_run(self, run: RunKey, uid: str | None) -> tuple[Command, ...]:
        """Return what waits for an answer under this run's name, oldest first (see Actions)."""
        waiting = [known for known in self._known.values() if known.run == run and known.waits]
        return tuple(known.command_for(uid) for known in sorted(waiting, key=lambda known: known.order))

    async def answer(self, command: Command, run: RunKey, *, applied: bool, message: str) -> None:
        """Write the answer, unless there is one (see Actions)."""
        phase = ActionPhase.APPLIED if applied else ActionPhase.REFUSED
        await self._answer(RunKey(namespace=run.namespace, name=command.name), command, phase, message)

    async def _answer(self, key: RunKey, command: Command, phase: ActionPhase, message: str) -> None:
        status = WorkflowActionStatus(phase=phase, message=message, completion_time=self._now()).wire()
        known = self._known.get(key)
        while known is not None and known.command.uid == command.uid and not known.answered:
            try:
                body = await self._client.merge_patch(
                    WORKFLOW_ACTIONS, key.namespace, key.name,
                    {"metadata": {"resourceVersion": known.version}, "status": status}, subresource="status",
                )  # fmt: skip
            except errors.NotFound:
                self._forget(key)
                return
            except errors.Conflict:
                known = await self._read(key)
            else:
                self._remember(key, body)
                if phase is ActionPhase.REFUSED:
                    by = f" by {command.by}" if command.by else ""
                    _log.info("WorkflowAction %s (%s%s) is refused: %s", key, command.verb, by, message)
                break
        self._look(key)

    # --- one action by itself ---------------------------------------------------------------------------------------

    async def process(self, key: RunKey) -> datetime | None:
        """Do what the action needs now: a pass over its run, its answer where it means none, the mark of an answered one."""
        known = await self._read(key) if key in self._suspect else self._known.get(key)
        if known is None:
            return None
        if known.answered:
            await self._mark(key, known)
        elif known.waits and known.run is not None:
            self._wake(known.run)
        elif known.waits and known.guard is not None:
            await self._reset(key, known.guard, known.command)
        elif known.waits:
            await self._answer(key, known.command, ActionPhase.REFUSED, known.command.problem or "")
        return None

    async def _reset(self, key: RunKey, owner: GuardOwner, command: Command) -> None:
        """Have breakers reset, which is stored when the answer is there; a crash before ours finds it stored."""
        if self._breakers is None:
            answer = Answer(command=command, applied=False, message="this operator keeps no circuit breakers")
        else:
            answer = await self._breakers.obey(owner, command)
        phase = ActionPhase.APPLIED if answer.applied else ActionPhase.REFUSED
        await self._answer(key, command, phase, answer.message)

    async def _mark(self, key: RunKey, known: ActionBody) -> None:
        """Take an answered action out of the watch, and let it go with its run."""
        metadata: dict[str, Any] = {"resourceVersion": known.version, "labels": {FINISHED_LABEL: "true"}}
        owner = await self._owner(known)
        others = known.body["metadata"].get("ownerReferences") or []
        if owner is not None and all(other["uid"] != owner["uid"] for other in others):
            metadata["ownerReferences"] = [*others, owner]
        # Before the write: its echo may arrive before its answer.
        self._done[known.command.uid] = None
        while len(self._done) > _DONE_KEPT:
            self._done.popitem(last=False)
        try:
            await self._client.merge_patch(WORKFLOW_ACTIONS, key.namespace, key.name, {"metadata": metadata})
        except errors.NotFound:
            pass  # it was deleted: nothing is left to mark
        except errors.Conflict:
            self._done.pop(known.command.uid, None)
            self.doubt(key)
            self._look(key)
            return
        except BaseException:
            self._done.pop(known.command.uid, None)
            self.doubt(key)
            raise
        self._forget(key)

    async def _owner(self, known: ActionBody) -> dict[str, Any] | None:
        """Return the reference to the object that is meant, None where there is none (any more)."""
        if known.guard is not None:
            resource = ACTIVITIES if known.guard.kind == "Activity" else WORKFLOWS
            namespace, name = known.guard.namespace, known.guard.name
        elif known.run is not None:
            resource, namespace, name = WORKFLOW_RUNS, known.run.namespace, known.run.name
        else:
            return None
        try:
            target = await self._client.get(resource, namespace, name, metadata_only=True)
        except errors.NotFound:
            return None
        uid = target["metadata"]["uid"]
        if known.command.target_uid not in (None, uid):
            return None
        return {"apiVersion": API_VERSION, "kind": resource.kind, "name": name, "uid": uid}

    # --- the memory -------------------------------------------------------------------------------------------------

    async def _read(self, key: RunKey) -> ActionBody | None:
        """Return an action as it is now; None, and it is forgotten, if it is gone or done with."""
        try:
            body = await self._client.get(WORKFLOW_ACTIONS, key.namespace, key.name)
        except errors.NotFound:
            self._forget(key)
            return None
        self._suspect.discard(key)
        self._remember(key, body)
        known = self._known[key]
        if known.answered and known.marked:
            self._forget(key)
            return None
        return known

    def _remember(self, key: RunKey, body: Object) -> bool:
        known = self._known.get(key)
        if known is not None and int(known.version) >= int(body["metadata"]["resourceVersion"]):
            return False
        self._known[key] = read_action(key, body)
        return True

    def _forget(self, key: RunKey) -> None:
        self._known.pop(key, None)
        self._suspect.discard(key)
