# SPDX-License-Identifier: Apache-2.0
"""Activities and `uses`: what is refused, which Activity an id means, whose word holds, what attempts are given."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.api.api_server import refusals

from kubesaga.api.activity import ActivityTypeSpec
from kubesaga.api.names import Deed
from kubesaga.api.parsing import parse_activity_spec, parse_workflow_spec
from kubesaga.api.schema import spec_schema
from kubesaga.cel.pool import CelPool
from kubesaga.engine.attempt import Succeeded
from kubesaga.engine.compiling import compile_definition
from kubesaga.engine.definition import Definition, Kind
from kubesaga.engine.guarding import GuardOwner
from kubesaga.engine.language.schemas import MAX_STEPS, problems_of_schema, violation
from kubesaga.engine.uses import Catalogue, Known, Used, Uses, split_uses, with_uses
from kubesaga.engine.validation.activity import known_of, problems_of_activity, warnings_of_activity
from kubesaga.engine.validation.resolving import Resolution, resolve, resolve_inside, works_of
from kubesaga.engine.validation.workflow import problems_of, warnings_of
from kubesaga.errors import InvalidSpec, Problem
from kubesaga.testing.paths import PathEvaluator
from kubesaga.testing.play import Play, good, wrong

INVALID = Path(__file__).parent / "invalid" / "activities.yaml"
ENTRIES = [pytest.param(entry, id=entry["says"]) for entry in yaml.safe_load(INVALID.read_text())]

Document = dict[str, Any]


@pytest.fixture(scope="module")
def cel() -> Iterator[CelPool]:
    with CelPool(size=1) as pool:
        yield pool


# --- one Activity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_wrong_activity_is_told_when(entry: Document, cel: CelPool) -> None:
    try:
        problems = problems_of_activity(parse_activity_spec(entry["spec"]), cel)
    except InvalidSpec as error:
        problems = list(error.problems)
    assert [problem.path for problem in problems] == [expected["path"] for expected in entry["problems"]], problems
    for problem, expected in zip(problems, entry["problems"], strict=True):
        assert expected["told"] in problem.message
    assert bool(refusals(spec_schema(ActivityTypeSpec), entry["spec"])) is entry["schema"]


@pytest.mark.parametrize("spec", [
    pytest.param({"handler": "x"}, id="a handler"),
    pytest.param({"http": {"url": "${inputs.url}", "body": {"a": "${inputs.a}"}}}, id="a request"),
    pytest.param(
        {"pod": {"image": "i", "env": [{"name": "A", "value": "${inputs.a}"}]}, "resources": {"limits": {"cpu": 1}}}, id="a pod",
    ),
    pytest.param({"handler": "x", "compensation": {"handler": "u", "params": {"a": "${output.id}"}}}, id="with an undo"),
    pytest.param({"handler": "x", "retry": {"when": "error.reason == 'HttpStatus'"}}, id="with a condition to retry"),
    pytest.param(
        {
            "handler": "x",
            "input": {
                "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["a"],
                "properties": {"a": {"$ref": "#/$defs/id"}, "n": {"type": "integer", "minimum": 1}},
                "$defs": {"id": {"type": "string", "pattern": "^[A-Z]+-[0-9]{1,9}$", "description": "of a ticket"}},
            },
        },
        id="with a schema",
    ),
])  # fmt: skip
def test_a_right_activity_is(spec: Document, cel: CelPool) -> None:
    assert problems_of_activity(parse_activity_spec(spec), cel) == []
    assert refusals(spec_schema(ActivityTypeSpec), spec) == []


def test_it_is_warned_of_a_timeout_that_never_passes() -> None:
    spec = parse_activity_spec({"description": "d", "handler": "x", "timeout": "2m", "circuitBreaker": {}})
    [warning] = warnings_of_activity(spec)
    assert str(warning).startswith("spec.timeout: 2m is longer than a call may take (circuitBreaker.timeout, 60s)")


# --- which one an id means ------------------------------------------------------------------------------------------


def known(name: str, namespace: str = "shop", **spec: Any) -> Known:
    return known_of(namespace, name, {"handler": "h", **spec}, PathEvaluator())


THERE = Catalogue(
    [
        known("tickets.assign"),
        known("mail", aliases=["mail:send", "slack.postMessage-YKGG", "both"]),
        known("chat", aliases=["both"]),
        known("broken", handler="${inputs.x}"),
        known("mail", "catalogue"),
        known("http.request", "catalogue"),
        known("vip", "catalogue", allowedNamespaces=["billing"]),
        known("hidden", "other"),
    ],
    shared="catalogue",
)


@pytest.mark.parametrize(("id_", "found"), [
    pytest.param("tickets.assign", "shop/tickets.assign", id="its name"),
    pytest.param("tickets:assign", "shop/tickets.assign", id="its name, a colon for the dot"),
    pytest.param("mail:send", "shop/mail", id="an alias"),
    pytest.param("slack.postMessage-YKGG", "shop/mail", id="an alias that no object can bear"),
    pytest.param("mail", "shop/mail", id="one that is in the catalogue too"),
    pytest.param("http:request", "catalogue/http.request", id="one of the catalogue"),
    pytest.param("both", "the Activity shop/chat and the Activity shop/mail have the alias both", id="an alias of two"),
    pytest.param("vip", "may not be used from namespace shop: its allowedNamespaces", id="one that others may use"),
    pytest.param("broken", "shop/broken is not valid, so it cannot be used: spec.handler: is fixed", id="one that is not valid"),
    pytest.param("hidden", "there is no Activity hidden in namespace shop or catalogue", id="one of another namespace"),
    pytest.param("tickets:asign", "there is no Activity tickets:asign in namespace shop or catalogue; did you mean tickets.assign?", id="a typing error"),
])  # fmt: skip
def test_an_id_means(id_: str, found: str) -> None:
    answer = THERE.find("shop", id_, "shop")
    said = f"{answer.namespace}/{answer.name}" if isinstance(answer, Used) else answer
    assert said is not None
    assert found in said


def test_who_is_allowed_may() -> None:
    assert isinstance(THERE.find("billing", "vip", "billing"), Used)


# --- a Workflow that uses some --------------------------------------------------------------------------------------


def resolved(
    activities: list[Document], *there: Known, evaluator: Any = None, **spec: Any
) -> tuple[list[Problem], Resolution, Definition | None]:
    parsed = parse_workflow_spec({"description": "d", "activities": activities, **spec})
    evaluator = evaluator or PathEvaluator()
    resolution = resolve(works_of(parsed), Catalogue(there), "shop", evaluator)
    problems = problems_of(parsed, evaluator, "spec", resolution)
    return problems, resolution, None if problems else compile_definition("w", parsed, resolution.uses)


def defined(activities: list[Document], *there: Known, **spec: Any) -> Definition:
    problems, _, definition = resolved(activities, *there, **spec)
    assert definition is not None, problems
    return definition


STRICT = {
    "type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "n": {"type": "integer"}},
    "additionalProperties": False,
}  # fmt: skip


@pytest.mark.parametrize(("activity", "told"), [
    pytest.param(
        {"uses": "strict"}, "spec.activities[0].params.id: is required (the input of the Activity strict)",
        id="no params where some are required",
    ),
    pytest.param({"uses": "strict", "params": {"id": 1}}, "spec.activities[0].params.id: must be of type string, but is a number (the", id="params of a wrong type"),
    pytest.param({"uses": "strict", "params": {"id": "a", "idd": 1}}, "spec.activities[0].params.idd: there is no such field; did you mean id?", id="params that are not known"),
    pytest.param(
        {"uses": "strict", "params": {"id": "a"}, "resources": {"limits": {"cpu": 1}}},
        "spec.activities[0].resources: only a pod has resources; the Activity strict is none", id="resources of a handler",
    ),
    pytest.param(
        {"uses": "nested"},
        "spec.activities[0].uses: the Activity nested cannot be used: spec.compensation.uses: there is no Activity gone", id="what uses what is not there",
    ),
    pytest.param(
        {"handler": "x", "errorHandling": {"fallback": {"activity": "strict", "params": {"id": 1}}}},
        "spec.activities[0].errorHandling.fallback.params.id: must be of type string", id="a fallback whose params do not fit",
    ),
])  # fmt: skip
def test_a_use_is_refused_for(activity: Document, told: str) -> None:
    there = (known("strict", input=STRICT), known("nested", compensation={"uses": "gone"}))
    problems, _, _ = resolved([{"name": "a", **activity}], *there)
    assert [str(problem)[: len(told)] for problem in problems] == [told]


def test_an_activity_says_that_what_it_uses_is_not_there() -> None:
    spec = known("nested", compensation={"uses": "gone"}, bulkhead={"fallback": {"activity": "lost"}}).spec
    assert spec is not None
    told = [str(problem) for problem in resolve_inside(spec, Catalogue(), "shop", PathEvaluator()).problems]
    assert [one.split(";")[0] for one in told] == [
        "spec.compensation.uses: there is no Activity gone in namespace shop",
        "spec.bulkhead.fallback.activity: there is no Activity lost in namespace shop",
    ]


def test_what_is_not_given_may_be_elsewhere() -> None:
    spec = parse_workflow_spec({"activities": [{"name": "a", "uses": "x"}]})
    resolution = resolve(works_of(spec), Catalogue(complete=False), "", PathEvaluator())
    assert resolution.problems == []
    assert [problem.path for problem in resolution.elsewhere] == ["spec.activities[0].uses"]


def test_the_bare_list_of_names_uses_what_bears_them() -> None:
    definition = defined(
        [{"name": "mail"}, {"name": "set_sla"}], known("mail"), known("sla", handler="s", aliases=["set_sla"])
    )
    assert [(step.name, step.work.handler) for step in definition.main] == [("mail", "h"), ("set_sla", "s")]


def test_a_fallback_that_is_a_name_uses_it_and_skip_stays_skip() -> None:
    def of(word: str) -> Any:
        handling = {"fallback": {"activity": word}}
        return defined([{"name": "a", "handler": "x", "errorHandling": handling}], known("mail")).steps["a"]

    assert of("mail").fallback.work.handler == "h"
    assert (of("skip").fallback, of("skip").skippable) == (None, True)


FULL = {
    "timeout": "40s", "retry": {"maxAttempts": 7, "backoff": {"initial": "3s"}}, "handler": None,
    "pod": {"image": "i"}, "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
}  # fmt: skip


@pytest.mark.parametrize(("own", "timeout", "retry", "resources"), [
    pytest.param({}, 40, (7, 3, 5), ("1", "1Gi"), id="the Activity's, and the Workflow's below it"),
    pytest.param({"timeout": "20s"}, 20, (7, 3, 5), ("1", "1Gi"), id="the activity's own timeout"),
    pytest.param({"errorHandling": {"retry": {"maxAttempts": 2}}}, 40, (2, 3, 5), ("1", "1Gi"), id="one field of the activity's own retry"),
    pytest.param({"resources": {"requests": {"cpu": "500m"}}}, 40, (7, 3, 5), ("500m", "1Gi"), id="one amount of the activity's own"),
])  # fmt: skip
def test_the_word_that_holds_is(
    own: Document, timeout: int, retry: tuple[int, int, int], resources: tuple[str, str]
) -> None:
    document = {name: value for name, value in FULL.items() if value is not None}
    there = known_of("shop", "full", document, PathEvaluator())
    step = defined(
        [{"name": "a", "uses": "full", **own}], there,
        errorHandling={"activityError": {"retry": {"maxAttempts": 9, "backoff": {"initial": "9s", "multiplier": 5}}}},
        resources={"requests": {"cpu": "9", "memory": "1Gi"}},
    ).steps["a"]  # fmt: skip
    assert step.kind is Kind.POD
    assert step.timeout == timedelta(seconds=timeout)
    assert (step.retry.max_attempts, step.retry.initial.total_seconds(), step.retry.multiplier) == retry
    assert step.resources is not None
    assert step.resources.requests is not None
    assert (step.resources.requests.cpu, step.resources.requests.memory) == resources


@pytest.mark.parametrize(("activity", "more", "undo"), [
    pytest.param({}, {}, "theirs", id="the Activity's"),
    pytest.param({"compensation": {"handler": "own"}}, {}, "own", id="the activity's own"),
    pytest.param({}, {"compensation": {"activities": [{"name": "u", "for": "a", "handler": "listed"}]}}, "listed", id="the listed one"),
])  # fmt: skip
def test_the_undo_that_holds_is(activity: Document, more: Document, undo: str) -> None:
    there = known("x", compensation={"handler": "theirs"})
    step = defined([{"name": "a", "uses": "x", **activity}], there, **more).steps["a"]
    assert step.undo is not None
    assert step.undo.work.handler == undo


def test_in_finally_nothing_is_undone() -> None:
    there = known("x", compensation={"handler": "theirs"})
    definition = defined([{"name": "a", "handler": "x"}], there, **{"finally": [{"name": "b", "uses": "x"}]})
    assert definition.undos == ()


# --- guards ---------------------------------------------------------------------------------------------------------


def test_whose_guard_it_is() -> None:
    definition = defined(
        [
            {"name": "used", "uses": "plain", "errorHandling": {"fallback": {"activity": "guarded"}}},
            {"name": "own", "handler": "x", "rateLimit": {"limit": 3, "period": "1s"}},
            {"name": "none", "handler": "x"},
        ],
        known("plain", compensation={"uses": "guarded"}), known("guarded", circuitBreaker={"threshold": 2}),
    )  # fmt: skip
    used, own, none = definition.main
    plain, guarded = (GuardOwner(kind="Activity", namespace="shop", name=name) for name in ("plain", "guarded"))
    assert (used.guard, used.guard_settings) == (plain, None), "its settings are read live: it may get some"
    assert used.fallback is not None
    assert used.undo is not None
    assert used.fallback.guard == used.undo.guard == guarded
    assert used.fallback.guard_settings is not None
    assert used.fallback.guard_settings.breaker is not None
    assert used.fallback.guard_settings.breaker.threshold == 2
    assert own.guard == GuardOwner(kind="Workflow", namespace="shop", name="w", activity="own")
    assert (none.guard, none.guard_settings) == (None, None)


@pytest.mark.parametrize("where", ["inline", "in an Activity"])
def test_what_comes_after_a_rejection(where: str) -> None:
    def of(fallback: Document) -> Any:
        bulkhead = {"bulkhead": {"fallback": fallback}}
        if where == "inline":
            return defined([{"name": "a", "handler": "x", **bulkhead}]).steps["a"]
        return defined([{"name": "a", "uses": "x"}], known("x", **bulkhead)).steps["a"]

    skips = of({"activity": "skip"})
    assert (skips.rejected, skips.rejected_skips) == (None, True)
    step = of({"handler": "other"})
    assert (step.rejected.deed, step.rejected.work.handler, step.rejected_skips) == (Deed.FALLBACK, "other", False)
    assert step.rejected.of_activity is (where != "inline")


def test_it_is_warned_of_a_timeout_longer_than_the_breakers() -> None:
    spec = parse_workflow_spec({
        "description": "d",
        "activities": [
            {"name": "a", "uses": "x", "timeout": "5m"}, {"name": "b", "handler": "x", "timeout": "5m", "circuitBreaker": {"timeout": "2m"}},
        ],
    })  # fmt: skip
    uses = resolve(works_of(spec), Catalogue([known("x", circuitBreaker={})]), "shop", PathEvaluator()).uses
    told = [str(warning) for warning in warnings_of(spec, "spec", uses)]
    assert told == [
        "spec.activities[0].timeout: 5m is longer than a call may take (circuitBreaker.timeout of the Activity x, 60s), so it will never pass",
        "spec.activities[1].timeout: 5m is longer than a call may take (circuitBreaker.timeout, 2m), so it will never pass",
    ]


# --- what attempts are given ----------------------------------------------------------------------------------------


def test_a_handler_is_given_the_callers_params() -> None:
    play = Play(
        defined([{"name": "a", "uses": "x", "params": {"run": "${run.name}"}}], known("x", input={"type": "object"}))
    )
    assert play.go().inputs == {"do a#1": {"run": "order-1"}}


def test_a_request_is_made_from_the_callers_params_and_undone_by_them() -> None:
    there = known_of(
        "shop", "assign",
        {
            "http": {"method": "POST", "url": "http://desk/${inputs.id}", "body": {"who": "${inputs.who}"}},
            "compensation": {"http": {"method": "DELETE", "url": "http://desk/${inputs.id}/${output.agent}"}},
        },
        PathEvaluator(),
    )  # fmt: skip
    given = {"id": "T-1", "who": "${run.name}"}
    play = Play(
        defined([{"name": "a", "uses": "assign", "params": given}, {"name": "b", "handler": "x"}], there),
        {"a": good({"agent": "A7"}), "b": wrong()},
    ).go()
    assert play.inputs["do a#1"] == {
        "method": "POST", "url": "http://desk/T-1", "body": {"who": "order-1"}, "params": {"id": "T-1", "who": "order-1"},
    }  # fmt: skip
    assert play.inputs["undo a#1"] == {"method": "DELETE", "url": "http://desk/T-1/A7"}
    assert play.ended == "Compensated ActivityFailed"


def test_the_undo_of_an_activity_may_use_another() -> None:
    play = Play(
        defined(
            [{"name": "a", "uses": "book", "params": {"id": "T-1"}}, {"name": "b", "handler": "x"}],
            known("book", compensation={"uses": "cancel", "params": {"what": "${inputs.id}"}}),
            known_of("shop", "cancel", {"http": {"url": "http://desk/${inputs.what}"}}, PathEvaluator()),
        ),
        {"b": wrong()},
    ).go()
    assert play.inputs["undo a#1"] == {"method": "GET", "url": "http://desk/T-1", "params": {"what": "T-1"}}


def test_a_pods_environment_sees_the_params_alone() -> None:
    there = known_of(
        "shop", "count", {"pod": {"image": "i", "env": [{"name": "ID", "value": "${inputs.id}"}]}}, PathEvaluator()
    )
    play = Play(defined([{"name": "a", "uses": "count", "params": {"id": "${run.name}"}}], there)).go()
    assert (play.inputs["do a#1"], play.status.activities["a"].env) == ({"id": "order-1"}, {"ID": "order-1"})


def test_params_that_do_not_fit_fail_before_any_attempt() -> None:
    play = Play(defined([{"name": "a", "uses": "strict", "params": {"id": "${activities}"}}], known("strict", input=STRICT)))  # fmt: skip
    error = play.go().status.activities["a"].error
    assert error is not None
    assert (str(error.reason), error.message) == (
        "InvalidInput", "params.id: must be of type string, but is an object (the input of the Activity strict)",
    )  # fmt: skip
    assert (play.log, play.status.activities["a"].attempt) == ([], None)


@pytest.mark.parametrize(("output", "ended"), [
    pytest.param({"id": "x"}, "Succeeded AllSucceeded", id="fits"),
    pytest.param({"id": 1}, "OutputInvalid: output.id: must be of type string, but is a number (the output of the Activity x)", id="does not fit"),
    pytest.param(None, "OutputInvalid: output.id: is required (the output of the Activity x)", id="is missing"),
])  # fmt: skip
def test_an_output_that(output: Any, ended: str) -> None:
    play = Play(defined([{"name": "a", "uses": "x"}], known("x", output=STRICT)), {"a": Succeeded(output=output)}).go()
    activity = play.status.activities["a"]
    if activity.error is None:
        assert play.ended == ended
    else:
        assert f"{activity.error.reason}: {activity.error.message}" == ended
        assert (activity.in_doubt, activity.completion_order) == (True, 1), "it was done all the same"


# --- schemas --------------------------------------------------------------------------------------------------------

DOUBLING = {
    "$defs": {**{f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}, "d40": {}},
    "$ref": "#/$defs/d0",
}


@pytest.mark.parametrize(("schema", "value", "told"), [
    pytest.param({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 5000 + "!"}, 'does not match the pattern "^(a+)+$"', id="a pattern that would take for ever by trying"),
    pytest.param(DOUBLING, {}, f"it takes more than {MAX_STEPS:,} steps", id="a schema that doubles forty times"),
    pytest.param({"allOf": [{"$ref": "#"}]}, {}, "refers to itself without end", id="a schema that is itself"),
    pytest.param({"properties": {"a": {"items": {"type": "string"}}}}, {"a": ["x"] * 60_000}, "steps", id="a value that is too large"),
    pytest.param({"properties": {"a": {"uniqueItems": True}}}, {"a": [{"n": n} for n in range(5000)] * 2}, "has an entry twice", id="a long list with entries twice"),
])  # fmt: skip
def test_a_check_ends_soon_with(schema: Document, value: Document, told: str, cel: CelPool) -> None:
    assert list(problems_of_schema(schema, "spec.input", cel)) == []
    fault = violation(schema, value, cel, "params")
    assert fault is not None
    assert told in fault.message


@pytest.mark.parametrize(("schema", "told"), [
    pytest.param({"enum": [1]}, "is not one of [1]", id="enum"),
    pytest.param({"const": "b"}, 'must be "b"', id="const"),
    pytest.param({"minLength": 3}, "must have at least 3 characters", id="minLength"),
    pytest.param({"type": ["number", "null"]}, "must be of type number or null, but is a string", id="type"),
    pytest.param({"anyOf": [{"type": "null"}, {"type": "number"}]}, "has none of the shapes", id="anyOf"),
    pytest.param({"oneOf": [{}, {}]}, "must have exactly one of the shapes", id="oneOf"),
    pytest.param({"not": {}}, "is what is not allowed", id="not"),
    pytest.param(False, "is not allowed here", id="no value at all"),
])  # fmt: skip
def test_a_value_is_told_by(schema: Any, told: str, cel: CelPool) -> None:
    fault = violation({"properties": {"a": schema}}, {"a": "x"}, cel, "params")
    assert fault is not None
    # The library does not say where a schema stood that allows nothing.
    assert (fault.path, told in fault.message) == ("params.a" if schema is not False else "params", True), fault


# --- revisions ------------------------------------------------------------------------------------------------------


def test_a_revision_holds_what_is_used_and_nothing_else_changes() -> None:
    document = {"activities": [{"name": "a", "uses": "tickets:assign"}]}
    spec = parse_workflow_spec(document)
    resolution = resolve(works_of(spec), THERE, "shop", PathEvaluator())
    content = with_uses(document, resolution.uses)
    assert content["activities"] == document["activities"]
    assert content["usedActivities"] == [
        {
            "in": "shop",
            "uses": "tickets:assign",
            "namespace": "shop",
            "name": "tickets.assign",
            "spec": {"handler": "h"},
        }
    ]
    assert split_uses(content, "shop") == (document, resolution.uses)


def test_a_workflow_that_uses_nothing_has_the_revision_that_it_always_had() -> None:
    document = {"activities": [{"name": "a", "handler": "x"}]}
    assert with_uses(document, Uses(namespace="shop")) == document
    assert split_uses(document, "shop") == (document, Uses(namespace="shop"))
