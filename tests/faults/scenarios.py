# SPDX-License-Identifier: Apache-2.0
"""The numbered fault scenarios that concern what exists, each as a case with a name. The table is docs/faults.md."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.faults.faults import AFTER, BEFORE, LOST, At, Blow, Fault, Fixed, Twist, refused
from tests.faults.lane import PATIENCE, During, Lane
from tests.faults.operator_process import LEASE_LOST, OperatorProcess
from tests.faults.plans import Case
from tests.faults.proxy import Proxy
from tests.faults.saga import ANSWER, answered, cancelled, late_pod, long_pod, reference, refused_once, undone, wide
from tests.faults.upstream import GROUP_PATH

SHORT_LEASE = (("lease_duration", "3"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A case with a number and a sentence."""

    number: str
    sentence: str
    case: Case
    long: bool = False
    """It takes too long for `make test`."""

    @property
    def id(self) -> str:
        """As tests name it."""
        return self.case.title


# What happens beside the plan.


def until_struck(times: int) -> During:
    """Let the faults cease once they have struck so often."""

    async def during(lane: Lane, run: str) -> None:
        await until(lambda: len(lane.script.struck) >= times)
        lane.script.stop()

    return during


def after(seconds: float) -> During:
    """Let the faults cease after a time."""

    async def during(lane: Lane, run: str) -> None:
        await asyncio.sleep(seconds)
        lane.script.stop()

    return during


async def until(look: Callable[[], Any], within: float = PATIENCE) -> None:
    """Wait for what no watch tells."""
    async with asyncio.timeout(within):
        while not look():
            await asyncio.sleep(0.02)


async def pod_of(lane: Lane, run: str, phase: str) -> str:
    """Return the name of the first pod of a run once it is in a phase."""

    def look() -> str | None:
        pods = (
            each for each in lane.observer.versions if each.resource == "pods" and each.status.get("phase") == phase
        )
        return next((name for each in pods if (name := each.object["metadata"]["name"]).startswith(f"{run}-")), None)

    name = await lane.observer.wait(look, PATIENCE)
    assert name is not None, f"no pod of {run} becomes {phase}"
    return name


async def killed_at_the_request(lane: Lane, run: str) -> None:
    """The operator dies while the service works on its request."""

    async def kill() -> None:
        lane.script.strike("http request: killed before its answer")
        await lane.operator.kill()

    lane.on_request = kill
    await until(lambda: lane.on_request is None)


async def token_rotated(lane: Lane, run: str) -> None:
    """The API server takes another token from now on, which the kubeconfig has a moment later."""
    await lane.wait_activity(run, "reserve", "Succeeded")
    proxy = lane.proxies[0]
    lane.operator.point_to(proxy.url, token="second")
    proxy.token = "second"
    lane.script.strike("token: rotated")


async def edited_without_end(lane: Lane, run: str) -> None:
    """A person edits the run's labels as fast as possible, and takes all labels off its pod."""
    path = f"{GROUP_PATH}/namespaces/{lane.namespace}/workflowruns/{run}"
    stripped = False
    number = 0
    while (lane.run(run).get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
        number += 1
        await lane.upstream.json("PATCH", path, {"metadata": {"labels": {"touched": str(number)}}})
        await asyncio.sleep(0.02)
        pods = [each.object["metadata"]["name"] for each in lane.observer.versions if each.resource == "pods"]
        mine = next((name for name in pods if name.startswith(f"{run}-")), None)
        if mine is not None and not stripped:
            stripped = True
            where = f"/api/v1/namespaces/{lane.namespace}/pods/{mine}"
            await lane.upstream.json("PATCH", where, {"metadata": {"labels": None}})
    lane.script.strike(f"labels: edited {number} times")


async def deleted_unseen(lane: Lane, run: str) -> None:
    """The run is deleted, and no watch tells of it."""
    await pod_of(lane, run, "Running")
    await lane.upstream.json("DELETE", f"{GROUP_PATH}/namespaces/{lane.namespace}/workflowruns/{run}")


async def cancel(lane: Lane, run: str) -> None:
    """Somebody cancels the run while its pod runs."""
    await pod_of(lane, run, "Running")
    path = f"{GROUP_PATH}/namespaces/{lane.namespace}/workflowruns/{run}"
    await lane.upstream.json("PATCH", path, {"spec": {"shutdown": "Cancel"}})


async def brought(lane: Lane, run: str) -> None:
    """Somebody brings the event that the run waits for, by a messenger, which must say in the end that the run has taken it."""
    await lane.wait_activity(run, "answer", "Waiting")
    name, path = f"{run}-event", f"{GROUP_PATH}/namespaces/{lane.namespace}/workflowruns"
    spec = {"workflowRef": {"name": run}, "deliver": True, "event": json.dumps(ANSWER)}
    body = {"apiVersion": "kubesaga.dev/v1alpha1", "kind": "WorkflowRun", "metadata": {"name": name}, "spec": spec}
    await lane.upstream.json("POST", path, body)
    ended = await lane.observer.wait(lambda: (lane.run(name).get("status") or {}).get("completionTime"), PATIENCE)
    assert ended, f"{name} does not end"
    status = lane.run(name)["status"]
    told = [(each["run"], each["answer"]) for each in status.get("recipients", ())]
    assert (status["reason"], told) == ("Delivered", [(run, "Applied")]), status


async def down_over_the_deadline(lane: Lane, run: str) -> None:
    """The operator is away when the attempt's time is over, and comes back later."""
    await pod_of(lane, run, "Running")
    await lane.operator.kill(hold=True)
    lane.script.strike("operator: away over a deadline")
    await asyncio.sleep(4)  # longer than the attempt may take
    lane.operator.start()


async def pod_deleted_after_its_end(lane: Lane, run: str) -> None:
    """While the operator is away a pod ends, and somebody deletes it."""
    await pod_of(lane, run, "Pending")
    await lane.operator.kill(hold=True)
    name = await pod_of(lane, run, "Succeeded")
    await lane.upstream.json("DELETE", f"/api/v1/namespaces/{lane.namespace}/pods/{name}")
    lane.script.strike("pod: deleted after its end")
    lane.operator.start()


async def leading(lane: Lane, run: str) -> tuple[OperatorProcess, Proxy]:
    """Start all operators; return the one that leads, with its proxy, once the run has begun."""
    for process in lane.operators:
        process.start()
    await lane.wait_activity(run, "reserve", "Succeeded")
    return next(pair for pair in zip(lane.operators, lane.proxies, strict=True) if pair[1].watches_all)


async def leader_frozen(lane: Lane, run: str) -> None:
    """The leader is stopped for longer than its Lease, another finishes its work, and then it wakes up."""
    leader, _ = await leading(lane, run)
    ended = len(leader.exits)
    leader.signal(signal.SIGSTOP)
    lane.script.strike("leader: frozen")
    await lane.observer.wait(lambda: (lane.run(run).get("status") or {}).get("phase") == "Succeeded", PATIENCE)
    leader.signal(signal.SIGCONT)
    await until(lambda: len(leader.exits) > ended)


async def leader_parted(lane: Lane, run: str) -> None:
    """The leader cannot reach the API server, a standby can; then all is well again."""
    leader, proxy = await leading(lane, run)
    ended = len(leader.exits)
    proxy.parted = True
    lane.script.strike("leader: parted from the API server")
    await until(lambda: len(leader.exits) > ended)
    await lane.observer.wait(lambda: (lane.run(run).get("status") or {}).get("phase") == "Succeeded", PATIENCE)
    proxy.parted = False


async def two_leaders(lane: Lane, run: str) -> None:
    """Each operator has a Lease of its own, and believes to be alone."""
    lane.script.strike("operators: two at work")


# The table.


def _blow(label: str, nth: int, fault: Fault, times: int = 1) -> tuple[At, Fault]:
    return At(label=label, nth=nth, times=times), fault


def _case(*blows: tuple[At, Fault], **more: Any) -> Case:
    twists = more.pop("twists", ())
    stale = more.pop("stale", frozenset())
    return Case(plan=Fixed(title="", blows=blows, twists=twists, stale_lists=stale), **more)


def _twist(label: str, twist: Twist, *, nth: int = 0, **more: Any) -> Case:
    return _case(twists=((At(label=label, nth=nth), twist),), fresh=True, **more)


def _titled(case: Case, title: str) -> Case:
    assert isinstance(case.plan, Fixed)
    return replace(case, plan=replace(case.plan, title=title))


_STATUS = "patch workflowruns/status"

SCENARIOS = [
    Scenario(number=number, sentence=sentence, case=_titled(case, f"{number}: {sentence}"), long=long)
    for number, sentence, case, long in (
        ("F1", "killed before a status is written", _case(_blow(_STATUS, 2, BEFORE)), False),
        ("F1", "killed after a status is written", _case(_blow(_STATUS, 4, AFTER)), True),
        ("F1", "killed before a pod is made", _case(_blow("create pods", 1, BEFORE)), True),
        ("F1", "killed after a pod is made", _case(_blow("create pods", 1, AFTER)), False),
        ("F1", "killed before the run is let go", _case(_blow("patch workflowruns", 2, BEFORE)), True),
        ("F1", "killed before it is written down whom an event is for", _case(_blow(_STATUS, 4, BEFORE), sagas=(answered,), during=brought), True),
        ("F1", "killed when a run has taken an event", _case(_blow(_STATUS, 5, AFTER), sagas=(answered,), during=brought), False),
        ("F3", "every answer to a status write is lost while an event is given to a run", _case(_blow(_STATUS, 0, LOST), sagas=(answered,), during=brought), True),
        ("F11", "nobody tells of an event for a run that waits", _twist("workflowruns ADDED", Twist.DROP, nth=2, sagas=(answered,), during=brought), False),
        ("F2", "the answer to a pod's creation is lost", _case(_blow("create pods", 1, LOST)), False),
        ("F3", "the answer to a status write is lost", _case(_blow(_STATUS, 3, LOST)), False),
        ("F3", "every answer to a status write is lost", _case(_blow(_STATUS, 0, LOST)), True),
        ("F4", "killed between the record of an end and the release of its pod", _case(_blow("patch pods", 1, BEFORE)), False),
        ("F5", "killed when undoing begins, and in the middle of it", _case(_blow(_STATUS, 9, BEFORE), _blow(_STATUS, 12, AFTER), _blow("create pods", 2, AFTER), sagas=(undone,)), False),
        ("F5", "the answers to all writes of an undone saga are lost", _case(_blow("patch workflowruns*", 0, LOST), _blow("create pods", 0, LOST), _blow("patch pods", 0, LOST), sagas=(undone,)), True),
        ("F7", "killed while a service works on its request", _case(during=killed_at_the_request), False),
        ("F8", "killed after each of twenty status writes", _case(_blow(_STATUS, 1, AFTER, 20)), True),
        ("F9", "old copies of runs are told again, also of finished ones", _twist("workflowruns*", Twist.REPLAY), False),
        ("F10", "after a restart all listings show the past", _case(_blow(_STATUS, 6, BEFORE), stale=frozenset({"workflowruns", "pods"}), fresh=True), False),
        ("F11", "nobody tells that there is a run", _twist("workflowruns ADDED", Twist.DROP), False),
        ("F11", "nobody tells that a run has changed", _twist("workflowruns MODIFIED*", Twist.DROP), True),
        ("F11", "nobody tells that there is a pod", _twist("pods ADDED*", Twist.DROP), True),
        ("F11", "nobody tells that a pod has ended", _twist("pods MODIFIED*", Twist.DROP), False),
        ("F12", "all events are told twice", _twist("*", Twist.DUPLICATE), False),
        ("F12", "all events are told late and out of order", _twist("*", Twist.DELAY), True),
        ("F12", "all events of pods are told again later", _twist("pods*", Twist.REPLAY), True),
        ("F13", "a live run is deleted while no watch tells", _twist("workflowruns MODIFIED*", Twist.DROP, sagas=(long_pod,), during=deleted_unseen), True),
        ("F13", "every watch is answered with 410", _case(twists=((At(label="*", times=4), Twist.GONE),), fresh=True), False),
        ("F14", "the watch of runs stays open and falls silent", _twist("workflowruns ADDED", Twist.FREEZE), False),
        ("F14", "the watch of pods stays open and falls silent", _twist("pods ADDED*", Twist.FREEZE), True),
        ("F16", "the API server answers 503 to everything", _case(_blow("*", 0, refused(503)), during=until_struck(20), fresh=True), False),
        ("F16", "the API server is away for longer than the Lease", _case(_blow("*", 0, refused(500)), during=after(25), exits=(LEASE_LOST,), fresh=True), True),
        ("F17", "the watch of runs breaks with an error 500", _twist("workflowruns ADDED", Twist.BROKEN, nth=1, exits=(1,)), True),
        ("F17", "the watch of pods breaks with an error 500", _twist("pods ADDED*", Twist.BROKEN, nth=1), False),
        ("F18", "writes and watches are forbidden for a while", _case(_blow("patch workflowruns*", 1, refused(403), 3), _blow("watch*", 1, refused(403), 2), _blow("create controllerrevisions", 1, refused(403), 2), fresh=True), True),
        ("F19", "the API server asks for patience", _case(_blow(_STATUS, 2, refused(429, 1), 2), _blow("create pods", 1, refused(429, 1), 2), _blow("patch pods", 1, refused(429, 1))), False),
        ("F20", "the token is replaced", _case(during=token_rotated, settings=(("workers", "31"),)), False),
        ("F21", "the run is edited all the time, and its pod loses its labels", _case(during=edited_without_end), False),
        ("F22", "two writes take two seconds each, others time out", _case(_blow(_STATUS, 2, Fault(blow=Blow.SLOW)), _blow("create pods", 1, Fault(blow=Blow.SLOW)), _blow(_STATUS, 5, refused(504), 2)), True),
        ("F22", "every write takes two seconds", _case(_blow("patch*", 0, Fault(blow=Blow.SLOW)), _blow("create pods", 0, Fault(blow=Blow.SLOW))), True),
        ("F24", "a pod is refused once", _case(_blow("create pods", 1, refused(403)), sagas=(refused_once,)), True),
        ("F25", "the leader freezes for longer than its Lease and wakes up", _case(during=leader_frozen, operators=2, settings=SHORT_LEASE, exits=(LEASE_LOST,)), False),
        ("F26", "two operators are at work by mistake", _case(during=two_leaders, operators=2, alone=False, settings=(("workers", "30"),)), False),
        ("F27", "the leader cannot reach the API server, the standby can", _case(during=leader_parted, operators=2, settings=(*SHORT_LEASE, ("workers", "29")), exits=(LEASE_LOST,)), True),
        ("F29", "the operator is away over a deadline", _case(during=down_over_the_deadline, sagas=(late_pod,), fresh=True), True),
        ("F30", "a pod ends and is deleted while the operator is away", _case(during=pod_deleted_after_its_end), False),
        ("F42", "cancelled while a pod runs, and killed before that is written", _case(_blow(_STATUS, 4, BEFORE), sagas=(cancelled,), during=cancel), False),
        ("F1", "killed in the middle of what happens side by side", _case(_blow("create pods", 2, AFTER), _blow(_STATUS, 6, LOST), sagas=(wide, reference)), True),
    )
]  # fmt: skip
"""`settings` that differ in a number that does not matter keep a lane to one scenario."""
