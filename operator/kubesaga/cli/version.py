# SPDX-License-Identifier: Apache-2.0
"""`kubesaga version`."""

from __future__ import annotations

import click


@click.command()
def version() -> None:
    """Print the version of this program, which is the operator's as well."""
    from kubesaga import __version__

    click.echo(f"kubesaga {__version__}")
