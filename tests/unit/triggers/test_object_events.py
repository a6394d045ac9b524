# SPDX-License-Identifier: Apache-2.0
"""The event that a change of a watched object is: the same whoever tells it, without secrets, and never too large."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubesaga.api.event_types import find_type, is_known
from kubesaga.api.object_source import KubernetesObjects, LabelRequirement, LabelSelector, ObjectEvent
from kubesaga.engine.language.schemas import violation
from kubesaga.kube.resources import Resource
from kubesaga.testing.paths import PathEvaluator
from kubesaga.triggers.objects.changes import (
    Change,
    change_of,
    event_of_change,
    is_truncated,
    provenance_of,
    scope_of,
)

MAPS = KubernetesObjects(api_version="v1", kind="ConfigMap")
CONFIG_MAPS = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")
DEPLOYMENTS = Resource(group="apps", version="v1", plural="deployments", kind="Deployment")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def config(version: str = "7", metadata: dict[str, Any] | None = None, **data: str) -> dict[str, Any]:
    known = {"namespace": "support", "name": "a", "uid": "u-1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": {**known, "resourceVersion": version, **(metadata or {})}, "data": data}


@pytest.mark.parametrize(("old", "new", "attributes"), [
    pytest.param(
        None, config("7"), {"id": "u-1/7/added", "type": "kubernetes:configmap:added", "time": "2026-01-01T00:00:00Z"},
        id="added: when it was created",
    ),
    pytest.param(config("7"), config("9"), {"id": "u-1/9/modified", "type": "kubernetes:configmap:modified"}, id="modified: with its version then"),
    pytest.param(config("9"), None, {"id": "u-1/9/deleted", "type": "kubernetes:configmap:deleted"}, id="deleted: with its last version"),
    pytest.param(
        config("9", {"deletionTimestamp": "2026-01-01T00:01:00Z"}), None, {"id": "u-1/9/deleted", "time": "2026-01-01T00:01:00Z"},
        id="deleted: when that was ordered, if something held it",
    ),
])  # fmt: skip
def test_what_an_event_bears(old: Any, new: Any, attributes: dict[str, str]) -> None:
    event = event_of_change(MAPS, CONFIG_MAPS, change_of(old, new))
    always = {"specversion": "1.0", "source": "/api/v1/namespaces/support/configmaps", "subject": "a"}
    shown = {name: value for name, value in event.document.items() if name != "data"}
    assert shown == {**always, "type": event.type, **attributes}
    assert json.loads(event.text) == event.document


def test_an_object_of_a_group_says_so_in_its_source() -> None:
    deployments = KubernetesObjects(api_version="apps/v1", kind="Deployment")
    event = event_of_change(deployments, DEPLOYMENTS, change_of(None, config()))
    assert (event.type, event.source) == ("kubernetes:deployment:added", "/apis/apps/v1/namespaces/support/deployments")


def test_it_shows_the_object_without_bookkeeping_and_what_it_was_before() -> None:
    noted = {"annotations": {LAST_APPLIED: "{}", "team": "desk"}, "managedFields": [{}]}
    event = event_of_change(MAPS, CONFIG_MAPS, change_of(config("7", noted, size="1"), config("9", noted, size="2")))
    assert isinstance(event.data, dict)
    assert event.data["object"]["kind"] == "ConfigMap"
    assert event.data["object"]["apiVersion"] == "v1"
    assert [event.data[each]["data"] for each in ("old", "object")] == [{"size": "1"}, {"size": "2"}]
    for each in event.data.values():
        assert each["metadata"]["annotations"] == {"team": "desk"}
        assert "managedFields" not in each["metadata"]


def test_of_a_secret_neither_when_nor_a_run_sees_the_values() -> None:
    secrets = KubernetesObjects(api_version="v1", kind="Secret")
    change = change_of(config("7", token="b2xk"), config("9", token="bmV3"))
    event = event_of_change(secrets, CONFIG_MAPS, change)
    assert not any(value in event.text + json.dumps(scope_of(secrets, change)) for value in ("b2xk", "bmV3"))


@pytest.mark.parametrize(("before", "now", "kept", "truncated"), [
    pytest.param(10_000, 10_000, {"object", "old"}, False, id="is kept whole"),
    pytest.param(40_000, 40_000, {"object"}, False, id="loses what it was before"),
    pytest.param(10, 70_000, {"object", "truncated"}, True, id="keeps its names alone"),
])  # fmt: skip
def test_what_is_large(before: int, now: int, kept: set[str], truncated: bool) -> None:
    labels = {"labels": {"team": "desk"}}
    change = change_of(config("7", labels, text="x" * before), config("9", labels, text="x" * now))
    event = event_of_change(MAPS, CONFIG_MAPS, change)
    assert isinstance(event.data, dict)
    assert (set(event.data), is_truncated(event)) == (kept, truncated)
    assert event.data["object"]["metadata"]["name"] == "a"
    if truncated:
        assert set(event.data["object"]) == {"apiVersion", "kind", "metadata"}
        assert "labels" not in event.data["object"]["metadata"]


def test_told_again_with_less_known_it_is_the_same_event() -> None:
    known = event_of_change(MAPS, CONFIG_MAPS, change_of(config("7"), config("9")))
    change = Change(event=ObjectEvent.MODIFIED, object=config("9"), old=None)
    again = event_of_change(MAPS, CONFIG_MAPS, change)
    assert known.data != again.data
    assert provenance_of("maps", known) == provenance_of("maps", again)
    assert provenance_of("maps", known).origin == "maps//api/v1/namespaces/support/configmaps"


def test_its_types_are_known_and_its_data_is_as_they_say() -> None:
    types = KubernetesObjects(api_version="v1", kind="ConfigMap", events=[ObjectEvent.ADDED]).event_types()
    assert [known.type for known in types] == ["kubernetes:configmap:added"]
    assert is_known("kubernetes:configmap:*", types)
    assert not is_known("kubernetes:secret:added", types)
    event = event_of_change(MAPS, CONFIG_MAPS, change_of(None, config()))
    known = find_type(event.type, types)
    assert known is not None
    assert known.schema_ is not None
    assert violation(known.schema_, event.data, PathEvaluator(), "data") is None


@pytest.mark.parametrize(("selector", "text"), [
    pytest.param(None, "", id="nothing"),
    pytest.param(LabelSelector(match_labels={"b": "2", "a": "1"}), "a=1,b=2,", id="labels"),
    pytest.param(
        LabelSelector(match_expressions=[
            LabelRequirement(key="a", operator="In", values=["y", "x"]), LabelRequirement(key="b", operator="NotIn", values=["z"]),
            LabelRequirement(key="c", operator="Exists"), LabelRequirement(key="d", operator="DoesNotExist"),
        ]), "!d,a in (x,y),b notin (z),c,", id="every way of comparing",
    ),
])  # fmt: skip
def test_the_api_server_is_asked_for(selector: LabelSelector | None, text: str) -> None:
    objects = KubernetesObjects(api_version="v1", kind="ConfigMap", selector=selector)
    assert objects.label_selector == f"{text}app.kubernetes.io/managed-by!=kubesaga"
    same = objects.model_copy(update={"events": [ObjectEvent.DELETED], "when": "true"})
    assert same.subject == objects.subject, "what counts of the changes is not what is watched"
