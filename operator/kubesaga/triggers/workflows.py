# SPDX-License-Identifier: Apache-2.0
"""Workflows as they arrive from the API server: whether they may start runs, and their triggers made ready."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from kubesaga.api.parsing import parse_workflow_spec
from kubesaga.api.workflow import WorkflowSpec
from kubesaga.errors import InvalidSpec
from kubesaga.triggers.matching import Matcher, matchers_of
from kubesaga.triggers.runs import Body, Origin

_KEPT: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One Workflow's spec with its triggers made ready."""

    spec: WorkflowSpec
    matchers: tuple[Matcher, ...]


class Preparer:
    """Makes Workflows ready and keeps them by uid and generation. May be called from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], Prepared | None] = OrderedDict()

    def prepared(self, body: Body) -> Prepared | None:
        """Return a Workflow made ready; None where its spec cannot be read, which its status says."""
        key = (body["metadata"]["uid"], body["metadata"].get("generation", 0))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = _prepared(body)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made


def origin_of(workflow: Body) -> Origin:
    """Return which Workflow it is."""
    metadata = workflow["metadata"]
    return Origin(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])


def readiness(workflow: Body) -> bool | None:
    """Tell whether a Workflow as it is now is valid; None: nobody has looked at it yet."""
    status = workflow.get("status") or {}
    if status.get("observedGeneration") != workflow["metadata"].get("generation"):
        return None
    truth = next((known["status"] for known in status.get("conditions") or () if known["type"] == "Ready"), None)
    return None if truth is None else truth == "True"


def _prepared(body: Body) -> Prepared | None:
    try:
        spec = parse_workflow_spec(body.get("spec"))
        return Prepared(spec=spec, matchers=matchers_of(spec))
    except InvalidSpec:
        return None
