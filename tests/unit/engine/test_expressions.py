# SPDX-License-Identifier: Apache-2.0
"""`${…}` in strings: one pass, types kept, errors that say where; evaluated by the real library."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesaga.cel.pool import CelPool
from kubesaga.engine.language.expressions import (
    Expression,
    ExpressionError,
    condition,
    evaluate,
    expressions_in,
    parse,
    problems_in,
    render,
)
from kubesaga.engine.language.references import scan
from kubesaga.errors import Problem

SCOPE: Mapping[str, Any] = {
    "inputs": {"id": "T-1", "n": 7, "ratio": 7.0, "yes": True, "none": None, "list": [1, "a"], "map": {"k": 1}, "": "empty",
               "trap": "${inputs.id}", "big": 2**60 + 1, "beyond": 2**64},
    "activities": {"a-b": {"output": {"id": 3}}},
}  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> Iterator[CelPool]:
    with CelPool(size=1) as it:
        yield it


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param("", (), id="nothing"),
        pytest.param("plain", ("plain",), id="plain text"),
        pytest.param("${a}", (Expression("a"),), id="one whole expression"),
        pytest.param("${ a }", (Expression("a"),), id="blanks inside the braces do not count"),
        pytest.param(" ${a}", (" ", Expression("a")), id="a blank outside does"),
        pytest.param("${a}\n", (Expression("a"), "\n"), id="so does a line break"),
        pytest.param("x${a}y${b}z", ("x", Expression("a"), "y", Expression("b"), "z"), id="text around expressions"),
        pytest.param("${a}${b}", (Expression("a"), Expression("b")), id="two expressions in a row"),
        pytest.param("$${a}", ("${a}",), id="an escaped expression"),
        pytest.param("$$${a}", ("$${a}",), id="the escape takes the dollar next to the brace"),
        pytest.param("$${${a}", ("${", Expression("a")), id="an expression behind an escape"),
        pytest.param("${a}$${b}", (Expression("a"), "${b}"), id="an escape behind an expression"),
        pytest.param("${a}$", (Expression("a"), "$"), id="a dollar at the very end escapes nothing"),
        pytest.param("$a {b} $", ("$a {b} $",), id="dollars and braces apart are text"),
        pytest.param("${'}'}", (Expression("'}'"),), id="a brace in a string"),
        pytest.param("${ {'a': {'b': '}'}}.a }", (Expression("{'a': {'b': '}'}}.a"),), id="braces of maps"),
        pytest.param("${'${a}'}", (Expression("'${a}'"),), id="an expression in a string inside an expression"),
        pytest.param('${"""}"""}!', (Expression('"""}"""'), "!"), id="a brace in triple quotes"),
        pytest.param("${r'\\'}", (Expression("r'\\'"),), id="a raw string that ends in a backslash"),
    ],
)
def test_a_string_is_taken_apart(text: str, parts: tuple[Any, ...]) -> None:
    assert parse(text).parts == parts


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("a ${b", "the ${ at character 3 is not closed by a }", id="no closing brace"),
        pytest.param("${ {'a': 1}", "the ${ at character 1 is not closed by a }", id="one brace too few"),
        pytest.param("${a // }", "the ${ at character 1 is not closed", id="a comment swallows the brace"),
        pytest.param("ab ${'c}", "the quote at character 6 is never closed", id="a quote that never ends"),
        pytest.param("ab ${'''c}", "the quote at character 6 is never closed", id="three quotes that never end"),
        pytest.param("a ${ } b", "there is no expression in the ${} at character 3", id="nothing inside"),
        pytest.param("${" + "1" * 5000 + "}", "not closed within 4,096 characters", id="too long"),
    ],
)
def test_a_string_that_makes_no_sense_is_refused_with_the_place(text: str, sentence: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        parse(text)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        pytest.param("${inputs.n}", 7, id="a whole number stays one"),
        pytest.param("${inputs.ratio}", 7.0, id="a double stays a double"),
        pytest.param("${inputs.ratio * 1.0}", 7.0, id="also out of a calculation"),
        pytest.param("${inputs.big}", 2**60 + 1, id="numbers beyond 2^53 keep all digits"),
        pytest.param("${inputs.big + 1}", 2**60 + 2, id="also out of a calculation"),
        pytest.param("${inputs.beyond}", float(2**64), id="a number beyond 64 bits is a double"),
        pytest.param("${inputs.n == inputs.ratio}", True, id="int and double compare"),
        pytest.param("${inputs.none}", None, id="null stays null"),
        pytest.param("${inputs.list}", [1, "a"], id="a list stays a list"),
        pytest.param("${inputs.map}", {"k": 1}, id="an object stays an object"),
        pytest.param("${inputs['']}", "empty", id="an empty key is a key"),
        pytest.param("${activities['a-b'].output.id}", 3, id="a hyphenated name"),
        pytest.param("n=${inputs.n}", "n=7", id="a number in text"),
        pytest.param("${inputs.ratio}!", "7.0!", id="a double in text is JSON"),
        pytest.param("${inputs.yes}${inputs.yes}", "truetrue", id="booleans in text"),
        pytest.param("<${inputs.id}>", "<T-1>", id="a string in text has no quotes"),
        pytest.param("$${inputs.id}", "${inputs.id}", id="an escaped expression is text"),
        pytest.param("${inputs.trap}", "${inputs.id}", id="what was yielded is not read again"),
        pytest.param("a ${inputs.trap} b", "a ${inputs.id} b", id="nor inside text"),
        pytest.param({"${inputs.id}": ["${inputs.n}", {"x": "${inputs.id}"}]}, {"${inputs.id}": [7, {"x": "T-1"}]},
                     id="values at any depth are replaced, keys are not"),
        pytest.param(MappingProxyType({"a": ("${inputs.n}", 1.5)}), {"a": [7, 1.5]}, id="read-only mappings and tuples"),
        pytest.param([None, True, 1, 1.5, "x"], [None, True, 1, 1.5, "x"], id="everything else stays as it is"),
    ],
)  # fmt: skip
def test_values_are_rendered(template: Any, value: Any, pool: CelPool) -> None:
    rendered = render(template, SCOPE, pool)
    assert rendered == value
    assert type(rendered) is type(value)


def test_an_object_that_was_rendered_can_be_changed_without_harm(pool: CelPool) -> None:
    rendered = render("${inputs.map}", SCOPE, pool)
    rendered["k"] = 2
    assert SCOPE["inputs"]["map"] == {"k": 1}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        pytest.param({"a": "${inputs.no}"}, "params.a: inputs.no: no such key", id="a missing value"),
        pytest.param({"a": ["x", {"b-c": "${inputs.id.x}"}]},
                     'params.a[1]["b-c"]: inputs.id.x: inputs.id is a string, not an object', id="its whole path is named"),
        pytest.param("${inputs.no + 1}", "params: in `inputs.no + 1`: inputs.no: no such key", id="inside a calculation"),
        pytest.param("x ${inputs.none}", "params: in `inputs.none`: null cannot stand inside text; let the field be this one "
                     "${…} alone, or make it a string in the expression", id="null inside text"),
        pytest.param("x ${inputs.list}", "params: in `inputs.list`: a list cannot stand inside text; let the field be this one "
                     "${…} alone, or make it a string in the expression", id="a list inside text"),
        pytest.param("${output.id}", "params: in `output.id`: `output` is not known at character 1; what can be used here: "
                     "activities, inputs", id="a name that is not to be had here"),
        pytest.param({"a": "${"}, "params.a: in `${`: the ${ at character 1 is not closed by a }; write $${ for the two "
                     "characters themselves", id="a string that makes no sense"),
    ],
)  # fmt: skip
def test_errors_name_the_field_and_the_reason(template: Any, message: str, pool: CelPool) -> None:
    with pytest.raises(ExpressionError) as failed:
        render(template, SCOPE, pool, "params")
    assert str(failed.value) == message


def test_a_value_nested_without_end_is_the_authors_error(pool: CelPool) -> None:
    value: Any = "${inputs.id}"
    for _ in range(2000):
        value = [value]
    with pytest.raises(ExpressionError, match="nested too deeply"):
        render(value, SCOPE, pool, "params")
    assert [source for _, source in expressions_in(value)] == ["inputs.id"], "finding expressions has no such limit"


def test_expressions_are_found_with_their_paths() -> None:
    value = {"b": ["${x}", {"c d": "${y} and ${z}"}], "a": "$${no}", "n": 1}
    assert list(expressions_in(value, "params")) == [
        ("params.b[0]", "x"),
        ('params.b[1]["c d"]', "y"),
        ('params.b[1]["c d"]', "z"),
    ]


def test_all_problems_are_found_in_order(pool: CelPool) -> None:
    value = {"a": "${inputs.id}", "b": ["${nope}", "${", "${inputs.id} ${1 +}"]}
    known = "what can be used here: inputs"
    assert list(problems_in(value, {"inputs"}, pool, "params")) == [
        Problem("params.b[0]", f"in `nope`: `nope` is not known at character 1; {known}"),
        Problem(
            "params.b[1]", "the ${ at character 1 is not closed by a }; write $${ for the two characters themselves"
        ),
        Problem("params.b[2]", "in `1 +`: it ends too early"),
    ]


@pytest.mark.parametrize(
    ("expression", "holds"),
    [("inputs.yes", True), ("inputs.n > 7", False), ("'x' in inputs.map", False), (" true\n", True)],
)
def test_a_condition_holds_or_not(expression: str, holds: bool, pool: CelPool) -> None:
    assert condition(expression, SCOPE, pool) is holds


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        pytest.param("inputs.n", "when: in `inputs.n`: a condition must be true or false, this is a number", id="a number"),
        pytest.param("inputs.id", "when: in `inputs.id`: a condition must be true or false, this is a string", id="a string"),
        pytest.param("${inputs.yes}", "when: in `${inputs.yes}`: ${ and } do not belong here: this field is an expression by "
                     "itself", id="braces around it"),
        pytest.param("", "when: it ends too early", id="nothing"),
    ],
)  # fmt: skip
def test_a_condition_must_be_a_bare_boolean_expression(expression: str, message: str, pool: CelPool) -> None:
    with pytest.raises(ExpressionError) as failed:
        condition(expression, SCOPE, pool, "when")
    assert str(failed.value) == message


# --- properties ---------------------------------------------------------------------------------------------------

texts = st.text(st.one_of(st.sampled_from("${}'\"\\ ab"), st.characters(codec="utf-8", exclude_characters="\0")))


@given(texts)
def test_escaped_text_comes_back_as_it_was(text: str) -> None:
    parts = parse(text.replace("${", "$${")).parts
    assert parts == ((text,) if text else ())


@settings(deadline=None)
@given(before=texts, value=texts, after=texts)
def test_rendering_is_a_single_pass(before: str, value: str, after: str, pool: CelPool) -> None:
    # What stands before is escaped, and so cannot lend its last dollar to the expression.
    escaped_before, escaped_after = f"{before}|".replace("${", "$${"), after.replace("${", "$${")
    template = f"{escaped_before}${{inputs.x}}{escaped_after}"
    assert render(template, {"inputs": {"x": value}}, pool) == f"{before}|{value}{after}"


names = st.one_of(
    st.sampled_from(["a", "b", "output", "in", "true", "for", "size", "map", "a-b", "", "0", "é", "A_1", "null"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0\\\"'\r\n")),
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**66), 2**66), st.floats(), st.text(),
    st.sampled_from(["\0", "\\u0000", "\ud800", 2**63, -(2**63), 2**63 - 1, 2**64, 1e300]),
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)


@st.composite
def paths(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A path in CEL and a scope in which it often, and often nearly, leads to something."""
    scope: dict[str, Any] = {"inputs": draw(st.dictionaries(names, values, max_size=3)), "workflow": {}}
    expression, value = "inputs", scope["inputs"]
    for _ in range(draw(st.integers(0, 4))):
        known = st.sampled_from(sorted(value)) if isinstance(value, dict) and value else names
        name = draw(st.one_of(known, names))
        value = value.get(name) if isinstance(value, dict) else None
        dotted = name.isascii() and name.isidentifier() and name not in ("in", "true", "false", "null")
        quote = draw(st.sampled_from("'\""))
        expression += f".{name}" if dotted and draw(st.booleans()) else f"[{quote}{name}{quote}]"
    return expression, scope


def outcome(evaluation: Callable[[], Any]) -> str:
    """The value as text in which 1, 1.0 and true differ, or the error's sentence."""
    try:
        return json.dumps(evaluation(), sort_keys=True)
    except ExpressionError as error:
        return error.message


def test_a_path_to_too_much_is_refused_in_the_same_words(pool: CelPool) -> None:
    scope = {"inputs": {"x": ["é" * 135_000]}}
    sentence = "the value is too large: 270,004 bytes of JSON, 262,144 are allowed"
    assert outcome(lambda: evaluate("inputs.x", scope, pool)) == sentence
    assert outcome(lambda: pool.evaluate("inputs.x", scope)) == sentence


@settings(deadline=None, max_examples=300)
@given(case=paths())
def test_a_path_that_is_followed_is_what_cel_makes_of_it(case: tuple[str, dict[str, Any]], pool: CelPool) -> None:
    expression, scope = case
    assert scan(expression).path is not None
    assert outcome(lambda: evaluate(expression, scope, pool)) == outcome(lambda: pool.evaluate(expression, scope))
