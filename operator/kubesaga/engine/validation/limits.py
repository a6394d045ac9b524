# SPDX-License-Identifier: Apache-2.0
"""Rules over `concurrency`: settings that would have no effect, and those that need another one."""

from __future__ import annotations

from collections.abc import Iterator

from kubesaga.api.limits import Concurrency, OnConflict, Overflow, QueueStrategy, Queuing
from kubesaga.api.parsing import field_path
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.errors import Problem


def problems(spec: WorkflowSpec, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the limits of a Workflow."""
    given = spec.concurrency
    if given is None:
        return
    here = field_path(path, "concurrency")
    if given.on_conflict is not OnConflict.QUEUE and given.key is None:
        told = f"says what {given.on_conflict} does with runs of the same key, but there is no key; add concurrency.key"
        yield Problem(field_path(here, "onConflict"), told)
    if given.queuing is not None:
        yield from _queuing(given, given.queuing, field_path(here, "queuing"))


def warnings(spec: WorkflowSpec, path: str) -> Iterator[Problem]:
    """Yield what has no effect as it stands."""
    given = spec.concurrency
    if given is None or given.on_conflict is not OnConflict.SIGNAL:
        return
    here = field_path(path, "concurrency", "onConflict")
    if not any(each.wait_for is not None and each.wait_for.event for each in (*spec.activities, *spec.finally_)):
        told = "is Signal, but no activity waits for an event (waitFor.event), so it does what Queue does"
        yield Problem(here, told)


def _queuing(given: Concurrency, queuing: Queuing, path: str) -> Iterator[Problem]:
    fair = queuing.strategy is QueueStrategy.FAIR
    if fair and queuing.fairness_key is None:
        told = "is missing: Fair needs to know what runs are counted under, such as ${inputs.tenant}"
        yield Problem(field_path(path, "fairnessKey"), told)
    if not fair and queuing.fairness_key is not None:
        told = f"has no meaning with strategy {queuing.strategy}; remove it, or set strategy: Fair"
        yield Problem(field_path(path, "fairnessKey"), told)
    if queuing.overflow is not Overflow.QUEUE and given.max_workflows is None:
        told = f"is {queuing.overflow}, but nothing limits how many runs there are; add concurrency.maxWorkflows"
        yield Problem(field_path(path, "overflow"), told)
