# SPDX-License-Identifier: Apache-2.0
"""What the library reports, in words for the author; and the user's page on expressions, line by line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubesaga.cel.pool import CelPool
from kubesaga.cel.worker import EXTENSIONS
from kubesaga.engine.language.expressions import ExpressionError

PAGE = (Path(__file__).parents[3] / "docs" / "expressions.md").read_text()
SCOPE: dict[str, Any] = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
EXAMPLES = re.findall(
    r"^(.+?) +// (=>|error:) (.+)$", "\n".join(re.findall(r"```cel\n(.*?)```", PAGE, re.DOTALL)), re.M
)


@pytest.fixture(scope="module")
def pool() -> Iterator[CelPool]:
    with CelPool(size=1) as it:
        yield it


@pytest.mark.parametrize(("expression", "kind", "expected"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_the_documented_examples_do_what_the_page_says(
    expression: str, kind: str, expected: str, pool: CelPool
) -> None:
    try:
        outcome = "=>", json.dumps(pool.evaluate(expression, SCOPE))
    except ExpressionError as error:
        outcome = "error:", error.message
    assert outcome == (kind, expected)


def test_every_example_is_looked_at() -> None:
    assert len(EXAMPLES) == len(re.findall(r" // (?:=>|error:) ", PAGE)) > 90


def test_the_page_names_the_extensions_that_are_switched_on() -> None:
    named = re.search(r"extensions of Google's cel-cpp: (.*?)\. There", PAGE, re.DOTALL)
    assert named
    assert sorted(re.split(r",\s+", named[1])) == sorted(
        "two-variable comprehensions" if name == "two-var-comprehensions" else name for name in EXTENSIONS
    )


VALUES: dict[str, Any] = {
    "inputs": {
        "n": 1,
        "d": 1.5,
        "s": "x",
        "none": None,
        "yes": True,
        "list": [{"id": 1}, {}],
        "map": {"a": {}},
        "big": 2**63,
    }
}


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        pytest.param("inputs.map.b + 1", "inputs.map.b: no such key", id="a missing key is named by its path"),
        pytest.param("has(inputs.map.b.c)", "inputs.map.b: no such key", id="has() forgives only the last"),
        pytest.param("has(inputs.s.c)", "inputs.s.c: inputs.s is a string, not an object", id="and only in an object"),
        pytest.param("inputs.x + inputs.y", "inputs.x: no such key", id="the missing key, not others that are missing too"),
        pytest.param("inputs.map.x + inputs.x", "inputs.map.x: no such key, or inputs.x: no such key", id="or all that it may be"),
        pytest.param("has(inputs.x) || inputs.list.map(l, l.id)[1] == 1", 'no such key: "id"', id="a key of no path"),
        pytest.param("inputs.list.map(inputs, inputs.id)", 'no such key: "id"', id="of a variable named like a root"),
        pytest.param("inputs['a\\nb'] + 1", 'no such key: "a\\nb"', id="a key with a line break"),
        pytest.param("inputs.list[2].id", "inputs.list[2]: no such item, the list has 2", id="a list that is too short"),
        pytest.param("inputs.list[inputs.n + 4]", "no such item: 5, the list has 2", id="a computed index"),
        pytest.param("inputs.list['a' + 'b']", "the index of a list must be a whole number", id="a computed string as index"),
        pytest.param("inputs.list.map(l, l.id.x)", "a member is asked of something that is neither an object nor a list",
                     id="a member of a number of no path"),
        pytest.param("inputs.d + 1", "`+` cannot be applied to double and int; use int(…) or double(…)", id="int and double"),
        pytest.param("inputs.n + 1u", "`+` cannot be applied to int and uint", id="int and uint"),
        pytest.param("-inputs.s", "`-` cannot be applied to string", id="one operand"),
        pytest.param("inputs.n && true", "`&&` needs true or false", id="logic"),
        pytest.param("!inputs.n", "`!` needs true or false", id="negation"),
        pytest.param("inputs.s.?a.orValue(1)", "`.?` cannot be applied to string and string", id="an optional member of a string"),
        pytest.param("inputs.n.startsWith('a')", "`startsWith` cannot be asked of int with (string)", id="a method"),
        pytest.param("inputs.list.join(',')", "`join` cannot be applied to these values", id="an extension's method"),
        pytest.param("inputs.?x.value()", "an optional value is absent; use .orValue(…)", id="an absent optional"),
        pytest.param("timestamp(inputs.s)", "String to Timestamp conversion failed", id="an unknown sentence is passed on"),
        pytest.param("type(inputs.n)", "it ends in a type, which JSON does not have", id="a type"),
        pytest.param("{1: 2}", "it ends in a map with the key 1; JSON objects have strings as keys", id="a key that is a number"),
        pytest.param("inputs.big", 2.0**63, id="a number beyond 64 bits is a double"),
        pytest.param("9223372036854775808u", 2.0**63, id="also as a result"),
        pytest.param("duration('-1.5s')", "-1.500s", id="a negative duration"),
        pytest.param("[timestamp('0001-01-01T00:00:00.25Z'), duration('1h')]", ["0001-01-01T00:00:00.250Z", "3600s"], id="times in a list"),
        pytest.param("[?inputs.?n, timestamp(0)]", [1, "1970-01-01T00:00:00Z"], id="times beside optionals"),
    ],
)  # fmt: skip
def test_what_the_library_reports_is_put_into_words(expression: str, sentence: Any, pool: CelPool) -> None:
    try:
        outcome = pool.evaluate(expression, VALUES)
    except ExpressionError as error:
        outcome = error.message
    assert outcome == sentence


@pytest.mark.parametrize("text", ["timestamp('2026-03-01T12:30:00.{}Z')", "duration('7.{}s')", "duration('-7.{}s')"])
@pytest.mark.parametrize("fraction", ["0", "5", "05", "120", "001", "0001", "123456"])
def test_times_are_written_as_cel_writes_them(text: str, fraction: str, pool: CelPool) -> None:
    expression = text.format(fraction)
    assert pool.evaluate(expression, {}) == pool.evaluate(f"string({expression})", {})
