# SPDX-License-Identifier: Apache-2.0
"""The two tickets: one for which all goes well, and one that must be undone. What is not as it must be is DemoFailed."""

from __future__ import annotations

from demo import desk, run
from demo.run import Run
from demo.shell import DemoFailed

_FILES = "examples/ticket-desk"


def first(hint: str) -> Run:
    """Run ticket T-123 to its good end."""
    run.start(f"{_FILES}/run.yaml", "ticket-t-123")
    done = run.follow("ticket-t-123", "Succeeded", hint)
    run.tell(done)
    return done


def check_first(done: Run) -> None:
    """Look at what the desk did for it: everything, once."""
    wanted = ["/notifications", "/tickets/T-123/assign", "/tickets/T-123/sla", "/audit"]
    _expect("what the desk did for T-123", desk.really_done(desk.calls_of(done)), wanted)


def second(hint: str) -> Run:
    """Let the SLA of ticket T-666 be refused, and see the assignment undone."""
    with desk.called() as line:
        line.post("/tickets", {"id": "T-666", "title": "The printer is on fire", "priority": "high"})
        line.refuse("/tickets/T-666/sla", 422)
        run.start(f"{_FILES}/run-2.yaml", "ticket-t-666")
        undone = run.follow("ticket-t-666", "Compensated", hint)
        line.refuse("/tickets/T-666/sla", 422, times=0)
    run.tell(undone)
    _expect("the activities of ticket-t-666", run.phases_of(undone), {
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
