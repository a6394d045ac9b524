# SPDX-License-Identifier: Apache-2.0
"""Tells whether a namespace is being deleted: nothing can be created there any more, so that nothing can be undone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from kubesaga.kube.client import KubeClient
from kubesaga.kube.errors import Forbidden, NotFound
from kubesaga.kube.resources import NAMESPACES

_log = logging.getLogger("kubesaga.workflow_engine")

_KEPT: Final = 5.0
"""Seconds for which an answer holds: all runs of a namespace are deleted at about the same time."""


class Namespaces:
    """Asks the API server, and remembers its answers for a moment."""

    def __init__(self, client: KubeClient, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._monotonic = monotonic
        self._answers: dict[str, tuple[float, bool]] = {}
        self._told = False

    async def ending(self, name: str) -> bool:
        """Return whether the namespace is being deleted. One that must not be looked at counts as staying."""
        now = self._monotonic()
        self._answers = {key: answer for key, answer in self._answers.items() if answer[0] > now}
        if name not in self._answers:
            self._answers[name] = (now + _KEPT, await self._ask(name))
        return self._answers[name][1]

    async def _ask(self, name: str) -> bool:
        try:
            namespace = await self._client.get(NAMESPACES, None, name)
        except (Forbidden, NotFound) as error:
            if not self._told:
                _log.warning("whether the namespace %s is being deleted is not known: %s", name, error)
            self._told = True
            return False
        phase = (namespace.get("status") or {}).get("phase")
        return "deletionTimestamp" in namespace["metadata"] or phase == "Terminating"
