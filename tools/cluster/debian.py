# SPDX-License-Identifier: Apache-2.0
"""Debian's packages: installs what a node or a build needs, and fetches source packages without changing the machine's sources."""

import re
from collections.abc import Iterable
from pathlib import Path

from .errors import ClusterError
from .progress import run, say

# package → a file that proves that it is there
NODE_PACKAGES = {
    "etcd-server": "/usr/bin/etcd",
    "containerd": "/usr/bin/containerd",
    "runc": "/usr/sbin/runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "/usr/sbin/iptables",
    "conntrack": "/usr/sbin/conntrack",
    "ebtables": "/usr/sbin/ebtables",
    "ethtool": "/usr/sbin/ethtool",
    "socat": "/usr/bin/socat",
    "iproute2": "/usr/bin/ip",
    "procps": "/usr/bin/ps",
    "mount": "/usr/bin/umount",
    "busybox-static": "/usr/bin/busybox",
    "openssl": "/usr/bin/openssl",
}
CONTROL_PLANE_PACKAGES = {"etcd-server": "/usr/bin/etcd", "openssl": "/usr/bin/openssl"}
BUILD_PACKAGES = {
    "golang-go": "/usr/bin/go",
    "golang-github-modern-go-reflect2-dev": "/usr/share/gocode/src/github.com/modern-go/reflect2/reflect2.go",
    "dpkg-dev": "/usr/bin/dpkg-source",
    "make": "/usr/bin/make",
    "jq": "/usr/bin/jq",
    "rsync": "/usr/bin/rsync",
}
ROOT_PACKAGES = {"debootstrap": "/usr/sbin/debootstrap"}
PIP_PACKAGES = {"python3-pip": "/usr/bin/pip3"}

_POLICY = Path("/usr/sbin/policy-rc.d")
_LISTS = Path("/etc/apt")


def install(packages: dict[str, str], log: Path) -> None:
    """Installs those of the packages whose file is missing; without the daemons that some would start."""
    missing = [name for name, proof in packages.items() if not Path(proof).exists()]
    if not missing:
        return
    say(f"installing Debian packages: {' '.join(missing)}")
    apt_get = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]
    made_policy = _forbid_daemons()
    try:
        run([*apt_get, "update"], log=log)
        run([*apt_get, "install", "--yes", "--no-install-recommends", *missing], log=log)
    finally:
        if made_policy:
            _POLICY.unlink()


def _forbid_daemons() -> bool:
    """Puts a policy in place under which package scripts start nothing (invoke-rc.d(8)), unless there is one."""
    if _POLICY.exists():
        return False
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    return True


def fetch_source(package: str, folder: Path, log: Path) -> Path:
    """Unpacks the newest source of a package below `folder`; returns its folder. apt gets lists of its own for that."""
    own = folder / "apt"
    for name in ("lists/partial", "sources"):
        (own / name).mkdir(parents=True, exist_ok=True)
    for name, text in source_lists(_machine_sources()).items():
        (own / "sources" / name).write_text(text)
    options: list[str] = []
    for setting in (
        "Dir::Etc::SourceList=/dev/null",
        f"Dir::Etc::SourceParts={own}/sources",
        f"Dir::State::Lists={own}/lists",
        "Dir::Cache::pkgcache=",
        "Dir::Cache::srcpkgcache=",
        "APT::Sandbox::User=root",
    ):
        options += ["-o", setting]
    run(["apt-get", *options, "update"], log=log)
    run(["apt-get", *options, "source", "--only-source", package], log=log, cwd=folder)
    found = [entry for entry in folder.iterdir() if entry.is_dir() and entry.name.startswith(f"{package}-")]
    if len(found) != 1:
        raise ClusterError(f"expected one source folder of {package} below {folder}, found {len(found)}")
    return found[0]


def _machine_sources() -> dict[str, str]:
    files = [_LISTS / "sources.list", *sorted((_LISTS / "sources.list.d").glob("*"))]
    return {file.name: file.read_text() for file in files if file.is_file() and file.suffix in (".list", ".sources")}


def source_lists(lists: dict[str, str]) -> dict[str, str]:
    """The machine's apt lists, for sources instead of binaries: same mirrors, suites and keys. Only Debian's own are kept."""
    made = {}
    for name, text in lists.items():
        changed = _deb822(text) if name.endswith(".sources") else _one_line(text.splitlines())
        if changed.strip():
            made[name] = changed
    return made


def _deb822(text: str) -> str:
    stanzas = [stanza for stanza in re.split(r"\n\s*\n", text) if _is_debian(stanza)]
    return "\n\n".join(re.sub(r"(?m)^Types:.*$", "Types: deb-src", stanza.strip()) for stanza in stanzas) + "\n"


def _one_line(lines: Iterable[str]) -> str:
    chosen = [line for line in lines if line.startswith("deb ") and _is_debian(line)]
    return "\n".join("deb-src" + line[3:] for line in chosen) + "\n"


def _is_debian(text: str) -> bool:
    """Third parties' archives have none of the sources needed here, and may not answer."""
    return "debian-archive-keyring" in text or re.search(r"/debian(-security)?/?\s", text) is not None


def mirror_and_suite() -> tuple[str, str]:
    """The mirror and the suite of the machine's own Debian, as debootstrap wants them."""
    codename = re.search(r"(?m)^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text())
    if codename is None:
        raise ClusterError("/etc/os-release names no VERSION_CODENAME")
    for text in _machine_sources().values():
        found = first_mirror(text, codename[1])
        if found is not None:
            return found, codename[1]
    raise ClusterError(f"no apt source of the suite {codename[1]} found in {_LISTS}")


def first_mirror(text: str, suite: str) -> str | None:
    """The address of the first source in an apt list that offers the suite."""
    for stanza in re.split(r"\n\s*\n", text):
        address = re.search(r"(?m)^URIs:\s*(\S+)", stanza)
        if address and re.search(rf"(?m)^Suites:.*\b{suite}(\s|$)", stanza):
            return address[1]
    line = re.search(rf"(?m)^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+{suite}\s", text)
    return line[1] if line else None
