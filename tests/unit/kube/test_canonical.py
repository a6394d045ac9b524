# SPDX-License-Identifier: Apache-2.0
"""The canonical JSON is what Go's encoder writes, and stays as it is when read and written again."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesaga.api.canonical import canonical_json, content_hash, revision_name

LINE, PARAGRAPH = "\u2028", "\u2029"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param({"b": 1, "a": [True, None, "x"]}, '{"a":[true,null,"x"],"b":1}', id="keys sorted, no spaces"),
        pytest.param({"é": "ü", "z": "日本😀"}, '{"z":"日本😀","é":"ü"}', id="unicode as it is, keys by code point"),
        pytest.param("<a & b>", r'"\u003ca \u0026 b\u003e"', id="HTML's characters escaped as Go does"),
        pytest.param(f"{LINE}{PARAGRAPH}", r'"\u2028\u2029"', id="JavaScript's line ends escaped as Go does"),
        pytest.param('"\\\n\r\t\b\f\x01\x7f', '"\\"\\\\\\n\\r\\t\\b\\f\\u0001\x7f"', id="control characters"),
        pytest.param({"<": 1}, r'{"\u003c":1}', id="keys are texts too"),
        pytest.param("\ud83d\ude00", '"😀"', id="a pair of surrogates is one character"),
        pytest.param("a\ud800b", '"a\ufffdb"', id="half a pair is replaced as Go does"),
        pytest.param({"\ue000": 1, "\ud800": 2}, '{"\ue000":1,"\ufffd":2}', id="keys are sorted as they are written"),
        pytest.param([1.0, 1, -0.0, True], "[1,1,0,true]", id="integral floats are integers, minus zero is zero"),
        pytest.param([1.5, 0.1, -2.25], "[1.5,0.1,-2.25]", id="floats"),
        pytest.param([1e-6, 1e-7, 1.5e-9], "[0.000001,1e-7,1.5e-9]", id="small floats"),
        pytest.param([1e16, 1e20, 1.5e300], "[10000000000000000,100000000000000000000,1.5e+300]", id="large floats"),
        pytest.param(1e21, "1e+21", id="from here on in scientific form"),
        pytest.param(1.2345678901234567e20, "123456789012345670000", id="no more digits than a float has"),
        pytest.param([2**63 - 1, -(2**63)], "[9223372036854775807,-9223372036854775808]", id="all of int64 exactly"),
        pytest.param([2**63, 2**70], "[9223372036854776000,1.1805916207174113e+21]", id="beyond int64: as a float64"),
        pytest.param({"t": (1, 2), "e": {}, "l": []}, '{"e":{},"l":[],"t":[1,2]}', id="a tuple is a list"),
    ],
)
def test_canonical_json(value: Any, expected: str) -> None:
    assert canonical_json(value) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.nan]])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not a JSON number"):
        canonical_json(value)


@pytest.mark.parametrize("value", [b"x", {1: 2}, {"a": object()}, {1, 2}])
def test_what_json_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


TEXTS = st.text(st.characters(codec=None, exclude_categories=()))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


@given(JSON_VALUES)
def test_it_stays_as_it_is_when_read_and_written_again(value: Any) -> None:
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_keeps_its_value(value: float) -> None:
    assert float(json.loads(canonical_json(value))) == value


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        pytest.param("tickets", "tickets-44136fa355", id="name and hash"),
        pytest.param("x" * 80, "x" * 52 + "-44136fa355", id="a long name is cut"),
        pytest.param("x" * 51 + "-y", "x" * 51 + "-44136fa355", id="no two dashes where it was cut"),
    ],
)
def test_names_of_revisions(owner: str, expected: str) -> None:
    assert revision_name(owner, {}) == expected
    assert len(expected) <= 63


def test_the_same_content_has_the_same_name_and_other_content_another() -> None:
    one = {"a": 1.0, "b": ["<"]}
    assert revision_name("w", one) == revision_name("w", {"b": ["<"], "a": 1})
    assert revision_name("w", one) != revision_name("w", {"b": ["<"], "a": 2})
    assert revision_name("w", one).endswith(content_hash(one))
