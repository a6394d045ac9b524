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
