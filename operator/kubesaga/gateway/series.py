# SPDX-License-Identifier: Apache-2.0
"""What the gateway tells of itself. Labels hold names of objects that there are, never what a sender wrote."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)


class Series:
    """The gateway's series, in the process's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.deliveries = Counter(
            "kubesaga_gateway_deliveries",
            "Requests that were answered. Source and namespace are empty where none took the delivery.",
            ["namespace", "source", "status", "reason"], registry=registry,
        )  # fmt: skip
        self.events = Counter(
            "kubesaga_gateway_events", "Events that were taken: caused runs, or met stopped triggers alone, or were for nobody, or are of no type that the source takes.",
            ["namespace", "source", "result"], registry=registry,
        )  # fmt: skip
        self.received = Counter(
            "kubesaga_gateway_events_received", "Events that were read from proven deliveries, whatever became of them.",
            ["namespace", "source"], registry=registry,
        )  # fmt: skip
        self.triggers = Counter(
            "kubesaga_gateway_triggers", "Triggers that wait for an event's type: matched it, filtered it out, or matched and have stopped themselves.",
            ["namespace", "workflow", "result"], registry=registry,
        )  # fmt: skip
        self.runs = Counter(
            "kubesaga_gateway_runs", "Runs that events caused, those that give them to live runs among them: created, or there already from an earlier delivery.",
            ["namespace", "workflow", "result"], registry=registry,
        )  # fmt: skip
        self.trigger_faults = Counter(
            "kubesaga_gateway_trigger_faults", "Triggers that could not be held against an event.",
            ["namespace", "workflow"], registry=registry,
        )  # fmt: skip
        self.duration = Histogram(
            "kubesaga_gateway_delivery_duration_seconds", "From the end of a delivery's headers to its answer.",
            buckets=_BUCKETS, registry=registry,
        )  # fmt: skip
        self.latency = Histogram(
            "kubesaga_gateway_run_latency_seconds", "From a delivery that is there whole to a run that it causes.",
            buckets=_BUCKETS, registry=registry,
        )  # fmt: skip
        self._registry = registry

    def watch(
        self, *, connections: Callable[[], float], buffered: Callable[[], float], sources: Callable[[], float]
    ) -> None:
        """Add what is read when it is asked for."""
        for name, text, read in (
            ("kubesaga_gateway_connections", "Connections that are open.", connections),
            ("kubesaga_gateway_buffered_bytes", "Bytes of bodies in memory.", buffered),
            ("kubesaga_gateway_sources", "Event sources that take deliveries.", sources),
        ):
            Gauge(name, text, registry=self._registry).set_function(read)
