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
