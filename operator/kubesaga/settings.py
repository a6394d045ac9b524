# SPDX-License-Identifier: Apache-2.0
"""The operator's settings: one table, read once in main/process.py, passed down as an argument.

Each field is set by the environment variable `KUBESAGA_` + its name in capitals. Every problem is reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from kubesaga.errors import InvalidSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the operator behaves. Durations are seconds."""

    namespaces: tuple[str, ...] = ()
    """Namespaces to serve, separated by commas; empty: all of the cluster (needs a ClusterRole)."""

    identity: str = ""
    """Who holds the Lease: the pod's name. A restarted operator with the same identity takes its Lease back at once. Empty: the host's name."""

    lease_name: str = "kubesaga-controller"
    """Name of the Lease that elects the one active operator."""

    lease_namespace: str = ""
    """Namespace of the Lease. Empty: the operator's own (from its ServiceAccount), else `default`."""

    lease_duration: float = 15.0
    """How long a Lease that is not renewed keeps others out."""

    handlers: tuple[str, ...] = ()
    """Python modules to import at start for their `@kubesaga.activity` functions, separated by commas."""

    handler_threads: int = 32
    """How many plain (not async) handlers may run at once; the next ones wait."""

    catalogue_namespace: str = ""
    """Namespace whose Activities the Workflows of all namespaces may use, where their own has none of that id. Empty: none."""

    watchable_kinds: tuple[str, ...] = ()
    """Kinds that WorkflowEventSources of type Kubernetes may watch, such as `v1/ConfigMap,apps/v1/Deployment`. Empty: none.
    The operator needs the right to get, list and watch them. Who may create such a source learns of every change of these objects in its namespace."""

    egress_allow: tuple[str, ...] = ()
    """What http activities may reach beyond public addresses and Services of the run's own namespace:
    host names, `*.suffix`, addresses or networks (CIDR), each with an optional `:port`, separated by commas."""

    http_timeout: float = 30.0
    """Longest time of one http activity that sets no `timeout` of its own."""

    max_output_bytes: int = 65536
    """Largest output of one activity, as JSON. A larger one fails the activity with OutputTooLarge."""

    max_run_bytes: int = 921600
    """Largest record of one run: inputs, variables, and what its activities are given and put out, as JSON (etcd refuses
    objects of about 1.5 MiB). The activity whose params or output would pass it fails."""

    pod_start_timeout: float = 300.0
    """How long a pod may fail to start (image not pulled, not schedulable) before its attempt fails with that reason."""

    stop_timeout: float = 120.0
    """How long to wait for a stopped attempt to end before going on without it (a lost node never answers)."""

    max_interruptions: int = 3
    """How often an in-process attempt is started again after the operator died during it, before it counts as OutcomeUnknown."""

    default_image_pull_policy: str = ""
    """imagePullPolicy of pods that set none; empty: Kubernetes decides."""

    default_pod_requests: tuple[str, ...] = ()
    """Requests of pods whose activity and Workflow give none, such as `cpu=100m,memory=64Mi`."""

    default_pod_limits: tuple[str, ...] = ()
    """Limits of pods whose activity and Workflow give none, such as `cpu=1,memory=512Mi`."""

    max_workflows: int = 0
    """How many runs may be under way at once, of all Workflows together; the others are Queued. 0: any number (S137)."""

    max_activities: int = 0
    """How many activities may be under way at once, of all runs together. 0: any number (S138)."""

    queue_strategy: str = "FIFO"
    """Which Workflow is next when one of these slots is free: FIFO (whose run has waited longest), Priority, or Fair (the namespace with the fewest slots)."""

    queue_timeout: float = 0.0
    """Longest wait for a slot, of runs and activities whose Workflow sets no `concurrency.queuing.timeout`; 0: any time."""

    workers: int = 32
    """How many runs are reconciled at once."""

    cel_processes: int = 2
    """How many processes evaluate expressions."""

    cel_deadline: float = 0.25
    """Longest time of one expression; an expression that takes longer fails and its process is replaced."""

    resync_interval: float = 60.0
    """How often the live runs are listed and compared with what the watch has told."""

    retention_interval: float = 60.0
    """How often finished runs and old revisions are looked at, and those whose time is over deleted, 20 a second at most."""

    http_port: int = 8080
    """Port of /metrics, /healthz and /readyz; 0: any free port."""

    http_host: str = "0.0.0.0"  # noqa: S104 - probes and Prometheus come from outside the pod
    """Address of /metrics, /healthz and /readyz."""

    gateway_port: int = 8088
    """Port on which `kubesaga gateway` takes deliveries; 0: any free port."""

    gateway_host: str = "0.0.0.0"  # noqa: S104 - deliveries come from outside the pod
    """Address on which `kubesaga gateway` takes deliveries."""

    gateway_tls_cert: str = ""
    """File with the certificate (PEM, with its chain) of `kubesaga gateway`, read again when it changes. Empty: plain HTTP, for a proxy in front."""

    gateway_tls_key: str = ""
    """File with the key of that certificate."""

    gateway_max_body_bytes: int = 1048576
    """Largest body of a delivery at all; `spec.maxBodyBytes` of a source counts up to this."""

    gateway_max_buffered_bytes: int = 67108864
    """Largest sum of the bodies in memory; what comes beyond is answered with 503."""

    gateway_timeout: float = 10.0
    """Longest time that the headers of a delivery may take, and again its body."""

    gateway_max_connections: int = 1000
    """How many connections may be open; more are closed at once."""

    gateway_max_in_flight: int = 64
    """How many deliveries are looked at, at once; more are answered with 503."""

    gateway_drain_delay: float = 5.0
    """How long a gateway that is told to stop goes on taking deliveries, so that everybody learns that it is not ready any more."""

    log_level: str = "info"
    """debug, info, warning or error (S112)."""

    log_format: str = "json"
    """json (one object a line) or text."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **overrides: Any) -> Settings:
        """Return the settings of an environment, overridden by `overrides` that are not None.

        Raises InvalidSettings with a sentence for each variable that cannot be used, unknown KUBESAGA_ names included.
        """
        problems: list[str] = []
        values: dict[str, Any] = {}
        known = {f"KUBESAGA_{field.name.upper()}": field for field in fields(cls)}
        for variable, text in sorted(environ.items()):
            if variable in known:
                field = known[variable]
                try:
                    values[field.name] = _PARSERS[str(field.type)](text)
                except ValueError as error:
                    problems.append(f"{variable}={text!r}: {error}")
            elif variable.startswith("KUBESAGA_") and variable not in _FOREIGN and not _SERVICE_LINK.search(variable):
                problems.append(f"{variable}: there is no such setting; the settings are {', '.join(sorted(known))}")
        values.update({name: value for name, value in overrides.items() if value is not None})
        settings = cls(**values)
        problems += settings._problems()
        if problems:
            raise InvalidSettings("; ".join(problems))
        return settings

    def _problems(self) -> list[str]:
        found = [
            f"KUBESAGA_{name.upper()}={getattr(self, name)}: must be above 0"
            for name in _POSITIVE
            if getattr(self, name) <= 0
        ]
        if self.log_level not in ("debug", "info", "warning", "error"):
            found.append(f"KUBESAGA_LOG_LEVEL={self.log_level!r}: must be debug, info, warning or error")
        if self.log_format not in ("json", "text"):
            found.append(f"KUBESAGA_LOG_FORMAT={self.log_format!r}: must be json or text")
        found += [
            f"KUBESAGA_{name.upper()}={getattr(self, name)}: must be 0 (no limit) or more"
            for name in ("max_workflows", "max_activities", "queue_timeout")
            if getattr(self, name) < 0
        ]
        if self.queue_strategy not in ("FIFO", "Priority", "Fair"):
            found.append(f"KUBESAGA_QUEUE_STRATEGY={self.queue_strategy!r}: must be FIFO, Priority or Fair")
        for name in ("default_pod_requests", "default_pod_limits"):
            found += [f"KUBESAGA_{name.upper()}: {fault}" for fault in _amount_faults(getattr(self, name))]
        found += [
            f"KUBESAGA_WATCHABLE_KINDS: {kind!r} must be apiVersion/Kind, such as v1/ConfigMap or apps/v1/Deployment"
            for kind in self.watchable_kinds
            if not _KIND.fullmatch(kind)
        ]
        if bool(self.gateway_tls_cert) != bool(self.gateway_tls_key):
            found.append("KUBESAGA_GATEWAY_TLS_CERT, KUBESAGA_GATEWAY_TLS_KEY: set both or none")
        if self.gateway_drain_delay < 0:
            found.append(f"KUBESAGA_GATEWAY_DRAIN_DELAY={self.gateway_drain_delay}: must not be below 0")
        if self.default_image_pull_policy not in ("", "Always", "IfNotPresent", "Never"):
            found.append("KUBESAGA_DEFAULT_IMAGE_PULL_POLICY: must be Always, IfNotPresent, Never or empty")
        return found


def _amount_faults(amounts: tuple[str, ...]) -> list[str]:
    names = [amount.partition("=")[0] for amount in amounts]
    faults = [f"{amount!r} must be cpu=AMOUNT or memory=AMOUNT" for amount in amounts if not _AMOUNT.fullmatch(amount)]
    return faults + [f"{name} stands there twice" for name in ("cpu", "memory") if names.count(name) > 1]


_KIND = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9]+((alpha|beta)[0-9]+)?/[A-Z][A-Za-z0-9]*")
_AMOUNT = re.compile(
    r"(cpu|memory)=([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]{1,2}|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?"
)
_POSITIVE = (
    "lease_duration", "handler_threads", "http_timeout", "max_output_bytes", "max_run_bytes", "pod_start_timeout",
    "stop_timeout", "max_interruptions", "workers", "cel_processes", "cel_deadline", "resync_interval",
    "retention_interval", "gateway_max_body_bytes", "gateway_max_buffered_bytes", "gateway_timeout",
    "gateway_max_connections", "gateway_max_in_flight",
)  # fmt: skip

_FOREIGN = frozenset(
    {
        "KUBESAGA_CLUSTER", "KUBESAGA_TEST_KUBECONFIG",
        "KUBESAGA_PARAMS", "KUBESAGA_RUN", "KUBESAGA_NAMESPACE", "KUBESAGA_WORKFLOW", "KUBESAGA_ACTIVITY", "KUBESAGA_DEED",
        "KUBESAGA_ATTEMPT", "KUBESAGA_IDEMPOTENCY_KEY",
    }
)  # fmt: skip
"""Variables of the developer's tools, and those that a pod of an activity is given: no settings, and no mistakes."""

_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT(_\d+_(TCP|UDP|SCTP)|$)")
"""Kubernetes puts such variables into pods for each Service of the namespace, one called `kubesaga` included."""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("must be a number of seconds") from None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("must be a whole number") from None


_PARSERS: dict[str, Callable[[str], Any]] = {
    "str": str.strip,
    "float": _number,
    "int": _whole,
    "tuple[str, ...]": lambda text: tuple(item for part in text.split(",") if (item := part.strip())),
}
