# SPDX-License-Identifier: Apache-2.0
"""Attempts in pods of their own.

A pod's name follows from its attempt, so a creation that is repeated finds the first one; a finalizer keeps the pod
until `release`, so its end cannot be missed. A pod stays in the cluster after that, until its run is deleted.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from kubesaga.api.names import MANAGED_BY, MANAGED_BY_LABEL, POD_FINALIZER
from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Attempt, AttemptId, Failed, Observation, RunKey, Unknown
from kubesaga.executors.base import Wake
from kubesaga.executors.pod_identity import Identity, Pod, difference, key_of, missing_marks
from kubesaga.executors.pod_manifest import NO_DEFAULTS, PodDefaults, build_pod
from kubesaga.executors.pod_memory import PodMemory
from kubesaga.executors.pod_outcome import may_still_run
from kubesaga.kube.client import KubeClient
from kubesaga.kube.errors import AlreadyExists, ApiError, Conflict, Forbidden, Invalid, NotFound
from kubesaga.kube.informers import Memory
from kubesaga.kube.resources import PODS

_log = logging.getLogger(__name__)

_REFUSALS: Final = frozenset({400, 403, 404, 413, 422})
"""Answers to a creation that the same pod will get again: the others are about the moment, not about the pod."""
_QUOTA: Final = re.compile(r"\b(?:exceeded|failed) quota: ")
"""The words of Kubernetes' ResourceQuota admission plugin."""
_LIMIT_RANGE: Final = re.compile(
    r"\b(?:minimum|maximum) \S+ usage per (?:Container|Pod) is |\blimit to request ratio per "
)
"""The words of its LimitRanger."""
_RELEASE_TRIES: Final = 5
_ACCOUNT_TRIES: Final = 8
"""How often a creation is repeated for want of the namespace's `default` ServiceAccount."""


class PodExecutor:
    """Carries out the attempts of pod activities, in one event loop; calls for one attempt come one after another."""

    def __init__(
        self,
        client: KubeClient,
        informer: Memory,
        wake: Wake,
        *,
        defaults: PodDefaults = NO_DEFAULTS,
        max_output_bytes: int = 65536,
    ) -> None:
        """`client` writes (better fenced); `informer` watches the pods that bear our managed-by label."""
        self._client = client
        self._informer = informer
        self._defaults = defaults
        self._memory = PodMemory(wake, max_output_bytes=max_output_bytes)
        self._without_account: Counter[AttemptId] = Counter()
        informer.on_change(self._memory.on_change)
        for key, pod in informer.store.items():
            self._memory.on_change(key, None, pod)

    async def start(self, attempt: Attempt) -> None:
        """Create the attempt's pod, or find it. See `Executor.start`."""
        identity = Identity(run=attempt.run, attempt=attempt.id)
        if self._memory.knows(identity):
            return
        wanted = build_pod(attempt, self._defaults)
        if isinstance(wanted, Failed):
            self._memory.keep(identity, wanted)
            return
        uid = self._memory.lost(attempt.id)
        pod = await (self._create(identity, wanted) if uid is None else self._look_for(identity, wanted, uid))
        if pod is not None:
            self._adopt(pod)

    def observe(self, run: RunKey, run_uid: str) -> Mapping[AttemptId, Observation]:
        """Return what is known of a run's attempts. See `Executor.observe`."""
        return self._memory.observe(run, run_uid)

    def runs_at(self, run: RunKey) -> set[str]:
        """Return the uids of the runs of that name that have attempts here. See `Executor.runs_at`."""
        return self._memory.runs_at(run)

    async def stop(self, attempt: AttemptId, run: RunKey, reason: str) -> None:
        """Delete the attempt's pod, with its grace period; the finalizer holds it. See `Executor.stop`."""
        identity = Identity(run=run, attempt=attempt)
        if self._memory.postponed(attempt):
            told = f"it was told to stop ({reason}) before it could begin"
            self._memory.keep(identity, Failed(reason=Reason.POD_DELETED, message=told))
            return
        pod = await self._find(identity)
        if pod is None or pod["metadata"].get("deletionTimestamp") is not None:
            return
        _log.info("stopping pod %s/%s: %s", run.namespace, pod["metadata"]["name"], reason)
        await self._delete(pod)

    async def release(self, attempt: AttemptId, run: RunKey) -> None:
        """Take our finalizer off the attempt's pod, and end what may still run of it. See `Executor.release`."""
        identity = Identity(run=run, attempt=attempt)
        kept = self._memory.kept(attempt)
        pod = await self._find(identity) if kept is None or kept.uid is not None else None
        if pod is not None:
            self._memory.released(pod["metadata"]["uid"])
            if pod["metadata"].get("deletionTimestamp") is None and may_still_run(pod):
                # It waits for an image whose name is not valid, or the container that a mesh put there outlives ours.
                pod = await self._delete(pod)
        if pod is not None:
            await self._let_go(identity, pod)
        self._memory.forget(attempt)

    async def _create(self, identity: Identity, wanted: Pod) -> Pod | None:
        """Return the attempt's pod, made now or before; None if there can be none, and that is kept."""
        try:
            pod = await self._client.create(PODS, identity.run.namespace, wanted)
        except AlreadyExists:
            return await self._existing(identity, wanted)
        except ApiError as error:
            if error.status not in _REFUSALS or self._may_wait_for_account(identity, wanted, error):
                raise
            if (why := _may_pass(error)) is not None:
                self._memory.postpone(identity, why, error.message)
                return None
            self._memory.keep(identity, _rejected(error))
            pod = None
        self._without_account.pop(identity.attempt, None)
        return pod

    def _may_wait_for_account(self, identity: Identity, wanted: Pod, error: ApiError) -> bool:
        """Tell whether the namespace may be so new that its `default` ServiceAccount is still to come, by itself."""
        if "error looking up service account" not in error.message or "serviceAccountName" in wanted["spec"]:
            return False
        self._without_account[identity.attempt] += 1
        return self._without_account[identity.attempt] <= _ACCOUNT_TRIES

    async def _existing(self, identity: Identity, wanted: Pod) -> Pod | None:
        """Return the pod that has the name, if it is the attempt's: an earlier creation whose answer was lost."""
        namespace, name = key_of(identity)
        found = await self._client.get(PODS, namespace, name)
        if (differs := difference(found, wanted)) is not None:
            self._memory.disown(found)
            told = f"a pod {name} exists and is not this attempt's: {differs}; it was not touched"
            self._memory.keep(identity, Failed(reason=Reason.FOREIGN_POD, message=told, retryable=False))
            return None
        return await self._marked(found, wanted)

    async def _look_for(self, identity: Identity, wanted: Pod, uid: str) -> Pod | None:
        """Ask for a pod that the watch lost; it may only have lost its labels. A second one must never be made."""
        namespace, name = key_of(identity)
        try:
            found = await self._client.get(PODS, namespace, name)
            if found["metadata"]["uid"] == uid:
                return await self._marked(found, wanted)
        except NotFound:
            pass
        told = f"pod {name} is gone though it was held; whether its container came to its end is not known"
        self._memory.keep(identity, Unknown(message=told))
        return None

    async def _marked(self, found: Pod, wanted: Pod) -> Pod:
        """Put back the labels and annotations that somebody took: without them the watch does not tell of the pod."""
        if not (marks := missing_marks(found, wanted)):
            return found
        metadata = found["metadata"]
        body = {"metadata": {"uid": metadata["uid"], **marks}}
        return await self._client.merge_patch(PODS, metadata["namespace"], metadata["name"], body)

    async def _find(self, identity: Identity) -> Pod | None:
        """Return the attempt's pod, from memory if it is there, else from the API server."""
        if (known := self._memory.pod_of(identity)) is not None:
            return known
        try:
            found = await self._client.get(PODS, *key_of(identity))
        except NotFound:
            return None
        return found if self._memory.identity_of(found) == identity else None

    async def _delete(self, pod: Pod) -> Pod | None:
        """Delete this very pod; return it as it is then, None if it is gone."""
        metadata = pod["metadata"]
        try:
            left = await self._client.delete(PODS, metadata["namespace"], metadata["name"], uid=metadata["uid"])
        except (NotFound, Conflict):  # a Conflict means that another pod bears the name
            return None
        if left.get("kind") != "Pod":
            return None
        self._adopt(left)
        return left

    async def _let_go(self, identity: Identity, pod: Pod) -> None:
        """Remove our finalizer and nothing else: others may change the list, and the kubelet the pod, at any time."""
        key, uid = key_of(identity), pod["metadata"]["uid"]
        for tries_left in reversed(range(_RELEASE_TRIES)):
            finalizers = pod["metadata"].get("finalizers") or []
            if pod["metadata"]["uid"] != uid or POD_FINALIZER not in finalizers:
                return
            try:
                patch = _removal(uid, finalizers.index(POD_FINALIZER))
                self._adopt(await self._client.json_patch(PODS, *key, patch))
                return
            except NotFound:
                return
            except (Conflict, Invalid):
                if not tries_left:
                    raise
            try:
                pod = await self._client.get(PODS, *key)
            except NotFound:
                return

    def _adopt(self, pod: Pod) -> None:
        if (pod["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY:
            self._informer.adopt(pod)


def _removal(uid: str, position: int) -> list[dict[str, str]]:
    path = f"/metadata/finalizers/{position}"
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": path, "value": POD_FINALIZER},
        {"op": "remove", "path": path},
    ]


def _may_pass(error: ApiError) -> Reason | None:
    """Return what of the namespace does not allow the pod now, though it may tomorrow; None: something else refused it."""
    if not isinstance(error, Forbidden):
        return None
    if _QUOTA.search(error.message):
        return Reason.QUOTA_EXCEEDED
    return Reason.LIMIT_RANGE if _LIMIT_RANGE.search(error.message) else None


def _rejected(error: ApiError) -> Failed:
    """Missing rights or a missing ServiceAccount may be mended; a pod that breaks a rule stays the same."""
    lasting = "violates PodSecurity" in error.message or error.has_cause("NamespaceTerminating")
    retryable = isinstance(error, Forbidden) and not lasting
    return Failed(reason=Reason.POD_REJECTED, message=error.message or str(error), retryable=retryable)
