# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a spec, checking it answers; and what is found right the API server takes too."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.unit.api.api_server import refusals

from kubesaga.api.parsing import parse_workflow_spec
from kubesaga.api.schema import spec_schema
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.engine.compiling import compile_definition
from kubesaga.engine.validation.workflow import problems_of, warnings_of
from kubesaga.errors import InvalidSpec

NAMES = st.sampled_from(["a", "b", "c", "a-1", "skip"])
VARIABLES = st.sampled_from(["v", "w", "in", "run"])
EXPRESSIONS = st.sampled_from(
    ["inputs.v", "workflow.v", "workflow.w.x", "has(workflow.v)", "workflow[inputs.v]", "activities.a.output.x", "a",
     'activities["a-1"]', "activities.b.phase", "run.name", "run.x", "output", "[1, 2].map(v, v + workflow.v)", "'}'",
     "event.?a.orValue(1)", "1 +", '"', "{'a': inputs}", "activities", "workflow.v.?w", "workflow[0]"]
)  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(
        ["", "${", "$${", "$", "}", "x ${ } y", "http://desk", "http://[", "http://a@b:0", "http://\udce4"]
    ),
    EXPRESSIONS.map(lambda source: f"${{{source}}}"),
    EXPRESSIONS.map(lambda source: f"http://{{desk}}/${{{source}}}/@${{{source}}}"),
    st.text(max_size=5),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=3)
AMOUNTS = st.fixed_dictionaries(
    {}, optional={"cpu": st.sampled_from(["1", "500m", 2]), "memory": st.sampled_from(["1Gi", "1e3", "0"])}
)
RESOURCES = st.fixed_dictionaries({}, optional={"requests": AMOUNTS, "limits": AMOUNTS})
SELECTORS = st.just({"name": "s", "key": "k"})
ENV = st.fixed_dictionaries(
    {"name": st.sampled_from(["A", "KUBESAGA_X", "A.b"])},
    optional={
        "value": TEXTS,
        "valueFrom": st.fixed_dictionaries({}, optional={"secretKeyRef": SELECTORS, "configMapKeyRef": SELECTORS}),
    },
)
PODS = st.fixed_dictionaries(
    {"image": st.one_of(st.just("busybox"), TEXTS.filter(bool))},
    optional={"command": st.lists(TEXTS, max_size=2), "env": st.lists(ENV, max_size=3), "workingDir": TEXTS},
)
REQUESTS = st.fixed_dictionaries(
    {"url": TEXTS.filter(bool)}, optional={"headers": st.dictionaries(TEXTS, TEXTS, max_size=3), "body": VALUES}
)
AROUND = {
    "params": OBJECTS, "when": EXPRESSIONS, "dependsOn": st.lists(NAMES, max_size=3),
    "timeout": st.sampled_from(["1s", "2h"]), "resources": RESOURCES, "set": st.dictionaries(VARIABLES, VALUES, max_size=2),
}  # fmt: skip
TRIED = st.fixed_dictionaries(
    {}, optional={"maxAttempts": st.just(2), "when": EXPRESSIONS, "backoff": st.just({"multiplier": 1})}
)
KINDS = {"pod": PODS, "http": REQUESTS, "handler": TEXTS.filter(bool), "uses": NAMES}
DEEDS = st.one_of(
    st.fixed_dictionaries({}, optional={**KINDS, "params": OBJECTS, "resources": RESOURCES, "retry": TRIED}),
    st.fixed_dictionaries({"handler": st.just("x")}, optional={"params": OBJECTS, "retry": TRIED}),
)
FALLBACKS = st.one_of(
    DEEDS,
    st.fixed_dictionaries({"activity": st.sampled_from(["skip", "a"])}, optional={"params": OBJECTS, "handler": TEXTS}),
)
HANDLING = st.fixed_dictionaries(
    {}, optional={
        "fallback": FALLBACKS, "retry": TRIED, "strategy": st.sampled_from(["Compensate", "Abort", "Continue"]),
    },
)  # fmt: skip
LISTED = st.builds(
    lambda deed, named: {**deed, **named},
    DEEDS,
    st.fixed_dictionaries({"name": st.sampled_from(["a", "u", "v", "skip"])}, optional={"for": NAMES}),
)
COMPENSATION = st.fixed_dictionaries(
    {}, optional={
        "activities": st.lists(LISTED, max_size=3), "onCancel": st.booleans(), "timeout": st.sampled_from(["1s", "2h"]),
        "inDoubt": st.sampled_from(["Undo", "Leave"]), "strategy": st.sampled_from(["Reverse", "Parallel"]),
    },
)  # fmt: skip
AROUND = {**AROUND, "errorHandling": HANDLING, "compensation": DEEDS}
ACTIVITIES = st.one_of(
    st.fixed_dictionaries({"name": NAMES}, optional={**KINDS, **AROUND}),
    st.fixed_dictionaries(
        {"name": NAMES, "handler": st.just("x")}, optional={"compensation": DEEDS, "errorHandling": HANDLING}
    ),
    st.fixed_dictionaries({"name": NAMES, "handler": st.just("x")}, optional={"set": AROUND["set"]}),
    st.fixed_dictionaries({"name": NAMES, "pod": st.just({"image": "busybox"})}, optional={"resources": RESOURCES}),
)
INPUTS = st.fixed_dictionaries(
    {"name": VARIABLES},
    optional={
        "type": st.sampled_from(["string", "integer", "array"]), "required": st.booleans(), "default": VALUES,
    },
)  # fmt: skip
SPECS = st.fixed_dictionaries(
    {"activities": st.lists(ACTIVITIES, min_size=1, max_size=4)},
    optional={
        "description": TEXTS, "inputs": st.lists(INPUTS, max_size=3), "variables": OBJECTS, "outputs": OBJECTS,
        "compensation": COMPENSATION, "deletionPolicy": st.sampled_from(["Compensate", "Abandon"]),
        "errorHandling": st.fixed_dictionaries({}, optional={"activityError": HANDLING}),
        "finally": st.lists(ACTIVITIES, max_size=2), "resources": RESOURCES, "timeout": st.just("1h"),
    },
)  # fmt: skip


class Lenient:
    """Says that everything compiles, so that all else is looked at."""

    def check(self, expression: str, roots: Any) -> str | None:
        return None


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=SPECS)
def test_whatever_is_in_a_spec_is_answered_and_what_passes_the_api_server_takes_too(document: dict[str, Any]) -> None:
    try:
        spec = parse_workflow_spec(document)
    except InvalidSpec:
        event("refused field by field")
        return
    problems = problems_of(spec, Lenient())
    warned = warnings_of(spec)
    assert all(problem.path.startswith("spec") and problem.message for problem in [*problems, *warned])
    event("refused as a whole" if problems else "right")
    if not problems:
        assert refusals(spec_schema(WorkflowSpec), spec.wire()) == []
        assert compile_definition("w", spec).steps


@settings(max_examples=200, deadline=None)
@given(document=st.one_of(VALUES, st.dictionaries(st.sampled_from(["activities", "inputs", "finally", "x"]), VALUES)))
def test_whatever_is_no_spec_is_refused_with_sentences(document: Any) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_workflow_spec(document)
    assert all(problem.message for problem in caught.value.problems)
