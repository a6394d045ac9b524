# SPDX-License-Identifier: Apache-2.0
"""The runs of a delivery: made by triggers.making, and what the sender is told where one cannot be made."""

from __future__ import annotations

from dataclasses import dataclass

from kubesaga.gateway.event import Event
from kubesaga.gateway.refusal import Refusal, unavailable
from kubesaga.gateway.sources import Source
from kubesaga.kube.errors import ApiError, Invalid
from kubesaga.triggers.causes import Caused
from kubesaga.triggers.making import BeingDeleted, NotMade, Provenance, RunMaker, origin_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A run that is there because of an event."""

    name: str
    workflow: str
    trigger: str | None
    """None: it gives the event to live runs."""
    created: bool
    """False: an earlier delivery of the same event has made it."""


def provenance_of(source: Source, event: Event) -> Provenance:
    """Return what tells an event of a delivery from others."""
    actor = event.attributes.get("actorid")
    return Provenance(
        source=source.name, origin=origin_of(source.name, event.source), event_id=event.id, digest=event.digest(),
        actor=None if actor is None else str(actor),
    )  # fmt: skip


async def make(maker: RunMaker, workflow: str, caused: Caused, provenance: Provenance) -> Made:
    """Return the run, which certainly exists. Raises Refusal."""
    try:
        created = await maker.make(caused.run, provenance)
    except NotMade as error:
        raise Refusal(409, type(error).__name__, str(error)) from error
    except Invalid as error:
        raise Refusal(422, "RunRefused", f"the API server refuses the run: {error.message}") from error
    except BeingDeleted as error:
        raise unavailable(str(error)) from error
    except ApiError as error:
        raise unavailable("the run cannot be made now: try again later", error.retry_after or 5) from error
    return Made(name=caused.run["metadata"]["name"], workflow=workflow, trigger=caused.trigger, created=created)
