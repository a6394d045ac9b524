# SPDX-License-Identifier: Apache-2.0
"""Builds Kubernetes from Debian's source package with Debian's Go, once; the programs are kept in the user's cache."""

import re
import shutil
from pathlib import Path

from . import debian
from .errors import ClusterError
from .progress import output_of, run, say

PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
VERSION = "v1.20.2"
# How often the kubelet of this version looks whether a pod that was deleted is gone, from its source: up to a minute for one whose
# container never started. Nothing but the time a deletion takes depends on these constants.
_QUICKER = (
    (
        "pkg/kubelet/status/status_manager.go",
        "const syncPeriod = 10 * time.Second",
        "const syncPeriod = 500 * time.Millisecond",
    ),
    ("pkg/kubelet/kubelet.go", "ContainerGCPeriod = time.Minute", "ContainerGCPeriod = time.Second"),
    ("pkg/kubelet/kubelet.go", "housekeepingPeriod = time.Second * 2", "housekeepingPeriod = 500 * time.Millisecond"),
    (
        "pkg/kubelet/volumemanager/volume_manager.go",
        "desiredStateOfWorldPopulatorGetPodStatusRetryDuration = 2 * time.Second",
        "desiredStateOfWorldPopulatorGetPodStatusRetryDuration = 200 * time.Millisecond",
    ),
)
_REFLECT2 = Path("/usr/share/gocode/src/github.com/modern-go/reflect2")


def cached(cache: Path) -> Path | None:
    """The folder of programs that were built before, with whatever Go."""
    for folder in sorted(cache.glob(f"kubernetes-{VERSION}-go*/bin")):
        if all((folder / name).exists() for name in PROGRAMS):
            return folder
    return None


def kubernetes(cache: Path, log: Path) -> Path:
    """The folder of the programs; builds them where the cache has none."""
    found = cached(cache)
    if found is not None:
        return found
    debian.install(debian.BUILD_PACKAGES, log)
    home = cache / f"kubernetes-{VERSION}-{go_version(output_of(['go', 'version']))}"
    work = home / "build"
    shutil.rmtree(work, ignore_errors=True)
    (work / "gopath/src/k8s.io").mkdir(parents=True)
    say(f"fetching Debian's source of Kubernetes {VERSION} (log: {log})")
    source = debian.fetch_source("kubernetes", work, log)
    if VERSION.removeprefix("v") not in source.name:
        raise ClusterError(
            f"this Debian's source package is {source.name}, not Kubernetes {VERSION}: set KUBEBUILDER_ASSETS instead"
        )
    tree = source.rename(work / "gopath/src/k8s.io/kubernetes")
    _replace_reflect2(tree)
    _look_more_often(tree)
    say(f"building Kubernetes {VERSION}: 5 minutes on two idle cores (follow it: tail -f {log})")
    run(["make", "WHAT=" + " ".join(f"cmd/{name}" for name in PROGRAMS)], log=log, env=environment(work), cwd=tree)
    return _keep(tree / "_output" / "bin", home / "bin", work)


def go_version(banner: str) -> str:
    """`go version go1.19.8 linux/amd64` → `go1.19.8`."""
    match = re.search(r"\bgo\d+(\.\d+)*", banner.removeprefix("go version "))
    if match is None:
        raise ClusterError(f"no Go version in {banner!r}")
    return match[0]


def environment(work: Path) -> dict[str, str]:
    """The build's environment: nothing of the user's own Go set-up, nothing from the network."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(work),
        "LC_ALL": "C.UTF-8",
        "GOPATH": str(work / "gopath"),
        "GOCACHE": str(work / "gocache"),
        "GOFLAGS": "-mod=vendor",
        "GOPROXY": "off",
        "CGO_ENABLED": "0",
        "KUBE_GIT_COMMIT": "debian",
        "KUBE_GIT_TREE_STATE": "clean",
        "KUBE_GIT_VERSION": VERSION,
        "KUBE_GIT_MAJOR": VERSION.split(".")[0].removeprefix("v"),
        "KUBE_GIT_MINOR": VERSION.split(".")[1],
    }


def _replace_reflect2(tree: Path) -> None:
    """The reflect2 in the source reads maps as Go before 1.18 laid them out: with a later Go the API server crashes under load."""
    vendored = tree / "vendor/github.com/modern-go/reflect2"
    shutil.rmtree(vendored)
    shutil.copytree(_REFLECT2, vendored)


def _look_more_often(tree: Path) -> None:
    for name, before, after in _QUICKER:
        text = (tree / name).read_text()
        if before not in text:
            raise ClusterError(f"{name} of the source has no {before!r}: it is not the version that this tool knows")
        (tree / name).write_text(text.replace(before, after))


def _keep(made: Path, target: Path, work: Path) -> Path:
    """Moves the programs to the cache, the last step last: a folder that is there is whole. The gigabytes of the build go."""
    fresh = target.with_name("bin.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name in PROGRAMS:
        shutil.copy2(made / name, fresh / name)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    shutil.rmtree(work, ignore_errors=True)
    say(f"built: {target}")
    return target
