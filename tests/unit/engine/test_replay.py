# SPDX-License-Identifier: Apache-2.0
"""A run made from another's record: what it takes over, what it does again, what it would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kubesaga.testing.builders import definition
from kubesaga.testing.play import HANGS, Play, good, wrong


def step(name: str, *, undo: bool = False, **more: Any) -> dict[str, Any]:
    """Return an activity that is a handler, with its undo if there is to be one."""
    if undo:
        more["compensation"] = {"handler": f"un{name}"}
    return {"name": name, "handler": name, **more}


LINE = definition(step("a"), step("b"), step("c"))
SAGA = definition(step("a", undo=True), step("b"), step("c"), finally_=[step("audit")])
DIAMOND = definition(
    step("a"), step("left", dependsOn=["a"]), step("right", dependsOn=["a"]), step("join", dependsOn=["left", "right"])
)
CONDITION = definition(
    step("a"), step("b", when="inputs.no"), step("c"), inputs=[{"name": "no", "type": "boolean", "default": False}]
)


@pytest.mark.parametrize(
    ("spec", "first", "replay_of", "log", "phases"),
    [
        pytest.param(LINE, {"b": wrong()}, {}, ["do b#1", "do c#1"], {"a": "Succeeded", "b": "Succeeded", "c": "Succeeded"},
                     id="from what failed: what succeeded is taken over"),
        pytest.param(LINE, {}, {"activity": "b"}, ["do b#1", "do c#1"], {"a": "Succeeded", "b": "Succeeded", "c": "Succeeded"},
                     id="from any activity, of a run that succeeded too"),
        pytest.param(LINE, {"c": wrong()}, {"activity": "a"}, ["do a#1", "do b#1", "do c#1"],
                     {"a": "Succeeded", "b": "Succeeded", "c": "Succeeded"}, id="from the first: everything is done again"),
        pytest.param(LINE, {"b": wrong()}, {"activity": "c"}, ["do b#1", "do c#1"], {"a": "Succeeded", "b": "Succeeded", "c": "Succeeded"},
                     id="what did not succeed before that is done too"),
        pytest.param(DIAMOND, {}, {"activity": "left"}, ["do left#1", "do join#1"],
                     {"a": "Succeeded", "left": "Succeeded", "right": "Succeeded", "join": "Succeeded"}, id="only what comes after it is done again"),
        pytest.param(SAGA, {"c": wrong()}, {}, ["do a#1", "do b#1", "do c#1", "do audit#1"],
                     {"a": "Succeeded", "b": "Succeeded", "c": "Succeeded", "audit": "Succeeded"},
                     id="what was undone is done again, and so is what came after it; finally is always run"),
        pytest.param(CONDITION, {"c": wrong()}, {}, ["do c#1"], {"a": "Succeeded", "b": "Skipped", "c": "Succeeded"},
                     id="what was skipped stays skipped"),
        pytest.param(LINE, {}, {"activity": "b", "mode": "Activity"}, ["do b#1"], {"b": "Succeeded"}, id="one activity alone"),
        pytest.param(SAGA, {}, {"activity": "audit", "mode": "Activity"}, ["do audit#1"], {"audit": "Succeeded"}, id="which may be one of finally"),
    ],
)  # fmt: skip
def test_a_replay(
    spec: Any, first: Mapping[str, Any], replay_of: dict[str, Any], log: list[str], phases: Mapping[str, str]
) -> None:
    source = Play(spec, first).go()
    play = source.replay(**replay_of).go()
    assert (play.ended, play.log, play.phases) == ("Succeeded AllSucceeded", log, phases)


def test_a_replay_tells_where_it_comes_from() -> None:
    play = Play(LINE, {"b": wrong()}).go().replay().go()
    assert play.status.replay is not None
    told = play.status.replay.wire()
    assert told == {"run": "order-0", "uid": "uid-0", "workflow": "order", "reused": ["a"], "redone": ["b", "c"]}
    assert [name for name, known in play.status.activities.items() if known.reused] == ["a"]


def test_outputs_and_variables_are_those_of_the_run_that_is_replayed() -> None:
    spec = definition(
        step("a", set={"agent": "${output.agent}"}), step("b", params={"agent": "${workflow.agent}", "was": "${activities.a.output.agent}"}),
        variables={"agent": ""}, outputs={"agent": "${workflow.agent}"},
    )  # fmt: skip
    play = Play(spec, {"a": good({"agent": "A-1"}), "b": wrong()}).go().replay({"a": wrong()}).go()
    assert (play.inputs["do b#1"], play.status.outputs) == ({"agent": "A-1", "was": "A-1"}, {"agent": "A-1"})


def test_one_activity_alone_gets_the_input_that_was_recorded() -> None:
    spec = definition(
        step("a", set={"n": "${output.n}"}), step("b", params={"n": "${workflow.n}"}, when="true"), variables={"n": 0}
    )
    source = Play(spec, {"a": good({"n": 7}), "b": wrong()}).go()
    assert source.replay(activity="b", mode="Activity").go().inputs["do b#1"] == {"n": 7}


def test_one_activity_alone_that_fails_undoes_nothing() -> None:
    source = Play(SAGA).go()
    play = source.replay({"a": wrong()}, activity="a", mode="Activity").go()
    assert (play.ended, play.log) == ("Failed ActivityFailed", ["do a#1"])


def test_what_was_taken_over_is_undone_when_the_replay_fails() -> None:
    spec = definition(
        step("a", undo=True),
        step("b"),
        errorHandling={"workflowError": {"strategy": "Compensate"}, "activityError": {"retry": {"maxAttempts": 1}}},
    )
    abort = definition(step("a", undo=True), step("b", errorHandling={"strategy": "Abort"}))
    source = Play(abort, {"b": wrong()}).go()
    play = Play(spec, {"b": wrong()})
    play.spec, play.source = source.replay().spec, source.replay().source
    play.go()
    assert (play.ended, play.log) == ("Compensated ActivityFailed", ["do b#1", "undo a#1"])


@pytest.mark.parametrize(
    ("first", "replay_of", "told"),
    [
        pytest.param({"b": wrong()}, {}, "a replay of order-0 takes over a; does b, c", id="from what failed"),
        pytest.param({}, {"activity": "a"}, "a replay of order-0 takes over nothing; does a, b, c", id="from the first"),
        pytest.param({}, {"activity": "b", "mode": "Activity"}, "a replay of order-0 takes over nothing; does b", id="one activity alone"),
    ],
)  # fmt: skip
def test_a_dry_run_says_what_it_would_do_and_does_nothing(
    first: Mapping[str, Any], replay_of: dict[str, Any], told: str
) -> None:
    play = Play(LINE, first).go().replay(dryRun=True, **replay_of).go()
    assert (play.ended, play.log, play.status.message) == ("Succeeded DryRun", [], told)


@pytest.mark.parametrize(
    ("first", "until", "replay_of", "told"),
    [
        pytest.param({"b": HANGS}, "do b#1", {}, "spec.replayOf.run: order-0 has not finished (it is Running)", id="a run that has not finished"),
        pytest.param({}, None, {}, "nothing is left to do; name the activity to begin at", id="nothing that failed, and no activity named"),
        pytest.param({}, None, {"activity": "d"}, "spec.replayOf.activity: order-0 has no activity d", id="an activity that does not exist"),
        pytest.param({}, None, {"mode": "Activity"}, "spec.replayOf.activity: mode Activity repeats one activity; name it", id="one activity, not named"),
        pytest.param({"b": wrong()}, None, {"activity": "c", "mode": "Activity"}, "c never began in order-0", id="one that never began"),
    ],
)  # fmt: skip
def test_a_replay_is_refused(first: Mapping[str, Any], until: str | None, replay_of: dict[str, Any], told: str) -> None:
    play = Play(LINE, first).go(until=until).replay(**replay_of).go()
    assert (play.ended, play.log) == ("Failed InvalidReplay", [])
    assert told in (play.status.message or "")


def test_an_activity_of_finally_is_no_place_to_begin() -> None:
    play = Play(SAGA).go().replay(activity="audit").go()
    assert play.ended == "Failed InvalidReplay"
    assert "audit runs in finally" in (play.status.message or "")
