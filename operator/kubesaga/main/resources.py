# SPDX-License-Identifier: Apache-2.0
"""The watches of Kubernetes objects that start runs, put together."""

from __future__ import annotations

import logging
import random
from typing import Final

from kubesaga.api.names import API_VERSION
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.language.expressions import Evaluator
from kubesaga.kube.client import KubeClient
from kubesaga.kube.events import EventPoster, Reference
from kubesaga.main.execution import Base
from kubesaga.triggers.causes import WorkflowTriggers
from kubesaga.triggers.objects.teller import ObjectTeller, Warn
from kubesaga.triggers.objects.watches import ObjectWatches

_log: Final = logging.getLogger("kubesaga.workflow_engine")


def make_object_watches(base: Base, client: KubeClient, evaluator: Evaluator, poster: EventPoster) -> ObjectWatches:
    """Return the watches, and add what is read of them to the metrics."""
    teller = ObjectTeller(client, WorkflowTriggers(evaluator), evaluator, base.metrics, _warn_by(poster))
    watches = ObjectWatches(
        client, teller, allowed=base.settings.watchable_kinds, clock=base.clock, random=random.random
    )
    base.metrics.plain_gauge(
        "kubesaga_resource_sources", "Event sources whose objects are watched.", lambda: float(watches.counted)
    )
    base.metrics.plain_gauge(
        "kubesaga_resource_events_pending", "Changes of watched objects that wait for their runs.",
        lambda: float(watches.pending),
    )  # fmt: skip
    return watches


def _warn_by(poster: EventPoster) -> Warn:
    def warn(key: RunKey, uid: str, reason: str, message: str) -> None:
        _log.warning("WorkflowEventSource %s: %s", key, message)
        about = Reference(
            api_version=API_VERSION, kind="WorkflowEventSource", name=key.name, namespace=key.namespace, uid=uid
        )
        poster.post(about, "Warning", reason, message)

    return warn
