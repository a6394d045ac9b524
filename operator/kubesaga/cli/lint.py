# SPDX-License-Identifier: Apache-2.0
"""`kubesaga lint`: is this Workflow right?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kubesaga.cli.documents import Finding


@click.command(short_help="Check Workflows, Activities, WorkflowRuns and WorkflowEventSources without a cluster.")
@click.argument("files", nargs=-1, required=True, type=click.Path(allow_dash=True), metavar="FILE…")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Format of the findings.")
@click.option("--strict", is_flag=True, help="Warnings count as problems.")
@click.pass_context
def lint(context: click.Context, files: tuple[str, ...], output: str, strict: bool) -> None:
    """Check the Workflows, Activities, WorkflowRuns and WorkflowEventSources in FILE…, without a cluster.

    All that the operator would refuse is told: unknown fields, names that nothing sets, expressions that do not
    compile, cycles. A FILE may hold several documents, be `-` (standard input), or be a folder: then every file below
    it that has objects of kubesaga.dev is checked. A WorkflowRun is held against its Workflow where that is among them,
    and a Workflow against the Activities that it uses and the event types that WorkflowEventSources register.

    Each finding is a line `file:line: path: sentence` on standard output.

    Exit status: 0 nothing is wrong; 1 problems (with --strict: or warnings); 2 a file cannot be read, or there is
    nothing of ours to check.
    """
    from kubesaga.cel.pool import CelPool
    from kubesaga.cli.checking import check
    from kubesaga.cli.documents import files_in, read_manifests

    readings = [read_manifests(name) for name in files_in(files)]
    manifests = [manifest for reading in readings for manifest in reading.manifests]
    with CelPool(size=1) as checker:
        findings = [finding for reading in readings for finding in reading.findings]
        findings += check(manifests, checker).findings
    findings.sort(key=lambda finding: (finding.source, finding.line, finding.warning))
    _print(findings, output)
    problems = [finding for finding in findings if strict or not finding.warning]
    nothing = not manifests and not findings
    if output == "text":
        click.echo(_summary(len(manifests), findings), err=True)
    context.exit(2 if nothing or any(finding.unreadable for finding in findings) else 1 if problems else 0)


def _print(findings: Sequence[Finding], output: str) -> None:
    if output == "text":
        for finding in findings:
            click.echo(str(finding))
        return
    rows = [
        {
            "file": finding.source,
            "line": finding.line,
            "path": finding.path,
            "message": finding.message,
            "severity": "warning" if finding.warning else "error",
        }
        for finding in findings
    ]
    click.echo(json.dumps(rows, indent=2, ensure_ascii=False))


def _summary(objects: int, findings: Sequence[Finding]) -> str:
    if not objects and not findings:
        return "there is no object of kubesaga.dev in it: nothing was checked"
    warnings = sum(finding.warning for finding in findings)
    found = [_count(len(findings) - warnings, "problem"), _count(warnings, "warning")]
    return f"{_count(objects, 'object')} checked: {', '.join(found)}"


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
