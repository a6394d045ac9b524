# SPDX-License-Identifier: Apache-2.0
"""`kubesaga crds`."""

from __future__ import annotations

import click


@click.command()
def crds() -> None:
    """Print the CustomResourceDefinitions of this version, to be applied.

    \b
      kubesaga crds | kubectl apply --server-side -f -
    """
    import yaml

    from kubesaga.api.schema import RESOURCES, custom_resource_definition

    definitions = [custom_resource_definition(resource) for resource in RESOURCES]
    click.echo(yaml.safe_dump_all(definitions, sort_keys=False, allow_unicode=True, width=120), nl=False)
