# SPDX-License-Identifier: Apache-2.0
"""The events and event sources of the examples fit the Workflows that stand beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from kubesaga.api.event_source import WorkflowEventSourceSpec
from kubesaga.api.event_types import fits
from kubesaga.api.parsing import parse_event_source_spec
from kubesaga.cli.app import main

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
EVENTS = sorted(EXAMPLES.glob("*/created*.json"))


def sources(folder: Path) -> list[WorkflowEventSourceSpec]:
    documents = yaml.safe_load_all((folder / "manifests" / "events.yaml").read_text())
    return [parse_event_source_spec(found["spec"]) for found in documents if found["kind"] == "WorkflowEventSource"]


def test_there_are_events() -> None:
    assert EVENTS


@pytest.mark.parametrize("file", EVENTS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_an_event_starts_one_run_of_the_workflow_beside_it(file: Path) -> None:
    words = ["events", "test", str(file.parent / "workflow.yaml"), "--event", str(file), "-o", "json"]
    told = json.loads(CliRunner().invoke(main, words, catch_exceptions=False).stdout)
    assert [(row["name"], row["answer"]) for row in told["triggers"]] == [("created", "Match")]
    assert told["triggers"][0]["inputs"] == {"ticket_id": json.loads(file.read_text())["data"]["ticketId"]}


@pytest.mark.parametrize("file", EVENTS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_its_source_takes_it(file: Path) -> None:
    [source] = sources(file.parent)
    type_ = json.loads(file.read_text())["type"]
    assert [known.type for known in source.event_types or () if fits(known.type, type_)]


@pytest.mark.parametrize(("workflow", "event", "matches", "waits", "given"), [
    pytest.param("ticket-reply", "ticket-created", ["created"], [], False, id="a ticket starts what waits for a reply"),
    pytest.param("ticket-reply", "comment-updated", [], ["reply"], True, id="a comment is given to what waits for it"),
    pytest.param("ticket-thread", "comment-updated", ["commented"], ["second"], False, id="a comment is given by the key, and starts a run where there is none"),
    pytest.param("ticket-thread", "ticket-created", [], [], False, id="a ticket is nothing to a thread"),
])  # fmt: skip
def test_of_the_replies(workflow: str, event: str, matches: list[str], waits: list[str], given: bool) -> None:
    folder = EXAMPLES / "replies"
    words = ["--workflow", workflow, "--event", str(folder / f"{event}.json"), "-o", "json"]
    result = CliRunner().invoke(main, ["events", "test", str(folder / "workflow.yaml"), *words], catch_exceptions=False)
    told = json.loads(result.stdout)
    assert [row["name"] for row in told["triggers"] if row["answer"] == "Match"] == matches
    assert [row["activity"] for row in told["waits"] if row["fits"]] == waits
    assert (told["messenger"] is not None) is given


def test_the_reply_by_hand_is_the_comment() -> None:
    run = yaml.safe_load((EXAMPLES / "replies" / "reply.yaml").read_text())
    assert json.loads(run["spec"]["event"]) == json.loads((EXAMPLES / "replies" / "comment-updated.json").read_text())
