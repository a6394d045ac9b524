# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a Workflow or a run is found, all of it, under the right path, in a plain sentence."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.api.api_server import refusals

from kubesaga.api.parsing import parse_run_spec, parse_workflow_spec
from kubesaga.api.run import CompensationStatus, WorkflowRunSpec, WorkflowRunStatus
from kubesaga.api.schema import spec_schema
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.cel.pool import CelPool
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.compiling import compile_definition
from kubesaga.engine.draft import Draft
from kubesaga.engine.scope import scope_of
from kubesaga.engine.snapshot import Run, Snapshot
from kubesaga.engine.uses import Catalogue
from kubesaga.engine.validation import expressions
from kubesaga.engine.validation.activity import known_of
from kubesaga.engine.validation.resolving import resolve, works_of
from kubesaga.engine.validation.workflow import MAX_PROBLEMS, problems_of, problems_of_run, warnings_of
from kubesaga.errors import InvalidSpec, Problem

ROOT = Path(__file__).resolve().parents[3]
INVALID = Path(__file__).parent / "invalid"

Entry = dict[str, Any]


def entries(name: str) -> list[Any]:
    return [pytest.param(entry, id=entry["says"]) for entry in yaml.safe_load((INVALID / name).read_text())]


@pytest.fixture(scope="module")
def checker() -> Iterator[CelPool]:
    with CelPool(size=1) as pool:
        yield pool


def told_of_workflow(document: Any, checker: CelPool) -> list[Problem]:
    try:
        return problems_of(parse_workflow_spec(document), checker)
    except InvalidSpec as error:
        return list(error.problems)


def told_of_run(document: Any) -> list[Problem]:
    try:
        return problems_of_run(parse_run_spec(document))
    except InvalidSpec as error:
        return list(error.problems)


def assert_told(problems: list[Problem], expected: list[dict[str, str]]) -> None:
    assert [problem.path for problem in problems] == [entry["path"] for entry in expected], problems
    for problem, entry in zip(problems, expected, strict=True):
        assert entry["told"] in problem.message


@pytest.mark.parametrize("entry", entries("workflows.yaml"))
def test_a_wrong_workflow_is_told_when(entry: Entry, checker: CelPool) -> None:
    assert_told(told_of_workflow(entry["spec"], checker), entry["problems"])


@pytest.mark.parametrize("entry", entries("workflows.yaml"))
def test_the_schema_refuses_what_it_can_when(entry: Entry) -> None:
    assert bool(refusals(spec_schema(WorkflowSpec), entry["spec"])) == entry["schema"]


@pytest.mark.parametrize("entry", entries("runs.yaml"))
def test_a_wrong_run_is_told_when(entry: Entry) -> None:
    assert_told(told_of_run(entry["spec"]), entry["problems"])


@pytest.mark.parametrize("entry", entries("runs.yaml"))
def test_the_schema_of_runs_refuses_what_it_can_when(entry: Entry) -> None:
    assert bool(refusals(spec_schema(WorkflowRunSpec), entry["spec"])) == entry["schema"]


# --- what is right --------------------------------------------------------------------------------------------------


def examples(kind: str) -> list[Any]:
    files = sorted((ROOT / "examples").glob("*/*.yaml"))
    documents = [(path, document) for path in files for document in yaml.safe_load_all(path.read_text())]
    found = [pytest.param(doc["spec"], id=path.parent.name) for path, doc in documents if doc["kind"] == kind]
    assert found, f"there is no example of a {kind}"
    return found


@pytest.mark.parametrize("spec", examples("Workflow"))
def test_nothing_is_said_against_the_example(spec: Entry, checker: CelPool) -> None:
    assert refusals(spec_schema(WorkflowSpec), spec) == []
    parsed = parse_workflow_spec(spec)
    paths = (ROOT / "examples").glob("*/activities.yaml")
    documents = [document for path in paths for document in yaml.safe_load_all(path.read_text())]
    there = [known_of("", document["metadata"]["name"], document["spec"], checker) for document in documents]
    resolution = resolve(works_of(parsed), Catalogue(there), "", checker)
    assert problems_of(parsed, checker, "spec", resolution) == []
    assert warnings_of(parsed, "spec", resolution.uses) == []
    assert compile_definition("example", parsed, resolution.uses).steps


@pytest.mark.parametrize("spec", examples("WorkflowRun"))
def test_nothing_is_said_against_the_run_of_the_example(spec: Entry) -> None:
    assert refusals(spec_schema(WorkflowRunSpec), spec) == []
    assert told_of_run(spec) == []


ALLOWED = {
    "the shell's variables in a command": {
        "activities": [{"name": "a", "pod": {"image": "busybox", "command": ["sh", "-c", "echo ${HOME} ${x:-inputs.y}"]}}],
    },
    "waits, for times that are given or evaluated": {
        "timeout": "2d",
        "inputs": [{"name": "pause", "default": "1h"}],
        "activities": [
            {"name": "a", "sleep": {"for": "${inputs.pause}"}},
            {"name": "b", "sleep": {"until": "2026-12-24T08:00:00.5+01:00"}, "when": "inputs.pause != ''"},
            {"name": "c", "waitFor": {}, "set": {"v": "${output.v}"}, "errorHandling": {"fallback": {"handler": "x"}}},
            {"name": "d", "waitFor": {"timeout": "${workflow.v}"}},
        ],
        "finally": [{"name": "e", "sleep": {"for": "1s"}}],
    },
    "waits for events, of one type or of several": {
        "inputs": [{"name": "ticket"}],
        "concurrency": {"key": "${inputs.ticket}", "onConflict": "Signal"},
        "activities": [
            {"name": "a", "waitFor": {"event": "desk:answered", "when": "received.data.id == inputs.ticket", "timeout": "${inputs.ticket}"}},
            {"name": "b", "waitFor": {"event": "desk:*", "when": "run.workflow != run.name && event.source == received.source"}},
        ],
        "finally": [{"name": "c", "waitFor": {"event": "*", "when": "run.uid == received.subject || run.namespace == ''"}}],
    },
    "a url that is one expression": {
        "inputs": [{"name": "url"}],
        "activities": [{"name": "a", "http": {"url": "${inputs.url}"}}],
    },
    "a host and a port that are expressions": {
        "inputs": [{"name": "h"}, {"name": "p"}],
        "activities": [{"name": "a", "http": {"url": "https://${inputs.h}:${inputs.p}/x?y=a@b"}}],
    },
    "a scheme that ends in an expression": {
        "inputs": [{"name": "s"}],
        "activities": [{"name": "a", "http": {"url": "http${inputs.s}://desk/"}}],
    },
    "set to the name of an input": {
        "inputs": [{"name": "id"}],
        "activities": [{"name": "a", "handler": "x", "set": {"id": "${output.id}"}}],
        "outputs": {"id": "${workflow.id}", "given": "${inputs.id}"},
    },
    "a variable that only an earlier activity sets, across the DAG": {
        "activities": [
            {"name": "a", "handler": "x", "set": {"v": "${output}"}},
            {"name": "b", "handler": "x"},
            {"name": "c", "handler": "x", "dependsOn": ["b"], "params": {"v": "${workflow.v}"}},
        ],
    },
    "a variable that finally reads and that has a value from the start": {
        "variables": {"v": None},
        "activities": [{"name": "a", "handler": "x", "set": {"v": 1}}],
        "finally": [{"name": "b", "handler": "x", "params": {"v": "${workflow.v}", "o": "${activities.a.output}"}}],
    },
    "asking whether a variable is there that a branch beside sets": {
        "activities": [
            {"name": "a", "handler": "x", "set": {"v": 1}},
            {"name": "b", "handler": "x", "dependsOn": [], "when": "!has(workflow.v)"},
            {"name": "c", "handler": "x", "dependsOn": [], "when": "has(workflow.v) ? workflow.v > 1 : false"},
        ],
    },
    "the phase of an activity that may not have ended": {
        "activities": [
            {"name": "a", "handler": "x"},
            {"name": "b", "handler": "x", "dependsOn": [], "when": "activities.a.phase == 'Pending'"},
        ],
    },
    "a macro's variable that is called like a root": {
        "inputs": [{"name": "l", "type": "array"}],
        "activities": [{"name": "a", "handler": "x", "when": "inputs.l.all(run, run.anything > 1)"}],
    },
    "computed names": {
        "inputs": [{"name": "k"}],
        "activities": [{"name": "a", "handler": "x", "params": {"v": "${workflow[inputs.k]}"}}],
    },
    "two escaped characters": {
        "activities": [{"name": "a", "handler": "x", "params": {"v": "$${inputs.nothing}"}}],
    },
    "equal request and limit, written differently": {
        "activities": [
            {"name": "a", "pod": {"image": "b"}, "resources": {"requests": {"cpu": "1000m"}, "limits": {"cpu": 1}}}
        ],
    },
    "an empty value of a variable": {
        "activities": [{"name": "a", "pod": {"image": "b", "env": [{"name": "A", "value": ""}]}}],
    },
    "an undo that reads its activity, what stands before it, and what it set": {
        "variables": {"v": None},
        "activities": [
            {"name": "a", "handler": "x", "set": {"w": 1}},
            {"name": "b", "handler": "x", "set": {"v": 1}, "compensation": {
                "handler": "y", "params": {
                    "a": "${activities.a.output.id}", "b": "${activities.b.output}", "e": "${activities.b.error}",
                    "v": "${workflow.v}", "w": "${workflow.w}", "c": "${activities.c.phase}",
                },
                "retry": {"when": "error.retryable && inputs == {}"},
            }},
            {"name": "c", "handler": "x"},
        ],
    },
    "a fallback that reads how its activity failed": {
        "activities": [{"name": "a", "handler": "x", "errorHandling": {
            "fallback": {"handler": "y", "params": {"why": "${activities.a.error.message}"}},
        }}],
        "finally": [{"name": "f", "handler": "x", "errorHandling": {
            "fallback": {"pod": {"image": "b", "env": [{"name": "WHY", "value": "${activities.f.error.reason}"}]}},
        }}],
    },
    "a loose undo that reads all activities before finally": {
        "variables": {"v": 1},
        "activities": [{"name": "a", "handler": "x", "set": {"v": 2}}, {"name": "b", "handler": "x", "dependsOn": []}],
        "compensation": {"activities": [{"name": "u", "http": {
            "method": "POST", "url": "http://desk/${workflow.v}", "body": ["${activities.a.output}", "${activities.b.output}"],
        }}]},
    },
    "a fallback of all activities that reads what is certain": {
        "inputs": [{"name": "i"}],
        "variables": {"v": 1},
        "errorHandling": {"activityError": {"strategy": "Continue", "fallback": {
            "handler": "y", "params": {"i": "${inputs.i}", "v": "${workflow.v}", "r": "${run.name}", "e": "${event}"},
        }}},
        "activities": [{"name": "a", "handler": "x", "errorHandling": {"fallback": {"activity": "skip"}}}],
    },
    "one activity undone where it stands and one in the list": {
        "deletionPolicy": "Abandon",
        "activities": [
            {"name": "a", "handler": "x", "compensation": {"pod": {"image": "b"}, "resources": {"limits": {"cpu": 1}}}},
            {"name": "b", "handler": "x"},
        ],
        "compensation": {
            "strategy": "Parallel", "mode": "Manual", "timeout": "1h", "onCancel": False, "inDoubt": "Leave",
            "activities": [{"name": "undo_b", "for": "b", "handler": "y", "retry": {"maxAttempts": 9}}],
        },
    },
    "a default that is a whole number written as a float": {
        "inputs": [{"name": "n", "type": "integer", "default": 3.0}],
        "activities": [{"name": "a", "handler": "x"}],
    },
}  # fmt: skip


@pytest.mark.parametrize("spec", [pytest.param(spec, id=says) for says, spec in ALLOWED.items()])
def test_allowed_is(spec: Entry, checker: CelPool) -> None:
    assert refusals(spec_schema(WorkflowSpec), spec) == []
    assert told_of_workflow(spec, checker) == []


def test_a_spec_in_a_run_is_told_under_its_own_path(checker: CelPool) -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.workflowSpec\.activities: is required"):
        parse_workflow_spec({}, "spec.workflowSpec")
    spec = parse_workflow_spec({"activities": [{"name": "a", "handler": "x"}], "outputs": {"b": "${inputs.c}"}})
    assert [problem.path for problem in problems_of(spec, checker, "spec.workflowSpec")] == [
        "spec.workflowSpec.outputs.b"
    ]


# --- warnings -------------------------------------------------------------------------------------------------------

DESCRIBED = {"description": "x"}
WARNED = {
    "there is no description": (
        {"activities": [{"name": "a", "handler": "x"}]},
        [("spec.description", "is empty")],
    ),
    "the description is blank": (
        {"description": " ", "activities": [{"name": "a", "handler": "x"}]},
        [("spec.description", "is empty")],
    ),
    "an activity may take longer than the run": (
        {**DESCRIBED, "timeout": "1m", "activities": [{"name": "a", "handler": "x", "timeout": "90s"}]},
        [("spec.activities[0].timeout", "90s is longer than the whole run may take (1m)")],
    ),
    "a variable is set only by an activity that may be skipped": (
        {
            **DESCRIBED,
            "activities": [
                {"name": "a", "handler": "x", "when": "1 == 1", "set": {"v": 1}},
                {"name": "b", "handler": "x", "params": {"v": "${workflow.v}"}},
            ],
        },
        [("spec.activities[1].params.v", "v is set only by a, which may be skipped; give v a value in variables")],
    ),
    "finally reads a variable that the activities before it set": (
        {
            **DESCRIBED,
            "activities": [{"name": "a", "handler": "x", "set": {"v": 1}}],
            "finally": [{"name": "b", "handler": "x", "params": {"v": "${workflow.v}"}}],
        },
        [("spec.finally[0].params.v", "v is set only by a, which may not have succeeded by then")],
    ),
    "an undo is in the list and belongs to no activity": (
        {
            **DESCRIBED,
            "activities": [{"name": "a", "handler": "x"}],
            "compensation": {"activities": [{"name": "u", "handler": "y"}]},
        },
        [("spec.compensation.activities[0]", "runs whenever the run is undone, whatever has been done; say which one by for")],
    ),
    "every failure is hidden": (
        {
            **DESCRIBED,
            "errorHandling": {"activityError": {"fallback": {"activity": "skip"}}},
            "activities": [{"name": "a", "handler": "x"}],
        },
        [("spec.errorHandling.activityError.fallback.activity", "whatever fails counts as skipped")],
    ),
    "there are settings of undoing, and no undo": (
        {**DESCRIBED, "activities": [{"name": "a", "handler": "x"}], "compensation": {"mode": "Manual"}},
        [("spec.compensation", "there is no undo in this Workflow")],
    ),
    "no undo is ever called for": (
        {
            **DESCRIBED,
            "deletionPolicy": "Abandon",
            "errorHandling": {"activityError": {"strategy": "Continue"}, "workflowError": {"strategy": "Abort"}},
            "activities": [{"name": "a", "handler": "x", "compensation": {"handler": "y"}}],
            "compensation": {"onCancel": False},
        },
        [("spec.compensation", "nothing calls for the undos here but shutdown: Compensate")],
    ),
    "an effect would be left between one that is undone and one that may fail": (
        {
            **DESCRIBED,
            "activities": [
                {"name": "a", "handler": "x"},
                {"name": "b", "handler": "x", "compensation": {"handler": "y"}},
                {"name": "c", "http": {"url": "http://desk"}},
                {"name": "d", "http": {"method": "POST", "url": "http://desk"}},
                {"name": "e", "pod": {"image": "b"}},
            ],
        },
        [("spec.activities[3]", "has an effect and no undo")],
    ),
    "an undo may take longer than undoing": (
        {
            **DESCRIBED,
            "timeout": "1m",
            "activities": [{"name": "a", "handler": "x", "compensation": {"handler": "y", "timeout": "6m"}}],
        },
        [("spec.activities[0].compensation.timeout", "6m is longer than undoing may take (compensation.timeout, 5m)")],
    ),
    "an undo reads an output that may not be known": (
        {
            **DESCRIBED,
            "activities": [
                {
                    "name": "a",
                    "handler": "x",
                    "compensation": {"handler": "y", "params": {"id": "${activities.a.output.id}"}},
                }
            ],
        },
        [("spec.activities[0].compensation.params.id", "`activities.a.output.id` has no value where it is not known")],
    ),
    "an undo reads a variable that its activity sets": (
        {
            **DESCRIBED,
            "activities": [
                {
                    "name": "a",
                    "handler": "x",
                    "set": {"v": 1},
                    "compensation": {"handler": "y", "params": {"v": "${workflow.v}"}},
                }
            ],
        },
        [("spec.activities[0].compensation.params.v", "v is set only by a, which may not have succeeded by then")],
    ),
    "nothing, when the undo asks first, or what is in doubt is left": (
        {
            **DESCRIBED,
            "activities": [
                {
                    "name": "a",
                    "handler": "x",
                    "compensation": {
                        "handler": "y",
                        "params": {"id": "${activities.a.phase == 'Succeeded' ? activities.a.output.id : ''}"},
                    },
                }
            ],
        },
        [],
    ),
    "nothing, when what is in doubt is left": (
        {
            **DESCRIBED,
            "compensation": {"inDoubt": "Leave"},
            "activities": [
                {
                    "name": "a",
                    "handler": "x",
                    "set": {"v": 1},
                    "compensation": {"handler": "y", "params": {"id": "${activities.a.output.id}", "v": "${workflow.v}"}},
                }
            ],
        },
        [],
    ),
    "an activity of finally cannot make the run be undone": (
        {
            **DESCRIBED,
            "activities": [{"name": "a", "handler": "x"}],
            "finally": [{"name": "f", "handler": "x", "errorHandling": {"strategy": "Compensate"}}],
        },
        [("spec.finally[0].errorHandling.strategy", "nothing is undone for it")],
    ),
    "a wait that nothing need ever end": (
        {**DESCRIBED, "activities": [{"name": "a", "waitFor": {}}]},
        [("spec.activities[0].waitFor", "waits for ever if no Signal comes; give it a timeout")],
    ),
    "a wait for an event that need never come, and that any event ends": (
        {**DESCRIBED, "activities": [{"name": "a", "waitFor": {"event": "ticket:updated"}}]},
        [
            ("spec.activities[0].waitFor", "waits for ever if no such event and no Signal comes; give it a timeout"),
            ("spec.activities[0].waitFor", "any event of type ticket:updated ends it, in every live run at once; say in waitFor.when which one"),
        ],
    ),
    "a wait for an event that is misread, of a type that is not known": (
        {**DESCRIBED, "timeout": "1h", "finally": [{"name": "b", "waitFor": {"event": "ticket:updatde", "when": "received.ticketId == '7'"}}], "activities": [{"name": "a", "handler": "x"}]},
        [
            ("spec.finally[0].waitFor.event", "ticket:updatde is not a known event type; did you mean ticket:updated?"),
            ("spec.finally[0].waitFor.when", "received.ticketId is no attribute of CloudEvents; what an event carries is in received.data, so received.data.ticketId"),
        ],
    ),
    "a wait for events of the clock": (
        {**DESCRIBED, "timeout": "1h", "activities": [{"name": "a", "waitFor": {"event": "schedule:*", "when": "received.data.x"}}]},
        [("spec.activities[0].waitFor.event", "timer events are not among those it stands for; a sleep waits for a time")],
    ),
    "a key that tells which event is meant, where another trigger takes the type": (
        {
            **DESCRIBED,
            "timeout": "1h",
            "concurrency": {"key": "k", "onConflict": "Signal"},
            "triggers": [{"name": "t", "event": "ticket:created"}, {"name": "u", "schedule": "@daily"}],
            "activities": [{"name": "a", "waitFor": {"event": "ticket:updated"}}],
        },
        [("spec.activities[0].waitFor", "any event of type ticket:updated ends it")],
    ),
    "nothing, where the key tells which event is meant": (
        {
            **DESCRIBED,
            "timeout": "1h",
            "concurrency": {"key": "k", "onConflict": "Signal"},
            "triggers": [{"name": "t", "event": "ticket:*"}],
            "activities": [{"name": "a", "waitFor": {"event": "ticket:comment:*"}}],
        },
        [],
    ),
    "live runs of a key are signalled, and none waits": (
        {
            **DESCRIBED,
            "timeout": "1h",
            "concurrency": {"key": "k", "onConflict": "Signal"},
            "activities": [{"name": "a", "waitFor": {}}],
        },
        [("spec.concurrency.onConflict", "is Signal, but no activity waits for an event (waitFor.event), so it does what Queue does")],
    ),
    "waits that are longer than their run": (
        {
            **DESCRIBED,
            "timeout": "1h",
            "activities": [
                {"name": "a", "sleep": {"for": "2h"}},
                {"name": "b", "waitFor": {"timeout": "61m"}},
                {"name": "c", "waitFor": {"timeout": "1h"}},
                {"name": "d", "sleep": {"until": "2030-01-01T00:00:00Z"}},
            ],
        },
        [
            ("spec.activities[0].sleep.for", "2h is longer than the whole run may take (1h), so it will never pass"),
            ("spec.activities[1].waitFor.timeout", "61m is longer than the whole run may take (1h)"),
        ],
    ),
    "nothing, where what waits stands between what is undone and what may fail": (
        {
            **DESCRIBED,
            "activities": [
                {"name": "a", "handler": "x", "compensation": {"handler": "y"}},
                {"name": "b", "sleep": {"for": "1h"}},
                {"name": "c", "handler": "x"},
            ],
        },
        [],
    ),
    "nothing, when another activity sets the variable for certain": (
        {
            **DESCRIBED,
            "activities": [
                {"name": "a", "handler": "x", "when": "1 == 1", "set": {"v": 1}},
                {"name": "b", "handler": "x", "set": {"v": 1}},
                {"name": "c", "handler": "x", "params": {"v": "${workflow.v}"}},
            ],
        },
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), [pytest.param(*row, id=says) for says, row in WARNED.items()])
def test_warned_of_is(spec: Entry, expected: list[tuple[str, str]], checker: CelPool) -> None:
    parsed = parse_workflow_spec(spec)
    assert problems_of(parsed, checker) == []
    assert_told(warnings_of(parsed), [{"path": path, "told": told} for path, told in expected])


# --- limits ---------------------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def handlers(*params: Any) -> Entry:
    return {"activities": [{"name": f"a{n}", "handler": "x", "params": given} for n, given in enumerate(params)]}


LIMITS = {
    "32 levels are allowed": (handlers({"a": nested(31)}), []),
    "33 levels are not": (handlers({"a": nested(32)}), [("spec.activities[0].params", "32 levels are allowed")]),
    "1 MiB of JSON is not": (handlers({"a": "x" * 2**20}), [("spec", "bytes as JSON; at most 1,048,576 are allowed")]),
    "one expression of 5,000 characters is not": (
        handlers({"a": "${" + "1+" * 2500 + "1}"}), [("spec.activities[0].params.a", "not closed within 4,096")],
    ),
    "very long expressions together are not": (
        handlers(*[{"a": f"${{{n}+{'1+' * 1900}1}}"} for n in range(80)]), [("spec", "characters of expressions")],
    ),
    "more than 5,000 expressions are not": (
        handlers(*[{"a": ["${1}"] * 50} for _ in range(101)]), [("spec", "5,050 expressions; at most 5,000")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), [pytest.param(*row, id=says) for says, row in LIMITS.items()])
def test_of_size(spec: Entry, expected: list[tuple[str, str]], checker: CelPool) -> None:
    assert_told(told_of_workflow(spec, checker), [{"path": path, "told": told} for path, told in expected])


def test_a_hundred_problems_are_enough(checker: CelPool) -> None:
    wrong = {
        "activities": [
            {"name": "a", "handler": "x"},
            {"name": "b", "handler": "x", "dependsOn": [f"nothing{n}" for n in range(400)]},
        ]
    }
    told = told_of_workflow(wrong, checker)
    assert len(told) == MAX_PROBLEMS + 1
    assert told[-1].message == "there are more problems than these 100"


def test_the_largest_graph_is_looked_through(checker: CelPool) -> None:
    names = [f"a{n}" for n in range(500)]
    activities = [{"name": name, "handler": "x", "dependsOn": names[:n]} for n, name in enumerate(names)]
    assert told_of_workflow({"activities": activities}, checker) == []
    activities[0]["dependsOn"] = ["a499"]
    assert "a0 -> a499" in told_of_workflow({"activities": activities}, checker)[0].message


class Counter:
    """Compiles nothing and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def check(self, expression: str, roots: Any) -> str | None:
        self.asked += 1
        return None


def test_the_same_expression_is_compiled_once_for_each_kind_of_place() -> None:
    spec = handlers(*[{"a": "${run.name}"} for _ in range(20)])
    spec["activities"][0]["set"] = {"v": "${run.name}", "w": "${run.name}"}
    counter = Counter()
    assert problems_of(parse_workflow_spec(spec), counter) == []
    assert counter.asked == 2


# --- agreement with what the engine really does ---------------------------------------------------------------------


def test_a_spec_without_problems_can_be_compiled_whatever_its_texts_hold(checker: CelPool) -> None:
    texts = {"description": "costs ${", "variables": {"v": "$${"}}
    command = {"image": "busybox", "command": ["sh", "-c", 'echo ${x:-"}"} ${']}
    spec = parse_workflow_spec({**texts, "activities": [{"name": "a", "pod": command}]})
    assert problems_of(spec, checker) == []
    assert not compile_definition("w", spec).has_expressions


def test_run_and_activities_have_the_members_that_the_engine_gives_them() -> None:
    scope = scope_of_a_run()
    assert set(scope["run"]) == expressions.RUN_MEMBERS
    assert set(scope["activities"]["a"]) == expressions.ACTIVITY_MEMBERS


def scope_of_a_run() -> dict[str, Any]:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    definition = compile_definition("w", parse_workflow_spec({"activities": [{"name": "a", "handler": "x"}]}))
    run = Run(
        key=RunKey(namespace="n", name="r"), uid="u", version="1", generation=1, created=now, spec=WorkflowRunSpec(),
        status=WorkflowRunStatus(), spec_digest="",
    )  # fmt: skip
    snapshot = Snapshot(run=run, definition=definition)
    with CelPool(size=1) as evaluator:
        draft = Draft(
            snapshot=snapshot, definition=definition, now=now, evaluator=evaluator, activities={}, others={}, variables={},
            inputs={}, event={}, start_time=now, finally_start_time=None, reason=None, message=None, strategy=None,
            compensation=CompensationStatus(), actions=[],
        )  # fmt: skip
        return scope_of(draft)
