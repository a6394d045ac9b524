# SPDX-License-Identifier: Apache-2.0
"""Conditions of a trigger: what each asks, what is refused, and why one holds or not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesaga.engine.language.condition_operators import OPERATORS, WORDS, equal
from kubesaga.engine.language.conditions import Explanation, compile_conditions
from kubesaga.errors import InvalidSpec

TICKET: dict[str, Any] = {
    "priority": "high", "amount": 7, "ratio": 0.5, "open": True, "assignee": None, "title": "Outage in Berlin",
    "tags": ["vip", "new"], "none": [], "blank": "", "customer": {"tier": "gold", "a.b": 1, "contacts": [{"id": 1}]},
    "and": "x", "0": "zero", "half": "\ud800",
}  # fmt: skip


def holds(conditions: dict[str, Any], data: Any = TICKET) -> bool:
    node = compile_conditions(conditions)
    answer = node.holds(data)
    assert node.explain(data).holds is answer, "the explanation says the same"
    return answer


HOLD: list[tuple[str, dict[str, Any]]] = [
    ("no conditions at all", {}),
    ("a value is equal", {"priority": "high"}),
    ("two paths are both equal", {"priority": "high", "amount": 7}),
    ("1 is 1.0", {"amount": 7.0}),
    ("a boolean is equal", {"open": True}),
    ("a path leads into an object", {"customer.tier": "gold"}),
    ("a path leads into a list by an index", {"tags[0]": "vip"}),
    ("an index may be written as a name", {"tags.1": "new"}),
    ("a path goes through a list of objects", {"customer.contacts[0].id": 1}),
    ("a name with a dot is quoted", {'customer["a.b"]': 1}),
    ("a field called and is quoted", {'["and"]': "x"}),
    ("a name of digits is a name in an object", {"0": "zero"}),
    ("a list is equal, item by item", {"tags": {"eq": ["vip", "new"]}}),
    ("an object is equal, whatever the order", {"customer.contacts[0]": {"eq": {"id": 1.0}}}),
    ("neq", {"priority": {"neq": "low"}}),
    ("gt", {"amount": {"gt": 6.9}}),
    ("gte at the bound", {"amount": {"gte": 7}}),
    ("lt", {"amount": {"lt": 8}}),
    ("lte at the bound", {"amount": {"lte": 7}}),
    ("two operators on one path", {"amount": {"gt": 1, "lt": 10}}),
    ("strings are ordered too", {"priority": {"gt": "hello"}}),
    ("in", {"priority": {"in": ["high", "urgent"]}}),
    ("nin", {"priority": {"nin": ["low", "normal"]}}),
    ("regex fits anywhere", {"title": {"regex": "age in B"}}),
    ("regex with an anchor and a flag", {"title": {"regex": "(?i)^outage"}}),
    ("nregex", {"title": {"nregex": "^x"}}),
    ("starts", {"title": {"starts": "Out"}}),
    ("nstarts", {"title": {"nstarts": "in"}}),
    ("ends", {"title": {"ends": "Berlin"}}),
    ("nends", {"title": {"nends": "Paris"}}),
    ("contains in a string", {"title": {"contains": "age"}}),
    ("contains in a list", {"tags": {"contains": "vip"}}),
    ("ncontains in a list", {"tags": {"ncontains": "old"}}),
    ("isnull of null", {"assignee": {"isnull": True}}),
    ("isnull of what is not there", {"nobody": {"isnull": True}}),
    ("isnull: false of what is there", {"priority": {"isnull": False}}),
    ("isempty of an empty string", {"blank": {"isempty": True}}),
    ("isempty of an empty list", {"none": {"isempty": True}}),
    ("isempty: false", {"tags": {"isempty": False}}),
    ("neq of what is not there", {"nobody": {"neq": "x"}}),
    ("nin of what is not there", {"nobody": {"nin": ["x"]}}),
    ("ncontains of what is not there", {"nobody": {"ncontains": "x"}}),
    ("nregex of what is not there", {"nobody": {"nregex": "x"}}),
    ("nstarts of null", {"assignee": {"nstarts": "x"}}),
    ("nends of null", {"assignee": {"nends": "x"}}),
    ("or with one that holds", {"or": [{"priority": "low"}, {"amount": 7}]}),
    ("and of two", {"and": [{"priority": "high"}, {"amount": 7}]}),
    ("not of what does not hold", {"not": {"priority": "low"}}),
    ("not of what is not there", {"not": {"nobody": "x"}}),
    ("logic inside logic", {"or": [{"not": {"and": [{"priority": "high"}, {"amount": 8}]}}]}),
    ("nregex of a text that is no Unicode", {"half": {"nregex": "x"}}),
]
DO_NOT: list[tuple[str, dict[str, Any]]] = [
    ("another value", {"priority": "low"}),
    ("one of two paths", {"priority": "high", "amount": 8}),
    ("true is not 1", {"open": 1}),
    ("1 is not true", {"customer.contacts[0].id": True}),
    ("what is not there equals nothing", {"nobody": "x"}),
    ("null equals nothing", {"assignee": "x"}),
    ("an index beyond the list", {"tags[2]": "vip"}),
    ("a name in a list", {"tags.vip": "vip"}),
    ("a path through a string", {"priority.x": "high"}),
    ("a bracketed index in an object", {"customer[0]": "gold"}),
    ("gt at the bound", {"amount": {"gt": 7}}),
    ("gt of a string with a number", {"priority": {"gt": 1}}),
    ("lte of a string with a number", {"priority": {"lte": 1}}),
    ("gt of a boolean", {"open": {"gt": 0}}),
    ("gt of what is not there", {"nobody": {"gt": 0}}),
    ("lt of null", {"assignee": {"lt": 9}}),
    ("in of what is not there", {"nobody": {"in": ["x"]}}),
    ("regex of a number", {"amount": {"regex": "7"}}),
    ("nregex of a number: the type is wrong", {"amount": {"nregex": "x"}}),
    ("nstarts of a number: the type is wrong", {"amount": {"nstarts": "x"}}),
    ("ncontains of a number: the type is wrong", {"amount": {"ncontains": "x"}}),
    ("contains of a number in a string", {"title": {"contains": 1}}),
    ("regex of a text that is no Unicode", {"half": {"regex": "."}}),
    ("isempty of what is not there", {"nobody": {"isempty": True}}),
    ("isempty: false of what is not there", {"nobody": {"isempty": False}}),
    ("isempty of a number", {"amount": {"isempty": True}}),
    ("isempty: false of a number", {"amount": {"isempty": False}}),
    ("isnull: false of null", {"assignee": {"isnull": False}}),
    ("isnull: false of what is not there", {"nobody": {"isnull": False}}),
    ("or with none that holds", {"or": [{"priority": "low"}, {"amount": 8}]}),
    ("not of what holds", {"not": {"priority": "high"}}),
]


@pytest.mark.parametrize("conditions", [pytest.param(row[1], id=row[0]) for row in HOLD])
def test_it_holds(conditions: dict[str, Any]) -> None:
    assert holds(conditions)


@pytest.mark.parametrize("conditions", [pytest.param(row[1], id=row[0]) for row in DO_NOT])
def test_it_does_not_hold(conditions: dict[str, Any]) -> None:
    assert not holds(conditions)


@pytest.mark.parametrize("data", [None, 1, "text", [], True])
def test_data_that_is_no_object_has_nothing_at_any_path(data: Any) -> None:
    assert not holds({"a": 1}, data)
    assert holds({"a": {"isnull": True}}, data)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "path", "told"),
    [
        pytest.param({"a": {"inn": [1]}}, "c.a.inn", "did you mean in?", id="a misspelt operator"),
        pytest.param({"a": {"~in": [1]}}, 'c.a["~in"]', "did you mean in?", id="an operator with a tilde"),
        pytest.param({"a": {"city": 1}}, "c.a.city", "write a.city", id="an object meant as a path"),
        pytest.param({"a": {"or": []}}, "c.a.or", "stand beside the paths", id="logic below a path"),
        pytest.param({"a": {}}, "c.a", "is empty", id="an empty object"),
        pytest.param({"a": None}, "c.a", "by isnull: true", id="equal to null"),
        pytest.param({"a": {"neq": None}}, "c.a.neq", "by isnull: true", id="other than null"),
        pytest.param({"a": {"in": 1}}, "c.a.in", "must be a list of values, but is a number", id="in without a list"),
        pytest.param({"a": {"in": []}}, "c.a.in", "is an empty list", id="in nothing"),
        pytest.param({"a": {"nin": [None]}}, "c.a.nin", "has null in it", id="null in a list"),
        pytest.param({"a": {"gt": True}}, "c.a.gt", "a number or a string, but is a boolean", id="greater than true"),
        pytest.param({"a": {"regex": "("}}, "c.a.regex", "is no pattern of RE2: missing )", id="half a pattern"),
        pytest.param({"a": {"regex": "(?=x)"}}, "c.a.regex", "look-around", id="look-ahead"),
        pytest.param({"a": {"nregex": 5}}, "c.a.nregex", "must be a string, but is a number", id="a number as a pattern"),
        pytest.param({"a": {"regex": "x" * 600}}, "c.a.regex", "at most 512", id="a long pattern"),
        pytest.param({"a": {"regex": "(x{100}){100}"}}, "c.a.regex", "is no pattern of RE2", id="a pattern that explodes"),
        pytest.param({"a": {"starts": ""}}, "c.a.starts", "found in every string", id="begins with nothing"),
        pytest.param({"a": {"contains": ""}}, "c.a.contains", "found in every string", id="contains nothing"),
        pytest.param({"a": {"isnull": "yes"}}, "c.a.isnull", "must be true or false", id="isnull: yes"),
        pytest.param({"a": {"isempty": 1}}, "c.a.isempty", "must be true or false", id="isempty: 1"),
        pytest.param({"a..b": 1}, 'c["a..b"]', "is not a path", id="two dots"),
        pytest.param({".a": 1}, 'c[".a"]', "is not a path", id="a dot at the front"),
        pytest.param({"a[x]": 1}, 'c["a[x]"]', "is not a path", id="an index that is no number"),
        pytest.param({"": 1}, 'c[""]', "is not a path", id="an empty path"),
        pytest.param({"and": {"a": 1}}, "c.and", "must be a list of conditions", id="and with an object"),
        pytest.param({"or": []}, "c.or", "is an empty list", id="or of nothing"),
        pytest.param({"or": [1]}, "c.or[0]", "must be an object with conditions", id="or of a number"),
        pytest.param({"not": {}}, "c.not", "is empty", id="not of nothing"),
        pytest.param({"not": [{"a": 1}]}, "c.not", "but is a list", id="not of a list"),
        pytest.param({"and": [{f"a{n}": n for n in range(201)}]}, "c", "asks 201 questions", id="too many questions"),
    ],
)  # fmt: skip
def test_refused_when_it_is_written(conditions: dict[str, Any], path: str, told: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        compile_conditions(conditions, "c")
    (problem,) = caught.value.problems
    assert problem.path == path
    assert told in problem.message


def test_refused_beyond_a_depth() -> None:
    deep: dict[str, Any] = {"a": 1}
    for _ in range(20):
        deep = {"not": deep}
    with pytest.raises(InvalidSpec, match="nested too deeply"):
        compile_conditions(deep)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidSpec) as caught:
        compile_conditions({"a": None, "b": {"x": 1}, "or": [{"c": {"in": []}}]}, "c")
    assert [problem.path for problem in caught.value.problems] == ["c.a", "c.b.x", "c.or[0].c.in"]


# --- why ------------------------------------------------------------------------------------------------------------


def sentences(why: Explanation, depth: int = 0) -> list[str]:
    sign = "+" if why.holds else "-"
    return [
        f"{'  ' * depth}{sign} {why.sentence}",
        *(line for part in why.parts for line in sentences(part, depth + 1)),
    ]


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        pytest.param({}, ["+ there are no conditions"], id="nothing"),
        pytest.param({"priority": "high"}, ['+ priority equals "high"'], id="equal"),
        pytest.param({"priority": "low"}, ['- priority does not equal "low": it is "high"'], id="not equal"),
        pytest.param({"amount": {"gt": 9}}, ["- amount is not greater than 9: it is 7"], id="too small"),
        pytest.param({"amount": {"starts": "x"}}, ["- amount is 7, and starts asks for a string"], id="a wrong type"),
        pytest.param({"open": {"gt": 3}}, ["- open is true, and gt asks for a number"], id="a wrong type to compare"),
        pytest.param({"nobody": "x"}, ["- nobody is not there, or null"], id="not there"),
        pytest.param({"nobody": {"neq": "x"}}, ["+ nobody is not there, or null"], id="not there, as it should be"),
        pytest.param({"tags": {"isempty": True}}, ["- tags is not empty"], id="not empty"),
        pytest.param({"tags": {"isnull": True}}, ['- tags is there: it is ["vip", "new"]'], id="there"),
        pytest.param(
            {"or": [{"priority": "low"}, {"not": {"amount": 7}}], "tags[0]": "vip"},
            [
                "- not all of these hold",
                "  - none of these holds",
                '    - priority does not equal "low": it is "high"',
                "    - this holds and must not",
                "      + amount equals 7",
                '  + tags[0] equals "vip"',
            ],
            id="a tree",
        ),
    ],
)
def test_why(conditions: dict[str, Any], told: list[str]) -> None:
    assert sentences(compile_conditions(conditions).explain(TICKET)) == told


# --- whatever arrives -----------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
WANTED = {
    **dict.fromkeys(("gt", "gte", "lt", "lte"), st.integers() | st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False)),
    **dict.fromkeys(("in", "nin"), st.lists(VALUES.filter(lambda value: value is not None), min_size=1, max_size=3)),
    **dict.fromkeys(("regex", "nregex"), st.sampled_from(["a", "^$", "[0-9]+", "(?i)x|y"])),
    **dict.fromkeys(("starts", "nstarts", "ends", "nends"), st.text(min_size=1, max_size=3)),
    **dict.fromkeys(("contains", "ncontains"), VALUES.filter(lambda value: value not in (None, ""))),
    **dict.fromkeys(("eq", "neq"), VALUES.filter(lambda value: value is not None)),
    **dict.fromkeys(("isnull", "isempty"), st.booleans()),
}  # fmt: skip


def test_every_operator_is_tried() -> None:
    assert set(WANTED) == set(WORDS)


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, Any]:
    word = draw(st.sampled_from(sorted(WANTED)))
    return word, draw(WANTED[word])


@given(question=questions(), value=VALUES)
def test_asking_never_fails_and_is_explained(question: tuple[str, Any], value: Any) -> None:
    word, wanted = question
    node = compile_conditions({"a": {word: wanted}})
    for data in ({"a": value}, {}, value):
        assert node.explain(data).holds is node.holds(data)


@given(data=st.data(), word=st.sampled_from(["eq", "in", "regex", "starts", "ends", "contains"]), value=VALUES)
def test_a_negation_is_the_opposite_but_for_a_wrong_type(data: st.DataObject, word: str, value: Any) -> None:
    wanted = data.draw(WANTED[word])
    positive = compile_conditions({"a": {word: wanted}}).holds({"a": value})
    negative = compile_conditions({"a": {f"n{word}": wanted}}).holds({"a": value})
    if value is None:
        assert (positive, negative) == (False, True), "what is not there: the negation holds"
    elif OPERATORS[word].ask(value, wanted) is None:
        assert (positive, negative) == (False, False), "a wrong type: neither holds"
    else:
        assert positive is not negative


@given(question=questions(), value=VALUES)
def test_not_is_always_the_opposite(question: tuple[str, Any], value: Any) -> None:
    asked = {"a": {question[0]: question[1]}}
    assert compile_conditions({"not": asked}).holds({"a": value}) is not compile_conditions(asked).holds({"a": value})


@given(value=VALUES.filter(lambda value: "nan" not in repr(value)))
def test_a_value_equals_itself(value: Any) -> None:
    assert equal(value, value)


def test_deep_values_are_compared_without_recursion() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert equal(deep, deep)
