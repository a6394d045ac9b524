# SPDX-License-Identifier: Apache-2.0
"""Kopf tells of the four kinds; what is finished it is not told of; it writes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from kubesaga.api.names import GROUP
from kubesaga.controller.kube_records import LIVE
from kubesaga.controller.watches import registry_of, settings_of
from kubesaga.engine.attempt import RunKey
from kubesaga.kube.credentials import Credentials

KEY = RunKey(namespace="shop", name="x")
BODY = {"metadata": {"uid": "u"}}


class Told:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def run_changed(self, key: RunKey, body: dict[str, Any], *, gone: bool) -> None:
        self.calls.append(("run", key, body, gone))

    def workflow_changed(self, key: RunKey) -> None:
        self.calls.append(("workflow", key))

    def activity_changed(self, key: RunKey, body: dict[str, Any], *, gone: bool) -> None:
        self.calls.append(("activity", key, body, gone))

    def action_changed(self, key: RunKey, body: dict[str, Any], *, gone: bool) -> None:
        self.calls.append(("action", key, body, gone))


async def nobody() -> Credentials:
    return Credentials(server="http://127.0.0.1")


@pytest.mark.parametrize(("plural", "event", "call"), [
    pytest.param("workflowruns", "ADDED", ("run", KEY, BODY, False), id="a new run"),
    pytest.param("workflowruns", "DELETED", ("run", KEY, BODY, True), id="a run that is gone"),
    pytest.param("workflows", "MODIFIED", ("workflow", KEY), id="a Workflow"),
    pytest.param("activities", "ADDED", ("activity", KEY, BODY, False), id="a new Activity"),
    pytest.param("activities", "DELETED", ("activity", KEY, BODY, True), id="an Activity that is gone"),
    pytest.param("workflowactions", None, ("action", KEY, BODY, False), id="an action of the first listing"),
    pytest.param("workflowactions", "DELETED", ("action", KEY, BODY, True), id="an action that is gone"),
])  # fmt: skip
async def test_the_listener_is_told_of(plural: str, event: str | None, call: Any) -> None:
    told = Told()
    handlers = registry_of(told, nobody)._watching.get_all_handlers()
    (handler,) = [found for found in handlers if found.selector is not None and found.selector.any_name == plural]
    assert handler.selector is not None
    assert handler.selector.group == GROUP
    await handler.fn(event={"type": event, "object": BODY}, namespace=KEY.namespace, name=KEY.name)  # type: ignore[call-arg]  # Kopf passes more
    assert told.calls == [call]


def test_finished_runs_and_actions_are_left_out_of_the_watch() -> None:
    selectors = settings_of(lambda: 0.5).watching.label_selectors
    found = {(selector.group, selector.any_name): labels for selector, labels in selectors.items()}
    assert found == {(GROUP, "workflowruns"): LIVE, (GROUP, "workflowactions"): LIVE}
