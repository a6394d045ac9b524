# SPDX-License-Identifier: Apache-2.0
"""`kubesaga events`: which triggers an event matches, and why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result

from kubesaga.cel.pool import CelPool
from kubesaga.triggers.causes import WorkflowTriggers

Invoke = Callable[..., Result]

WORKFLOW: dict[str, Any] = {
    "apiVersion": "kubesaga.dev/v1alpha1",
    "kind": "Workflow",
    "metadata": {"name": "high-priority-ticket", "namespace": "support"},
    "spec": {
        "description": "d",
        "inputs": [{"name": "ticket_id", "required": True}],
        "triggers": [
            {"name": "created", "event": "ticket:created", "conditions": {"priority": {"in": ["high", "urgent"]}}, "inputs": {"ticket_id": "${event.data.ticketId}"}},
            {"name": "any", "event": "ticket:*", "when": "event.data.tier == 'gold'", "inputs": {"ticket_id": "${event.data.ticketId}"}},
            {"name": "nightly", "schedule": "0 2 * * *", "timeZone": "Europe/Berlin", "inputs": {"ticket_id": "sweep"}},
        ],
        "activities": [{"name": "a", "handler": "x"}],
    },
}  # fmt: skip
EVENT: dict[str, Any] = {
    "specversion": "1.0", "id": "evt-1", "source": "desk", "type": "ticket:created",
    "data": {"ticketId": "T-123", "priority": "high", "tier": "gold"},
}  # fmt: skip


@pytest.fixture
def tried(kubesaga: Invoke, tmp_path: Path) -> Callable[..., Result]:
    """Try the triggers on an event; the changes are made to both before."""

    def call(*words: str, event: Any = None, **metadata: Any) -> Result:
        workflow = {**WORKFLOW, "metadata": {**WORKFLOW["metadata"], **metadata}}
        (tmp_path / "w.yaml").write_text(yaml.safe_dump(workflow))
        (tmp_path / "e.json").write_text(json.dumps(EVENT if event is None else event))
        return kubesaga("events", "test", "w.yaml", "--event", "e.json", *words)

    return call


def test_each_trigger_is_told_with_its_reasons(tried: Callable[..., Result]) -> None:
    result = tried(uid="u-1")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "ticket:created  evt-1  from desk"
    assert "+ created  matches" in lines or "✓ created  matches" in lines
    told = "\n".join(line.strip("✓✗↷+x- ") for line in lines)
    assert 'priority is one of ["high", "urgent"]: it is "high"' in told
    assert "when holds: event.data.tier == 'gold'" in told
    assert "run     high-priority-ticket-created-" in told
    assert "inputs  ticket_id: T-123" in told
    assert "the clock starts it (0 2 * * * Europe/Berlin), no event that comes in" in told
    assert "does not match; its next tick is at 20" in told
    assert lines[-1] == "3 triggers of Workflow high-priority-ticket: the event starts 2 runs"


def test_where_nothing_matches_the_status_is_1(tried: Callable[..., Result]) -> None:
    result = tried(event={**EVENT, "data": {"ticketId": "T-1", "priority": "low", "tier": "free"}})
    assert result.exit_code == 1
    assert 'priority is none of ["high", "urgent"]: it is "low"' in result.stdout
    assert result.stdout.endswith("the event starts no runs\n")


def test_what_cannot_be_rendered_is_told(tried: Callable[..., Result]) -> None:
    result = tried(event={**EVENT, "data": {"priority": "high", "tier": "gold"}})
    assert result.exit_code == 1
    assert "created  cannot start a run" in result.stdout
    assert "spec.triggers[0].inputs.ticket_id: in `event.data.ticketId`" in result.stdout
    assert "warning: data.ticketId: is required, says the schema of ticket:created" in result.stdout


def test_without_uid_and_source_the_end_of_the_name_is_not_known(tried: Callable[..., Result]) -> None:
    for words in ((), ("--uid", "u-1"), ("--source", "hooks")):
        assert "high-priority-ticket-created-…  (how it ends" in tried(*words).stdout
    named = tried("--uid", "u-1", "--source", "hooks").stdout
    assert named == tried("--source", "hooks", uid="u-1").stdout
    assert "…" not in named


def test_the_name_is_the_one_that_the_gateway_gives(tried: Callable[..., Result]) -> None:
    body = {
        **WORKFLOW,
        "metadata": {"namespace": "default", **WORKFLOW["metadata"], "uid": "u-1", "resourceVersion": "1"},
    }
    with CelPool(size=1) as evaluator:
        matches = WorkflowTriggers(evaluator).match(body, EVENT, json.dumps(EVENT), f"hooks/{EVENT['source']}")
    names = [caused.run["metadata"]["name"] for caused in matches.caused]
    shown = json.loads(tried("-o", "json", "--uid", "u-1", "--source", "hooks").stdout)
    assert [row["run"] for row in shown["triggers"] if row["answer"] == "Match"] == names != []


PAYMENTS: dict[str, Any] = {
    "apiVersion": "kubesaga.dev/v1alpha1",
    "kind": "Workflow",
    "metadata": {"name": "order", "namespace": "support", "uid": "u-1"},
    "spec": {
        "description": "d",
        "inputs": [{"name": "ticket"}],
        "activities": [
            {"name": "seen", "waitFor": {"event": "ticket:*", "when": "received.data.ticketId == inputs.ticket"}},
            {"name": "closed", "waitFor": {"event": "ticket:archived"}},
            {"name": "told", "waitFor": {}},
        ],
    },
}


def waited(kubesaga: Invoke, tmp_path: Path, *words: str, event: Any = EVENT, **spec: Any) -> Result:
    (tmp_path / "w.yaml").write_text(yaml.safe_dump({**PAYMENTS, "spec": {**PAYMENTS["spec"], **spec}}))
    (tmp_path / "e.json").write_text(json.dumps(event))
    return kubesaga("events", "test", "w.yaml", "--event", "e.json", *words)


def test_who_waits_for_the_event_is_told(kubesaga: Invoke, tmp_path: Path) -> None:
    result = waited(kubesaga, tmp_path)
    assert result.exit_code == 0, result.output
    lines = [line.lstrip("✓✗↷●+x-* ") for line in result.stdout.splitlines()]
    assert lines[2:] == [
        "seen  may get the event",
        "the event's type is ticket:created, one of ticket:*",
        "when is asked of each live run, which is not known here: received.data.ticketId == inputs.ticket",
        "",
        "closed  waits for another event",
        "the event's type is ticket:created, not ticket:archived",
        "",
        "Workflow order has no triggers",
        "the live runs that wait for it get it from order-event-…  (how it ends depends on the cluster: --uid, --source)",
    ]


def test_an_event_that_nobody_waits_for_is_given_to_nobody(kubesaga: Invoke, tmp_path: Path) -> None:
    for type_ in ("account:created", "schedule:daily"):
        result = waited(kubesaga, tmp_path, event={**EVENT, "type": type_})
        assert result.exit_code == 1
        assert result.stdout.endswith("\nWorkflow order has no triggers\n")


def test_an_event_that_a_trigger_takes_goes_to_the_run_of_its_key(kubesaga: Invoke, tmp_path: Path) -> None:
    by_key = {
        "concurrency": {"key": "${inputs.ticket}", "onConflict": "Signal"},
        "triggers": [{"name": "t", "event": "ticket:created", "conditions": {"priority": "high"}}],
    }
    result = waited(kubesaga, tmp_path, **by_key)
    assert result.exit_code == 0
    assert "seen  may get the event, from the run that a trigger makes of it" in result.stdout
    assert "concurrency.onConflict is Signal: it goes to the live run of the same key alone" in result.stdout
    assert result.stdout.endswith("\n1 trigger of Workflow order: the event starts 1 run\n")
    other = waited(kubesaga, tmp_path, event={**EVENT, "data": {"ticketId": "7"}}, **by_key)
    assert other.exit_code == 1, "it comes as that trigger's run, or not at all"
    archived = waited(kubesaga, tmp_path, event={**EVENT, "type": "ticket:archived"}, **by_key)
    assert archived.exit_code == 0, "a type that no trigger takes"


def test_who_waits_as_json(kubesaga: Invoke, tmp_path: Path) -> None:
    shown = json.loads(waited(kubesaga, tmp_path, "-o", "json", "--source", "hooks").stdout)
    body = {**PAYMENTS, "metadata": {**PAYMENTS["metadata"], "resourceVersion": "1"}}
    with CelPool(size=1) as evaluator:
        matches = WorkflowTriggers(evaluator).match(body, EVENT, json.dumps(EVENT), f"hooks/{EVENT['source']}")
    assert [shown["messenger"]] == [caused.run["metadata"]["name"] for caused in matches.caused]
    seen, closed = shown["waits"]
    assert (seen["activity"], seen["event"], seen["fits"], seen["byKey"]) == ("seen", "ticket:*", True, False)
    assert (closed["activity"], closed["when"], closed["fits"]) == ("closed", None, False)


def test_a_type_that_is_not_known_is_warned_of(tried: Callable[..., Result]) -> None:
    result = tried(event={**EVENT, "type": "ticket:craeted"})
    assert "warning: type: ticket:craeted is not a known event type; did you mean ticket:created?" in result.stdout


def test_as_json(tried: Callable[..., Result]) -> None:
    shown = json.loads(tried("-o", "json", uid="u-1").stdout)
    assert shown["event"] == {"type": "ticket:created", "source": "desk", "id": "evt-1"}
    created, _, nightly = shown["triggers"]
    assert (created["answer"], created["inputs"]) == ("Match", {"ticket_id": "T-123"})
    assert created["why"]["parts"][1] == {
        "holds": True,
        "sentence": 'priority is one of ["high", "urgent"]: it is "high"',
    }
    assert nightly["answer"] == "NoMatch"
    assert nightly["nextTick"].startswith("20")


@pytest.mark.parametrize(
    ("event", "told"),
    [
        pytest.param({"type": "x"}, 'e.json:1: specversion: is required; write "1.0"', id="no CloudEvent"),
        pytest.param([1], "e.json:1: an event must be a JSON object, but this is a list", id="a list"),
        pytest.param("", "e.json", id="nothing"),
    ],
)
def test_an_event_that_cannot_be_used(tried: Callable[..., Result], event: Any, told: str) -> None:
    result = tried(event=event)
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stdout == ""


def test_a_workflow_that_is_not_valid(kubesaga: Invoke, tmp_path: Path) -> None:
    broken = json.loads(json.dumps(WORKFLOW))
    broken["spec"]["triggers"][0]["conditions"]["priority"] = {"inn": []}
    (tmp_path / "w.yaml").write_text(yaml.safe_dump(broken, sort_keys=False))
    (tmp_path / "e.json").write_text(json.dumps(EVENT))
    result = kubesaga("events", "test", "w.yaml", "--event", "e.json")
    assert result.exit_code == 2
    assert "spec.triggers[0].conditions.priority.inn: there is no such operator; did you mean in?" in result.stderr
    assert result.stderr.startswith("w.yaml:")


def test_a_file_with_two_workflows_needs_a_name(kubesaga: Invoke, tmp_path: Path) -> None:
    second = {**WORKFLOW, "metadata": {"name": "second"}}
    (tmp_path / "w.yaml").write_text(yaml.safe_dump_all([WORKFLOW, second]))
    (tmp_path / "e.json").write_text(json.dumps(EVENT))
    words = ("events", "test", "w.yaml", "--event", "e.json")
    assert "say which one by --workflow NAME" in kubesaga(*words).stderr
    assert kubesaga(*words, "--workflow", "second").stdout.endswith("of Workflow second: the event starts 2 runs\n")
    assert kubesaga(*words, "--workflow", "third").exit_code == 2


def test_a_suspended_workflow_is_told(kubesaga: Invoke, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(yaml.safe_dump({**WORKFLOW, "spec": {**WORKFLOW["spec"], "suspend": True}}))
    result = kubesaga("events", "test", "w.yaml", "--event", "-", text=json.dumps(EVENT))
    assert result.stdout.endswith("but the Workflow is suspended: until spec.suspend is false it starts none\n")


def test_the_types_are_listed(kubesaga: Invoke) -> None:
    assert "slack:channel:created" in kubesaga("events", "types").stdout
    listed = json.loads(kubesaga("events", "types", "-o", "json").stdout)
    assert {"System", "Integration", "Timer"} == {known["class"] for known in listed}
