# SPDX-License-Identifier: Apache-2.0
"""The smallest patch that makes one status of another.

A JSON merge patch (RFC 7386) is the cheapest write the API server has, but null in it means "remove": a null inside a
value, such as an output `{"agent": null}`, would be lost. A status that holds one is written by JSON patch (RFC 6902).
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def merge_patch(old: Json, new: Json) -> Json:
    """Return the merge patch from old to new: changed keys, null for removed ones; empty if nothing changed."""
    patch: Json = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if before == value and name in old:
            continue
        if isinstance(before, dict) and isinstance(value, dict):
            patch[name] = merge_patch(before, value)
        else:
            patch[name] = value
    return patch


def holds_null(value: Any) -> bool:
    """Tell whether a value holds a null as a member of an object, which a merge patch would drop."""
    if isinstance(value, dict):
        return any(item is None or holds_null(item) for item in value.values())
    return isinstance(value, list) and any(holds_null(item) for item in value)


def json_patch(old: Json, new: Json, version: str) -> list[Json]:
    """Return the JSON patch from old to new status, two levels deep, that applies only to this version of the object."""
    operations: list[Json] = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}]
    if not old:
        return [*operations, {"op": "add", "path": "/status", "value": new}]
    operations += [{"op": "remove", "path": f"/status/{_escaped(name)}"} for name in old if name not in new]
    for name, value in new.items():
        before = old.get(name)
        if before == value and name in old:
            continue
        if name == "activities" and isinstance(before, dict):
            operations += [
                {"op": "add", "path": f"/status/activities/{_escaped(activity)}", "value": entry}
                for activity, entry in value.items()
                if before.get(activity) != entry
            ]
        else:
            operations.append({"op": "add", "path": f"/status/{_escaped(name)}", "value": value})
    return operations


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def merge_patch_suffices(old: Json, new: Json) -> bool:
    """Tell whether nothing that changes holds a null that a merge patch would drop."""
    for name, value in new.items():
        before = old.get(name)
        if name == "activities" and isinstance(before, dict):
            if any(before.get(activity) != entry and holds_null(entry) for activity, entry in value.items()):
                return False
        elif before != value and holds_null(value):
            return False
    return True
