# SPDX-License-Identifier: Apache-2.0
"""What the gateway asks of triggers, answered from a Workflow's `spec.triggers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kubesaga.api.event_source import fits
from kubesaga.api.names import API_VERSION, GROUP, WORKFLOW_LABEL, digest, dns_label, label_value
from kubesaga.engine.expressions import Evaluator
from kubesaga.engine.values import JSON
from kubesaga.gateway.matching import Caused, Matches
from kubesaga.kube.client import Object

_UNDERSTOOD: Final = frozenset(("name", "event", "dedupeWindow"))
_KEY: Final = f"{GROUP}/trigger-key"
_WINDOW: Final = f"{GROUP}/dedupe-window"


class WorkflowTriggers:
    """The triggers of Workflows, by the type of event alone. One that asks for more is left alone, and said so."""

    def __init__(self, _: Evaluator) -> None:
        """The evaluator is for conditions."""

    def match(self, workflow: Object, event: Mapping[str, JSON], text: str, origin: str) -> Matches:
        """Return what an event causes."""
        spec: Mapping[str, Any] = workflow.get("spec") or {}
        caused, faults = [], []
        for trigger in () if spec.get("suspend") else spec.get("triggers") or ():
            if not fits(trigger.get("event") or "", str(event["type"])):
                continue
            if more := trigger.keys() - _UNDERSTOOD:
                faults.append(f"the trigger {trigger['name']} has {', '.join(sorted(more))}, which this version does not know")  # fmt: skip
            else:
                run = _run(workflow["metadata"], trigger, str(event["id"]), text, origin)
                caused.append(Caused(trigger=trigger["name"], run=run))
        return Matches(caused=caused, faults=faults)

    def is_same(self, found: Object, wanted: Object) -> bool:
        """Tell whether a run was made for the same Workflow, trigger and event."""
        return bool(_key(found) == _key(wanted))


def _key(run: Object) -> Any:
    return (run["metadata"].get("annotations") or {}).get(_KEY)


def _run(workflow: Mapping[str, Any], trigger: Mapping[str, Any], event_id: str, text: str, origin: str) -> Object:
    key = digest("event", workflow["uid"], trigger["name"], origin, event_id, length=64)
    metadata = {
        "namespace": workflow["namespace"],
        "name": f"{dns_label(workflow['name'], 30)}-{dns_label(trigger['name'], 15)}-{key[:16]}",
        "labels": {WORKFLOW_LABEL: label_value(workflow["name"]), f"{GROUP}/trigger": label_value(trigger["name"])},
        "annotations": {_KEY: key, _WINDOW: trigger.get("dedupeWindow") or "24h"},
    }
    spec = {"workflowRef": {"name": workflow["name"]}, "event": text}
    return {"apiVersion": API_VERSION, "kind": "WorkflowRun", "metadata": metadata, "spec": spec}
