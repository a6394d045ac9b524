# SPDX-License-Identifier: Apache-2.0
"""What the load cost: requests as the API server counts them, processor time and memory as Linux does."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.place import BenchOperator
from tests.cluster.cluster import Cluster

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_READS: Final = ("GET", "LIST")
_WRITES: Final = ("POST", "PUT", "PATCH", "APPLY", "DELETE")
_SERVERS: Final = {"API server": "kube-apiserver", "etcd": "etcd", "controller manager": "kube-controller"}
"""Role in the report, and the process's name (Linux cuts it to 15 characters)."""

_LABEL = re.compile(r'(\w+)="([^"]*)"')

Requests = Counter[tuple[str, str, str]]
"""Number of requests by verb (POST, PATCH …), resource with subresource (`workflowruns/status`) and HTTP status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at all counters. They only grow: what happened between two looks is the later minus the earlier."""

    at: float
    cpu: Mapping[str, float]
    """Seconds by role. A server that is no process of this machine is missing."""
    busy: float
    """Seconds that all processors of the machine have worked for anybody."""
    requests: Requests
    """Of everybody who uses the API server; watches, leases and reads of /metrics left out."""
    passes: float
    conflicts: float
    """Of the operator: passes over runs, and writes that were answered with 409."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What happened between two readings."""

    cpu: Mapping[str, float]
    others: float
    """Share of the machine's processors (0 to 1) that other processes took meanwhile."""
    requests: Requests
    passes: float
    conflicts: float

    def writes(self, *kinds: str) -> int:
        """Return how many writes there were to these kinds, subresources apart (`workflowruns/status`)."""
        return sum(number for (verb, kind, _), number in self.requests.items() if verb in _WRITES and kind in kinds)

    def reads(self, *kinds: str) -> int:
        """Return how often objects of these kinds were read or listed."""
        return sum(number for (verb, kind, _), number in self.requests.items() if verb in _READS and kind in kinds)


class Meters:
    """Reads all counters."""

    def __init__(self, cluster: Cluster, operator: BenchOperator) -> None:
        self._cluster = cluster
        self._operator = operator
        self._servers = {role: named(name) for role, name in _SERVERS.items()}

    def read(self) -> Reading:
        """Look now. It takes a third of a second, so it is done before a load and after it."""
        passes, conflicts = _of_operator(self._operator.get("/metrics")[1])
        requests = _requests(self._cluster.kubectl("get", "--raw", "/metrics").stdout)
        cpu = {role: sum(cpu_seconds(pid) for pid in pids) for role, pids in self._servers.items() if pids}
        cpu["operator"] = sum(cpu_seconds(pid) for pid in tree(self._operator.pid))
        cpu["client"] = cpu_seconds(os.getpid())
        return Reading(
            at=time.monotonic(), cpu=cpu, busy=machine_busy(), requests=requests, passes=passes, conflicts=conflicts
        )


def cost(before: Reading, after: Reading) -> Cost:
    """Return what happened between two readings."""
    cpu = {role: seconds - before.cpu[role] for role, seconds in after.cpu.items()}
    machine = (after.at - before.at) * (os.cpu_count() or 1)
    requests = Counter(after.requests)
    requests.subtract(before.requests)
    return Cost(
        cpu=cpu,
        others=min(1.0, max(0.0, (after.busy - before.busy - sum(cpu.values())) / machine)),
        requests=Counter({key: number for key, number in requests.items() if number}),
        passes=after.passes - before.passes,
        conflicts=after.conflicts - before.conflicts,
    )


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used; 0 if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def run_seconds(pid: int) -> float:
    """Return the processor time of a process's living threads to the nanosecond; the kernel's clock ticks are 10 ms long."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def resident(pid: int) -> int:
    """Return the bytes of resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def shared_out(pid: int) -> int:
    """Return the bytes of memory of a process, what it shares counted in parts (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def tree(pid: int) -> list[int]:
    """Return a process and all that came out of it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def named(name: str) -> list[int]:
    """Return the processes that Linux knows under a name."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() == name:
                found.append(int(path.parent.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def machine_busy() -> float:
    """Return the seconds that all processors of the machine have worked for anybody."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = (
        int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / _TICKS


def _requests(text: str) -> Requests:
    found: Requests = Counter()
    for labels, value in _samples(text, "apiserver_request_total"):
        verb, resource = labels["verb"], labels["resource"]
        if verb in ("WATCH", "CONNECT") or resource in ("", "leases"):
            continue
        subresource = f"/{labels['subresource']}" if labels["subresource"] else ""
        found[(verb, resource + subresource, labels["code"])] += int(value)
    return found


def _of_operator(text: str) -> tuple[float, float]:
    passes = sum(value for _, value in _samples(text, "kubesaga_pass_duration_seconds_count"))
    sent = _samples(text, "kubesaga_api_requests_total")
    return passes, sum(value for labels, value in sent if labels["code"] == "409" and labels["verb"] != "create")


def _samples(text: str, name: str) -> list[tuple[dict[str, str], float]]:
    """Return labels and values of one series in the Prometheus text format."""
    found = []
    for line in text.splitlines():
        head, _, value = line.rpartition(" ")
        series, _, labels = head.partition("{")
        if series == name:
            found.append((dict(_LABEL.findall(labels)), float(value)))
    return found
