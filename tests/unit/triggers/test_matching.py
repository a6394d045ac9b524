# SPDX-License-Identifier: Apache-2.0
"""Which events a trigger fits, the inputs of the run, and why not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kubesaga.api.parsing import parse_workflow_spec
from kubesaga.cel.pool import CelPool
from kubesaga.engine.language.conditions import Explanation
from kubesaga.triggers.events import Event, event_of
from kubesaga.triggers.matching import Answer, Broken, Match, Matcher, NoMatch, matchers_of

INPUTS = [{"name": "id"}, {"name": "count", "type": "integer"}, {"name": "all", "type": "object"}]


@pytest.fixture(scope="module")
def cel() -> Iterator[CelPool]:
    with CelPool(size=1) as pool:
        yield pool


def matcher(trigger: dict[str, Any], inputs: list[dict[str, Any]] | None = None) -> Matcher:
    spec = {
        "inputs": INPUTS if inputs is None else inputs,
        "triggers": [{"name": "t", **trigger}],
        "activities": [{"name": "a", "handler": "x"}],
    }
    (made,) = matchers_of(parse_workflow_spec(spec))
    return made


def event(type_: str = "ticket:created", data: Any = None, **attributes: Any) -> Event:
    carried = {"priority": "high", "id": "T-1", "n": 3} if data is None else data
    return event_of({"specversion": "1.0", "id": "e1", "source": "desk", "type": type_, "data": carried, **attributes})


def why(answer: Answer) -> list[str]:
    def flat(node: Explanation) -> Iterator[str]:
        yield node.sentence
        for part in node.parts:
            yield from flat(part)

    return list(flat(answer.why))


@pytest.mark.parametrize(
    ("trigger", "inputs"),
    [
        pytest.param({"event": "ticket:created"}, {}, id="the type alone"),
        pytest.param({"event": "ticket:*"}, {}, id="a pattern"),
        pytest.param({"event": "*"}, {}, id="any event"),
        pytest.param({"event": "ticket:created", "conditions": {"priority": "high"}}, {}, id="a condition"),
        pytest.param({"event": "ticket:created", "when": "event.data.n > 2"}, {}, id="when, on the data"),
        pytest.param({"event": "*", "when": "event.type.startsWith('ticket:') && event.source == 'desk' && event.id == 'e1'"}, {}, id="when, on the attributes"),
        pytest.param({"event": "*", "inputs": {"id": "${event.data.id}"}}, {"id": "T-1"}, id="an input"),
        pytest.param({"event": "*", "inputs": {"id": "Ticket ${event.data.id} of ${event.source}", "count": "${event.data.n}"}}, {"id": "Ticket T-1 of desk", "count": 3}, id="text and a number"),
        pytest.param({"event": "*", "inputs": {"all": {"data": "${event.data}", "fixed": [1]}}}, {"all": {"data": {"priority": "high", "id": "T-1", "n": 3}, "fixed": [1]}}, id="the whole data inside an object"),
    ],
)  # fmt: skip
def test_it_matches(trigger: dict[str, Any], inputs: dict[str, Any], cel: CelPool) -> None:
    answer = matcher(trigger).event(event(), cel)
    assert isinstance(answer, Match), why(answer)
    assert answer.inputs == inputs
    assert answer.why.holds


@pytest.mark.parametrize(
    ("trigger", "type_", "told"),
    [
        pytest.param({"event": "ticket:created"}, "ticket:updated", "the event's type is ticket:updated, not ticket:created", id="another type"),
        pytest.param({"event": "ticket:created"}, "ticket:created:twice", "the event's type is ticket:created:twice, not ticket:created", id="a longer type"),
        pytest.param({"event": "ticket:*"}, "tickets:created", "the event's type is tickets:created, not ticket:*", id="another beginning"),
        pytest.param({"event": "*", "conditions": {"priority": "low"}}, "x", 'priority does not equal "low": it is "high"', id="a condition"),
        pytest.param({"event": "*", "when": "event.data.n > 3"}, "x", "when does not hold: event.data.n > 3", id="when"),
        pytest.param({"schedule": "0 2 * * *"}, "cron:custom", "the clock starts it (0 2 * * * UTC), no event that comes in", id="a schedule"),
        pytest.param({"event": "schedule:daily"}, "schedule:daily", "the clock starts it (0 0 * * * UTC), no event that comes in", id="a timer event that somebody sends"),
        pytest.param({"event": "schedule:*"}, "schedule:daily", "schedule:daily is the clock's own event; none that comes in counts", id="a pattern of timer events"),
    ],
)  # fmt: skip
def test_it_does_not_match(trigger: dict[str, Any], type_: str, told: str, cel: CelPool) -> None:
    answer = matcher(trigger).event(event(type_), cel)
    assert isinstance(answer, NoMatch)
    assert told in why(answer)
    assert not answer.why.holds


@pytest.mark.parametrize(
    ("trigger", "path", "told"),
    [
        pytest.param({"when": "event.data.gone == 1"}, "when", "event.data.gone: no such key", id="when reads what is not there"),
        pytest.param({"when": "event.data.n"}, "when", "a condition must be true or false, this is a number", id="when is no condition"),
        pytest.param({"inputs": {"id": "${event.data.gone}"}}, "inputs.id", "event.data.gone: no such key", id="an input reads what is not there"),
        pytest.param({"inputs": {"all": {"x": ["${1/0}"]}}}, "inputs.all.x[0]", "in `1/0`", id="an input deep inside"),
        pytest.param({"inputs": {"count": "${event.data.id}"}}, "inputs.count", "must be of type integer, but is a string", id="an input of the wrong type"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_reported_and_not_raised(
    trigger: dict[str, Any], path: str, told: str, cel: CelPool
) -> None:
    answer = matcher({"event": "*", **trigger}).event(event(), cel)
    assert isinstance(answer, Broken)
    (problem,) = answer.problems
    assert problem.path == f"spec.triggers[0].{path}"
    assert told in problem.message
    assert any(told in sentence for sentence in why(answer)), "the explanation says it too"


def test_a_required_input_that_comes_out_null_is_reported(cel: CelPool) -> None:
    trigger = {"event": "*", "inputs": {"id": "${event.data.id}"}}
    answer = matcher(trigger, [{"name": "id", "required": True}]).event(event(data={"id": None}), cel)
    assert isinstance(answer, Broken)
    assert answer.problems[0].path == "spec.triggers[0].inputs.id"


def test_an_event_without_data_has_nothing_at_any_path(cel: CelPool) -> None:
    bare = event_of({"specversion": "1.0", "id": "e", "source": "s", "type": "x"})
    assert isinstance(matcher({"event": "x", "conditions": {"a": 1}}).event(bare, cel), NoMatch)
    assert isinstance(matcher({"event": "x", "when": "!has(event.data)"}).event(bare, cel), Match)


def test_what_a_comment_said_before_and_says_now_can_be_asked(cel: CelPool) -> None:
    data = {"ticketId": "T-1", "commentId": "C-1", "previous": {"content": "hi"}, "new": {"content": "refund!"}}
    trigger = {
        "event": "ticket:comment:updated",
        "conditions": {"new.content": {"contains": "refund"}, "previous.content": {"ncontains": "refund"}},
        "inputs": {"id": "${event.data.previous.content} -> ${event.data.new.content}"},
    }
    answer = matcher(trigger).event(event("ticket:comment:updated", data), cel)
    assert isinstance(answer, Match)
    assert answer.inputs == {"id": "hi -> refund!"}
