# SPDX-License-Identifier: Apache-2.0
"""The figures as text for people and as JSON for machines."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.bench.admission import AdmissionResult
from tests.bench.event_waits import WaitFigures
from tests.bench.events import EventResult, Flood
from tests.bench.failover import TIMING, FailoverResult
from tests.bench.latency import LatencyResult, percentile
from tests.bench.memory import MemoryResult, Weight
from tests.bench.pods import PodResult
from tests.bench.throughput import CaseResult

AIM_RATIO: Final = 0.5
AIM_START_MS: Final = 50
AIM_MEMORY_MB: Final = 110
_MB: Final = 1e6
_CASE: Final = "runs x activities"
_SERVERS: Final = ("API server", "etcd")
_RATES: Final = (_CASE, "runs/s", "activities/s", "raw runs/s", "raw act./s", "ratio", "min..max", "others")
_REQUESTS: Final = (_CASE, "aim", "status writes", "other writes", "Events", "reads", "passes", "conflicts")
_COSTS: Final = (
    _CASE,
    *_SERVERS,
    "client",
    "operator",
    "all",
    "raw API server",
    "etcd",
    "client",
    "all",
    "ratio",
    "min..max",
)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *notes: str) -> str:
    """Return a table in plain text."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [_line(row, widths) for row in [head, *rows]]
    return "\n".join(["", title, lines[0], "-" * len(lines[0]), *lines[1:], *notes])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    return "  ".join([first.strip().ljust(widths[0]), *others])


def throughput_text(results: Sequence[CaseResult]) -> str:
    """Return the tables of rates, requests and processor time."""
    rates = [
        [
            result.case.label, *_rates(result, 0), *_rates(result, 1), *_ratio_cells(result.ratios), _percent(result.others),
        ]
        for result in results
    ]  # fmt: skip
    requests = [
        [
            result.case.label, str(result.case.activities + 1), _least(result.status_writes), _least(result.other_writes),
            _least(result.events), _least(result.reads), _least(result.passes), str(result.conflicts),
        ]
        for result in results
    ]  # fmt: skip
    costs = [
        [
            result.case.label, *_costs(result.cpu(0), *_SERVERS, "client", "operator"),
            *_costs(result.cpu(1), *_SERVERS, "client"), *_ratio_cells(result.cpu_ratios),
        ]
        for result in results
    ]  # fmt: skip
    return "\n".join(
        [
            table(
                "Throughput: activities that do nothing, at most 32 runs at a time",
                _RATES,
                rates,
                f"ratio: our rate by that of a raw client with the same writes, pair by pair, median; aim >= {AIM_RATIO}.",
                "others: most of the machine that other processes took during a turn.",
            ),
            table(
                "Requests for one run (API server's counters, the pair with fewest: whoever else is at work is counted in)",
                _REQUESTS,
                requests,
                "aim: one status write for each activity and one more. Other writes: create, claim, tidy up.",
            ),
            table(
                "Processor time for one activity, ms",
                _COSTS,
                costs,
                "ratio: the raw client's by ours. It suffers less from others than the rates do.",
            ),
        ]
    )


def latency_text(result: LatencyResult) -> str:
    """Return the table of latencies."""
    named = {
        "created -> first handler called": result.created_to_handler,
        "created -> seen as running": result.created_to_recorded,
        "raw client: the two writes of that": result.raw_start,
        "handler done -> next handler called": result.step,
        "raw client: the one write of that": result.raw_step,
    }
    rows = [
        [name, _ms(percentile(values, 50)), _ms(percentile(values, 99)), str(len(values))]
        for name, values in named.items()
    ]
    return table(
        "Latency when nothing else runs, ms", ["", "median", "p99", "samples"], rows,
        f"aim: created -> first handler called < {AIM_START_MS} ms at the median.",
    )  # fmt: skip


def memory_text(result: MemoryResult) -> str:
    """Return the tables of memory and start."""
    many = result.finished
    kept = [
        ["just started", *_weight(result.fresh), ""],
        [f"{many // 5} runs carried out", *_weight(result.begun), ""],
        [f"{many} runs carried out", *_weight(result.processed), f"{result.per_processed_run / 1000:.1f}"],
        [f"restarted, {many} stored, 10 live", *_weight(result.restarted), f"{result.per_stored_run / 1000:.1f}"],
    ]
    starts = [
        ["nothing stored", f"{result.lead_fresh:.2f}", "", ""],
        [
            f"{result.finished} finished, 10 live after a kill", f"{result.lead_restarted:.2f}",
            f"{result.first_progress:.2f}", f"{result.last_progress:.2f}",
        ],
    ]  # fmt: skip
    return "\n".join(
        [
            table(
                "Memory of the operator, MB", ["", "operator", "with CEL processes", "KB a run"], kept,
                "KB a run: from the line before on; in the last line from the first on.",
                f"aim: < {AIM_MEMORY_MB} MB. Idle, the operator takes {result.idle_cpu * 100:.2f} % of one processor.",
            ),
            table("Start, seconds from exec", ["", "leads", "first progress", "all 10"], starts),
        ]
    )  # fmt: skip


def admission_text(results: Sequence[AdmissionResult]) -> str:
    """Return the table of queued runs; the ratios compare with the fewest, of the same strategy."""
    first = {result.strategy: result for result in reversed(results)}
    rows = [
        [
            result.strategy, str(result.queued), f"{result.step * 1e6:.0f}", f"{result.step / first[result.strategy].step:.2f}",
            f"{result.add * 1e6:.0f}", f"{result.add / first[result.strategy].add:.2f}", f"{result.memory / 1000:.1f}",
        ]
        for result in results
    ]  # fmt: skip
    return table(
        "Queued runs, medians in microseconds", ["strategy", "queued", "step", "ratio", "one more", "ratio", "KB a run"], rows,
        "step: a run ends, and the next one is found, asks, writes and starts; without the write itself.",
        "Fair: 1,000 tenants. A cost that grew with the queue would show ratios of 10 and 100.",
    )  # fmt: skip


def failover_text(results: Sequence[FailoverResult]) -> str:
    """Return the table of failovers."""
    rows = [
        [
            result.title, f"{percentile(result.progress, 50):.2f}", f"{max(result.progress):.2f}", str(len(result.progress)),
            "" if result.bound is None else f"{result.bound:g}",
        ]
        for result in results
    ]  # fmt: skip
    return table(
        "Failover: from what befell the leader to the first progress, seconds", ["", "median", "max", "samples", "bound"], rows,
        f"Lease: duration {TIMING.duration:g} s, given up after {TIMING.renew_deadline:g} s, looked at each {TIMING.retry_period:g} s.",
        "bound: until another takes it, at most; requests, and then the listings of the new leader, come on top.",
    )  # fmt: skip


def waits_text(results: Sequence[WaitFigures]) -> str:
    """Return the table of events that end waits."""
    rows = [
        [
            str(result.waiting), _ms(percentile(result.alone, 50)), _ms(percentile(result.alone, 99)), str(len(result.alone)),
            f"{result.events / result.seconds:.0f}", f"{result.operator:.1f}",
        ]
        for result in results
    ]  # fmt: skip
    return table(
        "Events that end waits: from the operator's first look at a messenger until the run has taken its event, ms",
        ["live runs", "alone p50", "p99", "samples", "at once/s", "operator ms"], rows,
        "live runs: of the Workflow, each asked for each event. operator ms: processor time for one event, with the end of its run.",
    )  # fmt: skip


def pods_text(results: Sequence[PodResult]) -> str:
    """Return the table of pods."""
    rows = [
        [
            result.case.label, f"{result.rate(0):.2f}", f"{result.rate(1):.2f}", *_ratio_cells(result.ratios),
            f"{result.writes(0):.1f}", f"{result.writes(1):.1f}", _ms(percentile(result.gaps, 50)) if result.gaps else "",
        ]
        for result in results
    ]  # fmt: skip
    return table(
        "Pods: one container that ends at once", ["runs x pods", "pods/s", "raw pods/s", "ratio", "min..max", "writes/pod", "raw", "gap ms"],
        rows, "The node is the limit: kubelet and container runtime, not the operator.",
        "gap: a pod seen as succeeded -> the next one of its run seen, median.",
    )  # fmt: skip


def events_text(results: Sequence[EventResult], flood: Flood) -> str:
    """Return the tables of events: rates, latencies, processor time, and many of which few match."""
    rates = [
        [
            result.label, f"{result.rate(0):.0f}", f"{result.rate(1):.0f}", *_ratio_cells(result.ratios),
            *(f"{result.cpu(0)[role]:.2f}" for role in ("gateway", "API server")), f"{result.cpu(1)['API server']:.2f}",
            _percent(result.others),
        ]
        for result in results
    ]  # fmt: skip
    latencies = [
        [f"{result.label}: {name}", _ms(percentile(took, 50)), _ms(percentile(took, 99)), str(len(took))]
        for result in results
        for name, took in (
            ("one at a time", result.idle), ("raw client, one at a time", result.raw_idle),
            ("32 at a time", result.took(0)), ("raw client, 32 at a time", result.took(1)),
        )
    ]  # fmt: skip
    turn, (before, most, after) = flood.turn, flood.memory
    many = [[
        f"{flood.events}, {flood.matching} match", f"{turn.rate:.0f}", _ms(percentile(turn.took, 50)), _ms(percentile(turn.took, 99)),
        f"{turn.cpu['gateway'] * 1000 / flood.events:.2f}", *(f"{size / _MB:.1f}" for size in (before, most, after)), _percent(turn.others),
    ]]  # fmt: skip
    return "\n".join(
        [
            table(
                "Events: from the delivery until its run exists, at most 32 at a time",
                ["trigger", "events/s", "raw/s", "ratio", "min..max", "gateway ms", "API server ms", "raw API server ms", "others"],
                rates, "raw: a client that creates the same runs. ms: processor time for one event.",
            ),
            table("Events: latency from the delivery to the answer 202, ms", ["", "median", "p99", "samples"], latencies),
            table(
                "Events of which few match, at most 32 at a time",
                ["events", "events/s", "p50 ms", "p99 ms", "gateway ms", "MB before", "most", "after", "others"],
                many, "MB: memory of the gateway, without its processes for expressions.",
            ),
        ]
    )  # fmt: skip


def events_json(results: Sequence[EventResult], flood: Flood) -> dict[str, Any]:
    """Return the figures of events."""
    return {
        "cases": [
            {
                "case": result.label, "events_per_s": [result.rate(0), result.rate(1)], "ratios": result.ratios,
                "idle_s": [percentile(result.idle, 50), percentile(result.idle, 99)],
                "raw_idle_s": [percentile(result.raw_idle, 50), percentile(result.raw_idle, 99)],
                "loaded_s": [percentile(result.took(0), 50), percentile(result.took(0), 99)],
                "raw_loaded_s": [percentile(result.took(1), 50), percentile(result.took(1), 99)],
                "cpu_ms": result.cpu(0), "raw_cpu_ms": result.cpu(1), "others": result.others,
            }
            for result in results
        ],
        "few_match": {
            "events": flood.events, "matching": flood.matching, "events_per_s": flood.turn.rate, "memory": flood.memory,
            "took_s": [percentile(flood.turn.took, 50), percentile(flood.turn.took, 99)], "cpu_s": flood.turn.cpu,
        },
    }  # fmt: skip


def throughput_json(results: Sequence[CaseResult]) -> list[dict[str, Any]]:
    """Return the figures of the throughput."""
    return [
        {
            "case": result.case.label, "runs_per_s": [result.rate(0), result.rate(1)], "ratio": statistics.median(result.ratios),
            "ratios": result.ratios, "status_writes_per_run": result.status_writes, "other_writes_per_run": result.other_writes,
            "events_per_run": result.events, "reads_per_run": result.reads, "passes_per_run": result.passes,
            "conflicts": result.conflicts, "cpu_ms_per_activity": dict(result.cpu(0)),
            "raw_cpu_ms_per_activity": dict(result.cpu(1)), "cpu_ratios": result.cpu_ratios, "others": result.others,
        }
        for result in results
    ]  # fmt: skip


def pods_json(results: Sequence[PodResult]) -> list[dict[str, Any]]:
    """Return the figures of the pods."""
    return [
        {
            "case": result.case.label, "pods_per_s": [result.rate(0), result.rate(1)], "ratios": result.ratios,
            "writes_per_pod": [result.writes(0), result.writes(1)], "gaps_s": result.gaps,
        }
        for result in results
    ]  # fmt: skip


def _rates(result: CaseResult, side: int) -> list[str]:
    rate = result.rate(side)
    return [f"{rate:.1f}", f"{rate * result.case.activities:.0f}"]


def _ratio_cells(ratios: Sequence[float]) -> list[str]:
    return [f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}..{max(ratios):.2f}"]


def _costs(cpu: Mapping[str, float], *roles: str) -> list[str]:
    known = [cpu.get(role) for role in roles]
    total = sum(value for value in known if value is not None)
    return [*("?" if value is None else f"{value:.2f}" for value in known), f"{total:.2f}"]


def _least(values: Sequence[float]) -> str:
    return f"{min(values):.2f}".removesuffix(".00")


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def _weight(weight: Weight) -> list[str]:
    return [f"{weight.own / _MB:.1f}", f"{weight.all / _MB:.1f}"]
