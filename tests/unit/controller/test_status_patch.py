# SPDX-License-Identifier: Apache-2.0
"""The smallest patch from one status to another loses nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesaga.controller.status_patch import holds_null, json_patch, merge_patch, merge_patch_suffices
from kubesaga.testing.api_server import merged

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["phase", "message", "outputs", "variables", "a/b", "x~y"])
statuses = st.fixed_dictionaries(
    {},
    optional={
        "activities": st.dictionaries(st.sampled_from(["a", "b", "a/b"]), st.dictionaries(names, values), max_size=3)
    },
).flatmap(
    lambda fixed: st.dictionaries(names, values.filter(lambda v: v is not None), max_size=4).map(
        lambda more: {**more, **fixed}
    )
)


def apply_json_patch(status: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """Apply the operations that we use, as RFC 6902 says."""
    body: dict[str, Any] = {"status": merged(status, {})}
    for operation in operations[1:]:
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        target: Any = body
        for part in path:
            target = target[part]
        if operation["op"] == "remove":
            del target[last]
        else:
            target[last] = operation["value"]
    result: dict[str, Any] = body["status"]
    return result


@given(statuses, statuses)
def test_a_merge_patch_that_suffices_makes_the_new_status(old: dict[str, Any], new: dict[str, Any]) -> None:
    if merge_patch_suffices(old, new):
        assert merged(old, merge_patch(old, new)) == new


@given(statuses, statuses.filter(bool))
def test_a_json_patch_always_makes_the_new_status(old: dict[str, Any], new: dict[str, Any]) -> None:
    # An activity, once recorded, is never taken out of the record.
    new = {**new, "activities": {**old.get("activities", {}), **new.get("activities", {})}}
    assert apply_json_patch(old, json_patch(old, new, "7")) == new


@given(statuses)
def test_nothing_changed_is_an_empty_patch(status: dict[str, Any]) -> None:
    assert merge_patch(status, status) == {}


@pytest.mark.parametrize(
    ("old", "new", "suffices"),
    [
        pytest.param({}, {"outputs": {"a": None}}, False, id="a null in an output would be lost"),
        pytest.param({"outputs": {"a": None}}, {"outputs": {"a": None}, "phase": "Running"}, True, id="a null that does not change is not sent"),
        pytest.param({}, {"outputs": {"a": [None]}}, True, id="a null in a list is kept by a merge patch"),
        pytest.param({}, {"outputs": {"a": [{"b": None}]}}, False, id="a null in an object in a list is not looked into by every server"),
        pytest.param({"message": "x"}, {}, True, id="a field that goes is what null is for"),
        pytest.param({"activities": {"a": {"output": {"x": None}}}}, {"activities": {"a": {"output": {"x": None}}, "b": {}}}, True,
                     id="only the activities that change are looked at"),
    ],
)  # fmt: skip
def test_when_a_merge_patch_suffices(old: dict[str, Any], new: dict[str, Any], suffices: bool) -> None:
    assert merge_patch_suffices(old, new) is suffices


def test_nulls_are_found_at_any_depth() -> None:
    assert holds_null({"a": {"b": [{"c": None}]}})
    assert not holds_null({"a": {"b": [None, 1]}})


def test_a_json_patch_is_bound_to_the_version_it_was_made_from() -> None:
    assert json_patch({}, {"phase": "Running"}, "42")[0] == {
        "op": "test",
        "path": "/metadata/resourceVersion",
        "value": "42",
    }
