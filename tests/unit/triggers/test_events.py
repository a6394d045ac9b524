# SPDX-License-Identifier: Apache-2.0
"""What is an event, what its type promises, and the one run that it gets."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesaga.api.event_types import CATALOGUE, EventClass, find_type, fits, is_known
from kubesaga.api.parsing import parse_run_spec
from kubesaga.api.triggers import TIMER_EVENTS, Trigger
from kubesaga.engine.language.cron import schedule_of
from kubesaga.engine.language.schemas import problems_of_schema, violation
from kubesaga.engine.validation.workflow import problems_of_run
from kubesaga.errors import InvalidSpec
from kubesaga.testing.paths import PathEvaluator
from kubesaga.triggers.events import MAX_EVENT, event_of
from kubesaga.triggers.names import (
    event_key,
    event_run_name,
    messenger_key,
    messenger_name,
    tick_key,
    tick_run_name,
    trigger_id,
)
from kubesaga.triggers.runs import Origin, is_same, messenger_of, run_of_event, run_of_tick, tick_event

EVENT: dict[str, Any] = {"specversion": "1.0", "id": "e1", "source": "desk", "type": "ticket:created", "data": {"a": 1}}
ORIGIN = Origin(namespace="support", name="high-priority-ticket", uid="u-1")
CREATED = Trigger.model_validate({"name": "created", "event": "ticket:created"})
NIGHTLY = Trigger.model_validate({"name": "nightly", "schedule": "0 2 * * *", "timeZone": "Europe/Berlin"})
TICK = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "path", "told"),
    [
        pytest.param({"id": ""}, "id", "must not be empty", id="an empty id"),
        pytest.param({"id": None}, "id", "is required", id="no id"),
        pytest.param({"id": 5}, "id", "must be a string", id="a number as id"),
        pytest.param({"source": "x" * 1025}, "source", "at most 1,024", id="a long source"),
        pytest.param({"specversion": "0.3"}, "specversion", 'write "1.0"', id="an old version"),
        pytest.param({"priority": {"a": 1}}, "priority", "goes under data", id="an object beside data"),
        pytest.param({"Priority": "x"}, "Priority", "small letters and digits", id="a name with a capital"),
        pytest.param({"time": "yesterday"}, "time", "RFC 3339", id="a time that is none"),
        pytest.param({"data_base64": "eA=="}, "data_base64", "keep one", id="two kinds of data"),
        pytest.param({"data": "\ud800"}, "data", "what JSON does not have", id="half a surrogate pair"),
        pytest.param({"data": float("nan")}, "data", "what JSON does not have", id="a number that JSON does not have"),
        pytest.param({"data": "x" * MAX_EVENT}, "", "at most 65,536", id="too large"),
    ],
)
def test_an_event_is_refused(change: dict[str, Any], path: str, told: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        event_of({**EVENT, **change})
    (problem,) = caught.value.problems
    assert problem.path == path
    assert told in problem.message


@pytest.mark.parametrize("document", [None, [], "x", 1])
def test_what_is_no_object_is_no_event(document: Any) -> None:
    with pytest.raises(InvalidSpec, match="must be a JSON object"):
        event_of(document)


def test_extensions_and_a_time_are_welcome() -> None:
    event = event_of({**EVENT, "time": "2026-11-22T10:00:05.120Z", "partitionkey": "7", "sampled": True})
    assert json.loads(event.text)["partitionkey"] == "7"


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_run_has_one_name_for_one_event() -> None:
    key = event_key("u-1", "created", "desk", "e1")
    assert event_run_name("high-priority-ticket", "created", key) == f"high-priority-ticket-created-{key[:16]}"
    others = [
        event_key("u-2", "created", "desk", "e1"), event_key("u-1", "updated", "desk", "e1"),
        event_key("u-1", "created", "shop", "e1"), event_key("u-1", "created", "desk", "e2"),
        event_key("u-1", "created", "deske", "1"), tick_key("u-1", "created", TICK),
    ]  # fmt: skip
    assert len({key, *others}) == 7, "another Workflow, trigger, source or id is another run"


def test_a_messenger_is_no_triggers_run_whatever_triggers_are_called() -> None:
    key = messenger_key("u-1", "desk", "e1")
    assert messenger_name("high-priority-ticket", key) == f"high-priority-ticket-event-{key[:16]}"
    others = [
        messenger_key("u-2", "desk", "e1"), messenger_key("u-1", "shop", "e1"), messenger_key("u-1", "desk", "e2"),
        messenger_key("u-1", "deske", "1"), event_key("u-1", "event", "desk", "e1"), event_key("u-1", "", "desk", "e1"),
    ]  # fmt: skip
    assert len({key, *others}) == 7


def test_a_tick_is_the_same_in_every_zone() -> None:
    here = TICK.astimezone(schedule_of("* * * * *", "Asia/Tokyo").zone)
    key = tick_key("u-1", "nightly", here)
    assert key == tick_key("u-1", "nightly", TICK)
    assert tick_run_name("report", "nightly", here, key) == f"report-nightly-202611220100-{key[:16]}"


@given(
    workflow=st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?", fullmatch=True),
    trigger=st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", fullmatch=True),
)
def test_every_name_is_a_dns_label(workflow: str, trigger: str) -> None:
    for name in (
        event_run_name(workflow, trigger, "f" * 64),
        tick_run_name(workflow, trigger, TICK, "f" * 64),
        messenger_name(workflow, "f" * 64),
    ):
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name)


@given(
    trigger=st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", fullmatch=True),
    other=st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", fullmatch=True),
)
def test_triggers_that_look_alike_are_kept_apart(trigger: str, other: str) -> None:
    assert (trigger_id("u", trigger) == trigger_id("u", other)) is (trigger == other)


# --- runs -----------------------------------------------------------------------------------------------------------


def test_a_messenger_starts_nothing_and_bears_no_trigger() -> None:
    run = messenger_of(ORIGIN, event_of(EVENT))
    assert problems_of_run(parse_run_spec(run["spec"])) == []
    assert run["spec"] == {
        "workflowRef": {"name": "high-priority-ticket"}, "deliver": True, "event": event_of(EVENT).text,
    }  # fmt: skip
    assert run["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "kubesaga", "kubesaga.dev/workflow": "high-priority-ticket",
        "kubesaga.dev/messenger": "Delivering",
    }  # fmt: skip
    key = messenger_key("u-1", "desk", "e1")
    assert run["metadata"]["annotations"] == {"kubesaga.dev/trigger-key": key, "kubesaga.dev/dedupe-window": "24h"}
    assert run["metadata"]["name"] == messenger_name("high-priority-ticket", key)
    assert is_same(run, messenger_of(ORIGIN, event_of({**EVENT, "data": 2}))), "an id is for one event"
    assert not is_same(run, messenger_of(ORIGIN, event_of(EVENT), sender="hooks/desk"))


def test_the_run_of_an_event_is_valid_and_says_where_it_comes_from() -> None:
    run = run_of_event(ORIGIN, CREATED, event_of(EVENT), {"ticket_id": "T-1"})
    spec = parse_run_spec(run["spec"])
    assert problems_of_run(spec) == []
    assert json.loads(spec.event or "") == EVENT
    assert spec.inputs == {"ticket_id": "T-1"}
    metadata = run["metadata"]
    assert metadata["labels"]["kubesaga.dev/trigger"] == "created"
    assert metadata["labels"]["kubesaga.dev/workflow"] == "high-priority-ticket"
    assert metadata["annotations"]["kubesaga.dev/dedupe-window"] == "24h"
    assert "ownerReferences" not in metadata, "a prune of the Workflow leaves live sagas alone"


def test_the_same_event_again_makes_the_same_run_whatever_else_it_carries() -> None:
    first = run_of_event(ORIGIN, CREATED, event_of(EVENT), {})
    again = run_of_event(ORIGIN, CREATED, event_of({**EVENT, "data": {"a": 2}, "time": "2026-01-01T00:00:00Z"}), {})
    other = run_of_event(ORIGIN, CREATED, event_of({**EVENT, "id": "e2"}), {})
    assert first["metadata"]["name"] == again["metadata"]["name"] != other["metadata"]["name"]
    assert is_same(first, again)
    assert not is_same(other, first)
    assert not is_same({"metadata": {}}, first), "a run that somebody made by hand"


def test_a_tick_is_an_event_of_the_catalogue() -> None:
    schedule = schedule_of("0 2 * * *", "Europe/Berlin")
    event = tick_event(ORIGIN, NIGHTLY, schedule, TICK)
    assert (event.type, event.id) == ("cron:custom", "2026-11-22T01:00:00.000Z")
    assert event.data["localTime"] == "2026-11-22T02:00:00+01:00"
    assert violation(CATALOGUE[event.type].schema_ or {}, event.data, PathEvaluator(), "data") is None
    run = run_of_tick(ORIGIN, NIGHTLY, TICK, event, {})
    assert run["metadata"]["name"].startswith("high-priority-ticket-nightly-202611220100-"[:40])
    assert problems_of_run(parse_run_spec(run["spec"])) == []
    later = run_of_tick(ORIGIN, NIGHTLY, TICK + timedelta(days=1), event, {})
    assert not is_same(run, later)


# --- the catalogue --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["ticket:created", "ticket:comment:updated", "ticket:archived", "ticket:escalated", "slack:message",
     "slack:channel:created", "schedule:daily", "schedule:weekly", "cron:custom"],
)  # fmt: skip
def test_the_catalogue_has(name: str) -> None:
    assert CATALOGUE[name].description


def test_timers_are_timers() -> None:
    assert {name for name, known in CATALOGUE.items() if known.class_ is EventClass.TIMER} == set(TIMER_EVENTS)


def test_every_schema_of_the_catalogue_is_sound() -> None:
    for known in CATALOGUE.values():
        assert list(problems_of_schema(known.schema_ or {}, "schema", PathEvaluator())) == [], known.type


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param("ticket:created", "ticket:created", id="by its name"),
        pytest.param("account-note:comment:deleted", "account-note:comment:*", id="by a pattern"),
        pytest.param("ticket:craeted", None, id="not at all"),
    ],
)
def test_a_type_is_found(name: str, found: str | None) -> None:
    known = find_type(name, CATALOGUE.values())
    assert (known.type if known else None) == found


def test_patterns_fit_from_the_beginning() -> None:
    assert fits("ticket:*", "ticket:created")
    assert not fits("ticket:*", "my-ticket:created")
    assert not fits("ticket:", "ticket:created")
    assert is_known("account-note:*", CATALOGUE.values())
