# SPDX-License-Identifier: Apache-2.0
"""YAML is read as kubectl reads it, with lines, and nothing in it can use up memory or stack."""

from __future__ import annotations

from typing import Any

import pytest

from kubesaga.cli.yaml_text import MAX_BYTES, Unreadable, read_yaml


def one(text: str) -> Any:
    (document,) = read_yaml(text)
    return document.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("v: 7", 7, id="a number"),
        pytest.param("v: -12", -12, id="a negative number"),
        pytest.param("v: 010", 8, id="a number that begins with 0 is octal"),
        pytest.param("v: 0x1F", 31, id="hexadecimal"),
        pytest.param("v: 0b101", 5, id="binary"),
        pytest.param("v: 1_000", 1000, id="digits in groups"),
        pytest.param("v: 1e3", 1000.0, id="an exponent without a point is a number too"),
        pytest.param("v: .5", 0.5, id="a point at the start"),
        pytest.param("v: 1.2.3", "1.2.3", id="a version is a string"),
        pytest.param("v: 12:30", "12:30", id="a time of day is a string, not 750"),
        pytest.param("v: 2026-01-31", "2026-01-31", id="a date is a string"),
        pytest.param("v: on", True, id="on is true"),
        pytest.param("v: n", False, id="n is false"),
        pytest.param("v: ~", None, id="a tilde is null"),
        pytest.param("v:", None, id="nothing is null"),
        pytest.param('v: "on"', "on", id="in quotes it is a string"),
        pytest.param("v: !!str 12", "12", id="a tag may say that it is a string"),
        pytest.param("v: |\n  a\n  b\n", "a\nb\n", id="a block"),
        pytest.param("v: -x", "-x", id="a word that begins with a dash"),
    ],
)
def test_a_word(text: str, value: Any) -> None:
    found = one(text)["v"]
    assert found == value
    assert type(found) is type(value)


def test_an_alias_repeats_what_it_names() -> None:
    assert one("a: &x {p: [1]}\nb: *x") == {"a": {"p": [1]}, "b": {"p": [1]}}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: &x {p: 1, q: 2}\nb: {<<: *x, p: 3}", id="one object"),
        pytest.param("a: &x {q: 2}\nc: &y {q: 9, p: 9}\nb: {<<: [*x, *y], p: 3}", id="several, the first wins"),
    ],
)
def test_a_merge_fills_in_what_is_not_there(text: str) -> None:
    assert one(text)["b"] == {"p": 3, "q": 2}


def test_documents_that_hold_nothing_are_left_out() -> None:
    assert [document.value for document in read_yaml("---\n# a comment\n---\na: 1\n---\n---\nb: 2\n")] == [
        {"a": 1},
        {"b": 2},
    ]


def test_a_number_as_a_key_is_its_text() -> None:
    assert one("1: a\n08: b") == {"1": "a", "08": "b"}


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        pytest.param("a: [1,\n2", 2, "is not YAML", id="a bracket that is not closed"),
        pytest.param("a: -", 1, "is not YAML", id="a lone dash"),
        pytest.param("a: b: c", 1, "is not YAML", id="two colons"),
        pytest.param("a: \x01", 0, "is not YAML", id="a control character"),
        pytest.param("a: 1\nb: *x", 2, "the alias *x names nothing", id="an alias of nothing"),
        pytest.param("a: &x [*x]", 1, "the alias *x names nothing", id="an alias of itself"),
        pytest.param("a: !!binary aGk=", 1, "the tag !!binary means nothing", id="a tag of another kind"),
        pytest.param("a: !!python/object:os.system {}", 1, "the tag !!python/object:os.system means nothing", id="a tag that would run code"),
        pytest.param("a: .nan", 1, "a number that JSON does not have", id="no number"),
        pytest.param("a: 1e999", 1, "too large", id="a number beyond all"),
        pytest.param("? [1]\n: 2", 1, "a key must be a string", id="a list as a key"),
        pytest.param("a: 1\non: 2", 2, "the key on is true in YAML; put it in quotes", id="a boolean as a key"),
        pytest.param("{<<: 5}", 1, "what is merged by << must be an object", id="a merge of a number"),
        pytest.param("[" * 200_000, 1, "nested deeper than 100 levels", id="brackets without end"),
        pytest.param("- " * 200, 1, "nested deeper than 100 levels", id="dashes without end"),
        pytest.param("x" * (MAX_BYTES + 1), 0, "is longer than 1,048,576 characters", id="a text without end"),
    ],
)  # fmt: skip
def test_what_cannot_be_an_object_is_refused(text: str, line: int, sentence: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_yaml(text)
    assert caught.value.line == line
    assert sentence in str(caught.value)


def test_aliases_of_aliases_do_not_use_up_memory() -> None:
    """Ten levels of ten are 40 KB of text's worth at the fifth level and ten gigabytes at the last."""
    levels = [f"b{level}: &b{level} [{', '.join([f'*b{level - 1}'] * 10)}]" for level in range(1, 11)]
    with pytest.raises(Unreadable, match="the aliases make it larger than"):
        read_yaml("\n".join([f"b0: &b0 [{', '.join(['xxxxx'] * 10)}]", *levels]))


def test_aliases_do_not_lead_deeper_either() -> None:
    deep = "[" * 60 + "]" * 60
    with pytest.raises(Unreadable, match="the aliases make it nested deeper"):
        read_yaml(f"a: &a {deep}\nb: {'[' * 60}*a{']' * 60}")


TEXT = """\
metadata:
  name: x
spec:
  activities:
  - name: a
    params:
      "a-b": 1
      c: {d: 2}
  - name: b
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param("metadata.name", 2, id="a field"),
        pytest.param("spec.activities[1].name", 9, id="a field in a list"),
        pytest.param('spec.activities[0].params["a-b"]', 7, id="a key in quotes"),
        pytest.param("spec.activities[0].params.c.d", 8, id="in one line with others"),
        pytest.param("spec.activities[1].handler", 9, id="what is missing: where it is missing"),
        pytest.param("spec.timeout", 3, id="what is missing in an object"),
        pytest.param("", 1, id="the document"),
    ],
)
def test_the_line_of_a_field(path: str, line: int) -> None:
    (document,) = read_yaml(TEXT)
    assert document.line(path) == line


def test_lines_count_through_all_documents() -> None:
    _, second = read_yaml("a: 1\n---\nb:\n  c: 1\n")
    assert second.line("b.c") == 4


def test_a_key_that_is_there_twice_is_told() -> None:
    (document,) = read_yaml("a:\n  b: 1\n  c: 2\n  b: 3\n")
    (problem,) = document.problems
    assert str(problem) == "a.b: the key b stands here twice, first in line 2; remove one of them"
    assert document.line("a.b") == 4
