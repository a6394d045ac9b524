# SPDX-License-Identifier: Apache-2.0
"""`python3 tools/cluster image …`"""

import argparse
from pathlib import Path

from . import images, kind_cluster, project_images, state
from .archive import build_image
from .choice import Kind
from .errors import ClusterError
from .places import Places
from .progress import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after `image`."""
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("busybox", help="Debian's busybox, as docker.io/library/busybox:VERSION")
    what.add_parser("operator", help=f"this checkout, as {project_images.OPERATOR}")
    what.add_parser("desk", help=f"the demo's ticket desk, as {project_images.DESK}")
    what.add_parser("python", help="a bare Python, as docker.io/library/python:3.11-slim")
    what.add_parser("list", help="the names of the images on the node")
    load = what.add_parser("load", help="an archive that `docker save` or `image build --output` wrote")
    load.add_argument("archive", type=Path)
    alias = what.add_parser("alias", help="a second name for an image of the node")
    alias.add_argument("source")
    alias.add_argument("name")
    _add_build(what.add_parser("build", help="an image of everything below a folder"))


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="as in docker.io/library/NAME:TAG")
    parser.add_argument("--rootfs", required=True, type=Path)
    parser.add_argument("--entrypoint", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--user", default="", help="a number, or a name that the image's /etc/passwd knows")
    parser.add_argument("--workdir", default="/")
    parser.add_argument("--output", type=Path, help="write the archive there instead of bringing it to the cluster")


def run_command(where: Places, options: argparse.Namespace) -> None:
    """Makes an image, or asks about images."""
    if options.what == "build" and options.output is not None:
        _build(options, options.output)
        return
    running = state.load(where.state)
    if running is None:
        raise ClusterError("no cluster runs: `python3 tools/cluster up` first")
    if options.what == "build":
        archive = _build(options, where.cache / "images" / "build.tar")
        images.load(where, running.kind, archive)
        archive.unlink()
        say(f"image: {options.name}")
    elif options.what == "busybox":
        _busybox(where, running.kind)
    elif options.what == "load":
        images.load(where, running.kind, options.archive)
    elif options.what == "alias":
        images.alias(where, running.kind, options.source, options.name)
    elif options.what == "list":
        print("\n".join(images.known(where, running.kind)))
    else:
        {"operator": project_images.operator, "desk": project_images.desk, "python": project_images.python}[
            options.what
        ](where, running.kind)


def _build(options: argparse.Namespace, target: Path) -> Path:
    if not options.rootfs.is_dir():
        raise ClusterError(f"--rootfs: {options.rootfs} is no folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    env = dict(pair.partition("=")[::2] for pair in options.env)
    return build_image(
        options.name,
        options.rootfs,
        target=target,
        entrypoint=options.entrypoint,
        env=env,
        user=options.user,
        workdir=options.workdir,
    )


def _busybox(where: Places, kind: str) -> None:
    if kind == Kind.KIND:
        kind_cluster.pull_with_docker(where, "busybox:1.35")
    else:
        images.load_busybox(where, kind)
