# SPDX-License-Identifier: Apache-2.0
"""The command line: up, down, status, image."""

import argparse
import fcntl
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from . import dns, facts, image_command, lifecycle
from .choice import choose
from .errors import ClusterError
from .places import Places, places, prepare


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit status: 0 done, 1 failed, 3 no cluster is possible here."""
    os.umask(0o022)  # what goes into images is read by other users
    options = _parser().parse_args(arguments)
    env = dict(os.environ)
    try:
        return _run(options, places(env), env)
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("cluster: interrupted; `python3 tools/cluster down` removes what was started", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace, where: Places, env: Mapping[str, str]) -> int:
    if options.command == "status":
        return lifecycle.status(where)
    if options.command == "serve-dns":
        dns.serve(where)
        return 0
    kind = choose(facts.gather(env)) if options.command == "up" else None
    prepare(where)
    with _alone(where):
        if kind is not None:
            lifecycle.up(where, kind, env)
        elif options.command == "down":
            lifecycle.down(where)
        else:
            image_command.run_command(where, options)
    return 0


@contextmanager
def _alone(where: Places) -> Iterator[None]:
    """Two runs of this tool at once take turns."""
    with where.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 tools/cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start a cluster (or find it running) and write build/kubeconfig")
    commands.add_parser("down", help="stop it and remove everything but the cache")
    commands.add_parser("status", help="say what runs; exit status 1 where nothing does")
    commands.add_parser("serve-dns", help="cluster DNS, which `up` starts")
    image_command.add_arguments(commands.add_parser("image", help="make an image and bring it to the cluster"))
    return parser
