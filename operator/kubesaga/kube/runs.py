# SPDX-License-Identifier: Apache-2.0
"""The writes of a WorkflowRun: each names the version that it was decided on, so that nothing is overwritten unseen.

Nothing is repeated here. Conflict: the decision was made on an old version; drop it, read, decide again.
ServerUnavailable with `sent`: the write may have happened; read, and what the status says tells. Repeating it blindly
would answer Conflict for our own success.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubesaga.kube.client import EVERYTHING, KubeClient, Listing, Object, Selection
from kubesaga.kube.resources import WORKFLOW_RUNS


class Runs:
    """Reads and compare-and-swap writes of WorkflowRuns."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def get(self, namespace: str, name: str) -> Object:
        """Return the run as it is now. Raises NotFound."""
        return await self._client.get(WORKFLOW_RUNS, namespace, name)

    async def list(self, selection: Selection = EVERYTHING, *, resource_version: str | None = None) -> Listing:
        """Return the runs selected (`KubeClient.pages` explains `resource_version`)."""
        return await self._client.list(WORKFLOW_RUNS, selection, resource_version=resource_version)

    async def patch_status(
        self, namespace: str, name: str, patch: Mapping[str, Any], version: str, *, metadata_only: bool = False
    ) -> Object:
        """Change `.status` by a merge patch (null removes a field) and return the run as it is then.

        `version` is the resourceVersion that the patch was decided on. Labels, annotations and finalizers cannot be
        changed this way: the API server drops them silently. Raises Conflict, NotFound.
        """
        return await self._client.merge_patch(
            WORKFLOW_RUNS,
            namespace,
            name,
            {"metadata": {"resourceVersion": version}, "status": patch},
            subresource="status",
            metadata_only=metadata_only,
        )

    async def patch_metadata(
        self,
        namespace: str,
        name: str,
        version: str,
        *,
        finalizers: Sequence[str] | None = None,
        labels: Mapping[str, str | None] | None = None,
        annotations: Mapping[str, str | None] | None = None,
    ) -> Object:
        """Change what is given of the metadata and return the run; None leaves it, a None value removes a key.

        `finalizers` is the whole new list: compute it from the run that has `version`, so that those of others stay.
        Taking away the last finalizer of a deleted run ends it. Raises Conflict, NotFound.
        """
        changes = {"finalizers": finalizers, "labels": labels, "annotations": annotations}
        metadata = {field: value for field, value in changes.items() if value is not None}
        return await self._client.merge_patch(
            WORKFLOW_RUNS, namespace, name, {"metadata": metadata | {"resourceVersion": version}}
        )
