# SPDX-License-Identifier: Apache-2.0
"""What a Workflow's status records of its triggers: read, compared, and written by compare-and-swap."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from kubesaga.api.triggers import FailureRecord
from kubesaga.kube import errors
from kubesaga.kube.client import KubeClient
from kubesaga.kube.resources import WORKFLOWS
from kubesaga.triggers.runs import Body

_log: Final = logging.getLogger("kubesaga.workflow_engine")
_Record = TypeVar("_Record", bound=FailureRecord)


def records_in(status: Mapping[str, Any], field: str, record: type[_Record]) -> dict[str, _Record]:
    """Return the records of a map of the status, by the trigger's name; one that cannot be read is not there."""
    known: dict[str, _Record] = {}
    for name, wire in (status.get(field) or {}).items():
        try:
            known[name] = record.model_validate(wire, extra="ignore", by_alias=True, by_name=False)
        except ValidationError as error:
            _log.warning("status.%s.%s cannot be read, so it begins anew: %s", field, name, error)
    return known


def patch_of(status: Mapping[str, Any], field: str, records: Mapping[str, FailureRecord]) -> dict[str, Any]:
    """Return the merge patch that makes a map of the status hold these records: null for what is gone, empty if nothing changes."""
    wires = {name: record.wire() for name, record in records.items()}
    before = status.get(field) or {}
    changed: dict[str, Any] = {name: None for name in before if name not in wires}
    for name, wire in wires.items():
        if before.get(name) != wire:
            changed[name] = {**dict.fromkeys(before.get(name) or ()), **wire}
    return {field: changed if wires else None} if changed else {}


async def write(client: KubeClient, workflow: Body, patch: Mapping[str, Any]) -> bool:
    """Patch the status of a Workflow as it was read; False: it has changed meanwhile, so look again. Raises ApiError."""
    if not patch:
        return True
    metadata = workflow["metadata"]
    change = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": dict(patch)}
    try:
        await client.merge_patch(WORKFLOWS, metadata["namespace"], metadata["name"], change, subresource="status")
    except (errors.Conflict, errors.NotFound):
        return False
    return True
