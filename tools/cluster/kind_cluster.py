# SPDX-License-Identifier: Apache-2.0
"""Clusters that somebody else runs: kind (https://kind.sigs.k8s.io) on Docker, and the one that KUBECONFIG names."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from . import state
from .choice import Kind
from .places import NODE_NAME, REPOSITORY, Places
from .progress import output_of, quietly, run, say
from .state import State


def up(where: Places, kind: Kind, env: Mapping[str, str]) -> None:
    """Makes the kind cluster where it is not there, or takes the current one; writes the kubeconfig."""
    if kind == Kind.KIND:
        _up_kind(where)
    else:
        _take_current(where, env["KUBECONFIG"])
    state.save(where.state, State(kind=kind, boot=state.boot_id()))


def _up_kind(where: Places) -> None:
    if NODE_NAME in output_of(["kind", "get", "clusters"]).split():
        run(
            ["kind", "export", "kubeconfig", "--name", NODE_NAME, "--kubeconfig", where.kubeconfig],
            log=where.logs / "kind.log",
        )
        return
    say("creating the kind cluster")
    command = [
        "kind",
        "create",
        "cluster",
        "--name",
        NODE_NAME,
        "--kubeconfig",
        str(where.kubeconfig),
        "--wait",
        "120s",
    ]
    run(command, log=where.logs / "kind.log")


def _take_current(where: Places, kubeconfig: str) -> None:
    """Flattened, so that certificates in files beside the original stay reachable; copied where there is no kubectl."""
    program = kubectl()
    if program is None:
        shutil.copy(Path(kubeconfig.split(os.pathsep)[0]).expanduser(), where.kubeconfig)
    else:
        # kubectl reads the same KUBECONFIG from the environment
        where.kubeconfig.write_text(output_of([program, "config", "view", "--flatten", "--minify", "--raw"]))
    where.kubeconfig.chmod(0o600)


def down(where: Places, kind: Kind) -> None:
    """Deletes the kind cluster. The current cluster is somebody's own: only our copy of its kubeconfig goes."""
    if kind == Kind.KIND:
        run(["kind", "delete", "cluster", "--name", NODE_NAME], log=where.logs / "kind.log")


def runs(where: Places) -> bool:
    """Whether the cluster of build/kubeconfig answers."""
    program = kubectl()
    if not where.kubeconfig.exists() or program is None:
        return False
    return quietly([program, "--kubeconfig", where.kubeconfig, "--request-timeout=5s", "get", "--raw", "/readyz"])


def kubectl() -> str | None:
    """kubectl on PATH or in the checkout's virtual environment."""
    beside = REPOSITORY / ".venv" / "bin" / "kubectl"
    return shutil.which("kubectl") or (str(beside) if beside.exists() else None)


def build_with_docker(where: Places, names: list[str], dockerfile: Path, context: Path) -> None:
    """Builds an image with Docker and brings it to the kind node under each name."""
    log = where.logs / "images.log"
    tags = [word for name in names for word in ("--tag", name)]
    run(["docker", "build", *tags, "--file", dockerfile, context], log=log)
    run(["kind", "load", "docker-image", *names, "--name", NODE_NAME], log=log)


def pull_with_docker(where: Places, name: str) -> None:
    """Brings a public image to the kind node."""
    log = where.logs / "images.log"
    run(["docker", "pull", name], log=log)
    run(["kind", "load", "docker-image", name, "--name", NODE_NAME], log=log)
