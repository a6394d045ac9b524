# SPDX-License-Identifier: Apache-2.0
"""What triggers make of an event that came in at the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kubesaga.api.parsing import parse_run_spec
from kubesaga.cel.pool import CelPool
from kubesaga.triggers.causes import Matches, WorkflowTriggers
from kubesaga.triggers.runs import is_same

EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/desk",
    "type": "ticket:created",
    "data": {"priority": "high", "id": 7},
}


@pytest.fixture(scope="module")
def triggers() -> Iterator[WorkflowTriggers]:
    with CelPool(size=1) as pool:
        yield WorkflowTriggers(pool)


def workflow(version: str = "1", uid: str = "u-1", **spec: Any) -> dict[str, Any]:
    whole = {"activities": [{"name": "a", "handler": "greet"}], **spec}
    metadata = {"namespace": "support", "name": "greet", "uid": uid, "resourceVersion": version}
    return {"metadata": metadata, "spec": whole}


def matched(
    triggers: WorkflowTriggers, given: dict[str, Any], event: Any = EVENT, origin: str = "desk//desk"
) -> Matches:
    return triggers.match(given, event, json.dumps(event), origin)


WAITING = {"name": "paid", "waitFor": {"event": "ticket:created"}}


def given_to(triggers: WorkflowTriggers, given: dict[str, Any], event: Any = EVENT) -> list[str | None]:
    """Return the triggers of the runs that an event causes; None: it is given to live runs."""
    return [each.trigger for each in matched(triggers, given, event).caused]


CREATED = {"name": "created", "event": "ticket:created"}


@pytest.mark.parametrize(("spec", "caused", "told"), [
    pytest.param({"triggers": [CREATED]}, ["created"], [], id="its type"),
    pytest.param({"triggers": [{**CREATED, "event": "ticket:*"}]}, ["created"], [], id="a pattern"),
    pytest.param({"triggers": [{**CREATED, "event": "ticket:deleted"}]}, [], [], id="another type"),
    pytest.param({"triggers": [{**CREATED, "conditions": {"priority": "high"}}]}, ["created"], [], id="a condition that holds"),
    pytest.param({"triggers": [{**CREATED, "conditions": {"priority": "low"}}]}, [], [], id="a condition that does not"),
    pytest.param({"triggers": [{**CREATED, "when": "event.source == '/desk'"}]}, ["created"], [], id="CEL over the event as it came"),
    pytest.param({"triggers": [{**CREATED, "when": "event.data.nothing"}]}, [], ["spec.triggers[0].when"], id="CEL without a value"),
    pytest.param({"triggers": [CREATED, {**CREATED, "name": "again"}]}, ["created", "again"], [], id="two triggers"),
    pytest.param({"triggers": [CREATED], "suspend": True}, [], [], id="a Workflow that is suspended"),
    pytest.param({"triggers": [CREATED], "activities": 1}, [], ["the Workflow is not valid: spec.activities"], id="a Workflow that is not valid"),
    pytest.param({"triggers": [{"name": "nightly", "schedule": "0 2 * * *"}]}, [], [], id="a schedule"),
    pytest.param({}, [], [], id="no triggers"),
])  # fmt: skip
def test_an_event_meets(triggers: WorkflowTriggers, spec: dict[str, Any], caused: list[str], told: list[str]) -> None:
    matches = matched(triggers, workflow(uid=json.dumps(spec), **spec))
    assert [each.trigger for each in matches.caused] == caused
    assert [fault[: len(start)] for fault, start in zip(matches.faults, told, strict=True)] == told


def test_a_trigger_that_waits_for_the_type_and_does_not_match_counts_as_filtered(triggers: WorkflowTriggers) -> None:
    names = iter("abcd")
    refusing = [{**CREATED, "name": next(names), **more} for more in (
        {"conditions": {"priority": "low"}}, {"when": "false"}, {"event": "ticket:deleted"}, {},
    )]  # fmt: skip
    timed = {"name": "nightly", "schedule": "0 2 * * *"}
    found = matched(triggers, workflow(uid="u-f", triggers=[*refusing, timed]))
    assert (len(found.caused), found.filtered) == (1, 2)


def test_the_run_is_complete(triggers: WorkflowTriggers) -> None:
    given = workflow(
        "2",
        inputs=[{"name": "ticket", "type": "integer"}],
        triggers=[{**CREATED, "inputs": {"ticket": "${event.data.id}"}}],
    )
    [caused] = matched(triggers, given).caused
    spec = parse_run_spec(caused.run["spec"])
    assert spec.workflow_ref is not None
    assert (spec.workflow_ref.name, spec.inputs, json.loads(spec.event or "")) == ("greet", {"ticket": 7}, EVENT)
    assert caused.run["metadata"]["namespace"] == "support"
    assert caused.run["metadata"]["annotations"]["kubesaga.dev/dedupe-window"] == "24h"


def test_a_run_is_the_same_for_the_same_event_alone(triggers: WorkflowTriggers) -> None:
    def run(event: Any = EVENT, origin: str = "desk//desk", **change: Any) -> Any:
        [caused] = matched(triggers, workflow("3", **{"triggers": [CREATED], **change}), event, origin).caused
        return caused.run

    first = run()
    for same in (run(), run({**EVENT, "data": 1})):
        assert (same["metadata"]["name"], is_same(same, first)) == (first["metadata"]["name"], True)
    for other in (run({**EVENT, "id": "e-2"}), run(origin="other//desk"), run(uid="u-2")):
        assert other["metadata"]["name"] != first["metadata"]["name"]
        assert not is_same(other, first)


def test_a_workflow_that_was_changed_is_read_again(triggers: WorkflowTriggers) -> None:
    assert matched(triggers, workflow("4", uid="u-4", triggers=[CREATED])).caused
    assert not matched(triggers, workflow("5", uid="u-4", triggers=[{**CREATED, "event": "other"}])).caused


def test_a_workflow_that_is_being_deleted_starts_nothing(triggers: WorkflowTriggers) -> None:
    given = workflow(triggers=[CREATED])
    given["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert matched(triggers, given) == Matches()


# --- triggers that have stopped themselves ---------------------------------------------------------------------------

AGAIN = {**CREATED, "name": "again"}


def stopping(*names: str, at: Any = 3) -> dict[str, Any]:
    return {"triggers": {name: {"stoppedGeneration": at} for name in names}}


@pytest.mark.parametrize(("spec", "status", "caused", "stopped"), [
    pytest.param({"triggers": [CREATED]}, stopping("created"), [], ["created"], id="that has stopped itself"),
    pytest.param({"triggers": [CREATED]}, stopping("created", at=2), ["created"], [], id="that had stopped before the Workflow was changed"),
    pytest.param({"triggers": [CREATED]}, stopping("created", at=None), ["created"], [], id="that counts and has not stopped"),
    pytest.param({"triggers": [CREATED, AGAIN]}, stopping("created"), ["again"], ["created"], id="beside another one"),
    pytest.param({"triggers": [CREATED, AGAIN]}, stopping("created", "again"), [], ["created", "again"], id="like the other one"),
    pytest.param({"triggers": [{**CREATED, "conditions": {"priority": "low"}}]}, stopping("created"), [], [], id="that would not match anyway"),
    pytest.param({"triggers": [CREATED], "suspend": True}, stopping("created"), [], [], id="of a Workflow that is suspended"),
    pytest.param({"triggers": [CREATED], "activities": [WAITING]}, stopping("created"), [None], ["created"], id="of a Workflow whose live runs wait for the event"),
    pytest.param({"triggers": [CREATED]}, {"triggers": 5, "schedules": {"created": 5}}, ["created"], [], id="whose record is nonsense"),
])  # fmt: skip
def test_an_event_meets_a_trigger(
    triggers: WorkflowTriggers,
    spec: dict[str, Any],
    status: dict[str, Any],
    caused: list[str | None],
    stopped: list[str],
) -> None:
    given = {**workflow(uid=json.dumps([spec, status]), **spec), "status": status}
    given["metadata"]["generation"] = 3
    found = matched(triggers, given)
    assert [each.trigger for each in found.caused] == caused
    assert (list(found.stopped), found.filtered) == (stopped, int("conditions" in spec["triggers"][0]))


# --- events that live runs wait for ---------------------------------------------------------------------------------

SIGNAL = {"key": "k", "onConflict": "Signal"}
TIMED = {"name": "nightly", "schedule": "0 2 * * *"}


@pytest.mark.parametrize(("spec", "caused"), [
    pytest.param({"activities": [WAITING]}, [None], id="waits for it"),
    pytest.param({"activities": [{"name": "a", "waitFor": {"event": "ticket:*"}}]}, [None], id="waits for any of a kind"),
    pytest.param({"activities": [{"name": "a", "handler": "x"}], "finally": [WAITING]}, [None], id="waits for it in finally"),
    pytest.param({"activities": [{"name": "a", "waitFor": {"event": "ticket:deleted"}}]}, [], id="waits for another one"),
    pytest.param({"activities": [{"name": "a", "waitFor": {}}]}, [], id="waits for a Signal"),
    pytest.param({"activities": [WAITING, {**WAITING, "name": "again"}]}, [None], id="waits for it twice: one messenger"),
    pytest.param({"activities": [WAITING], "triggers": [CREATED]}, ["created", None], id="waits for it, and is started by it"),
    pytest.param({"activities": [WAITING], "triggers": [CREATED], "suspend": True}, [None], id="waits for it, and is suspended"),
    pytest.param({"activities": [WAITING, {"name": 5}], "triggers": [CREATED]}, [None], id="waits for it, and is not valid"),
    pytest.param({"activities": [WAITING], "concurrency": SIGNAL}, [None], id="waits for it by the key, and nothing takes it"),
    pytest.param({"activities": [WAITING], "concurrency": SIGNAL, "triggers": [TIMED]}, [None], id="waits for it by the key, and the clock starts it"),
    pytest.param({"activities": [WAITING], "concurrency": SIGNAL, "triggers": [CREATED]}, ["created"], id="waits for it by the key, and a trigger takes it"),
    pytest.param({"activities": [WAITING], "concurrency": SIGNAL, "triggers": [{**CREATED, "event": "ticket:*", "when": "false"}]}, [], id="waits for it by the key, and a trigger takes the type and not this one"),
    pytest.param({"activities": [WAITING], "concurrency": {"key": "k"}, "triggers": [CREATED]}, ["created", None], id="waits for it, with a key that says nothing of events"),
    pytest.param({"activities": [5], "finally": 5, "triggers": 5, "concurrency": 5}, [], id="is nonsense"),
])  # fmt: skip
def test_an_event_is_given_to_live_runs_of_a_workflow_that(
    triggers: WorkflowTriggers, spec: dict[str, Any], caused: list[str | None]
) -> None:
    assert given_to(triggers, workflow(uid=json.dumps(spec), **spec)) == caused


@pytest.mark.parametrize(("spec", "status", "caused"), [
    pytest.param({}, {"awaitedEvents": ["ticket:created"]}, [None], id="older revisions wait for it"),
    pytest.param({}, {"awaitedEvents": ["desk:*", "ticket:*"]}, [None], id="older revisions wait for any of a kind"),
    pytest.param({}, {"awaitedEvents": ["desk:*"]}, [], id="older revisions wait for others"),
    pytest.param({"activities": 1}, {"awaitedEvents": ["ticket:created"]}, [None], id="older revisions wait, and it is not valid now"),
    pytest.param({"activities": [WAITING]}, {"awaitedEvents": ["desk:*"]}, [None], id="it waits, and its status does not say so yet"),
    pytest.param({"activities": [WAITING], "concurrency": SIGNAL, "triggers": [CREATED]}, {"awaitedEvents": ["ticket:created"]}, ["created", None], id="older revisions wait for what comes by key now"),
    pytest.param({}, {"awaitedEvents": "ticket:created"}, [], id="somebody wrote nonsense into the status"),
])  # fmt: skip
def test_what_older_revisions_wait_for_counts_when(
    triggers: WorkflowTriggers, spec: dict[str, Any], status: dict[str, Any], caused: list[str | None]
) -> None:
    given = workflow(uid=json.dumps([spec, status]), **spec)
    assert given_to(triggers, {**given, "status": status}) == caused


def test_a_status_that_was_changed_is_read_again(triggers: WorkflowTriggers) -> None:
    assert given_to(triggers, workflow("1", uid="u-s")) == []
    assert given_to(triggers, {**workflow("2", uid="u-s"), "status": {"awaitedEvents": ["ticket:*"]}}) == [None]


@pytest.mark.parametrize("type_", ["schedule:daily", "schedule:weekly", "cron:custom"])
def test_events_of_the_clock_that_come_in_are_given_to_nobody(triggers: WorkflowTriggers, type_: str) -> None:
    waits = {"name": "a", "waitFor": {"event": "*"}}
    assert given_to(triggers, workflow(uid="u-t", activities=[waits]), {**EVENT, "type": type_}) == []


def test_the_messenger_of_a_workflow_that_is_being_deleted_is_not_made(triggers: WorkflowTriggers) -> None:
    given = workflow(uid="u-d", activities=[WAITING])
    given["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert matched(triggers, given) == Matches()


def test_the_messenger_is_the_same_for_the_same_event_alone(triggers: WorkflowTriggers) -> None:
    given = workflow(uid="u-m", activities=[WAITING])
    first, again = (matched(triggers, given).caused[0] for _ in range(2))
    assert first.delivers
    assert first.run == again.run
    assert json.loads(first.run["spec"]["event"]) == EVENT
    [other] = matched(triggers, given, origin="other//desk").caused
    assert other.run["metadata"]["name"] != first.run["metadata"]["name"]
