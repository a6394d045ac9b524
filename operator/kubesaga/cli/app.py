# SPDX-License-Identifier: Apache-2.0
"""`kubesaga`: the group of all commands. Each command's own file is read only when that command is asked for."""

from __future__ import annotations

import importlib
from typing import Final

import click

_COMMANDS: Final = {
    "run": "Run a Workflow here and now, without a cluster.",
    "lint": "Check Workflows and WorkflowRuns without a cluster.",
    "events": "Try triggers out with an event, and list the types of events.",
    "queue": "Show who waits for a slot, and when it is their turn.",
    "crds": "Print the CustomResourceDefinitions.",
    "controller": "Run the operator.",
    "gateway": "Take events over HTTP and make the runs that they cause.",
    "version": "Print the version.",
}
"""The commands in the order of the help, with the words that it has for them: it must not import them all."""


class Commands(click.Group):
    """Finds each command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of a newcomer's interest."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Return a command."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"kubesaga.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Sagas for Kubernetes: Workflows that survive crashes and say what happened.

    Start here, without a cluster:

    \b
      kubesaga lint workflow.yaml
      kubesaga run workflow.yaml --input who=world --pods local

    `kubesaga COMMAND --help` tells more. Shell completion:
    eval "$(_KUBESAGA_COMPLETE=bash_source kubesaga)", with zsh_source or fish_source for other shells.
    """
