# SPDX-License-Identifier: Apache-2.0
"""`kubesaga gateway`: the way in for events as a process."""

from __future__ import annotations

import asyncio
from typing import Any

import click


@click.command(short_help="Take events over HTTP and make the runs that they cause.")
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
    help="Take events for this namespace; may be repeated. Default: all (needs a ClusterRole).",
)
@click.option(
    "--port",
    "gateway_port",
    type=click.IntRange(0, 65535),
    help="Port of the deliveries; 0: any free one.  [default: 8088]",
)
@click.option(
    "--probe-port",
    "http_port",
    type=click.IntRange(0, 65535),
    help="Port of /metrics, /healthz and /readyz; 0: any free one.  [default: 8080]",
)
@click.option("--tls-cert", "gateway_tls_cert", metavar="FILE", help="Certificate, read again when it changes.")
@click.option("--tls-key", "gateway_tls_key", metavar="FILE", help="Its key.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[default: info]")
@click.option("--log-format", type=click.Choice(["json", "text"]), help="[default: json]")
@click.pass_context
def gateway(ctx: click.Context, /, kubeconfig: str | None, context: str | None, **options: Any) -> None:
    """Take events for WorkflowEventSources at POST /events/NAMESPACE/SOURCE until told to stop (SIGTERM, Ctrl-C).

    Several may run behind one address. Options win over the environment, where there are more settings: those that
    begin with KUBESAGA_GATEWAY_.

    Exit status: 0 told to stop; 2 settings or cluster cannot be used.
    """
    from kubesaga.cli.controller import _loop_factory
    from kubesaga.errors import InvalidSettings
    from kubesaga.kube.credentials import NoCluster
    from kubesaga.main.gateway import run_gateway
    from kubesaga.main.process import read_settings

    overrides = {name: value if value != () else None for name, value in options.items()}
    try:
        settings = read_settings(**overrides)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            status = runner.run(run_gateway(settings, kubeconfig=kubeconfig, context=context))
    except (InvalidSettings, NoCluster) as error:
        click.echo(f"kubesaga gateway: {error}", err=True)
        status = 2
    ctx.exit(status)
