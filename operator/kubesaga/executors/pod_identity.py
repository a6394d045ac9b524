# SPDX-License-Identifier: Apache-2.0
"""Whose pod is it? Told from what people have no reason to edit: the controlling ownerReference, annotations, the name.

Labels serve selection only. People do edit them, and an attempt must not lose its pod by that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kubesaga.api.names import ACTIVITY_ANNOTATION, DEED_ANNOTATION, GROUP, SPEC_HASH_ANNOTATION, Deed
from kubesaga.engine.attempt import AttemptId, RunKey
from kubesaga.executors.pod_manifest import OWNER_KIND

Pod = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name of a pod."""

_TOLD_APART_BY: Final = (ACTIVITY_ANNOTATION, DEED_ANNOTATION, SPEC_HASH_ANNOTATION)
_DEEDS: Final = {str(deed): deed for deed in Deed}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which attempt of which run a pod is."""

    run: RunKey
    attempt: AttemptId


def identify(pod: Pod) -> Identity | None:
    """Return whose pod it says it is; None if it says nothing, or if its name is not the one that would follow."""
    metadata = pod["metadata"]
    owner = _controller(pod)
    annotations = metadata.get("annotations") or {}
    activity, deed = annotations.get(ACTIVITY_ANNOTATION), _DEEDS.get(annotations.get(DEED_ANNOTATION, Deed.DO))
    number = metadata["name"].rpartition("-")[2]
    if owner is None or activity is None or deed is None or not (number.isascii() and number.isdecimal()):
        return None
    attempt = AttemptId(run_uid=owner["uid"], activity=activity, number=int(number), deed=deed)
    if attempt.pod_name(owner["name"]) != metadata["name"]:
        return None
    return Identity(run=RunKey(namespace=metadata["namespace"], name=owner["name"]), attempt=attempt)


def key_of(identity: Identity) -> Key:
    """Return where the pod of an attempt is found."""
    return identity.run.namespace, identity.attempt.pod_name(identity.run.name)


def difference(found: Pod, wanted: Pod) -> str | None:
    """Say what shows that a pod that bears the name of the wanted one is not it; None if it is."""
    owner, expected = _controller(found), _controller(wanted)
    if owner is None or expected is None or owner["uid"] != expected["uid"]:
        return "it is not controlled by this run"
    has, needs = found["metadata"].get("annotations") or {}, wanted["metadata"]["annotations"]
    differing = [name for name in _TOLD_APART_BY if has.get(name) != needs.get(name)]
    return f"its annotation {differing[0]} is another" if differing else None


def missing_marks(found: Pod, wanted: Pod) -> dict[str, dict[str, str]]:
    """Return those labels and annotations of the wanted pod that the found one lacks: the watch and we go by them."""
    missing = {}
    for kind in ("labels", "annotations"):
        has = found["metadata"].get(kind) or {}
        missing[kind] = {name: value for name, value in wanted["metadata"][kind].items() if has.get(name) != value}
    return {kind: marks for kind, marks in missing.items() if marks}


def _controller(pod: Pod) -> dict[str, Any] | None:
    """Return the ownerReference of the WorkflowRun that controls the pod."""
    for owner in pod["metadata"].get("ownerReferences") or ():
        if owner.get("controller") and owner.get("kind") == OWNER_KIND:
            return owner if owner.get("apiVersion", "").partition("/")[0] == GROUP else None
    return None
