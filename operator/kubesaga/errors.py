# SPDX-License-Identifier: Apache-2.0
"""What can go wrong inside Kubesaga, as a tree.

    KubesagaError
    ├── InvalidSpec          what a person wrote cannot be accepted: a list of problems, each with its field's path
    ├── InvalidSettings      the operator's own configuration cannot be accepted
    ├── DefinitionMissing    the Workflow or revision that a run names is not there
    └── ForeignObject        an object with our deterministic name exists and is not ours

A business failure (an activity that failed) is never an exception: it is an `Outcome` and ends up in the status.
An exception means that this pass failed and will be repeated, alone, with backoff.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class KubesagaError(Exception):
    """Root of all exceptions that Kubesaga raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a document: `path` in the document's own words, `message` one plain sentence."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidSpec(KubesagaError):
    """A document that cannot be accepted. `problems` is never empty; its order is the document's."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


class InvalidSettings(KubesagaError):
    """The environment or the command line holds settings that cannot be used; the message lists all of them."""


class DefinitionMissing(KubesagaError):
    """The Workflow, or the recorded revision of it, that a run names does not exist (any more)."""


class ForeignObject(KubesagaError):
    """An object bears our deterministic name but not our owner, attempt and content: it is never used or changed."""
