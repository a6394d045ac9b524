# SPDX-License-Identifier: Apache-2.0
"""What an event in a file is to the waitFors of a Workflow in a file: known by its type; `when` takes a run to be asked of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubesaga.api.event_types import fits
from kubesaga.api.triggers import TIMER_EVENTS
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.cli.documents import Manifest
from kubesaga.engine.validation.sites import short
from kubesaga.triggers.awaiting import awaited_by
from kubesaga.triggers.events import Event
from kubesaga.triggers.runs import Origin, messenger_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One waitFor that an event ends."""

    activity: str
    event: str
    """The type that it waits for."""
    when: str | None
    fits: bool
    """The event is of that type."""
    by_key: bool
    """Such an event comes as the run of a trigger, which finds the live run of its key."""

    @property
    def word(self) -> str:
        """What the event is to it, in words."""
        if not self.fits:
            return "waits for another event"
        return "may get the event, from the run that a trigger makes of it" if self.by_key else "may get the event"

    @property
    def symbol(self) -> str:
        """The phase whose sign it bears."""
        return "Succeeded" if self.fits else "Skipped"

    def reasons(self, type_: str) -> Sequence[tuple[str, str]]:
        """Return why, each with the phase whose sign it bears."""
        if not self.fits:
            return [("Failed", f"the event's type is {type_}, not {self.event}")]
        among = "" if self.event == type_ else f", one of {self.event}"
        told = [("Succeeded", f"the event's type is {type_}{among}")]
        if self.by_key:
            told.append(("Waiting", "concurrency.onConflict is Signal: it goes to the live run of the same key alone"))
        if self.when is None:
            return told
        return [
            *told,
            ("Waiting", f"when is asked of each live run, which is not known here: {short(self.when.strip())}"),
        ]

    def wire(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "activity": self.activity, "event": self.event, "when": self.when, "fits": self.fits, "byKey": self.by_key,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """To whom an event is given, beside the runs that it starts."""

    waits: Sequence[Waiting]
    messenger: str | None
    """The run that gives it to the live runs of the Workflow; None: none is made."""


def given_to(manifest: Manifest, spec: WorkflowSpec, event: Event, origin: Origin, sender: str | None) -> Given:
    """Return to whom an event is given. `sender` None: the end of the messenger's name is not known."""
    document: Mapping[str, Any] = manifest.value
    # Not what live runs of older revisions wait for (status.awaitedEvents): which there are, a file does not say.
    awaited = awaited_by({"spec": document.get("spec")})
    waits = []
    for activity in (*spec.activities, *spec.finally_):
        wait = activity.wait_for
        if wait is not None and wait.event is not None:
            fitting = fits(wait.event, event.type) and event.type not in TIMER_EVENTS
            waits.append(
                Waiting(
                    activity=activity.name, event=wait.event, when=wait.when, fits=fitting,
                    by_key=fitting and not awaited.waits_for(event.type),
                )
            )  # fmt: skip
    messenger = None
    if awaited.waits_for(event.type):
        messenger = str(messenger_of(origin, event, sender=sender)["metadata"]["name"])
    return Given(waits=waits, messenger=shown_name(messenger, known=sender is not None))


def shown_name(name: str | None, *, known: bool) -> str | None:
    """Return the name of a run as far as it is known without the cluster."""
    if name is None or known:
        return name
    return f"{name.rpartition('-')[0]}-…  (how it ends depends on the cluster: --uid, --source)"
