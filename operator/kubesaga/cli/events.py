# SPDX-License-Identifier: Apache-2.0
"""`kubesaga events`: what would this event start, and why not; and who waits for it?"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kubesaga.cli.awaiting import Given
    from kubesaga.cli.documents import Manifest
    from kubesaga.cli.trying import Tried

_OUTPUT = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Format."
)


@click.group(short_help="Try triggers out with an event, and list the types of events.")
def events() -> None:
    """Events and the triggers of Workflows, without a cluster."""


@events.command(short_help="Tell which triggers of a Workflow an event matches, and which of its runs wait for it.")
@click.argument("workflow", type=click.Path(allow_dash=True), metavar="WORKFLOW")
@click.option(
    "--event", required=True, type=click.Path(allow_dash=True), metavar="FILE", help="The CloudEvent, as YAML or JSON."
)
@click.option("--workflow", "name", metavar="NAME", help="Which Workflow, where the file holds several.")
@click.option(
    "--uid", metavar="UID", help="The Workflow's metadata.uid in the cluster, which the names of runs depend on."
)
@click.option(
    "--source", metavar="NAME", help="The WorkflowEventSource that the event comes in by; the names depend on it too."
)
@_OUTPUT
@click.pass_context
def test(
    ctx: click.Context, workflow: str, event: str, name: str | None, uid: str | None, source: str | None, output: str
) -> None:
    """Tell which triggers of the Workflow in the file WORKFLOW an event matches, and why or why not.

    \b
      kubesaga events test workflow.yaml --event created.json

    For each trigger: every condition with its answer, and where it matches the inputs and the name of the run that the
    event would start. For each activity that waits for an event: whether this one is of its type; whether it is for a
    run (waitFor.when) takes a run to be asked of. Nothing is started, and no cluster is needed.

    Exit status: 0 a trigger matches, or the event is given to live runs; 1 neither; 2 the Workflow or the event cannot
    be used.
    """
    from kubesaga.cel.pool import CelPool
    from kubesaga.cli.plan import Refused
    from kubesaga.cli.progress import Terminal
    from kubesaga.cli.trying import event_in, tried, workflow_in
    from kubesaga.engine.language.expressions import EvaluatorUnavailable
    from kubesaga.main.process import SystemClock

    try:
        with CelPool(size=1) as evaluator:
            manifest, spec, known = workflow_in(workflow, name, evaluator)
            what = event_in(event, known, evaluator)
            rows, given = tried(manifest, spec, what, evaluator, uid=uid, source=source, now=SystemClock().now())
    except EvaluatorUnavailable as error:
        raise Refused([str(error)]) from None
    if output == "json":
        shown = {
            "workflow": manifest.name, "event": {"type": what.type, "source": what.source, "id": what.id},
            "suspended": bool(spec.suspend), "warnings": what.warnings, "triggers": [row.wire() for row in rows],
            "waits": [wait.wire() for wait in given.waits], "messenger": given.messenger,
        }  # fmt: skip
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        terminal = Terminal.of(sys.stdout, os.environ)  # noqa: TID251 - the command line is where the environment is read
        click.echo(terminal.styled(f"{what.type}  {what.id}  from {what.source}", "cyan"), color=True)
        for line in (
            *_told(what.warnings, terminal),
            *_lines(rows, terminal),
            *_waits(given, what.type, terminal),
            *_end(manifest, rows, given, bool(spec.suspend)),
        ):
            click.echo(line, color=True)
    ctx.exit(0 if given.messenger is not None or any(row.matches for row in rows) else 1)


def _told(warnings: Sequence[str], terminal: Any) -> Iterator[str]:
    yield from (terminal.styled(f"warning: {text}", "yellow") for text in warnings)


def _lines(rows: Sequence[Tried], terminal: Any) -> Iterator[str]:
    import yaml

    for row in rows:
        yield ""
        yield f"{terminal.symbol(row.symbol)} {terminal.styled(row.name, 'cyan')}  {row.word}"
        for depth, part in row.reasons():
            yield f"  {'  ' * depth}{terminal.symbol('Succeeded' if part.holds else 'Failed')} {part.sentence}"
        if row.run is not None:
            yield f"  run     {row.run}"
        if row.inputs:
            text = yaml.safe_dump(row.inputs, sort_keys=False, allow_unicode=True, width=100).splitlines()
            yield from (f"  {'inputs' if number == 0 else '':8}{line}" for number, line in enumerate(text))


def _waits(given: Given, type_: str, terminal: Any) -> Iterator[str]:
    for wait in given.waits:
        yield ""
        yield f"{terminal.symbol(wait.symbol)} {terminal.styled(wait.activity, 'cyan')}  {wait.word}"
        yield from (f"  {terminal.symbol(phase)} {sentence}" for phase, sentence in wait.reasons(type_))


def _end(manifest: Manifest, rows: Sequence[Tried], given: Given, suspended: bool) -> Iterator[str]:
    yield ""
    yield from _started(manifest, rows, suspended)
    if given.messenger is not None:
        yield f"the live runs that wait for it get it from {given.messenger}"


def _started(manifest: Manifest, rows: Sequence[Tried], suspended: bool) -> Iterator[str]:
    matching = sum(row.matches for row in rows)
    if not rows:
        yield f"Workflow {manifest.name} has no triggers"
        return
    runs = "1 run" if matching == 1 else f"{matching or 'no'} runs"
    triggers = "1 trigger" if len(rows) == 1 else f"{len(rows)} triggers"
    yield f"{triggers} of Workflow {manifest.name}: the event starts {runs}"
    if suspended and matching:
        yield "but the Workflow is suspended: until spec.suspend is false it starts none"


@events.command(short_help="List the event types that Kubesaga knows by itself.")
@_OUTPUT
def types(output: str) -> None:
    """List the event types that Kubesaga knows by itself; WorkflowEventSources register more, and others work too."""
    from kubesaga.api.event_types import CATALOGUE

    if output == "json":
        rows = [
            {"type": known.type, "class": known.class_, "description": known.description, "schema": known.schema_ or {}}
            for known in CATALOGUE.values()
        ]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    width = max(map(len, CATALOGUE))
    for known in CATALOGUE.values():
        click.echo(f"{known.type:{width}}  {known.class_:11}  {known.description}")
