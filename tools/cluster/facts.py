# SPDX-License-Identifier: Apache-2.0
"""Looks at the machine and the environment for `choice.choose`."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .choice import Facts


def gather(env: Mapping[str, str]) -> Facts:
    """The facts that the choice needs. Asks the Docker engine only where `kind` is there to use it."""
    has_kind = shutil.which("kind") is not None
    return Facts(
        wanted=env.get("KUBESAGA_CLUSTER", ""),
        kubeconfig=env.get("KUBECONFIG", ""),
        docker=has_kind and docker_answers(),
        kind=has_kind,
        linux=platform.system() == "Linux",
        root=os.geteuid() == 0,
        debian=shutil.which("apt-get") is not None and Path("/etc/debian_version").exists(),
        assets=_assets(env.get("KUBEBUILDER_ASSETS", "")),
    )


def docker_answers() -> bool:
    """Whether `docker info` succeeds: a client without an engine is no Docker."""
    if shutil.which("docker") is None:
        return False
    try:
        answer = subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return False
    return answer.returncode == 0


def _assets(folder: str) -> frozenset[str] | None:
    if not folder:
        return None
    return (
        frozenset(entry.name for entry in Path(folder).iterdir() if os.access(entry, os.X_OK))
        if Path(folder).is_dir()
        else frozenset()
    )
