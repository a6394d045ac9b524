# SPDX-License-Identifier: Apache-2.0
"""How long what is over is kept: finished runs by the terms of their Workflow, revisions by their number."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from kubesaga.api.fields import parse_duration
from kubesaga.engine.attempt import RunKey

_REVISIONS: Final = 10
"""As many as a Deployment keeps."""


class Why(StrEnum):
    """Why a run is deleted."""

    TTL = "TTLAfterFinished"
    HISTORY = "HistoryLimit"
    MESSENGER = "Messenger"
    """It has given its event to all that waited for it, and need not keep another one from doing so any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a spec says of keeping. None: without end."""

    ttl: timedelta | None = None
    successful: int | None = None
    failed: int | None = None
    """Of all final phases but Succeeded."""
    revisions: int = _REVISIONS


FOR_EVER: Final = Terms()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that is over for good, as much as its keeping depends on."""

    key: RunKey
    uid: str
    succeeded: bool
    completed: datetime
    workflow: str = ""
    """Label value of its Workflow's name; "" for a run with a spec of its own."""
    revision: str = ""
    """What it worked from; "" if it never began."""
    ttl: timedelta | None = None
    """Of a run with a spec of its own: what that says."""
    needed_until: datetime | None = None
    """Until then it stays, whatever else is said: it keeps the event that made it from making another run."""
    messenger: bool = False
    """It only gave its event to live runs: what is said of keeping runs is not about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A stored revision."""

    namespace: str
    name: str
    uid: str
    created: datetime
    workflow: str = ""
    """Label value of the Workflow's name; "" where it is the spec of a single run."""


def terms_of(spec: Mapping[str, Any]) -> Terms:
    """Return what a spec says. What it says badly is for ever: nothing is deleted on account of a typing error."""
    revisions = _count(spec.get("revisionHistoryLimit", _REVISIONS))
    return Terms(
        ttl=ttl_of(spec),
        successful=_count(spec.get("successfulRunsHistoryLimit")),
        failed=_count(spec.get("failedRunsHistoryLimit")),
        revisions=_REVISIONS if revisions is None else revisions,
    )


def ttl_of(spec: Mapping[str, Any]) -> timedelta | None:
    """Return a spec's `ttlAfterFinished`, None if it has none that can be read."""
    try:
        return parse_duration(spec["ttlAfterFinished"])
    except (KeyError, ValueError):
        return None


def due(runs: Iterable[Finished], terms: Terms, now: datetime) -> list[tuple[Finished, Why]]:
    """Return which runs of one Workflow are to go, and why, oldest first.

    What has to stay although its time is over (a run that another one is to replay) counts, and is held back where the
    deletion is carried out: `controller.retention`.
    """
    newest_first = sorted(runs, key=lambda run: (run.completed, run.key), reverse=True)
    kept = {True: 0, False: 0}
    going: list[tuple[Finished, Why]] = []
    for run in newest_first:
        limit = terms.successful if run.succeeded else terms.failed
        if run.messenger:
            going += [(run, Why.MESSENGER)] if run.needed_until is None or now >= run.needed_until else []
        elif run.needed_until is not None and now < run.needed_until:
            kept[run.succeeded] += 1
        elif is_over(run, terms.ttl, now):
            going.append((run, Why.TTL))
        elif limit is not None and kept[run.succeeded] >= limit:
            going.append((run, Why.HISTORY))
        else:
            kept[run.succeeded] += 1
    return going[::-1]


def is_over(run: Finished, ttl: timedelta | None, now: datetime) -> bool:
    """Tell whether a run has been kept as long as it should."""
    needed = run.needed_until is not None and now < run.needed_until
    return ttl is not None and now - run.completed >= ttl and not needed


def surplus(revisions: Collection[Revision], named: AbstractSet[str], limit: int) -> Sequence[Revision]:
    """Return which revisions of one Workflow are to go, oldest first. `named` are those that somebody works from.

    As for a Deployment, those in use do not count toward the limit.
    """
    unused = sorted(
        (revision for revision in revisions if revision.name not in named),
        key=lambda revision: (revision.created, revision.name),
    )
    return unused[: max(0, len(unused) - limit)]


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
