# SPDX-License-Identifier: Apache-2.0
"""Conditions that compare texts: answered without CEL, and as CEL answers them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesaga.cel.pool import CelPool
from kubesaga.engine.language.equalities import holds
from kubesaga.engine.language.expressions import ExpressionError, condition

SCOPE = {
    "a": {"t": "x", "u": "y", "n": 1, "f": 1.5, "none": None, "odd": "é", "list": ["x"]},
    "b": {"t": "x", "deep": {"t": "y"}},
}


@pytest.fixture(scope="module")
def cel() -> Iterator[CelPool]:
    with CelPool(size=1) as pool:
        yield pool


@pytest.mark.parametrize(("expression", "answer"), [
    pytest.param("a.t == b.t", True, id="two texts that are the same"),
    pytest.param("a.u == b.t", False, id="two that are not"),
    pytest.param(' a.t=="x" ', True, id="a text that is written there"),
    pytest.param("'y' == b.deep.t", True, id="the other way round"),
    pytest.param('a.t == b.t && a.u == "y"', True, id="two comparisons that hold"),
    pytest.param('a.t == b.t && a.u == "z"', False, id="two of which one does not"),
    pytest.param("a.n == a.f", None, id="numbers are the evaluator's"),
    pytest.param("a.none == a.t", None, id="null too"),
    pytest.param("a.odd == a.t", None, id="and what is more than ASCII"),
    pytest.param("a.gone == a.t", None, id="and what is not there"),
    pytest.param("a.t == b.t || true", None, id="and any other condition"),
    pytest.param("a.t == b.t == true", None, id="a comparison of comparisons"),
    pytest.param("a.t", None, id="a path"),
    pytest.param('a.t == "\\x78"', None, id="a text with escapes"),
    pytest.param("a.t == b.t &&", None, id="half of one"),
    pytest.param("a.t != b.t", None, id="inequality"),
    pytest.param('a.t == """x"""', None, id="a text in three quotes"),
    pytest.param('a.t == r"x"', None, id="a raw text"),
])  # fmt: skip
def test_a_condition(expression: str, answer: bool | None) -> None:
    assert holds(expression, SCOPE) is answer


SIDES = st.sampled_from(
    ["a.t", "a.u", "a.n", "a.f", "a.none", "a.odd", "a.gone", "a.list", "b.t", "b.deep", "b.deep.t", '"x"', "'y'", '""']
)
COMPARED = st.tuples(SIDES, SIDES).map(" == ".join)


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(COMPARED, min_size=1, max_size=3))
def test_it_is_answered_as_cel_answers_it(parts: list[str], cel: CelPool) -> None:
    expression = " && ".join(parts)
    answer = holds(expression, SCOPE)
    assert answer is None or answer is cel.evaluate(expression, SCOPE)
    assert answer is None or condition(expression, SCOPE, _Nobody()) is answer


class _Nobody:
    """An evaluator that must not be asked."""

    def evaluate(self, expression: str, _scope: Any) -> Any:
        raise ExpressionError(expression, "asked")

    def check(self, *_: Any) -> None:
        return None
