# SPDX-License-Identifier: Apache-2.0
"""Brings images to the running cluster's node: containerd's or kind's."""

import shutil
from pathlib import Path

from . import busybox
from .choice import Kind
from .errors import ClusterError
from .places import NODE_NAME, Places
from .progress import output_of, run, say


def ctr(where: Places) -> list[str]:
    """containerd's own client, for the node's containerd and Kubernetes' images."""
    return ["ctr", f"--address={where.containerd_socket}", "--namespace=k8s.io"]


def load(where: Places, kind: str, archive: Path) -> None:
    """Imports an archive that `archive.write_archive` or `docker save` wrote."""
    log = where.logs / "images.log"
    if kind == Kind.NODE:
        run([*ctr(where), "image", "import", archive], log=log)
    elif kind == Kind.KIND:
        run(["kind", "load", "image-archive", archive, "--name", NODE_NAME], log=log)
    elif kind == Kind.APISERVER:
        raise ClusterError("this cluster is an API server without a node: no pod runs, so no image is needed")
    else:
        raise ClusterError(
            f"a cluster of kind {kind} takes its images from a registry: push {archive.name} there yourself"
        )


def layers_on(where: Places, kind: str) -> set[str]:
    """The digests of what the local node's containerd holds: an archive need not bring them again."""
    if kind != Kind.NODE:
        return set()
    return {line.removeprefix("sha256:") for line in output_of([*ctr(where), "content", "ls", "--quiet"]).split()}


def alias(where: Places, kind: str, source: str, name: str) -> None:
    """Gives an image of the node a second name."""
    if kind != Kind.NODE:
        raise ClusterError("only the local node can give an image a second name")
    run([*ctr(where), "image", "tag", "--force", source, name], log=where.logs / "images.log")


def known(where: Places, kind: str) -> list[str]:
    """The names of the images on the local node."""
    if kind != Kind.NODE:
        raise ClusterError("only the local node can list its images")
    names = output_of([*ctr(where), "image", "ls", "--quiet"]).split()
    return sorted(name for name in names if not name.startswith("sha256:"))


def load_busybox(where: Places, kind: str) -> None:
    """Makes busybox and the pause image and imports them."""
    program = shutil.which("busybox")
    if program is None:
        raise ClusterError("busybox is missing: install Debian's busybox-static")
    for archive in busybox.build(Path(program), where.cache / "images" / "busybox"):
        load(where, kind, archive)
    say("images: busybox and pause are on the node")
