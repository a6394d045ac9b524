# SPDX-License-Identifier: Apache-2.0
"""Measure, print and write build/bench.json. Exit status: 0 whatever the figures are, 1 if something broke, 2 without a cluster or Linux."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench import admission, event_waits, events, failover, latency, memory, pods, report, throughput
from tests.bench.place import Broken, Place, client_of, new_place
from tests.bench.pods import POD_CASES, PodCase
from tests.bench.throughput import CASES, Case
from tests.cluster.cluster import Cluster, proxied

from kubesaga.kube.errors import ApiError

ROOT: Final = Path(__file__).resolve().parents[2]
SECTIONS: Final = ("admission", "throughput", "latency", "pods", "memory", "failover", "events", "waits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything."""

    cases: tuple[Case, ...] = CASES
    pairs: int = 5
    latency_runs: int = 30
    pod_cases: tuple[PodCase, ...] = POD_CASES
    pod_pairs: int = 3
    finished: int = 1000
    failovers: int = 5
    queued: tuple[int, ...] = admission.SIZES
    events: int = 500
    event_pairs: int = 5
    idle_events: int = 200
    flood: int = 10_000
    waiting: tuple[int, ...] = (100, 1_000)
    waits_ended: tuple[int, int] = (80, 20)
    """Events at once, and one at a time."""


QUICK: Final = Plan(
    cases=(Case(runs=60, activities=1), Case(runs=20, activities=10), Case(runs=4, activities=30)),
    pairs=2,
    latency_runs=8,
    pod_cases=(PodCase(runs=6, pods=1), PodCase(runs=1, pods=3)),
    pod_pairs=1,
    finished=200,
    failovers=1,
    queued=(100, 1_000),
    events=80,
    event_pairs=2,
    idle_events=20,
    flood=1000,
    waiting=(100,),
    waits_ended=(40, 10),
)  # fmt: skip


def main() -> int:
    """Run the benchmark; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: about a minute")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="measure only this; may be repeated")
    parser.add_argument("--pairs", type=int, metavar="N", help="pairs of turns of the throughput (5)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json", metavar="FILE")
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan()
    sections, found = tuple(options.only or SECTIONS), _Figures(options.output)
    if "admission" in sections:
        queues = admission.measure(plan.queued)
        found.add("admission", [asdict(queue) for queue in queues], report.admission_text(queues))
    if not set(sections) - {"admission"}:
        return 0
    kubeconfig = Path(os.environ.get("KUBESAGA_TEST_KUBECONFIG", ROOT / "build" / "kubeconfig"))
    if not kubeconfig.exists():
        print("bench: there is no cluster; `make cluster` brings one up, where it can", file=sys.stderr)
        return 2
    if not Path("/proc/stat").exists():
        print("bench: it reads processor time and memory from /proc, which only Linux has", file=sys.stderr)
        return 2
    # Told to stop, it leaves nothing behind either: neither the operator nor finalizers that hold the namespaces.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(_measure(kubeconfig, plan, options.pairs or plan.pairs, sections, found))
        except (Broken, ApiError, AssertionError, TimeoutError) as error:
            print(f"\nbench: something broke: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


class _Figures:
    """Prints each section as soon as it is there, and keeps the file up to date."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._figures: dict[str, Any] = {}
        self._began = time.monotonic()

    def add(self, section: str, figures: Any, text: str = "") -> None:
        """Take in one section."""
        if text:
            print(text, flush=True)
        self._figures |= {section: figures, "seconds": round(time.monotonic() - self._began, 1)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._figures, indent=1) + "\n")


async def _measure(kubeconfig: Path, plan: Plan, pairs: int, sections: tuple[str, ...], found: _Figures) -> None:
    async with AsyncExitStack() as stack:
        shared = stack.enter_context(proxied(kubeconfig))
        shared.install_crds(ROOT / "crds")
        client = await stack.enter_async_context(await client_of(kubeconfig))
        found.add("machine", machine := _machine(shared), _headline(machine))
        # All namespaces go at the end, so that their deletion is no load during a measurement.
        if set(sections) - {"memory", "failover", "events", "waits"}:
            place = await stack.enter_async_context(new_place(shared, client))
            await place.operator.lead()
            await _on_one_operator(place, plan, pairs, sections, found)
            place.operator.stop()
            found.add("complaints", place.operator.complaints, _complaints(place))
        if "memory" in sections:
            other = await stack.enter_async_context(new_place(shared, client))
            weights = await memory.measure(other, plan.finished)
            found.add("memory", asdict(weights), report.memory_text(weights))
            # After the kill it says that activities were interrupted: that is as it should be, and printed all the same.
            found.add("complaints_after_kill", other.operator.complaints, _complaints(other))
            other.operator.stop()
        if "failover" in sections:
            third = await stack.enter_async_context(new_place(shared, client))
            gaps = await failover.measure(third, plan.failovers)
            found.add("failover", [asdict(gap) for gap in gaps], report.failover_text(gaps))
        if "events" in sections:
            await _of_events(await stack.enter_async_context(new_place(shared, client)), plan, found)
        if "waits" in sections:
            fifth = await stack.enter_async_context(new_place(shared, client))
            await fifth.operator.lead()
            ended = await event_waits.measure(fifth, plan.waiting, *plan.waits_ended)
            found.add("waits", [asdict(figures) for figures in ended], report.waits_text(ended))
            fifth.operator.stop()


async def _of_events(place: Place, plan: Plan, found: _Figures) -> None:
    await place.operator.lead()
    results, flood = await events.measure(
        place, turn=plan.events, pairs=plan.event_pairs, idle=plan.idle_events, flood=plan.flood
    )
    found.add("events", report.events_json(results, flood), report.events_text(results, flood))


async def _on_one_operator(place: Place, plan: Plan, pairs: int, sections: tuple[str, ...], found: _Figures) -> None:
    if "throughput" in sections:
        rates = await throughput.measure(place, plan.cases, pairs)
        found.add("throughput", report.throughput_json(rates), report.throughput_text(rates))
    if "latency" in sections:
        times = await latency.measure(place, plan.latency_runs)
        found.add("latency", asdict(times), report.latency_text(times))
    if "pods" in sections:
        started = await pods.measure(place, plan.pod_cases, plan.pod_pairs)
        found.add("pods", report.pods_json(started), report.pods_text(started))


def _machine(shared: Cluster) -> dict[str, Any]:
    version = json.loads(shared.kubectl("get", "--raw", "/version").stdout)["gitVersion"]
    load = Path("/proc/loadavg").read_text().split()[0]
    return {
        "cores": os.cpu_count(),
        "kubernetes": version,
        "python": platform.python_version(),
        "load_before": float(load),
    }


def _headline(machine: dict[str, Any]) -> str:
    return (
        f"{machine['cores']} cores shared by all; Kubernetes {machine['kubernetes']}, Python {machine['python']}; "
        f"load average before: {machine['load_before']}"
    )


def _complaints(place: Place) -> str:
    lines = place.operator.complaints
    return "\n".join(
        [f"\nWarnings and errors in the operator's log: {len(lines)}", *(f"  {line[:300]}" for line in lines[:5])]
    )


def _loop_factory() -> Any:
    """The operator's own choice, so that the raw client has no slower loop."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
