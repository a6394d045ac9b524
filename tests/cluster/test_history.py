# SPDX-License-Identifier: Apache-2.0
"""The checks of a history, over histories made by hand: each of them finds what it is there to find."""

from __future__ import annotations

from typing import Any

import pytest
from tests.cluster.history import Event, doubled_pods, excesses, revived, state_at, terms, under_way

Row = tuple[str, str] | tuple[str, str, str]
"""Name and phase; and what happened, if not that it was changed."""


def runs(*rows: Row) -> list[Event]:
    return [
        Event(kind="workflowruns", type=more[0] if more else "MODIFIED", object=_object(name, 10 + at, phase))
        for at, (name, phase, *more) in enumerate(rows)
    ]


def _object(name: str, version: int, phase: str = "", uid: str = "") -> dict[str, Any]:
    metadata = {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata, "status": {"phase": phase} if phase else {}}


def lease(version: int, holder: str, acquired: int, renewed: int) -> Event:
    moments = {"acquireTime": _at(acquired), "renewTime": _at(renewed)}
    body = {**_object("lease", version), "spec": {"holderIdentity": holder, **moments}}
    return Event(kind="leases", type="MODIFIED", object=body)


def _at(second: int) -> str:
    return f"2030-01-01T00:00:{second:02}.000000Z"


@pytest.mark.parametrize(
    ("history", "told"),
    [
        pytest.param([], [], id="nothing happens"),
        pytest.param(
            [("a", "Running"), ("b", "Running"), ("a", "Succeeded"), ("c", "Running")], [],
            id="a slot is used again after its run has finished",
        ),
        pytest.param(
            [("a", "Running"), ("b", "Running"), ("c", "Running"), ("a", "Succeeded")],
            ["at version 12 3 runs were under way, 2 may: a, b, c"],
            id="one too many, if only for one version",
        ),
        pytest.param(
            [("a", "Running"), ("b", "Compensating"), ("c", "Waiting"), ("a", "Running")],
            [
                "at version 12 3 runs were under way, 2 may: a, b, c",
                "at version 13 3 runs were under way, 2 may: a, b, c",
            ],
            id="undoing and waiting runs are under way",
        ),
        pytest.param(
            [("a", "Running"), ("b", ""), ("c", "Queued"), ("d", "Pending"), ("e", "Running")], [],
            id="new and queued runs are not",
        ),
        pytest.param(
            [("a", "Running"), ("b", "Running"), ("b", "Running", "DELETED"), ("c", "Running")], [],
            id="nor are deleted ones",
        ),
        pytest.param(
            [("a", "Running"), ("b", "Running"), ("b", "Queued"), ("c", "Running"), ("b", "Running")],
            ["at version 14 3 runs were under way, 2 may: a, b, c"],
            id="a run that went back to the queue and came again too early",
        ),
    ],
)  # fmt: skip
def test_more_than_may_be_under_way_is_seen(history: list[Row], told: list[str]) -> None:
    assert excesses(runs(*history), 2) == told


def test_who_was_under_way_when() -> None:
    seen = under_way(runs(("a", "Running"), ("b", "Running"), ("a", "Failed")))
    assert seen == [(10, {"a"}), (11, {"a", "b"}), (12, {"b"})]


@pytest.mark.parametrize(
    ("pods", "doubled"),
    [
        pytest.param([("a-1", "x"), ("a-1", "x"), ("a-2", "y")], {}, id="one pod an attempt, told of twice"),
        pytest.param([("a-1", "x"), ("a-2", "z"), ("a-1", "y")], {"a-1": {"x", "y"}}, id="two pods for one attempt"),
    ],
)
def test_a_second_pod_for_an_attempt_is_seen(pods: list[tuple[str, str]], doubled: dict[str, set[str]]) -> None:
    told = [Event(kind="pods", type="ADDED", object=_object(name, 1, uid=uid)) for name, uid in pods]
    assert doubled_pods(told) == doubled


@pytest.mark.parametrize(
    ("history", "told"),
    [
        pytest.param([("a", "Running"), ("a", "Succeeded"), ("a", "Succeeded")], [], id="a finished run is written to"),
        pytest.param(
            [("a", "Succeeded"), ("a", "Running")], ["a was Succeeded, and at version 11 Running"], id="it starts again"
        ),
        pytest.param(
            [("a", "Cancelled"), ("a", "Failed")], ["a was Cancelled, and at version 11 Failed"], id="it ends otherwise"
        ),
        pytest.param(
            [("a", "Failed"), ("a", "")], ["a was Failed, and at version 11 nothing"], id="its status is lost"
        ),
    ],
)
def test_a_finished_run_that_changes_its_mind_is_seen(history: list[Row], told: list[str]) -> None:
    assert revived(runs(*history)) == told


def test_how_things_stood_at_a_moment() -> None:
    history = runs(("a", "Running"), ("b", "Running"), ("a", "Succeeded"), ("b", "Failed"))
    assert {name: event.phase for name, event in state_at(history, 13).items()} == {"a": "Succeeded", "b": "Running"}


def test_who_held_the_lease() -> None:
    found = terms(
        [
            lease(1, "one", 0, 0), lease(2, "one", 0, 2), lease(3, "one", 0, 4),
            lease(4, "two", 20, 20), lease(5, "two", 20, 22), lease(6, "", 23, 23),
            lease(7, "one", 24, 24), lease(8, "one", 30, 30),
        ]
    )  # fmt: skip
    assert [
        (term.holder, term.version, term.acquired.second, term.renewed.second, term.renewals) for term in found
    ] == [
        ("one", 1, 0, 4, 2),
        ("two", 4, 20, 23, 1),
        ("one", 7, 24, 24, 0),
        ("one", 8, 30, 30, 0),
    ], "a process that was started again under the same name is another"
