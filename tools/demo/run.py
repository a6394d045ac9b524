# SPDX-License-Identifier: Apache-2.0
"""A run of a Workflow: starting it, watching it to its end, telling what its status says."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import Any

from demo.shell import DemoFailed, kubectl, kubectl_program, read, show

_PATIENCE = 180  # seconds, for one run
_FINISHED = ("Succeeded", "Failed", "Compensated", "Cancelled", "Terminated")
_ENDED = (*_FINISHED, "CompensationFailed")
"""The phases after which nothing happens any more of itself."""
_COLUMNS = "RUN:.metadata.name,PHASE:.status.phase,PROGRESS:.status.progress,ACTIVITY:.status.currentActivity"
_WIDTHS = (45, 12, 8, 12)
"""Of these columns, which stand still so: kubectl widens them as it goes on."""

Run = dict[str, Any]


def clear() -> None:
    """Delete the runs that the desk's events have started the last time: their events would find them, and start none."""
    labels = ("-l", "kubesaga.dev/event-source=desk")
    kubectl("-n", "support", "delete", "workflowruns.kubesaga.dev", *labels, "--timeout=120s", quiet=True)


def follow(name: str, phase: str, hint: str) -> Run:
    """Show the run in kubectl's own words until it has ended; return it. Raises DemoFailed unless it ends in this phase."""
    _watch(name)
    run: Run = read("-n", "support", "get", "workflowruns.kubesaga.dev", name)
    status = run.get("status") or {}
    if status.get("phase") != phase:
        raise DemoFailed(
            f"{name} is {status.get('phase')}, not {phase}: {status.get('message') or 'it has nothing to say'}; look at: {hint}"
        )
    return run


def _watch(name: str) -> None:
    command = ("-n", "support", "get", "workflowruns.kubesaga.dev", name, "--watch", "-o", f"custom-columns={_COLUMNS}")
    show(f"kubectl {' '.join(command)}")
    with subprocess.Popen([*kubectl_program(), *command], stdout=subprocess.PIPE, text=True) as watch:
        end = threading.Timer(_PATIENCE, watch.terminate)
        end.start()
        told: list[str] = []
        try:
            for line in watch.stdout or ():
                words = line.replace("<none>", "-").split()
                if words != told:
                    told = words
                    print(
                        "   ".join(word.ljust(width) for word, width in zip(words, _WIDTHS, strict=False)).rstrip(),
                        flush=True,
                    )
                if len(words) > 1 and words[1] in _ENDED:
                    break
        finally:
            end.cancel()
            watch.terminate()


def tell(run: Run) -> None:
    """Show the status of a run in short: each activity, with its undo, and what became of the whole."""
    show(f"kubectl -n support get workflowruns.kubesaga.dev {run['metadata']['name']} -o yaml   # its status, in short")
    status = run["status"]
    for name, activity in sorted(status["activities"].items(), key=lambda known: known[1]["startTime"]):
        _tell_deed(name, activity)
        if undo := activity.get("compensation"):
            _tell_deed("  its undo", undo)
    if condition := condition_of(run, "Compensated"):
        print(f"  condition Compensated: {condition['status']} ({condition['reason']}): {condition['message']}")
    if outputs := status.get("outputs"):
        print(f"  outputs: {json.dumps(outputs)}")


def _tell_deed(name: str, deed: dict[str, Any]) -> None:
    error = deed.get("error")
    came = f"{error['reason']}: {error['message']}" if error else json.dumps(deed.get("output"))
    pod = deed.get("podName")
    print(f"  {name:<13} {deed['phase']:<12} {f'pod …{pod[-20:]}' if pod else 'in the operator':<26} {came}")


def condition_of(run: Run, type_: str) -> dict[str, Any] | None:
    """Return a condition of a run."""
    return next((found for found in run["status"]["conditions"] if found["type"] == type_), None)


def phases_of(run: Run) -> dict[str, str]:
    """Return the phase of each activity."""
    return {name: activity["phase"] for name, activity in run["status"]["activities"].items()}
