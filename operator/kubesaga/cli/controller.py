# SPDX-License-Identifier: Apache-2.0
"""`kubesaga controller`: the operator as a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import click


@click.command(short_help="Run the operator.")
@click.option(
    "--kubeconfig",
    type=click.Path(),
    metavar="FILE",
    help="How to reach the cluster. Default: the pod's ServiceAccount, KUBECONFIG, ~/.kube/config.",
)
@click.option("--context", metavar="NAME", help="Context of the kubeconfig. Default: its current one.")
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Serve this namespace; may be repeated. Default: all (needs a ClusterRole).",
)
@click.option(
    "--handlers",
    multiple=True,
    metavar="MODULE",
    help="Import this Python module for its @kubesaga.activity functions; may be repeated.",
)
@click.option(
    "--egress-allow",
    multiple=True,
    metavar="HOST",
    help="http activities may reach this host, *.suffix, address or network, with an optional :PORT; may be repeated.",
)
@click.option(
    "--port",
    "http_port",
    type=click.IntRange(0, 65535),
    help="Port of /metrics, /healthz and /readyz; 0: any free one.  [default: 8080]",
)
@click.option("--identity", metavar="NAME", help="Who holds the Lease. Default: the host's name, which is the pod's.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[default: info]")
@click.option("--log-format", type=click.Choice(["json", "text"]), help="[default: json]")
@click.pass_context
def controller(ctx: click.Context, /, kubeconfig: str | None, context: str | None, **options: Any) -> None:
    """Run the operator until it is told to stop (SIGTERM, Ctrl-C).

    Options win over the environment, where there are more settings: all are KUBESAGA_ and a name in capitals, and an
    unknown one is answered with the list of them.

    Exit status: 0 told to stop; 2 settings or cluster cannot be used; 70 the Lease was lost, start it again.
    """
    from kubesaga.errors import InvalidSettings
    from kubesaga.kube.credentials import NoCluster
    from kubesaga.main.controller import run_controller
    from kubesaga.main.process import read_settings

    overrides = {name: value if value != () else None for name, value in options.items()}
    try:
        settings = read_settings(**overrides)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            status = runner.run(run_controller(settings, kubeconfig=kubeconfig, context=context))
    except (InvalidSettings, NoCluster) as error:
        click.echo(f"kubesaga controller: {error}", err=True)
        status = 2
    except KeyboardInterrupt:
        status = 130
    ctx.exit(status)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loops where it is installed: half the processor time of asyncio's own at many connections."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
