# SPDX-License-Identifier: Apache-2.0
"""What an expression reads is found without evaluating it, and sending only that makes no difference to its value."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kubesaga.cel.worker import Fault, Library
from kubesaga.engine.language.references import MAX_EXPRESSION, Reference, closing_brace, references, relevant, scan


def reads(*names: str) -> frozenset[Reference]:
    """`inputs.x` is root and name, `inputs` alone the whole root."""
    pairs = (name.partition(".") for name in names)
    return frozenset(Reference(root=root, name=member or None) for root, _, member in pairs)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param("inputs.x", reads("inputs.x"), id="a member by a dot"),
        pytest.param('inputs["x"]', reads("inputs.x"), id="a member by a string in brackets"),
        pytest.param("inputs['x']", reads("inputs.x"), id="a member by a string in single quotes"),
        pytest.param('inputs["""x"""]', reads("inputs.x"), id="a member by a string in triple quotes"),
        pytest.param("inputs.`a-b`", reads("inputs.a-b"), id="a member in backticks"),
        pytest.param('activities["a-b"].output.id', reads("activities.a-b"), id="a hyphenated activity"),
        pytest.param("inputs . x", reads("inputs.x"), id="blanks around the dot"),
        pytest.param("inputs\n  .x", reads("inputs.x"), id="a line break before the dot"),
        pytest.param("(inputs).x", reads("inputs"), id="a root in parentheses counts as whole"),
        pytest.param("inputs", reads("inputs"), id="a root alone is used whole"),
        pytest.param("size(inputs)", reads("inputs"), id="a root as an argument is used whole"),
        pytest.param("inputs[workflow.key]", reads("inputs", "workflow.key"), id="a computed index uses the root whole"),
        pytest.param('inputs["a" + "b"]', reads("inputs"), id="an index put together uses the root whole"),
        pytest.param('inputs["a\\"b"]', reads("inputs"), id="an index with an escape counts as computed"),
        pytest.param("inputs[0]", reads("inputs"), id="a number as index names no member"),
        pytest.param('inputs[r"x"]', reads("inputs"), id="a raw string as index counts as computed"),
        pytest.param("inputs.?x", reads("inputs.x"), id="an optional member"),
        pytest.param('inputs[?"x"].orValue(1)', reads("inputs.x"), id="an optional index"),
        pytest.param("inputs.?x.?y", reads("inputs.x"), id="optional members in a row"),
        pytest.param("[?inputs.x]", reads("inputs.x"), id="an optional item of a list"),
        pytest.param('{?"a": inputs.?x}', reads("inputs.x"), id="an optional entry of a map"),
        pytest.param("has(inputs.x)", reads("inputs.x"), id="what has() asks for is read"),
        pytest.param("has(inputs.x.y) && has(run.id)", reads("inputs.x", "run.id"), id="has() twice"),
        pytest.param("inputs.x.startsWith('a')", reads("inputs.x"), id="a method of a member"),
        pytest.param("inputs.all(k, k != '')", reads("inputs"), id="a macro over a root uses it whole"),
        pytest.param("inputs.contains('x')", reads("inputs"), id="a method of a root uses it whole"),
        pytest.param("inputs.x + workflow.y", reads("inputs.x", "workflow.y"), id="two references"),
        pytest.param("inputs.x + inputs.x", reads("inputs.x"), id="the same reference twice is one"),
        pytest.param("inputs.x + size(inputs)", reads("inputs.x", "inputs"), id="a member and the whole"),
        pytest.param("a.inputs.x", reads("a.inputs"), id="a name after a dot is no root"),
        pytest.param(".inputs.x", reads("inputs.x"), id="an absolute name is a root"),
        pytest.param("1 + .inputs.x", reads("inputs.x"), id="an absolute name behind an operator"),
        pytest.param("1 in .inputs", reads("inputs"), id="an absolute name behind `in`"),
        pytest.param("'a' in inputs.tags", reads("inputs.tags"), id="`in` is no name"),
        pytest.param("inputs.x ? run.a : event.b", reads("inputs.x", "run.a", "event.b"), id="all arms of a choice"),
        pytest.param("inputs.x ?event.b:run.a", reads("inputs.x", "run.a", "event.b"), id="a choice without blanks"),
        pytest.param("true || false || null == 1", reads(), id="constants are no names"),
        pytest.param("type(inputs.x) == int", reads("inputs.x"), id="types are no names"),
    ],
)  # fmt: skip
def test_members(expression: str, expected: frozenset[Reference]) -> None:
    assert references(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param('"inputs.x"', reads(), id="a name in a string"),
        pytest.param("'inputs.x' + inputs.y", reads("inputs.y"), id="a name in a string beside a real one"),
        pytest.param('"a\\" + inputs.x + \\"b"', reads(), id="escaped quotes do not end a string"),
        pytest.param("'\"' + inputs.x + '\"'", reads("inputs.x"), id="the other kind of quote inside a string"),
        pytest.param('"""a " inputs.x "" b""" + run.id', reads("run.id"), id="quotes inside triple quotes"),
        pytest.param("'''it's inputs.x'''", reads(), id="an apostrophe inside triple quotes"),
        pytest.param("'''a\ninputs.x\n'''", reads(), id="line breaks inside triple quotes"),
        pytest.param(r"r'\' + inputs.x", reads("inputs.x"), id="a backslash is nothing special in a raw string"),
        pytest.param(r"R'''\''' + inputs.x", reads("inputs.x"), id="nor in a raw string in triple quotes"),
        pytest.param(r"b'inputs.x' == bR'inputs.y'", reads(), id="byte strings"),
        pytest.param("inputs.x // + inputs.y\n + run.id", reads("inputs.x", "run.id"), id="a comment ends with the line"),
        pytest.param("'// ' + inputs.x", reads("inputs.x"), id="slashes in a string begin no comment"),
        pytest.param("1e5 + 0xFFu + 1.5e-3 + inputs.x", reads("inputs.x"), id="letters in numbers"),
        pytest.param('{"inputs.x": 1}', reads(), id="a name in the key of a map"),
        pytest.param("{inputs.x: 1}", reads("inputs.x"), id="CEL evaluates the keys of a map"),
        pytest.param("google.protobuf.Duration{seconds: inputs.x}", reads("inputs.x"), id="types and fields of messages"),
        pytest.param("inputs.x in {'a': run.id}", reads("inputs.x", "run.id"), id="a map behind `in` is no message"),
    ],
)  # fmt: skip
def test_strings_comments_and_literals(expression: str, expected: frozenset[Reference]) -> None:
    assert references(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param("inputs.l.all(x, x.inputs > 0)", reads("inputs.l"), id="the variable of all"),
        pytest.param("inputs.l.exists(x, x == run.id)", reads("inputs.l", "run.id"), id="exists beside a root"),
        pytest.param("inputs.l.map(x, x.y).filter(y, y > 1)", reads("inputs.l"), id="macros in a row"),
        pytest.param("inputs.l.map(x, inputs.m.map(y, x + y))", reads("inputs.l", "inputs.m"), id="macros inside macros"),
        pytest.param("inputs.l.map(x, x, x)", reads("inputs.l"), id="map with a filter"),
        pytest.param("inputs.l.map(x, y, x)", reads("inputs.l", "y"), id="the filter of map is no second variable"),
        pytest.param("inputs.l.exists_one(x, x == y)", reads("inputs.l", "y"), id="another name in the body is a root"),
        pytest.param("[1].all(inputs, inputs > 0)", reads(), id="a variable named like a root hides it"),
        pytest.param("[1].all(inputs, inputs > 0) && inputs.x", reads("inputs.x"), id="only inside the macro"),
        pytest.param("inputs.l.all(inputs, true)", reads("inputs.l"), id="what the macro runs over is outside"),
        pytest.param("[1].all(inputs, .inputs.x)", reads("inputs.x"), id="an absolute name is never a variable"),
        pytest.param("l.all(k, v, k == v)", reads("l"), id="two variables"),
        pytest.param("l.transformList(i, v, i > 0, v)", reads("l"), id="two variables with a filter"),
        pytest.param("l.existsOne(k, v, x == (k, v))", reads("l", "x"), id="two variables beside a root"),
        pytest.param("l.sortBy(e, e.size + x)", reads("l", "x"), id="sortBy"),
        pytest.param("o.optMap(v, v + x)", reads("o", "x"), id="optMap"),
        pytest.param("cel.bind(x, x + inputs.a, x + y)", reads("x", "inputs.a", "y"), id="bind: outside in its first half"),
        pytest.param("cel.bind(x, [1, 2], x)", reads(), id="bind: commas in brackets do not count"),
        pytest.param("inputs.bind(x, 1, x)", reads("inputs", "x"), id="bind of something else binds nothing"),
        pytest.param("math.greatest(inputs.x, 1)", reads("inputs.x"), id="functions with a namespace"),
        pytest.param("strings.quote(base64.encode(inputs.x))", reads("inputs.x"), id="namespaces inside each other"),
        pytest.param("math.pi", reads("math.pi"), id="a namespace without a call is a name like any"),
        pytest.param("all(x, y)", reads("x", "y"), id="a function named like a macro"),
        pytest.param("inputs.l.all(x.y, true)", reads("inputs.l", "x.y"), id="a macro without a variable binds nothing"),
    ],
)  # fmt: skip
def test_macro_variables(expression: str, expected: frozenset[Reference]) -> None:
    assert references(expression) == expected


@pytest.mark.parametrize(
    ("expression", "path"),
    [
        pytest.param("inputs.a.b", ("inputs", "a", "b"), id="dots"),
        pytest.param('activities["a-b"].output["c d"].e', ("activities", "a-b", "output", "c d", "e"), id="strings"),
        pytest.param(" inputs.a // the a", ("inputs", "a"), id="blanks and comments"),
        pytest.param("inputs.a[0]", None, id="not an index of a list"),
        pytest.param("inputs.?a", None, id="not an optional member"),
        pytest.param("has(inputs.a)", None, id="not a function"),
        pytest.param("inputs.a + inputs.b", None, id="not two of them"),
        pytest.param("(inputs.a)", None, id="not in parentheses"),
        pytest.param(".inputs.a", None, id="not an absolute name"),
        pytest.param("inputs.a.size()", None, id="not a method"),
        pytest.param("true", None, id="not a constant"),
        pytest.param("inputs.", None, id="not half a path"),
    ],
)
def test_a_mere_path_is_recognised(expression: str, path: tuple[str, ...] | None) -> None:
    assert scan(expression).path == path


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        pytest.param("inputs.a}", "inputs.a", id="the next brace"),
        pytest.param("{'a': {'b': 1}}.a.b}", "{'a': {'b': 1}}.a.b", id="braces of maps"),
        pytest.param("'}' + \"}\"}", "'}' + \"}\"", id="braces in strings"),
        pytest.param("'\\'}' + '''}'''}", "'\\'}' + '''}'''", id="behind an escaped quote, in triple quotes"),
        pytest.param(r"r'\'}", r"r'\'", id="behind a raw string that ends in a backslash"),
        pytest.param("inputs.a // }\n}", "inputs.a // }\n", id="a brace in a comment"),
        pytest.param("inputs.a} and ${inputs.b}", "inputs.a", id="the first of two expressions"),
    ],
)
def test_the_closing_brace_is_found(text: str, expression: str) -> None:
    assert text[: closing_brace(text, 0)] == expression


SCOPE: dict[str, Any] = {
    "inputs": {"a": {"b": [1, {"c": 2}], "s": "text"}, "k": "a", "l": [{"x": 1}, {"x": 2}], "": 1, "n": None},
    "workflow": {"x": 1, "a-b": {"y": [1]}},
    "event": {},
}


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("inputs.a.s", {"inputs": {"a": {"s": "text"}}}),
        ("inputs.l[0].x", {"inputs": {"l": [{"x": 1}, {"x": 2}]}}),
        ("inputs.a.s + inputs.a.b[1].c", {"inputs": {"a": {"s": "text", "b": [1, {"c": 2}]}}}),
        ("inputs.a.s != '' && inputs.a != {}", {"inputs": {"a": {"b": [1, {"c": 2}], "s": "text"}}}),
        ("inputs.a != {} && inputs.a.s != ''", {"inputs": {"a": {"b": [1, {"c": 2}], "s": "text"}}}),
        ("size(inputs) + workflow.x", {"inputs": SCOPE["inputs"], "workflow": {"x": 1}}),
        ("inputs[inputs.k]", {"inputs": SCOPE["inputs"]}),
        ("has(inputs.nothing)", {"inputs": {}}),
        ("workflow['a-b'].y[0]", {"workflow": {"a-b": {"y": [1]}}}),
        ("event.data", {"event": {}}),
        ("other.a", {}),
        ("1 + 1", {}),
    ],
)
def test_only_what_can_matter_is_kept(expression: str, kept: dict[str, Any]) -> None:
    assert relevant(expression, SCOPE) == kept


ALL_KINDS = [
    "inputs.a.b[1].c", "inputs.a", "inputs", "has(inputs.a.b)", "has(inputs.zz)", "'a' in inputs", "inputs.zz",
    "size(inputs.a)", "inputs[inputs.k].s", "inputs.map(k, k).sort()", "inputs.?zz.orValue(inputs.k)",
    "inputs.?a.?zz.hasValue()", "inputs[?'a'].value().s", "inputs.l.map(inputs, inputs.x)", "inputs.n.x",
    "[{'x': 5}].all(workflow, workflow.x == 5)", "[1].map(workflow, .workflow.x)", "workflow['a-b'].y.size()",
    "inputs == workflow", "inputs.a.s.startsWith('t') ? workflow.x : event.y", "cel.bind(inputs, inputs.k, inputs)",
    "inputs.l.filter(x, x.x > 1)[0].x", "inputs[''] + 1", "event", "inputs.l[7].x", "inputs.a.b.c", "inputs.`a`.s",
    "{'x': inputs.k, inputs.k: 'y'}", "inputs.a == inputs['a']", "inputs.a['s'] + inputs.k", "workflow.transformList(k, v, k).sort()",
]  # fmt: skip


@pytest.mark.parametrize("expression", ALL_KINDS)
def test_what_is_left_out_makes_no_difference(expression: str) -> None:
    def outcome(scope: dict[str, Any]) -> Any:
        try:
            return library.evaluate(expression, tuple(sorted(SCOPE)), scope)
        except Fault as fault:
            return fault.kind, fault.text

    library = Library()
    assert outcome(relevant(expression, SCOPE)) == outcome(SCOPE)


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("x.all(" * 700, id="unclosed macros"),
        pytest.param("x.map(a," * 60 + "a," * 2000, id="many names in many macros"),
        pytest.param("a{a." * 1000, id="many braces"),
        pytest.param("'\\" * 2048, id="quotes that never close"),
        pytest.param("'''" + '\\"""' * 1000, id="triple quotes that never close"),
        pytest.param("a." * 2048, id="one long path"),
    ],
)
def test_hostile_text_is_read_in_linear_time(expression: str) -> None:
    began = time.process_time()
    scan(expression[:MAX_EXPRESSION])
    assert time.process_time() - began < 1, "about 10 ms on an idle machine; quadratic reading took seconds"


def test_nothing_is_read_of_an_expression_that_is_too_long() -> None:
    assert references("inputs.x + " + "1" * MAX_EXPRESSION) == frozenset()
