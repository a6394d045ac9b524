# SPDX-License-Identifier: Apache-2.0
"""The record of the processes of one cluster while the tool works on it: every start is written down at once."""

from collections.abc import Sequence
from dataclasses import replace

from . import processes, state
from .places import Places
from .state import Process, State


class Session:
    """Holds the State, saves it at every change, and starts and stops the processes in it."""

    def __init__(self, where: Places, initial: State) -> None:
        self.where = where
        self.state = initial
        self.save()

    def save(self) -> None:
        """Writes the record."""
        state.save(self.where.state, self.state)

    def change(self, **fields: object) -> None:
        """Replaces fields of the record."""
        self.state = replace(self.state, **fields)  # type: ignore[arg-type]  # names and types are the callers', State checks names
        self.save()

    def begin(self, name: str, command: list[str]) -> Process:
        """Starts a process under a name, its log named after it."""
        process = processes.start(command, log=self.where.logs / f"{name}.log")
        self.change(processes={**self.state.processes, name: process})
        return process

    def end(self, names: Sequence[str], grace: float) -> None:
        """Stops those of the processes that still run, all at once: asks, waits `grace` seconds at most, kills."""
        known = self.state.processes
        if self.state.boot == state.boot_id():
            processes.stop([known[name] for name in names if name in known], grace)
        self.change(processes={name: process for name, process in known.items() if name not in names})
