# SPDX-License-Identifier: Apache-2.0
"""What somebody types becomes a value of the type that the Workflow declares."""

from __future__ import annotations

from typing import Any

import pytest

from kubesaga.api.workflow import Input, InputType
from kubesaga.cli.inputs import merged_inputs, typed_inputs


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        pytest.param("string", "12", "12", id="a string stays a string"),
        pytest.param("string", "a=b", "a=b", id="only the first = counts"),
        pytest.param("string", "", "", id="an empty string"),
        pytest.param("integer", "12", 12, id="an integer"),
        pytest.param("integer", "twelve", "twelve", id="what is no integer is left to be refused"),
        pytest.param("number", "1.5", 1.5, id="a number"),
        pytest.param("boolean", "true", True, id="a boolean"),
        pytest.param("object", '{"a": [1]}', {"a": [1]}, id="an object"),
        pytest.param("array", "[1, 2]", [1, 2], id="an array"),
        pytest.param("array", "[" * 100_000, "[" * 100_000, id="brackets without end"),
    ],
)
def test_a_value(type_: str, text: str, value: Any) -> None:
    assert typed_inputs([Input(name="x", type=InputType(type_))], [f"x={text}"]) == {"x": value}


def test_an_input_that_is_not_declared_is_kept_to_be_refused() -> None:
    assert typed_inputs([], ["x=1"]) == {"x": "1"}


@pytest.mark.parametrize("text", ["x", "=1", ""])
def test_what_is_no_pair(text: str) -> None:
    with pytest.raises(ValueError, match="is not NAME=VALUE"):
        typed_inputs([], [text])


def test_the_later_layer_wins() -> None:
    assert merged_inputs({"a": 1, "b": 1}, None, {"b": 2}) == {"a": 1, "b": 2}
