# SPDX-License-Identifier: Apache-2.0
"""Calls of the operator to the API server: what each one is, and what is noted of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_PATH = re.compile(
    r"/api(?:s/(?P<group>[^/]+))?/v\w+/namespaces/(?P<namespace>[^/]+)"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?"
)
_VERBS = {"POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}

UNCOUNTED = frozenset({"leases", "events", ""})
"""Writes that are no step of a saga: the election, which has scenarios of its own, and news for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is asked of the API server. `verb` is Kubernetes' word; `resource` holds the subresource, if any."""

    verb: str
    resource: str
    name: str

    @property
    def label(self) -> str:
        """As plans name it, such as `patch workflowruns/status`."""
        return f"{self.verb} {self.resource}"

    @property
    def mutates(self) -> bool:
        """Tell whether it is a write that counts as a step of a saga."""
        return self.verb in _VERBS.values() and self.resource.partition("/")[0] not in UNCOUNTED


def call_of(method: str, path: str, query: dict[str, str]) -> Call:
    """Return what a request asks for."""
    found = _PATH.fullmatch(path)
    plural, name, sub = (found["plural"], found["name"], found["sub"]) if found else ("", None, None)
    resource = f"{plural}/{sub}" if sub else plural
    if method != "GET":
        verb = _VERBS[method]
    elif name is not None:
        verb = "get"
    else:
        verb = "watch" if query.get("watch") in ("1", "true") else "list"
    return Call(verb=verb, resource=resource, name=name or "")


@dataclass(slots=True, kw_only=True)
class Sent:
    """One write as it passed the proxy. Times are monotonic seconds, one clock for all processes of the machine."""

    call: Call
    operator: str
    life: int
    at: float
    fault: str = ""
    executed_at: float | None = None
    """When the API server's answer came in; None: it was not asked, or has not answered."""
    status: int | None = None
    """Of the API server's own answer."""
    version: int | None = None
    """resourceVersion of the object in that answer."""
    delivered: bool = False
    """The operator was given the API server's own answer."""
    body: Any = None
    """What was sent, as JSON."""
