# SPDX-License-Identifier: Apache-2.0
"""The two tickets: one for which all goes well, and one that must be undone. Each begins with an event.

What is not as it must be is DemoFailed.
"""

from __future__ import annotations

from typing import Any

from demo import desk, run
from demo.gateway import Sender, would_start
from demo.run import Run
from demo.shell import DemoFailed, kubectl

_FILES = "examples/ticket-desk"
_FIRST = f"{_FILES}/created.json"
_SECOND = f"{_FILES}/created-2.json"


def ask_first() -> None:
    """Ask what T-123's event would start."""
    would_start(f"{_FILES}/workflow.yaml", _FIRST)


def first(sender: Sender, hint: str) -> Run:
    """Run ticket T-123 to its good end. Somebody who does not know the secret has tried before."""
    sender.forge(_FIRST)
    name = _started(sender.send(_FIRST), created=True)
    done = run.follow(name, "Succeeded", hint)
    run.tell(done)
    return done


def again(sender: Sender, done: Run) -> None:
    """Send T-123's event once more, and see that it causes nothing new."""
    name = _started(sender.send(_FIRST), created=False)
    _expect("the run of the event that was sent again", name, done["metadata"]["name"])
    kubectl("-n", "support", "get", "workflowruns.kubesaga.dev", "-l", "kubesaga.dev/event-source=desk")


def _started(told: dict[str, Any], *, created: bool) -> str:
    _expect("whether the delivery has created a run", told["created"], created)
    return str(told["name"])


def check_first(done: Run) -> None:
    """Look at what the desk did for it: everything, once."""
    wanted = ["/notifications", "/tickets/T-123/assign", "/tickets/T-123/sla", "/audit"]
    _expect("what the desk did for T-123", desk.really_done(desk.calls_of(done)), wanted)


def second(sender: Sender, hint: str) -> Run:
    """Let the SLA of ticket T-666 be refused, and see the assignment undone."""
    with desk.called() as line:
        line.post("/tickets", {"id": "T-666", "title": "The printer is on fire", "priority": "urgent"})
        line.refuse("/tickets/T-666/sla", 422)
        name = _started(sender.send(_SECOND), created=True)
        undone = run.follow(name, "Compensated", hint)
        line.refuse("/tickets/T-666/sla", 422, times=0)
    run.tell(undone)
    _expect("the activities of T-666's run", run.phases_of(undone), {
        "notify_team": "Succeeded", "assign_agent": "Compensated", "set_sla": "Failed", "audit": "Succeeded",
    })  # fmt: skip
    _expect("the condition Compensated", (run.condition_of(undone, "Compensated") or {}).get("status"), "True")
    return undone


def check_second(undone: Run) -> None:
    """Look at what the desk did for it: the ticket has no agent any more, and doing and undoing had keys of their own."""
    calls = desk.calls_of(undone)
    wanted = ["/notifications", "/tickets/T-666/assign", "/tickets/T-666/unassign", "/audit"]
    _expect("what the desk did for T-666", desk.really_done(calls), wanted)
    deeds = {call["path"].rpartition("/")[2]: call["key"].partition("/")[2] for call in calls}
    _expect("the deed of assigning", deeds["assign"], "assign_agent/do")
    _expect("the deed of unassigning", deeds["unassign"], "assign_agent/undo")
    found = desk.ticket("T-666")
    _expect("agent and SLA of T-666", (found["agent_id"], found["sla_hours"]), (None, None))


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise DemoFailed(f"{what}: {found}; it should have been {wanted}")
