# SPDX-License-Identifier: Apache-2.0
"""`kubesaga queue`: who waits, for what, and when it is their turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from kubesaga.api.limits import Concurrency
    from kubesaga.engine.admission.gate import Scope
    from kubesaga.engine.admission.outlook import Outlook, Turn
    from kubesaga.engine.snapshot import Run

_HEADINGS: Final = ("POSITION", "RUN", "ACTIVITY", "WAITS FOR", "SINCE", "PRIORITY", "KEY")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What there is."""

    runs: Mapping[str, Run]
    """By uid."""
    limits: Mapping[Scope, Concurrency | None]
    now: datetime


@click.command(short_help="Show who waits for a slot, and when it is their turn.")
@click.argument("workflow", required=False)
@click.option("--kubeconfig", type=click.Path(), metavar="FILE", help="How to reach the cluster.")
@click.option("--context", metavar="NAME", help="Context of the kubeconfig.")
@click.option("-n", "--namespace", metavar="NAME", help="Default: that of the kubeconfig's context.")
@click.option("-A", "--all-namespaces", is_flag=True, help="In all namespaces.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Format.")
@click.pass_context
def queue(
    ctx: click.Context,
    /,
    workflow: str | None,
    kubeconfig: str | None,
    context: str | None,
    namespace: str | None,
    all_namespaces: bool,
    output: str,
) -> None:
    """Show the runs and activities that wait for a slot, in the order in which they will get one.

    WORKFLOW: of this Workflow alone. Positions are computed here, from what the runs' statuses say now.

    Exit status: 0; 2 the cluster cannot be reached or asked.
    """
    from kubesaga.kube.credentials import NoCluster
    from kubesaga.kube.errors import ApiError

    try:
        seen, outlooks = asyncio.run(_look(kubeconfig, context, namespace, all_namespaces=all_namespaces))
    except (NoCluster, ApiError) as error:
        click.echo(f"kubesaga queue: {error}", err=True)
        ctx.exit(2)
    wanted = [each for each in outlooks if workflow in (None, each.scope[1]) and (each.runs or each.deeds or workflow)]
    if output == "json":
        click.echo(json.dumps([_as_json(each, seen) for each in wanted], indent=2))
    elif wanted:
        click.echo("\n\n".join("\n".join(_as_text(each, seen)) for each in wanted))
    else:
        click.echo("nobody waits" if workflow is None else f"no run of {workflow} is live", err=True)


async def _look(
    kubeconfig: str | None, context: str | None, namespace: str | None, *, all_namespaces: bool
) -> tuple[_Seen, list[Outlook]]:
    from kubesaga.controller.inventory import key_of
    from kubesaga.controller.kube_records import LIVE
    from kubesaga.controller.live_limits import limits_in
    from kubesaga.controller.loader import run_of
    from kubesaga.engine.admission.outlook import outlooks
    from kubesaga.engine.admission.standing import standing_of
    from kubesaga.errors import InvalidSpec
    from kubesaga.kube.client import Selection
    from kubesaga.kube.connection import connect
    from kubesaga.kube.resources import WORKFLOW_RUNS, WORKFLOWS
    from kubesaga.main.process import SystemClock

    clock = SystemClock()
    async with await connect(kubeconfig, context, clock=clock.monotonic) as client:
        where = None if all_namespaces else namespace or client.credentials.namespace
        workflows = await client.list(WORKFLOWS, Selection(namespace=where))
        listing = await client.list(WORKFLOW_RUNS, Selection(namespace=where, labels=LIVE))
    runs = [run_of(key_of(body["metadata"]), body)[0] for body in listing.items]
    standings = [standing for run in runs if (standing := standing_of(run)) is not None]
    limits: dict[Scope, Concurrency | None] = {}
    for body in workflows.items:
        with suppress(InvalidSpec):
            limits[(body["metadata"]["namespace"], body["metadata"]["name"])] = limits_in(body.get("spec") or {})
    seen = _Seen(runs={run.uid: run for run in runs}, limits=limits, now=clock.now())
    return seen, outlooks(standings, limits)


def _as_text(outlook: Outlook, seen: _Seen) -> Iterator[str]:
    concurrency = seen.limits.get(outlook.scope)
    yield (
        f"{_name(outlook)}: {_of(outlook.started, concurrency.max_workflows if concurrency else None)} runs under way, "
        f"{len(outlook.runs)} queued; {_of(outlook.attempts, concurrency.max_activities if concurrency else None)} "
        f"activities, {len(outlook.deeds)} queued"
    )
    rows = [list(_HEADINGS), *([*map(str, _row(turn, seen).values())] for turn in (*outlook.runs, *outlook.deeds))]
    if len(rows) == 1:
        return
    kept = [number for number in range(len(_HEADINGS)) if any(row[number] for row in rows[1:])]
    widths = {number: max(len(row[number]) for row in rows) for number in kept}
    for row in rows:
        yield "  ".join(row[number].ljust(widths[number]) for number in kept).rstrip()


def _of(count: int, limit: int | None) -> str:
    return f"{count} of {limit}" if limit is not None else str(count)


def _name(outlook: Outlook) -> str:
    namespace, name = outlook.scope
    return f"{namespace}/{name}" if not name.startswith("/") else f"{namespace}, a run with a spec of its own"


def _row(turn: Turn, seen: _Seen) -> dict[str, Any]:
    from kubesaga.api.fields import format_duration

    standing, status = turn.standing, seen.runs[turn.standing.uid].status
    if turn.step is None:
        assert status.queue is not None, "only a run that is queued has a turn"
        why, since, activity = str(status.queue.blocked_by), status.queue.since, ""
    else:
        why, since = _waits_for(seen.runs[standing.uid], turn), standing.waiting[turn.step].since
        activity = turn.step[1] if turn.step[0] == "do" else f"{turn.step[1]} ({turn.step[0]})"
    return {
        "position": turn.position, "run": standing.key.name, "activity": activity, "waitsFor": why,
        "since": format_duration(seen.now - since), "priority": standing.priority or "", "key": standing.business_key,
    }  # fmt: skip


def _waits_for(run: Run, turn: Turn) -> str:
    from kubesaga.api.names import Deed

    assert turn.step is not None, "asked of deeds only"
    deed, name = turn.step
    loose = (run.status.compensation.activities if run.status.compensation is not None else None) or {}
    activity = run.status.activities.get(name)
    known = activity if deed is Deed.DO else None
    if activity is not None and deed is Deed.FALLBACK:
        return (activity.fallback.message if activity.fallback is not None else None) or ""
    if deed is Deed.UNDO:
        undo = activity.compensation if activity is not None else loose.get(name)
        return (undo.message if undo is not None else None) or ""
    return (known.message if known is not None else None) or ""


def _as_json(outlook: Outlook, seen: _Seen) -> dict[str, Any]:
    concurrency = seen.limits.get(outlook.scope)
    return {
        "namespace": outlook.scope[0],
        "workflow": outlook.scope[1],
        "running": outlook.started,
        "maxWorkflows": concurrency.max_workflows if concurrency else None,
        "activities": outlook.attempts,
        "maxActivities": concurrency.max_activities if concurrency else None,
        "queue": [_row(turn, seen) for turn in (*outlook.runs, *outlook.deeds)],
    }
