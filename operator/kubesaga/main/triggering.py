# SPDX-License-Identifier: Apache-2.0
"""What the gateway asks of triggers, answered from a Workflow's `spec.triggers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubesaga.api.event_source import fits
from kubesaga.api.names import digest, dns_label
from kubesaga.engine.expressions import Evaluator
from kubesaga.engine.values import JSON
from kubesaga.gateway.matching import Caused, Matcher, Matches
from kubesaga.kube.client import Object
from kubesaga.main.gateway import Triggers

_UNDERSTOOD = frozenset(("name", "event"))


def matcher(_: Evaluator) -> Matcher:
    """Return what holds events against triggers by their type. A trigger that asks for more is left alone, and said so."""
    return _match


def _match(workflow: Object, event: Mapping[str, JSON]) -> Matches:
    spec: Mapping[str, Any] = workflow.get("spec") or {}
    caused, faults = [], []
    for trigger in () if spec.get("suspend") else spec.get("triggers") or ():
        if not fits(trigger.get("event") or "", str(event["type"])):
            continue
        if more := trigger.keys() - _UNDERSTOOD:
            faults.append(
                f"the trigger {trigger['name']} has {', '.join(sorted(more))}, which this version does not know"
            )
        else:
            caused.append(Caused(trigger=trigger["name"]))
    return Matches(caused=caused, faults=faults)


def run_name(workflow_uid: str, trigger: str, origin: str, event_id: str) -> str:
    """Return the name of the one run of a Workflow's trigger for an event."""
    return f"{dns_label(trigger, 40)}-{digest(workflow_uid, trigger, origin, event_id, length=20)}"


TRIGGERS = Triggers(matcher=matcher, run_name=run_name)
