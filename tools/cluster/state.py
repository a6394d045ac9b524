# SPDX-License-Identifier: Apache-2.0
"""What runs: process ids that cannot be mistaken for others' after a restart of the machine."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A started process. `started` is its start time in clock ticks since boot (proc_pid_stat(5), field 22): with the boot's id
    it names a process for good, a process id alone is used again."""

    pid: int
    started: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The record of one cluster, written at every change."""

    kind: str
    boot: str
    version: str = ""
    folder: str = ""  # of Kubernetes' programs
    processes: dict[str, Process] = field(default_factory=dict)
    restore: dict[str, str] = field(default_factory=dict)  # kernel settings (path under /proc/sys) as they were found
    foreign_rules: bool = False  # somebody else's KUBE- chains were in iptables before: leave them

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def from_json(text: str) -> State:
    """Reads what `to_json` wrote."""
    fields: dict[str, Any] = json.loads(text)
    processes = {name: Process(**process) for name, process in fields.pop("processes").items()}
    return State(processes=processes, **fields)


def load(file: Path) -> State | None:
    """The record, None where there is none or a crash cut it short."""
    try:
        return from_json(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return None


def save(file: Path, state: State) -> None:
    """Replaces the record in one step."""
    fresh = file.with_suffix(".new")
    fresh.write_text(state.to_json())
    fresh.replace(file)


def boot_id() -> str:
    """This boot's id; empty where the system has none to tell."""
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.exists() else ""
