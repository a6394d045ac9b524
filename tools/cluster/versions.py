# SPDX-License-Identifier: Apache-2.0
"""Where the programs are, and what differs between the Kubernetes versions that they may be of."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .errors import ClusterError
from .progress import output_of

Version = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Kubernetes' programs of one version, in `folder`. etcd may be beside them or on PATH."""

    folder: Path
    version: Version

    def find(self, name: str) -> Path:
        """A program's path; ClusterError where it is missing."""
        path = self.optional(name)
        if path is None:
            raise ClusterError(f"{name} is neither in {self.folder} nor on PATH")
        return path

    def optional(self, name: str) -> Path | None:
        """A program's path, None where it is missing. Kubernetes' own are never taken from PATH: versions must not mix."""
        beside = self.folder / name
        if beside.exists():
            return beside
        elsewhere = None if name.startswith("kube") else shutil.which(name)
        return Path(elsewhere) if elsewhere else None


def programs_in(folder: Path) -> Programs:
    """Asks the API server in `folder` for its version."""
    return Programs(folder=folder, version=parse(output_of([folder / "kube-apiserver", "--version"])))


def parse(text: str) -> Version:
    """`Kubernetes v1.20.2` → (1, 20)."""
    match = re.search(r"v(\d+)\.(\d+)", text)
    if match is None:
        raise ClusterError(f"no Kubernetes version in {text!r}")
    return int(match[1]), int(match[2])


def no_insecure_port(version: Version) -> list[str]:
    """Controller manager and scheduler served without TLS by default until 1.23, and know no such flag from 1.24 on."""
    return ["--port=0"] if version < (1, 23) else []


def scheduler_api(version: Version) -> str:
    """The newest scheduler configuration that the version reads."""
    if version < (1, 22):
        return "kubescheduler.config.k8s.io/v1beta1"
    if version < (1, 25):
        return "kubescheduler.config.k8s.io/v1beta2"
    return "kubescheduler.config.k8s.io/v1"


def remote_runtime(version: Version) -> list[str]:
    """The kubelet defaulted to Docker until 1.23; the flag went with 1.27."""
    return ["--container-runtime=remote"] if version < (1, 24) else []


def cgroup_v1(version: Version) -> dict[str, bool]:
    """From 1.31 on a kubelet has to be told to accept cgroup v1, which this machine may have."""
    return {"failCgroupV1": False} if version >= (1, 31) else {}
