# SPDX-License-Identifier: Apache-2.0
"""Where the API server keeps each kind: group, version, plural; and the kinds that Kubesaga speaks to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from kubesaga.api.names import GROUP, VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind of object. `group` is "" for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As manifests write it: `v1`, `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the path below the server's address; without `name` that of the collection (None: of all namespaces).

        Raises ValueError for a name that would leave this resource (empty, `.`, `..`), and for a name without the
        namespace it needs: a request must never reach more than its caller meant.
        """
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if namespace is not None and self.namespaced:
            root += f"/namespaces/{_segment(namespace)}"
        elif name is not None and self.namespaced:
            raise ValueError(f"a namespace is needed to name one of the {self.plural}")
        path = f"{root}/{self.plural}"
        if name is not None:
            path += f"/{_segment(name)}"
        return f"{path}/{subresource}" if subresource else path


def _segment(text: str) -> str:
    if text in ("", ".", ".."):
        raise ValueError(f"{text!r} is not the name of an object")
    return quote(text, safe=":")


def kubesaga_resource(plural: str, kind: str) -> Resource:
    """Return one of Kubesaga's own kinds."""
    return Resource(group=GROUP, version=VERSION, plural=plural, kind=kind)


WORKFLOWS: Final = kubesaga_resource("workflows", "Workflow")
WORKFLOW_RUNS: Final = kubesaga_resource("workflowruns", "WorkflowRun")
ACTIVITIES: Final = kubesaga_resource("activities", "Activity")
WORKFLOW_EVENT_SOURCES: Final = kubesaga_resource("workfloweventsources", "WorkflowEventSource")
WORKFLOW_ACTIONS: Final = kubesaga_resource("workflowactions", "WorkflowAction")

PODS: Final = Resource(group="", version="v1", plural="pods", kind="Pod")
SERVICES: Final = Resource(group="", version="v1", plural="services", kind="Service")
ENDPOINTS: Final = Resource(group="", version="v1", plural="endpoints", kind="Endpoints")
SECRETS: Final = Resource(group="", version="v1", plural="secrets", kind="Secret")
EVENTS: Final = Resource(group="", version="v1", plural="events", kind="Event")
NAMESPACES: Final = Resource(group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False)
CONTROLLER_REVISIONS: Final = Resource(
    group="apps", version="v1", plural="controllerrevisions", kind="ControllerRevision"
)
LEASES: Final = Resource(group="coordination.k8s.io", version="v1", plural="leases", kind="Lease")
CUSTOM_RESOURCE_DEFINITIONS: Final = Resource(
    group="apiextensions.k8s.io",
    version="v1",
    plural="customresourcedefinitions",
    kind="CustomResourceDefinition",
    namespaced=False,
)
