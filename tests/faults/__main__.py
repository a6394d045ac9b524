# SPDX-License-Identifier: Apache-2.0
"""The long version: every write at every moment, every answer, every event, the scenarios, seeded mixes, and the mutants.

Exit status: 0 no violation and every mutant noticed, 1 otherwise, 2 without a cluster.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.faults.campaign import Figures, Result, calm, play_all
from tests.faults.faults import Twist
from tests.faults.mutants import MUTANTS
from tests.faults.plans import Case, every_answer, every_event, every_moment, mixes, mutant_cases
from tests.faults.saga import answered, undone, wide
from tests.faults.scenarios import SCENARIOS, brought
from tests.faults.upstream import Upstream, connected

ROOT = Path(__file__).resolve().parents[2]
FAILURES = ROOT / "build" / "faults"
AGAIN = "PYTHONPATH=operator .venv/bin/python -m tests.faults"
MOST_IDLE = 0.1
"""Share of cases that may not count, as the fault did not strike: two writes raced, and this time there was only one."""


def main() -> int:
    """Play; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--seed", type=int, action="append", metavar="N", help="play only the mix of this seed; may be repeated"
    )
    parser.add_argument("--only", metavar="TEXT", help="play only cases whose title or scenario has this text")
    parser.add_argument("--seeds", type=int, default=40, metavar="N", help="how many mixes (40)")
    parser.add_argument(
        "--minutes", type=float, default=0, metavar="N", help="then go on with further seeds for so long"
    )
    parser.add_argument("--lanes", type=int, default=3, metavar="N", help="how many side by side (3)")
    parser.add_argument("--no-mutants", action="store_true", help="do not show that the checker can fail")
    options = parser.parse_args()
    kubeconfig = Path(os.environ.get("KUBESAGA_TEST_KUBECONFIG", ROOT / "build" / "kubeconfig"))
    if not kubeconfig.exists():
        print("faults: there is no cluster; `make cluster` brings one up, where it can", file=sys.stderr)
        return 2
    Cluster(kubeconfig).install_crds(ROOT / "crds")
    try:
        return asyncio.run(_campaign(kubeconfig, options))
    except KeyboardInterrupt:
        return 130


async def _campaign(kubeconfig: Path, options: argparse.Namespace) -> int:
    figures, began = Figures(), time.monotonic()
    async with connected(kubeconfig) as upstream:
        for section, cases in (await _sections(upstream, options)).items():
            await _play(upstream, section, cases, figures, options.lanes)
        seed = 10_000
        while time.monotonic() - began < options.minutes * 60:
            await _play(upstream, f"seeds from {seed}", mixes(range(seed, seed + 12)), figures, options.lanes)
            seed += 12
        partly = options.only or options.seed or options.no_mutants
        unnoticed = [] if partly else await _mutants(upstream)
    _report(figures, time.monotonic() - began)
    idle = len(figures.idle) > MOST_IDLE * (figures.faulted + len(figures.idle))
    return 1 if figures.found or unnoticed or idle or not figures.faulted else 0


async def _sections(upstream: Upstream, options: argparse.Namespace) -> dict[str, list[Case]]:
    if options.seed:
        return {"seeds": mixes(options.seed)}
    calms = [calm(), *(Case(plan=calm().plan, sagas=(saga,)) for saga in (wide, undone))]
    calms.append(replace(calm(), sagas=(answered,), during=brought))
    undisturbed, side_by_side, backwards, told = await play_all(upstream, calms, lanes=1)
    for each in (undisturbed, side_by_side, backwards, told):
        assert not each.violations, f"without any fault: {each.violations}"
    print(f"The reference saga makes {undisturbed.record.writes} writes.")
    sections = {
        "every write of the reference saga: killed before, killed after, answer lost": every_moment(undisturbed.record),
        "every write of a saga that does things side by side: the same": every_moment(side_by_side.record, (wide,)),
        "every write of a saga that is undone: the same": every_moment(backwards.record, (undone,)),
        "every write of a saga that waits for an event, and of who brings it: the same": every_moment(
            told.record, (answered,), brought
        ),
        "every write: refused, not heard of, slow": every_answer(undisturbed.record),
        "every class of events": every_event([twist for twist in Twist if twist is not Twist.FREEZE]),
        "scenarios": [scenario.case for scenario in sorted(SCENARIOS, key=lambda each: each.case.place)],
        "mixes": mixes(range(options.seeds)),
    }
    if options.only:
        sections = {
            section: [case for case in cases if options.only in case.title] for section, cases in sections.items()
        }
    return {section: cases for section, cases in sections.items() if cases}


async def _play(upstream: Upstream, section: str, cases: Iterable[Case], figures: Figures, lanes: int) -> None:
    own = Figures()

    def told(result: Result) -> None:
        figures.add(result)
        own.add(result)
        for violation in result.violations:
            print(f"\nVIOLATION in {result.case.title}: {violation[:1500]}\n  again: {again(result.case)}", flush=True)

    await play_all(upstream, cases, lanes=lanes, told=told, failures=FAILURES)
    print(
        f"{section}: {own.faulted} faulted, {len(own.idle)} do not count, {len(own.found)} with violations", flush=True
    )


def again(case: Case) -> str:
    """Return the command that plays a case again."""
    seed = getattr(case.plan, "seed", None)
    return f"{AGAIN} --only '{case.title}'" if seed is None else f"{AGAIN} --seed {seed}"


async def _mutants(upstream: Upstream) -> list[str]:
    """Play a case with each mutant; return those that nothing showed."""
    unnoticed = []
    print(f"\n{'mutant':28} noticed by")
    for name, case in mutant_cases().items():
        assert name in MUTANTS
        (result,) = await play_all(upstream, [case], mutant=name)
        first = result.violations[0].partition(": {")[0][:110] if result.violations else "NOTHING"
        print(f"{name:28} {first}", flush=True)
        if not result.violations:
            unnoticed.append(name)
    return unnoticed


def _report(figures: Figures, seconds: float) -> None:
    rows = [
        ("faulted runs", figures.faulted),
        ("with violations", len(figures.found)),
        ("that do not count", len(figures.idle)),
        ("faults that struck", sum(figures.faults.values())),
        ("deaths of the operator", figures.deaths),
        ("writes of the operator", figures.writes),
        ("calls of handlers and services", figures.effects),
        ("slowest run, seconds", f"{figures.slowest:.1f}"),
        ("minutes in all", f"{seconds / 60:.1f}"),
    ]
    print("\n" + "\n".join(f"{name:32} {value:>8}" for name, value in rows))
    print("\n" + "\n".join(f"{count:6} {kind}" for kind, count in figures.faults.most_common()))
    if figures.idle:
        print(f"\nDid not count: {'; '.join(figures.idle)}")
    if figures.found:
        print(f"\nRecords and logs of what broke: {FAILURES}")


if __name__ == "__main__":
    sys.exit(main())
