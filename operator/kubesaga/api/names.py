# SPDX-License-Identifier: Apache-2.0
"""Every fixed word that Kubesaga puts into a cluster, and the names that are computed the same way by everyone.

Names are deterministic so that a deed repeated after a crash finds what the first try made (design law 4).
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import Final

GROUP: Final = "kubesaga.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "kubesaga"
WORKFLOW_LABEL: Final = f"{GROUP}/workflow"
RUN_LABEL: Final = f"{GROUP}/run"
RUN_UID_LABEL: Final = f"{GROUP}/run-uid"
ACTIVITY_LABEL: Final = f"{GROUP}/activity"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"
DEED_LABEL: Final = f"{GROUP}/deed"
FINISHED_LABEL: Final = f"{GROUP}/finished"
"""On a run that has finished and has been tidied up: the operator's watch leaves such runs out, so they cost nothing."""

PHASE_LABEL: Final = f"{GROUP}/phase"
"""On a run that has finished: in which phase."""
REVISION_LABEL: Final = f"{GROUP}/revision"
"""On a run that has begun: the ControllerRevision that it works from. It is there before the status says so."""
COMPLETED_ANNOTATION: Final = f"{GROUP}/completed-at"
"""On a run that has finished: its completionTime."""
TTL_ANNOTATION: Final = f"{GROUP}/ttl-after-finished"
"""On a finished run with a spec of its own: that spec's `ttlAfterFinished`."""

ACTIVITY_ANNOTATION: Final = f"{GROUP}/activity"
DEED_ANNOTATION: Final = f"{GROUP}/deed"
"""On the pods of undos and fallbacks; a pod without it does an activity."""
SPEC_HASH_ANNOTATION: Final = f"{GROUP}/spec-hash"

RUN_FINALIZER: Final = f"{GROUP}/run"
"""Holds a live run that was deleted until it has stopped cleanly."""
POD_FINALIZER: Final = f"{GROUP}/outcome"
"""Holds an attempt's pod until its outcome is in the run's status (after KEP-2307)."""


class Deed(StrEnum):
    """What an attempt is for: every activity may be done, undone, and stood in for."""

    DO = "do"
    UNDO = "undo"
    FALLBACK = "fallback"


_DNS_UNSAFE = re.compile(r"[^a-z0-9]+")
_NAME_LIMIT: Final = 63


def digest(*parts: str, length: int = 10) -> str:
    """Return `length` hexadecimal digits of the SHA-256 of the parts; parts are kept apart, so ("ab","c") differs from ("a","bc")."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:length]


def dns_label(text: str, limit: int = _NAME_LIMIT) -> str:
    """Return `text` as a piece of a DNS label (RFC 1123): lower case, `-` for what is not allowed, at most `limit` characters."""
    return _DNS_UNSAFE.sub("-", text.lower()).strip("-")[:limit].strip("-") or "x"


def pod_name(run: str, run_uid: str, activity: str, attempt: int, deed: Deed = Deed.DO) -> str:
    """Return the name of the one pod of an attempt: readable words first, then a digest that makes it unique."""
    of_deed = () if deed is Deed.DO else (deed,)
    tail = f"-{digest(run_uid, activity, *of_deed, length=8)}-{attempt}"
    room = _NAME_LIMIT - len(tail)
    shown = dns_label("-".join((*of_deed, activity)), max(10, room // 2))
    return f"{dns_label(run, room - len(shown) - 1)}-{shown}{tail}"


def activity_id(run_uid: str, activity: str) -> str:
    """Return the id of one activity of one run (S93), e.g. `7f3a52c01b`."""
    return digest(run_uid, activity)


def idempotency_key(run_uid: str, activity: str, deed: Deed = Deed.DO) -> str:
    """Return the key that every attempt of one deed carries: `RUN-UID/INSTANCE/do|undo|fallback`."""
    return f"{run_uid}/{activity}/{deed}"


def label_value(text: str) -> str:
    """Return `text` as a label value (at most 63 of [A-Za-z0-9._-], starting and ending with one of [A-Za-z0-9])."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    if len(cleaned) > _NAME_LIMIT:
        cleaned = f"{cleaned[:52]}-{digest(text)}"
    return re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$", "", cleaned)
