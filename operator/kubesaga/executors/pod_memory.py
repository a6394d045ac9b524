# SPDX-License-Identifier: Apache-2.0
"""What is known of the attempts' pods, from the watch; and the few ends that no pod tells of.

All of it may be lost with the process: the pods are the record. Besides the watch's word is kept: that an
attempt can have no pod, or none now; that its pod's name is taken; that its pod vanished though we held it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import AttemptId, Observation, Outcome, RunKey, Stage, Succeeded
from kubesaga.executors.base import Wake
from kubesaga.executors.pod_identity import Identity, Key, Pod, identify, key_of
from kubesaga.executors.pod_outcome import observe_pod

_ANNOUNCED: Final = Observation(stage=Stage.WAITING)
"""What is known of a pod that was just created: nothing that anybody must be woken for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An end that no pod in the cluster tells of. `uid`: of the pod that may have to be let go all the same."""

    run: RunKey
    seen: Observation
    uid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """A pod of ours as the watch last told of it."""

    identity: Identity
    pod: Pod
    seen: Observation

    @property
    def uid(self) -> str:
        """The pod's."""
        return str(self.pod["metadata"]["uid"])

    @property
    def deleted(self) -> bool:
        """Tell whether the pod is being deleted; our finalizer may be all that holds it."""
        return self.pod["metadata"].get("deletionTimestamp") is not None


class PodMemory:
    """A listener to the watch of pods. Its size follows the pods in the cluster."""

    def __init__(self, wake: Wake, *, max_output_bytes: int) -> None:
        self._wake = wake
        self._max_output_bytes = max_output_bytes
        self._readings: dict[RunKey, dict[Key, _Reading]] = {}
        self._kept: dict[AttemptId, Kept] = {}
        self._lost: dict[AttemptId, str] = {}
        self._postponed: dict[AttemptId, Kept] = {}
        # Uids of pods that the watch tells of:
        self._held: set[str] = set()  # by our finalizer, until `release`
        self._released: set[str] = set()
        self._foreign: set[str] = set()  # they bear a name of ours

    def observe(self, run: RunKey, run_uid: str) -> Mapping[AttemptId, Observation]:
        """Return what is known of a run's attempts."""
        readings = self._readings.get(run, {}).values()
        seen = {r.identity.attempt: r.seen for r in readings if r.identity.attempt.run_uid == run_uid}
        kept = {id_: kept.seen for id_, kept in self._kept.items() if id_.run_uid == run_uid and kept.run == run}
        postponed = {
            id_: held.seen for id_, held in self._postponed.items() if id_.run_uid == run_uid and held.run == run
        }
        return postponed | seen | kept

    def runs_at(self, run: RunKey) -> set[str]:
        """Return the uids of the runs of that name that have pods or kept ends."""
        seen = {reading.identity.attempt.run_uid for reading in self._readings.get(run, {}).values()}
        others = [*self._kept.items(), *self._postponed.items()]
        return seen | {id_.run_uid for id_, kept in others if kept.run == run}

    def knows(self, identity: Identity) -> bool:
        """Tell whether the attempt is observed."""
        return identity.attempt in self._kept or self.pod_of(identity) is not None

    def pod_of(self, identity: Identity) -> Pod | None:
        """Return the attempt's pod as the watch last told of it."""
        reading = self._readings.get(identity.run, {}).get(key_of(identity))
        return None if reading is None or reading.identity != identity else reading.pod

    def keep(self, identity: Identity, outcome: Outcome, uid: str | None = None) -> None:
        """Keep an end until it is forgotten. `uid`: of the pod that ended so."""
        message = "" if isinstance(outcome, Succeeded) else outcome.message
        name = key_of(identity)[1] if uid else None
        seen = Observation(stage=Stage.ENDED, outcome=outcome, message=message, pod_name=name, held=True)
        self._kept[identity.attempt] = Kept(run=identity.run, seen=seen, uid=uid)
        self._postponed.pop(identity.attempt, None)
        self._lost.pop(identity.attempt, None)
        self._wake(identity.run)

    def postpone(self, identity: Identity, reason: Reason, message: str) -> None:
        """Keep that an attempt can have no pod now, and why."""
        seen = Observation(stage=Stage.WAITING, reason=reason, message=message, begun=False, held=True)
        before = self._postponed.get(identity.attempt)
        self._postponed[identity.attempt] = Kept(run=identity.run, seen=seen, uid=None)
        if before is None or before.seen != seen:
            self._wake(identity.run)

    def postponed(self, attempt: AttemptId) -> bool:
        """Tell whether the attempt can have no pod now."""
        return attempt in self._postponed

    def kept(self, attempt: AttemptId) -> Kept | None:
        """Return the end that is kept for an attempt."""
        return self._kept.get(attempt)

    def forget(self, attempt: AttemptId) -> None:
        """Drop what is kept besides the watch's word."""
        self._kept.pop(attempt, None)
        self._lost.pop(attempt, None)
        self._postponed.pop(attempt, None)

    def lost(self, attempt: AttemptId) -> str | None:
        """Return the uid of the attempt's pod if the watch lost it before its end and before its release."""
        return self._lost.get(attempt)

    def released(self, uid: str) -> None:
        """Take note that nobody waits for that pod's end any more."""
        self._released.add(uid)
        self._held.discard(uid)

    def disown(self, pod: Pod) -> None:
        """Take note that the pod is somebody else's, whatever it says of itself."""
        self._take_out((pod["metadata"]["namespace"], pod["metadata"]["name"]), pod)
        self._foreign.add(pod["metadata"]["uid"])

    def identity_of(self, pod: Pod) -> Identity | None:
        """Return which attempt a pod is; None if it is not ours."""
        return None if pod["metadata"]["uid"] in self._foreign else identify(pod)

    def on_change(self, key: Key, old: Pod | None, new: Pod | None) -> None:
        """Take in what the watch tells (`Informer.on_change`)."""
        before = None if old is None else self._take_out(key, old)
        after = None if new is None else self._read(new, before)
        if after is not None:
            self._put_in(key, after)
            if _is_news(before, after):
                self._wake(after.identity.run)
        elif before is not None and before.uid in self._held:
            self._lose(before)
        if old is not None and new is None:
            for uids in (self._held, self._released, self._foreign):
                uids.discard(old["metadata"]["uid"])

    def _read(self, pod: Pod, before: _Reading | None) -> _Reading | None:
        identity = self.identity_of(pod)
        if identity is None:
            return None
        seen = observe_pod(pod, max_output_bytes=self._max_output_bytes)
        return _Reading(identity=identity, pod=pod, seen=seen if before is None else _with_cause(before.seen, seen))

    def _put_in(self, key: Key, reading: _Reading) -> None:
        self._readings.setdefault(reading.identity.run, {})[key] = reading
        self._postponed.pop(reading.identity.attempt, None)
        self._lost.pop(reading.identity.attempt, None)
        if reading.seen.held and reading.uid not in self._released:
            self._held.add(reading.uid)

    def _take_out(self, key: Key, pod: Pod) -> _Reading | None:
        if (identity := identify(pod)) is None:
            return None
        of_run = self._readings.get(identity.run, {})
        reading = of_run.pop(key, None)
        if not of_run:
            self._readings.pop(identity.run, None)
        return reading

    def _lose(self, reading: _Reading) -> None:
        """A pod is out of sight that was not released: somebody took its finalizer, or the marks that we know it by."""
        identity, outcome = reading.identity, reading.seen.outcome
        if outcome is not None:
            self.keep(identity, outcome, reading.uid)
        else:
            # As it is not observed any more it will be started again, and then looked for first.
            self._lost[identity.attempt] = reading.uid
            self._wake(identity.run)


def _is_news(before: _Reading | None, after: _Reading) -> bool:
    """Tell whether anybody but us can want to know: the name of the pod and our own hold on it are no news.

    A deletion is: the garbage collector deletes the pods of a run that is gone, and nobody else would let go of them.
    """
    known, deleted = (_ANNOUNCED, False) if before is None else (before.seen, before.deleted)
    differs = replace(known, pod_name=None, held=False) != replace(after.seen, pod_name=None, held=False)
    return differs or (after.deleted and not deleted)


def _with_cause(before: Observation, seen: Observation) -> Observation:
    """Keep the cause of a failed pull: a kubelet shows it every other time, and each change would be written down."""
    waits = before.reason is Reason.IMAGE_PULL_BACK_OFF is seen.reason
    return replace(seen, message=before.message) if waits and "ErrImagePull" in before.message else seen
