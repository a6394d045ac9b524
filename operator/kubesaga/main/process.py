# SPDX-License-Identifier: Apache-2.0
"""What a process is given: its clock and its environment. Light to import; the command line uses it too."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kubesaga.api.limits import QueueStrategy
from kubesaga.engine.admission.rules import OperatorLimits
from kubesaga.engine.snapshot import Limits
from kubesaga.settings import Settings


class SystemClock:
    """The real clock."""

    def now(self) -> datetime:
        """Return the time of day."""
        return datetime.now(UTC)  # noqa: TID251 - this is the one place that reads it

    def monotonic(self) -> float:
        """Return seconds that never go back. Those in which the machine slept count, where the system tells them (Linux).

        Others go on meanwhile: a leader that did not count them would trust in its Lease when it is another's.
        """
        since_boot = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if since_boot is None else time.clock_gettime(since_boot)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def read_settings(**overrides: Any) -> Settings:
    """Return the settings of this process's environment, with an identity. Raises InvalidSettings."""
    settings = Settings.from_env(os.environ, **overrides)  # noqa: TID251 - this is the one place that reads it
    return settings if settings.identity else replace(settings, identity=socket.gethostname())


def limits_of(settings: Settings) -> Limits:
    """Return the settings that decisions depend on."""
    return Limits(
        stop_timeout=timedelta(seconds=settings.stop_timeout),
        pod_start_timeout=timedelta(seconds=settings.pod_start_timeout),
        max_interruptions=settings.max_interruptions,
        max_run_bytes=settings.max_run_bytes,
    )


def operator_limits_of(settings: Settings) -> OperatorLimits:
    """Return the settings that hold for all Workflows together."""
    return OperatorLimits(
        max_workflows=settings.max_workflows or None,
        max_activities=settings.max_activities or None,
        strategy=QueueStrategy(settings.queue_strategy),
        timeout=timedelta(seconds=settings.queue_timeout) if settings.queue_timeout else None,
    )


def kubernetes_service() -> list[str]:
    """Return where Kubernetes tells its pods that the API server is; nothing outside of a cluster."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST")  # noqa: TID251 - this is the one place that reads it
    return [host] if host else []
