# SPDX-License-Identifier: Apache-2.0
"""`kubesaga run`: the same engine as the operator's, for one run, without a cluster."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from kubesaga.cli.plan import Wanted
    from kubesaga.cli.progress import Terminal
    from kubesaga.settings import Settings

_STATUS: Final = {"Succeeded": 0, "Failed": 1, "Terminated": 3, "Compensated": 4, "Cancelled": 5}
_UNDECIDED: Final = 6
_ALLOWABLE: Final = "KUBESAGA_EGRESS_ALLOW"
"""What the egress guard's message says where an administrator could allow the address."""

Json = dict[str, Any]


@click.command(short_help="Run a Workflow here and now, without a cluster.")
@click.argument("files", nargs=-1, required=True, type=click.Path(allow_dash=True), metavar="FILE…")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=VALUE",
    help="Give an input; VALUE is JSON unless the input is a string. May be repeated.",
)
@click.option(
    "--inputs-file", type=click.Path(allow_dash=True), metavar="FILE", help="Give inputs as a YAML or JSON object."
)
@click.option(
    "--event",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="Give the CloudEvent that the run is about, as YAML or JSON.",
)
@click.option(
    "--signal",
    "signals",
    multiple=True,
    metavar="ACTIVITY[=VALUE]",
    help="Have a Signal ready for an activity that waits for one, or for an event; VALUE is JSON. May be repeated.",
)
@click.option("--workflow", metavar="NAME", help="Which Workflow to run, where there are several.")
@click.option("--name", metavar="NAME", help="Name of the run; where there are several WorkflowRuns, which one.")
@click.option(
    "--handlers",
    multiple=True,
    metavar="MODULE",
    help="Import this Python module for its @kubesaga.activity functions. May be repeated.",
)
@click.option(
    "--pods",
    type=click.Choice(["refuse", "local"]),
    default="refuse",
    show_default=True,
    help="local: run the command of a pod as a process on this machine, with your rights; its image is ignored.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="HOST[:PORT]",
    help="Let http activities reach this host, address or network, e.g. localhost:8080. Public addresses need none. May be repeated.",
)
@click.option(
    "--timeout", metavar="DURATION", help="Longest time of the run, such as 90s; instead of the Workflow's own."
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    show_default=True,
    help="json, yaml: print the finished WorkflowRun, and no progress.",
)
@click.pass_context
def run(
    ctx: click.Context, /, handlers: tuple[str, ...], pods: str, allow: tuple[str, ...], output: str, **wanted: Any
) -> None:
    """Run the Workflow in FILE… (`-`: standard input) to its end, in memory, and say how it went.

    \b
      kubesaga run workflow.yaml --input sku=notebook --handlers orders
      kubesaga run examples/hello/workflow.yaml --pods local

    What decides is the operator's own engine; only the record is in memory and ends with the program. A WorkflowRun
    in the files that names the Workflow gives its inputs and its event. The folders of the files and the current
    folder are searched for --handlers. Ctrl-C ends the run as `shutdown: Cancel` does, a second one as `Terminate`, a
    third one leaves at once.

    Exit status: 0 Succeeded; 1 Failed; 2 nothing was started, because something is wrong with what was given;
    3 Terminated; 4 Compensated; 5 Cancelled; 6 ended because undoing failed, or waited to be approved, or an activity waited for a
    Signal or an event, which takes a cluster; 130 left by a third Ctrl-C.
    """
    from kubesaga.cli.plan import Refused, Wanted
    from kubesaga.errors import KubesagaError
    from kubesaga.main.process import read_settings

    try:
        settings = read_settings()
        body, undecided = _run(Wanted(pods_run=pods == "local", **wanted), settings, handlers, allow, output)
    except KubesagaError as error:
        raise Refused([str(error)]) from None
    except KeyboardInterrupt:  # before there was a run that could be ended
        ctx.exit(130)
    ctx.exit(_UNDECIDED if undecided else _STATUS[body["status"]["phase"]])


def _run(
    wanted: Wanted, settings: Settings, handlers: Sequence[str], allow: Sequence[str], output: str
) -> tuple[Json, bool]:
    import asyncio
    from dataclasses import replace

    from kubesaga.cel.pool import CelPool
    from kubesaga.cli.local import LocalWorld
    from kubesaga.cli.plan import plan_of
    from kubesaga.cli.progress import NoProgress, Progress, Terminal
    from kubesaga.cli.telling import told_by
    from kubesaga.executors.registry import load_handlers

    settings = replace(settings, egress_allow=(*settings.egress_allow, *_checked(allow)))
    _search_for_handlers(wanted.files)
    with contextlib.redirect_stdout(sys.stderr):
        registry = load_handlers((*settings.handlers, *handlers))
    terminal = Terminal.of(sys.stderr, os.environ)  # noqa: TID251 - the command line is where the environment is read
    with CelPool(size=1, deadline=settings.cel_deadline) as evaluator:
        plan = plan_of(wanted, evaluator, registry)
        shown = output == "text"
        progress: Progress = NoProgress(sys.stderr, terminal)
        if shown:
            progress = Progress(plan.names, sys.stderr, terminal, loose_undos=plan.loose_undos)

        async def perform() -> tuple[Json, bool]:
            world = LocalWorld(plan, settings, evaluator, progress)
            return await world.run(), world.undecided

        with told_by(progress.say):
            body, undecided = asyncio.run(perform())
    _tell(body, output, Terminal.of(sys.stdout, os.environ))  # noqa: TID251 - as above
    return body, undecided


def _checked(allow: Sequence[str]) -> Sequence[str]:
    """Return the hosts to be allowed. Raises InvalidSettings, also where no activity would have used them."""
    if allow:
        from kubesaga.executors.egress_policy import parse_rules

        parse_rules(allow, "--allow")
    return allow


def _search_for_handlers(files: Sequence[str]) -> None:
    """Put the folders of the files, and then the current one, before everything else that Python searches."""
    folders = [os.path.dirname(os.path.abspath(name)) for name in files if name != "-"]
    sys.path[:0] = [folder for folder in dict.fromkeys([*folders, os.getcwd()]) if folder not in sys.path]


def _tell(body: Json, output: str, terminal: Terminal) -> None:
    if output == "json":
        click.echo(json.dumps(body, indent=2, ensure_ascii=False))
        return
    import yaml

    if output == "yaml":
        click.echo(yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120), nl=False)
        return
    from kubesaga.cli.progress import result_line

    click.echo(result_line(body, terminal), color=True)
    if outputs := body["status"].get("outputs"):
        for line in yaml.safe_dump(outputs, sort_keys=False, allow_unicode=True, width=120).splitlines():
            click.echo(f"  {line}")
    for place in _denied(body):
        click.echo(f"hint: --allow {place} lets http activities reach it", err=True)


def _denied(body: Json) -> list[str]:
    """Return the hosts that requests were kept from and that may be allowed."""
    places: dict[str, None] = {}
    for deed in _deeds(body["status"]):
        error = deed.get("error") or {}
        if error.get("reason") == "EgressDenied" and _ALLOWABLE in error.get("message", ""):
            places[urlsplit(deed["input"]["url"]).netloc] = None
    return list(places)


def _deeds(status: Json) -> Iterator[Json]:
    for activity in status.get("activities", {}).values():
        yield activity
        yield from (activity[part] for part in ("fallback", "compensation") if part in activity)
    yield from (status.get("compensation", {}).get("activities") or {}).values()
