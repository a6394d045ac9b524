# SPDX-License-Identifier: Apache-2.0
"""What a kubelet does that neither we nor a test can help, and the second try that a test may have because of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
SECOND_TRIES: list[str] = []
"""What was done once more, and why. Shown at the end of the session: a test that needed it has passed all the same."""


class ContainerLost(Exception):
    """The kubelet has lost a container, so nothing that was to be seen of it can be asked for."""


def lost_by_kubelet(pod: dict[str, Any]) -> bool:
    """Tell whether the kubelet itself says that it does not know how the pod's container ended.

    Kubernetes 1.20's does so now and then on a busy machine: it looks for a container that has just ended, or that it has
    just removed, and does not find it. The attempt's outcome is unknown then, rightly, and not what the test is about.
    """
    deleted = pod["metadata"].get("deletionTimestamp") and pod["metadata"].get("deletionGracePeriodSeconds") == 0
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        state, last = container.get("state") or {}, container.get("lastState") or {}
        if any((each.get("terminated") or {}).get("reason") == "ContainerStatusUnknown" for each in (state, last)):
            return True
        if deleted and "running" in state:
            return True
    return False


def twice(name: str, deed: Callable[[str], T]) -> T:
    """Do something under a name; once more under a fresh one if the kubelet lost a container of the first, and only then."""
    try:
        return deed(name)
    except ContainerLost as lost:
        note_second_try(f"{name}: {lost}")
    return deed(f"{name}-again")


def note_second_try(told: str) -> None:
    """Say that something is done again, and why."""
    print(f"done again: {told}")
    SECOND_TRIES.append(told)
