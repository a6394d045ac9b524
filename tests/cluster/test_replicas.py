# SPDX-License-Identifier: Apache-2.0
"""Two replicas: who works when one is killed, frozen, or told to stop, and that nothing is lost, doubled or exceeded."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from tests.cluster.cluster import Cluster, Operator, busybox, document
from tests.cluster.history import (
    History,
    Term,
    doubled_pods,
    excesses,
    recording,
    revived,
    state_at,
    terms,
    under_way,
)
from tests.cluster.kubelet import twice
from tests.cluster.waiting import PATIENCE, wait_for

from kubesaga.api.names import Deed, idempotency_key

LEASE: Final = "kubesaga-controller"
LEASE_LOST: Final = 70
LONG: Final = 15.0
"""The default duration of the Lease."""
SHORT: Final = 10.0
"""Short, but not so short that a busy machine makes a leader lose it that nobody has touched."""
BUSY: Final = 5.0
"""Seconds that requests and a busy machine may add to what a takeover is promised to take."""
STEPS: Final = 30
Call = tuple[str, int]
"""Idempotency key and attempt."""


def retry_period(duration: float) -> float:
    """Return the pause between two looks at the Lease, as docs/operations.md says."""
    return duration * 2 / 15


class Replica(Operator):
    """An operator that can be frozen."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def freeze(self) -> None:
        """Stop it where it is, as a machine does that has no time for it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def ended(self) -> int:
        """Wait until it has ended by itself; return its exit status."""
        assert self._process is not None
        return self._process.wait(timeout=PATIENCE)

    def stop(self) -> int | None:
        """End it tidily, also when a test that failed has left it frozen."""
        if self._alive:
            self.thaw()
        return super().stop()

    def looks(self) -> int:
        """Return how often it has read the Lease."""
        found = re.findall(r"^kubesaga_api_requests_total{(.*)} (.*)$", self.get("/metrics")[1], re.M)
        return sum(int(float(value)) for labels, value in found if 'resource="leases"' in labels and '"get"' in labels)


@dataclass(slots=True)
class Pair:
    """The replica that leads at first, and the one that waits."""

    cluster: Cluster
    first: Replica
    second: Replica

    def start(self, duration: float) -> None:
        """Start both, as they are at the beginning of each test."""
        self.second.stop()
        self.first.start("replica_handlers", lease_duration=str(duration))
        self.second.launch("replica_handlers", lease_duration=str(duration))
        wait_for("the standby to see who leads", lambda: "operator-0 holds the Lease" in self.second.log())

    def lease(self) -> dict[str, Any]:
        """Return what the Lease says now."""
        found = self.cluster.find("leases", LEASE)
        assert found is not None
        spec: dict[str, Any] = found["spec"]
        return spec

    def wait_renewed(self, holder: str, times: int = 1) -> None:
        """Wait until the Lease is renewed by this holder."""
        for _ in range(times):
            known = self.lease()
            wait_for(f"{holder} to renew the Lease", lambda: self._renewed(known, holder))  # noqa: B023 - used at once

    def _renewed(self, known: dict[str, Any], holder: str) -> bool:
        now = self.lease()
        return bool(now["holderIdentity"] == holder and now["renewTime"] != known["renewTime"])


@pytest.fixture
def pair(cluster: Cluster, tmp_path: Path) -> Iterator[Pair]:
    """Two replicas that are not started yet."""
    (tmp_path / "second").mkdir()
    with ExitStack() as stack:
        first = stack.enter_context(Replica(cluster, tmp_path))
        second = stack.enter_context(Replica(cluster, tmp_path / "second", identity="operator-1"))
        yield Pair(cluster, first, second)


class Load:
    """Runs of all sorts: three whose handlers wait for a gate, one with many short handlers, two of pods."""

    def __init__(self, cluster: Cluster, folder: Path, name: str) -> None:
        self.cluster = cluster
        self.folder = folder
        self.name = name
        self.calls_file = folder / f"{name}-calls"
        self.held = [f"{name}-held-{number}" for number in range(3)]
        self.chain = f"{name}-chain"
        self.pods = [f"{name}-pods-{number}" for number in range(2)]

    @property
    def runs(self) -> list[str]:
        return [*self.held, self.chain, *self.pods]

    def begin(self) -> None:
        """Create the runs, and wait until something of each is under way."""
        calls = {"calls": str(self.calls_file)}
        step = {"handler": "replica:step", "params": calls}
        for run in self.held:
            hold = {"name": "it", "handler": "replica:hold", "params": {**calls, "gate": str(self.gate(run))}}
            self.cluster.run(run, {"activities": [hold, {"name": "after", **step}]})
        for run in self.pods:
            pods = [{"name": "a", "pod": busybox("sleep 3")}, {"name": "b", "pod": busybox("true")}]
            self.cluster.run(run, {"activities": pods})
        for run in (*self.held, *self.pods):
            self.cluster.wait_activity(run, "it" if run in self.held else "a", phase="Running")
        wait_for("the handlers to begin", lambda: len(self.calls("begin")) == len(self.held))
        self.cluster.run(self.chain, {"activities": [{"name": f"s{number}", **step} for number in range(STEPS)]})
        wait_for("the chain to be on its way", lambda: len(self.calls("end")) >= 3)

    def gate(self, run: str) -> Path:
        return self.folder / f"gate-{run}"

    def calls(self, what: str, pid: int | None = None) -> list[Call]:
        """Return the calls that began or ended, of all processes or one."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        rows = [line.split() for line in lines]
        return [(key, int(attempt)) for word, key, attempt, by in rows if word == what and pid in (None, int(by))]

    def finish(self) -> None:
        """Open all gates, and see all runs succeed."""
        for run in self.held:
            self.gate(run).touch()
        assert {run: self.cluster.finished(run)["phase"] for run in self.runs} == dict.fromkeys(self.runs, "Succeeded")

    def recorded(self, history: History, version: int) -> set[Call]:
        """Return the attempts of handlers that were under way in the record at a moment."""
        state = state_at(history.of("workflowruns", self.name), version)
        return {
            (idempotency_key(run.uid, activity, Deed.DO), each["attempt"])
            for run in state.values()
            for activity, each in (run.status.get("activities") or {}).items()
            if each["phase"] == "Running" and run.name not in self.pods
        }

    def assert_nothing_is_lost_or_doubled(self, history: History, interrupted: set[Call]) -> None:
        """Compare what was done with what had to be; `interrupted` are the attempts that may have been begun twice."""
        history.catch_up("workflowruns", "pods")
        begun = Counter(self.calls("begin"))
        must = {call for call in interrupted if call[0].split("/")[1] == "it"}
        assert len(begun) == 2 * len(self.held) + STEPS, "every attempt is made, and none but these"
        assert {call for call, times in begun.items() if times > 1} <= interrupted
        assert {begun[call] for call in must} <= {2}, "what was under way is begun again, once"
        assert max(begun.values()) <= 2
        pods = history.of("pods", self.name)
        assert (doubled_pods(pods), len({pod.uid for pod in pods})) == ({}, 2 * len(self.pods))
        assert revived(history.of("workflowruns", self.name)) == []


def handovers(history: History) -> list[Term]:
    """Return who led, one after the other."""
    history.catch_up("leases")
    return terms(history.of("leases", LEASE))


def vacancy(before: Term, after: Term) -> float:
    """Return for how many seconds nobody has renewed the Lease, between two terms."""
    return (after.acquired - before.renewed).total_seconds()


Scene = Callable[[str, History], None]


def played(pair: Pair, title: str, scene: Scene) -> None:
    """Do something with the history of what comes of it; once more if the kubelet has lost a container."""

    def once(name: str) -> None:
        with recording(pair.cluster, "leases", "workflowruns", "pods") as history:
            scene(name, history)

    twice(title, once)


def test_a_killed_leader_is_replaced_in_time_and_nothing_is_lost_or_doubled(pair: Pair, tmp_path: Path) -> None:
    def deed(name: str, history: History) -> None:
        pair.start(SHORT)
        load = Load(pair.cluster, tmp_path, name)
        load.begin()
        pair.first.kill()
        wait_for("the standby to lead", lambda: pair.second.leads)
        old, new = handovers(history)[-2:]
        history.catch_up("workflowruns")
        interrupted = load.recorded(history, new.version)
        assert len(interrupted) >= len(load.held)
        load.finish()
        assert (old.holder, new.holder) == ("operator-0", "operator-1")
        assert SHORT <= vacancy(old, new) <= SHORT + retry_period(SHORT) + BUSY
        load.assert_nothing_is_lost_or_doubled(history, interrupted)
        assert {pair.cluster.status(run)["activities"]["it"]["interruptions"] for run in load.held} == {1}
        print(f"killed: {vacancy(old, new):.2f} s after the last renewal, Lease of {SHORT:g} s")

    played(pair, "killed", deed)


def test_a_leader_that_was_frozen_for_longer_than_its_lease_writes_nothing_when_it_wakes_up(
    pair: Pair, tmp_path: Path
) -> None:
    def deed(name: str, history: History) -> None:
        pair.start(SHORT)
        load = Load(pair.cluster, tmp_path, name)
        load.begin()
        pair.first.freeze()
        wait_for("the standby to lead", lambda: pair.second.leads)
        old, new = handovers(history)[-2:]
        history.catch_up("workflowruns")
        interrupted = load.recorded(history, new.version)
        # One of the held runs, and all the others, come to their ends. In another the handler of the frozen process has
        # its result as soon as that wakes up, while the same attempt is under way in the new leader.
        load.gate(load.held[0]).touch()
        for run in (load.held[0], load.chain, *load.pods):
            assert pair.cluster.finished(run)["phase"] == "Succeeded"
        wait_for("the held handlers to begin again", lambda: set(load.calls("begin", pair.second.pid)) >= interrupted)
        wait_for("the new leader to let go of what is over", lambda: not pair.cluster.held())
        history.catch_up("workflowruns")
        before = history.of("workflowruns")
        gate = load.gate(load.held[1])
        gate.with_name(f"{gate.name}-{pair.first.pid}").touch()
        pair.first.thaw()
        assert pair.first.ended() == LEASE_LOST
        assert "has lost the Lease" in pair.first.log()
        pair.wait_renewed("operator-1", times=2)
        history.catch_up("workflowruns", "pods")
        assert history.of("workflowruns") == before, "the old leader has written nothing"
        load.finish()
        assert (old.holder, new.holder) == ("operator-0", "operator-1")
        assert handovers(history)[-1].version == new.version, "nobody has taken the Lease since"
        assert SHORT <= vacancy(old, new) <= SHORT + retry_period(SHORT) + BUSY
        load.assert_nothing_is_lost_or_doubled(history, interrupted)
        outputs = {pair.cluster.status(run)["activities"]["it"]["output"]["by"] for run in load.held}
        assert outputs == {pair.second.pid}
        print(f"frozen: {vacancy(old, new):.2f} s after the last renewal, Lease of {SHORT:g} s")

    played(pair, "frozen", deed)


def test_a_leader_that_was_frozen_for_a_moment_goes_on(pair: Pair, tmp_path: Path) -> None:
    def deed(name: str, history: History) -> None:
        pair.start(LONG)
        load = Load(pair.cluster, tmp_path, name)
        load.begin()
        pair.wait_renewed("operator-0")
        pair.first.freeze()
        looked = pair.second.looks()
        wait_for("the standby to look twice", lambda: pair.second.looks() >= looked + 2)
        pair.first.thaw()
        pair.wait_renewed("operator-0", times=2)
        load.finish()
        assert [term.holder for term in handovers(history)] == ["operator-0"], "nothing has changed hands"
        assert not pair.second.leads
        load.assert_nothing_is_lost_or_doubled(history, set())

    played(pair, "moment", deed)


def test_a_leader_that_is_told_to_stop_hands_over_at_once(pair: Pair, tmp_path: Path) -> None:
    def deed(name: str, history: History) -> None:
        pair.start(LONG)
        load = Load(pair.cluster, tmp_path, name)
        load.begin()
        assert pair.first.stop() == 0
        wait_for("the standby to lead", lambda: pair.second.leads)
        old, new = handovers(history)[-2:]
        history.catch_up("workflowruns")
        interrupted = load.recorded(history, new.version)
        load.finish()
        assert (old.holder, new.holder) == ("operator-0", "operator-1")
        assert vacancy(old, new) <= retry_period(LONG) + BUSY < LONG
        load.assert_nothing_is_lost_or_doubled(history, interrupted)
        print(f"told to stop: {vacancy(old, new):.2f} s after it was given back, Lease of {LONG:g} s")

    played(pair, "stopped", deed)


def test_a_leader_that_is_started_again_takes_its_own_lease_back_at_once(pair: Pair, tmp_path: Path) -> None:
    def deed(name: str, history: History) -> None:
        pair.start(LONG)
        load = Load(pair.cluster, tmp_path, name)
        load.begin()
        pair.first.kill()
        pair.first.start("replica_handlers", lease_duration=str(LONG))
        old, new = handovers(history)[-2:]
        history.catch_up("workflowruns")
        interrupted = load.recorded(history, new.version)
        load.finish()
        assert {term.holder for term in handovers(history)} == {"operator-0"}
        assert not pair.second.leads
        assert vacancy(old, new) < LONG - retry_period(LONG), "it does not wait until its Lease has run out"
        load.assert_nothing_is_lost_or_doubled(history, interrupted)
        print(f"started again: {vacancy(old, new):.2f} s after the last renewal, Lease of {LONG:g} s")

    played(pair, "again", deed)


def test_of_two_replicas_with_one_identity_the_older_ends_and_says_why(pair: Pair) -> None:
    pair.first.start("replica_handlers", lease_duration=str(LONG))
    pair.second.start("replica_handlers", lease_duration=str(LONG), identity="operator-0")
    assert pair.first.ended() == LEASE_LOST
    assert "replicas need an identity each (KUBESAGA_IDENTITY)" in pair.first.log()
    pair.wait_renewed("operator-0")


def test_a_limit_is_not_exceeded_over_two_failovers(pair: Pair) -> None:
    def deed(name: str, history: History) -> None:
        pair.start(SHORT)
        pods = [{"name": "it", "pod": busybox("sleep 1")}]
        pair.cluster.apply(document("Workflow", name, {"concurrency": {"maxWorkflows": 2}, "activities": pods}))
        runs = [f"{name}-{number}" for number in range(12)]
        spec = {"workflowRef": {"name": name}}
        pair.cluster.apply(*(document("WorkflowRun", run, spec) for run in runs))
        _wait_finished(history, name, 2)
        pair.first.kill()
        wait_for("the standby to lead", lambda: pair.second.leads)
        pair.first.launch("replica_handlers", lease_duration=str(SHORT))
        _wait_finished(history, name, 6)
        pair.second.freeze()
        wait_for("the first one to lead again", lambda: pair.first.leads)
        _wait_finished(history, name, 8)
        pair.second.thaw()
        assert pair.second.ended() == LEASE_LOST
        assert {run: pair.cluster.finished(run)["phase"] for run in runs} == dict.fromkeys(runs, "Succeeded")
        history.catch_up("workflowruns", "pods")
        versions = history.of("workflowruns", name)
        assert excesses(versions, 2) == []
        assert max(len(live) for _, live in under_way(versions)) == 2, "the limit is used"
        blocked = {str((run.status.get("queue") or {}).get("blockedBy")) for run in versions if run.phase == "Queued"}
        assert blocked == {"maxWorkflows"}
        assert revived(versions) == []
        assert doubled_pods(history.of("pods", name)) == {}
        assert [term.holder for term in handovers(history)][-3:] == ["operator-0", "operator-1", "operator-0"]

    played(pair, "limit", deed)


def _wait_finished(history: History, prefix: str, number: int) -> None:
    """Wait until so many runs have succeeded, while others are under way."""

    def look() -> bool:
        versions = history.of("workflowruns", prefix)
        assert excesses(versions, 2) == []
        done = {run.name for run in versions if run.phase == "Succeeded"}
        return len(done) >= number and bool(under_way(versions)[-1][1])

    wait_for(f"{number} runs to succeed", look)
