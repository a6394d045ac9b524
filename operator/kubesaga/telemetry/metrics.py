# SPDX-License-Identifier: Apache-2.0
"""Every series the operator exports, in one table. No label holds a run's name: series must not grow with runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_PASS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_REQUEST_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)
_RUN_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)

Sample = tuple[tuple[str, ...], float]
"""Values of the labels, and the number."""


class Metrics:
    """The operator's series, in a registry of their own."""

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()
        self._read: list[_Read] = []
        Info("kubesaga_build", "Version of the operator.", registry=registry).info({"version": version})
        self.runs_finished = Counter(
            "kubesaga_runs_finished", "Runs that finished.", ["namespace", "workflow", "phase"], registry=registry
        )
        self.run_duration = Histogram(
            "kubesaga_run_duration_seconds", "From a run's start to its completion.", ["workflow", "phase"],
            buckets=_RUN_BUCKETS, registry=registry,
        )  # fmt: skip
        self.runs_deleted = Counter(
            "kubesaga_runs_deleted", "Finished runs that were deleted because their time was over.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self.revisions_deleted = Counter(
            "kubesaga_revisions_deleted", "Revisions that were deleted because nobody needed them.", registry=registry
        )
        self.activities_ended = Counter(
            "kubesaga_activities_ended", "Activities, undos and fallbacks that ended.",
            ["workflow", "deed", "kind", "phase", "reason"],
            registry=registry,
        )  # fmt: skip
        self.ticks = Counter(
            "kubesaga_schedule_ticks", "Ticks of schedules: started a run, were left out, or could not have one.", ["result"],
            registry=registry,
        )  # fmt: skip
        self.attempts_started = Counter(
            "kubesaga_attempts_started", "Attempts that were started.", ["workflow", "kind"], registry=registry
        )
        self.guard_rejections = Counter(
            "kubesaga_guard_rejections", "Calls that a circuit breaker or bulkhead turned away.",
            ["kind", "namespace", "name", "reason"], registry=registry,
        )  # fmt: skip
        self.pass_duration = Histogram(
            "kubesaga_pass_duration_seconds", "One pass over one run.", buckets=_PASS_BUCKETS, registry=registry
        )
        self.api_requests = Counter(
            "kubesaga_api_requests", "Requests to the API server.", ["verb", "resource", "code"], registry=registry
        )
        self.api_duration = Histogram(
            "kubesaga_api_request_duration_seconds", "Time of a request to the API server.", ["verb"],
            buckets=_REQUEST_BUCKETS, registry=registry,
        )  # fmt: skip
        self.missed_events = Counter(
            "kubesaga_watch_missed", "Changes that a resync found and the watch had not told.", registry=registry
        )
        self._of_events()

    def _of_events(self) -> None:
        registry = self.registry
        self.events_offered = Counter(
            "kubesaga_events_offered", "Live runs that an event was offered to, by what they made of it.",
            ["namespace", "workflow", "answer"], registry=registry,
        )  # fmt: skip
        self.object_events = Counter(
            "kubesaga_resource_events", "Changes of watched objects: caused runs, matched no trigger, were left out by when, or could not be held against it.",
            ["namespace", "source", "result"], registry=registry,
        )  # fmt: skip
        self.object_runs = Counter(
            "kubesaga_resource_runs", "Runs that changes of watched objects caused: created, there already, or refused by the API server.",
            ["namespace", "workflow", "result"], registry=registry,
        )  # fmt: skip
        self.object_triggers = Counter(
            "kubesaga_resource_triggers", "Triggers that wait for a change's type: matched it, filtered it out, matched and have stopped themselves, or could not be held against it.",
            ["namespace", "workflow", "result"], registry=registry,
        )  # fmt: skip

    def gauge(self, name: str, text: str, labels: Iterable[str], read: Callable[[], Iterable[Sample]]) -> None:
        """Add a gauge whose samples are read by `refresh`."""
        gauge = _Read(name, text, tuple(labels), read)
        self._read.append(gauge)
        self.registry.register(gauge)

    def plain_gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge without labels that is read by `refresh`."""
        self.gauge(name, text, (), lambda: [((), read())])

    def refresh(self) -> None:
        """Read the gauges. To be called in the event loop's thread, where nothing changes meanwhile what they read."""
        for gauge in self._read:
            gauge.refresh()

    def on_request(self, verb: str, plural: str, status: int, seconds: float) -> None:
        """Count a request to the API server for a kind; status 0 means that there was no answer."""
        self.api_requests.labels(verb, plural, str(status) if status else "none").inc()
        if verb != "watch":
            self.api_duration.labels(verb).observe(seconds)

    def on_deleted(self, why: str | None) -> None:
        """Count a deletion by retention: of a run, and why; None: of a revision."""
        if why is None:
            self.revisions_deleted.inc()
        else:
            self.runs_deleted.labels(why).inc()

    def on_object_event(self, namespace: str, source: str, became: str) -> None:
        """Count a change of a watched object by what became of it: caused, stopped, unmatched, filtered, broken."""
        self.object_events.labels(namespace, source, became).inc()

    def on_object_run(self, namespace: str, workflow: str, became: str) -> None:
        """Count a run of such a change: created, existing, refused."""
        self.object_runs.labels(namespace, workflow, became).inc()

    def on_object_trigger(self, namespace: str, workflow: str, became: str, number: int = 1) -> None:
        """Count triggers that wait for such a change: matched, filtered, stopped, broken."""
        self.object_triggers.labels(namespace, workflow, became).inc(number)

    def on_tick(self, became: str) -> None:
        """Count a tick of a schedule by what became of it: started, left_out, failed."""
        self.ticks.labels(became).inc()

    def exposition(self) -> bytes:
        """Return everything in the Prometheus text format. Takes long enough to be called in a thread."""
        return generate_latest(self.registry)


class _Read(Collector):
    """A gauge that shows what it read last."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], read: Callable[[], Iterable[Sample]]) -> None:
        self._name, self._text, self._labels, self._read = name, text, labels, read
        self._samples: list[Sample] = []

    def refresh(self) -> None:
        self._samples = list(self._read())

    def describe(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for values, number in self._samples:
            family.add_metric(list(values), number)
        yield family
