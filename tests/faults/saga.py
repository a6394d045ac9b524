# SPDX-License-Identifier: Apache-2.0
"""The reference saga: one of everything that can be interrupted, and what must have become of it in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

HANDLERS = "faults_handlers"
IMAGE = "docker.io/library/busybox:1.35"
STAY = "trap 'exit 3' TERM; sleep 600 & wait"
"""A script that goes on until it is told to stop, and then does so at once, without success."""
BACKOFF = 0.6
"""Seconds between two attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How an activity ends."""

    phase: str = "Succeeded"
    attempt: int = 1
    output: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saga:
    """A Workflow's spec and how every run of it ends, whatever goes wrong on the way. `calls` is the least load."""

    name: str
    spec: Mapping[str, Any]
    phase: str
    """Of the run; "": any that is final."""
    ends: Mapping[str, End]
    calls: int
    """A run that made fewer writes than this does not count: the operator had nothing to do."""
    pods: frozenset[str] = frozenset()
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Which activities must have ended well before one starts."""
    last: frozenset[str] = frozenset()
    """What runs after everything else, undos included."""
    undone: frozenset[str] = frozenset()
    """What is undone in every history."""
    waits: frozenset[str] = frozenset()
    """Activities that only wait: they have no attempts, and no effects."""
    most: int = 3
    """maxAttempts."""


def _pod(script: str) -> dict[str, Any]:
    return {"image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}


def reference(effects: str, service: str) -> Saga:
    """Return the saga; `effects` is the file where handlers note their calls, `service` the URL of the HTTP service."""
    note = {"effects": effects}
    spec = {
        "timeout": "5m",
        "variables": {"reservation": ""},
        "errorHandling": {
            "activityError": {"retry": {"maxAttempts": 3, "backoff": {"initial": f"{BACKOFF}s", "jitter": 0}}}
        },
        "activities": [
            {
                "name": "reserve", "handler": "faults:reserve", "params": note, "timeout": "1m",
                "set": {"reservation": "${output.id}"},
            },
            {"name": "charge", "handler": "faults:second-time", "params": note},
            {"name": "pack", "pod": {**_pod('echo "{\\"parcel\\": \\"$FOR\\"}" > /dev/termination-log'),
                                     "env": [{"name": "FOR", "value": "${workflow.reservation}"}]}},
            {"name": "notify", "http": {"method": "POST", "url": service, "body": {"parcel": "${activities.pack.output.parcel}"}}},
        ],
        "finally": [{"name": "audit", "handler": "faults:audit", "params": note}],
    }  # fmt: skip
    return Saga(
        name="reference", spec=spec, phase="Succeeded", calls=12, pods=frozenset({"pack"}),
        needs={"charge": ("reserve",), "pack": ("charge",), "notify": ("pack",), "audit": ("notify",)},
        ends={
            "reserve": End(output={"id": "r-1"}),
            "charge": End(attempt=2, output={"charged": True}),
            "pack": End(output={"parcel": "r-1"}),
            "notify": End(),
            "audit": End(output={"audited": True}),
        },
    )  # fmt: skip


def refused_once(effects: str, service: str) -> Saga:
    """Return the reference saga whose pod the API server refuses once: that is a failed attempt, as documented."""
    saga = reference(effects, service)
    return replace(saga, name="refused", ends={**saga.ends, "pack": replace(saga.ends["pack"], attempt=2)})


def long_pod(effects: str, service: str) -> Saga:
    """Return a saga of one pod that runs until it is stopped, because its run is deleted."""
    spec = {"activities": [{"name": "stay", "pod": _pod(STAY)}]}
    return Saga(
        name="long", spec=spec, phase="", calls=5, pods=frozenset({"stay"}),
        ends={"stay": End(phase="Cancelled")},
    )  # fmt: skip


def late_pod(effects: str, service: str) -> Saga:
    """Return a saga of a pod that would run for longer than it may; the second attempt fails as the first."""
    retry = {"retry": {"maxAttempts": 2, "backoff": {"initial": "1s", "jitter": 0}}}
    stay = {"name": "stay", "pod": _pod(STAY), "timeout": "3s", "errorHandling": retry}
    return Saga(
        name="late", spec={"activities": [stay]}, phase="Failed", calls=8, pods=frozenset({"stay"}), most=2,
        ends={"stay": End(phase="Failed", attempt=2)},
    )  # fmt: skip


def wide(effects: str, service: str) -> Saga:
    """Return a saga in which things happen side by side."""
    note = {"effects": effects}
    fast = {"retry": {"maxAttempts": 3, "backoff": {"initial": f"{BACKOFF}s", "jitter": 0}}}
    spec = {
        "timeout": "5m",
        "errorHandling": {"activityError": fast},
        "activities": [
            {"name": "left", "handler": "faults:reserve", "params": note, "dependsOn": []},
            {"name": "right", "handler": "faults:second-time", "params": note, "dependsOn": []},
            {"name": "box", "pod": _pod("echo '{\"n\": 1}' > /dev/termination-log"), "dependsOn": []},
            {"name": "call", "http": {"method": "POST", "url": service}, "dependsOn": ["left"]},
            {"name": "crate", "pod": _pod("sleep 0.3; echo '{\"n\": 2}' > /dev/termination-log"), "dependsOn": ["left", "right"]},
            {"name": "join", "handler": "faults:reserve", "params": note, "dependsOn": ["box", "call", "crate"]},
        ],
        "finally": [{"name": "audit", "handler": "faults:audit", "params": note}],
    }  # fmt: skip
    return Saga(
        name="wide", spec=spec, phase="Succeeded", calls=10, pods=frozenset({"box", "crate"}),
        needs={
            "call": ("left",), "crate": ("left", "right"), "join": ("box", "call", "crate"), "audit": ("join",),
        },
        ends={
            "left": End(output={"id": "r-1"}), "right": End(attempt=2, output={"charged": True}),
            "box": End(output={"n": 1}), "call": End(), "crate": End(output={"n": 2}),
            "join": End(output={"id": "r-1"}), "audit": End(output={"audited": True}),
        },
    )  # fmt: skip


def undone(effects: str, service: str) -> Saga:
    """Return a saga that fails at its end: what was done is undone, backwards, by handlers, a request and a pod."""
    note = {"effects": effects}
    handler, request = {"handler": "faults:reserve", "params": note}, {"http": {"method": "POST", "url": service}}
    hopeless = {"handler": "faults:hopeless", "params": note}
    spec = {
        "timeout": "5m",
        "errorHandling": {
            "activityError": {"retry": {"maxAttempts": 3, "backoff": {"initial": f"{BACKOFF}s", "jitter": 0}}}
        },
        "activities": [
            {"name": "reserve", **handler, "compensation": handler},
            {"name": "charge", **handler, "compensation": {"handler": "faults:second-time", "params": note}},
            {"name": "score", **hopeless, "errorHandling": {"fallback": handler}},
            {"name": "pack", "pod": _pod("true"), "compensation": {"pod": _pod("true")}},
            {"name": "notify", **request, "compensation": request},
            {"name": "ship", **hopeless},
        ],
        "finally": [{"name": "audit", "handler": "faults:audit", "params": note}],
    }  # fmt: skip
    return Saga(
        name="undone", spec=spec, phase="Compensated", calls=20, pods=frozenset({"pack"}), last=frozenset({"audit"}),
        needs={"charge": ("reserve",), "score": ("charge",), "pack": ("score",), "notify": ("pack",), "ship": ("notify",)},
        undone=frozenset({"reserve", "charge", "notify"}),
        ends={
            "reserve": End(phase="Compensated"), "charge": End(phase="Compensated"),
            "score": End(output={"id": "r-1"}), "pack": End(phase="Compensated"),
            "notify": End(phase="Compensated"), "ship": End(phase="Failed"), "audit": End(output={"audited": True}),
        },
    )  # fmt: skip


ANSWER: dict[str, Any] = {
    "specversion": "1.0",
    "type": "order:answered",
    "source": "desk",
    "id": "a-1",
    "data": {"yes": True},
}
"""What ends the wait of `answered`."""


def answered(effects: str, service: str) -> Saga:
    """Return a saga that waits for an event, which somebody must bring."""
    note = {"effects": effects}
    spec = {
        "timeout": "5m",
        "activities": [
            {"name": "ask", "handler": "faults:reserve", "params": note},
            {"name": "answer", "waitFor": {"event": ANSWER["type"], "when": "received.data.yes", "timeout": "4m"}},
            {"name": "audit", "handler": "faults:audit", "params": note},
        ],
    }
    return Saga(
        name="answered", spec=spec, phase="Succeeded", calls=8, waits=frozenset({"answer"}),
        needs={"answer": ("ask",), "audit": ("answer",)},
        ends={"ask": End(output={"id": "r-1"}), "answer": End(output=ANSWER), "audit": End(output={"audited": True})},
    )  # fmt: skip


def cancelled(effects: str, service: str) -> Saga:
    """Return a saga that is cancelled while its pod runs: what was done before is undone."""
    note = {"effects": effects}
    handler = {"handler": "faults:reserve", "params": note}
    spec = {
        "activities": [
            {"name": "reserve", **handler, "compensation": handler},
            {"name": "stay", "pod": _pod(STAY)},
            {"name": "never", **handler},
        ],
    }
    return Saga(
        name="cancelled", spec=spec, phase="Cancelled", calls=8, pods=frozenset({"stay"}), undone=frozenset({"reserve"}),
        needs={"stay": ("reserve",), "never": ("stay",)},
        ends={"reserve": End(phase="Compensated"), "stay": End(phase="Cancelled")},
    )  # fmt: skip
