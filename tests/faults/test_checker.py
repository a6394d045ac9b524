# SPDX-License-Identifier: Apache-2.0
"""The checker can fail: a record that is in order, and each way to spoil it. No cluster is needed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.faults.calls import Sent, call_of
from tests.faults.checker import CHECKS, Check, one_writer_after_the_other, violations
from tests.faults.faults import AFTER, At, Fixed, Mix, Script, refused
from tests.faults.record import Effect, Record, Version
from tests.faults.saga import End, Saga

UID = "7f3a"
SAGA = Saga(
    name="small", spec={}, phase="Succeeded", calls=3, pods=frozenset({"pack"}), needs={"pack": ("charge",)}, most=2,
    ends={"charge": End(attempt=2, output={"charged": True}), "pack": End()},
)  # fmt: skip
DUE = "2026-11-22T10:00:05.000Z"
DUE_CLOCK = 1795341605.0


def run(number: int, phase: str | None, *, tidied: bool = False, **activities: dict[str, Any]) -> Version:
    labels = {"kubesaga.dev/finished": "true"} if tidied else {}
    metadata = {
        "name": "r", "uid": UID, "resourceVersion": str(number), "labels": labels,
        "finalizers": [] if tidied else ["kubesaga.dev/run"],
    }  # fmt: skip
    status = {"phase": phase, "activities": activities} if phase else {}
    return Version(resource="workflowruns", type="MODIFIED", object={"metadata": metadata, "status": status})


def pod(number: int, phase: str, *, held: bool = True, uid: str = "p-1") -> Version:
    metadata = {
        "name": "r-pack-1", "uid": uid, "resourceVersion": str(number), "ownerReferences": [{"uid": UID, "name": "r"}],
        "annotations": {"kubesaga.dev/activity": "pack"}, "finalizers": ["kubesaga.dev/outcome"] if held else [],
    }  # fmt: skip
    return Version(resource="pods", type="MODIFIED", object={"metadata": metadata, "status": {"phase": phase}})


FIRST = {"phase": "Running", "attempt": 1}
WAITS = {"phase": "Retrying", "attempt": 1, "nextAttemptTime": DUE}
SECOND = {"phase": "Running", "attempt": 2, "attemptStartTime": DUE}
CHARGED = {"phase": "Succeeded", "attempt": 2, "output": {"charged": True}, "completionOrder": 1}
PACKS = {"phase": "Running", "attempt": 1}
PACKED = {"phase": "Succeeded", "attempt": 1, "completionOrder": 2}

VERSIONS = [
    run(1, None), run(2, "Running", charge=FIRST), run(3, "Waiting", charge=WAITS), run(4, "Running", charge=SECOND),
    run(5, "Running", charge=CHARGED, pack=PACKS), pod(6, "Pending"), pod(7, "Succeeded"),
    run(8, "Succeeded", charge=CHARGED, pack=PACKED), pod(9, "Succeeded", held=False),
    run(10, "Succeeded", tidied=True, charge=CHARGED, pack=PACKED),
]  # fmt: skip


def written(version: int, at: float) -> Sent:
    call = call_of("PATCH", "/apis/kubesaga.dev/v1alpha1/namespaces/n/workflowruns/r/status", {})
    return Sent(call=call, operator="o", life=1, at=at, executed_at=at, status=200, version=version, delivered=True)


def effect(attempt: int, at: float, clock: float, *, activity: str = "charge", key: str = "do") -> Effect:
    return Effect(run="r", activity=activity, attempt=attempt, key=f"{UID}/{activity}/{key}", at=at, clock=clock)


def record(**changes: Any) -> Record:
    whole: dict[str, Any] = {
        "plan": "", "sagas": {"r": SAGA}, "versions": VERSIONS, "struck": ("something",),
        "calls": [written(number, float(number)) for number in (2, 3, 4, 5, 8)],
        "effects": [effect(1, 2.5, DUE_CLOCK - 2), effect(2, 4.5, DUE_CLOCK + 0.1)],
    }  # fmt: skip
    return Record(**(whole | changes))


def changed(number: int, change: Callable[[dict[str, Any]], Any]) -> list[Version]:
    """Return the versions with one of them changed."""
    versions = []
    for version in VERSIONS:
        if version.number == number:
            version = replace(version, object=copy.deepcopy(dict(version.object)))
            change(version.object)  # type: ignore[arg-type]  # the copy is a dict
        versions.append(version)
    return versions


def test_a_record_in_order_has_no_violations() -> None:
    assert violations(record()) == []


EFFECTS = record().effects
LATER = [run(11, "Succeeded", tidied=True, charge=CHARGED, pack={**PACKED, "message": "changed"})]


SPOILT = [
    pytest.param(record(versions=[*VERSIONS, pod(11, "Pending", uid="p-2")]), "I1", id="a second pod of an attempt"),
    pytest.param(record(versions=[pod(4, "Pending"), *VERSIONS]), "law 1", id="a pod before its record"),
    pytest.param(
        record(effects=[effect(1, 1.9, DUE_CLOCK - 2), EFFECTS[1]]), "law 1", id="an effect before its record"
    ),
    pytest.param(
        record(effects=[*EFFECTS, effect(2, 4.6, DUE_CLOCK + 0.2)], deaths=1),
        "law 1",
        id="a start over again that the status does not know of",
    ),
    pytest.param(
        record(effects=[*EFFECTS, effect(2, 4.6, DUE_CLOCK + 0.2)]), "I5", id="an effect twice though nobody died"
    ),
    pytest.param(
        record(versions=[*VERSIONS, *LATER]),
        "I2: the run is Succeeded and its status changes",
        id="a finished run whose status changes",
    ),
    pytest.param(
        record(versions=[*VERSIONS, run(11, "Running", tidied=True, charge=CHARGED, pack=PACKED)]),
        "I2: the run moves from Succeeded to Running",
        id="a run that starts again",
    ),
    pytest.param(
        record(versions=changed(5, lambda body: body["status"]["activities"]["charge"].update(attempt=1))),
        "I2: attempt of charge goes back",
        id="an attempt number that goes back",
    ),
    pytest.param(
        record(versions=changed(8, lambda body: body["status"]["activities"].pop("charge"))),
        "I2: charge vanishes",
        id="an activity that vanishes",
    ),
    pytest.param(
        record(
            versions=changed(
                4,
                lambda body: body["status"]["activities"]["charge"].update(attemptStartTime="2026-11-22T10:00:04.000Z"),
            )
        ),
        "I5: charge did not wait",
        id="a backoff cut short in the status",
    ),
    pytest.param(
        record(effects=[EFFECTS[0], effect(2, 4.5, DUE_CLOCK - 1)]), "too early", id="a backoff cut short in truth"
    ),
    pytest.param(
        record(sagas={"r": replace(SAGA, most=1)}), "I5: charge/do has 2 attempts", id="more attempts than allowed"
    ),
    pytest.param(
        record(versions=changed(7, lambda body: body["metadata"].update(finalizers=[]))),
        "I3",
        id="a pod let go before its end is recorded",
    ),
    pytest.param(
        record(versions=changed(10, lambda body: body["status"]["activities"]["pack"].update(phase="Failed"))),
        "I3",
        id="a pod that succeeded in an activity that failed",
    ),
    pytest.param(
        record(
            versions=changed(
                5, lambda body: body["status"]["activities"]["charge"].update(phase="Running", output=None)
            )
        ),
        "order",
        id="an activity before what it needs",
    ),
    pytest.param(
        record(effects=[EFFECTS[0], effect(2, 4.5, DUE_CLOCK + 0.1, key="2/do")]),
        "I13",
        id="another key for the second attempt",
    ),
    pytest.param(
        record(effects=[*EFFECTS, effect(1, 9.0, DUE_CLOCK + 9, key="undo")]), "I4", id="an undo of what was to stay"
    ),
    pytest.param(
        record(versions=changed(10, lambda body: body["status"]["activities"]["charge"].update(output={}))),
        "end: charge has put out",
        id="another output than without faults",
    ),
    pytest.param(
        record(effects=[]), "end: charge is Succeeded/2 and has had no effect", id="a success without an effect"
    ),
    pytest.param(
        record(versions=VERSIONS[:-2] + VERSIONS[-1:]),
        "I9: the pod of pack/do/1 is still held",
        id="a pod that is held for ever",
    ),
    pytest.param(record(versions=VERSIONS[:-1]), "I9: the run keeps its finalizer", id="a run that is held for ever"),
    pytest.param(record(waited_for="the end"), "I8", id="a run that does not come to its end"),
]


@pytest.mark.parametrize(("spoilt", "told"), SPOILT)
def test_a_record_that_is_spoilt_is_noticed(spoilt: Record, told: str) -> None:
    assert any(told in violation for violation in violations(spoilt)), violations(spoilt)


def test_a_leader_that_writes_after_another_is_noticed() -> None:
    mine, others = written(2, 2.0), replace(written(3, 3.0), operator="other")
    assert one_writer_after_the_other(record(calls=[mine, others, replace(others, at=4.0)])) == []
    assert (
        "after another had taken over"
        in one_writer_after_the_other(record(calls=[mine, others, replace(mine, at=4.0)]))[0]
    )
    refused_ = replace(mine, at=4.0, status=409)
    assert one_writer_after_the_other(record(calls=[mine, others, refused_])) == [], "it was not carried out"


def test_undos_must_go_backwards_and_nothing_forward_after_them() -> None:
    undone = {"phase": "Succeeded", "attempt": 1}
    charge, pack = {**CHARGED, "compensation": undone}, {**PACKED, "compensation": undone}
    saga = replace(SAGA, undone=frozenset({"charge", "pack"}))
    versions = [*VERSIONS[:-1], run(10, "Succeeded", tidied=True, charge=charge, pack=pack)]

    def told(*effects: Effect) -> list[str]:
        spoilt = record(sagas={"r": saga}, versions=versions, effects=[*EFFECTS, *effects])
        return [violation for violation in violations(spoilt) if "I4" in violation]

    first, second = effect(1, 8.1, 0, activity="pack", key="undo"), effect(1, 8.2, 0, key="undo")
    assert told(first, second) == []
    assert "not the reverse" in told(replace(first, at=8.3), second)[0]
    assert "began after" in told(first, second, effect(3, 8.4, 0))[0]
    assert "were to be" in told(first)[0]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_check_is_broken_by_some_record_above(check: Check) -> None:
    records = [parameters.values[0] for parameters in SPOILT]
    assert any(told for spoilt in records for told in check(spoilt, "r", spoilt.sagas["r"]))


@pytest.mark.parametrize(
    ("method", "path", "query", "label"),
    [
        pytest.param("PATCH", "/apis/kubesaga.dev/v1alpha1/namespaces/n/workflowruns/r/status", {}, "patch workflowruns/status", id="a status"),
        pytest.param("POST", "/api/v1/namespaces/n/pods", {}, "create pods", id="a pod"),
        pytest.param("GET", "/api/v1/namespaces/n/pods", {"watch": "1"}, "watch pods", id="a watch"),
        pytest.param("GET", "/api/v1/namespaces/n/pods", {}, "list pods", id="a listing"),
        pytest.param("GET", "/apis/apps/v1/namespaces/n/controllerrevisions/c", {}, "get controllerrevisions", id="an object"),
        pytest.param("GET", "/apis/kubesaga.dev/v1alpha1", {}, "list ", id="what there is"),
    ],
)  # fmt: skip
def test_calls_are_told_apart(method: str, path: str, query: dict[str, str], label: str) -> None:
    assert call_of(method, path, query).label == label


def test_a_fault_strikes_where_it_is_meant_to_and_not_after_the_end() -> None:
    pods = call_of("POST", "/api/v1/namespaces/n/pods", {})
    plan = Fixed(
        title="", blows=((At(label="create pods", nth=2), AFTER), (At(label="create*", nth=4, times=2), refused(503)))
    )
    script = Script(plan)
    assert [script.blow(pods) for _ in range(6)] == [None, AFTER, None, refused(503), refused(503), None]
    assert script.struck == ["create pods 2: killed after", "create pods 4: refused 503", "create pods 5: refused 503"]
    script = Script(plan)
    script.stop()
    assert [script.blow(pods) for _ in range(6)] == [None] * 6


def test_a_seed_decides_the_same_again_and_another_one_otherwise() -> None:
    pods = call_of("POST", "/api/v1/namespaces/n/pods", {})

    def drawn(seed: int) -> list[Any]:
        return [Mix(seed=seed).blow(pods, nth) for nth in range(200)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert any(drawn(1))


def test_a_mix_ends_after_its_faults() -> None:
    pods = call_of("POST", "/api/v1/namespaces/n/pods", {})
    script = Script(Mix(seed=1, most=3))
    struck = [script.blow(pods) for _ in range(500)]
    assert sum(fault is not None for fault in struck) == len(script.struck) == 3
