# SPDX-License-Identifier: Apache-2.0
"""What a node changes in the kernel, and how it is put back: settings, the bridge, mounts, cgroups, packet rules."""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from .errors import ClusterError
from .node_config import CNI_NETWORK
from .places import BRIDGE, NODE_ADDRESS, POD_RANGE
from .progress import output_of, quietly, run

_NEEDED = {
    "net/ipv4/ip_forward": "1",
    "net/bridge/bridge-nf-call-iptables": "1",  # Service addresses are translated for pods on the same bridge, too
}
_CHANGED_BY_KUBELET = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
_CHANGED_BY_PROXY = ("net/ipv4/conf/all/route_localnet",)
_CNI_RESULTS = Path("/var/lib/cni/results")
_SYS = Path("/proc/sys")
_KILL_ROUNDS, _KILL_PAUSE = 100, 0.05  # five seconds


def settings() -> dict[str, str]:
    """The settings that a node changes, as they are now."""
    paths = (*_NEEDED, *_CHANGED_BY_KUBELET, *_CHANGED_BY_PROXY)
    return {path: (_SYS / path).read_text().strip() for path in paths if (_SYS / path).exists()}


def apply_settings() -> None:
    """Sets what the pod network needs. A module may have to be loaded for the bridge's setting to exist."""
    if not (_SYS / "net/bridge").exists():
        quietly(["modprobe", "br_netfilter"])
    for path, value in _NEEDED.items():
        if (_SYS / path).exists():
            (_SYS / path).write_text(value)


def restore_settings(found: dict[str, str]) -> None:
    """Puts back what `settings` returned."""
    for path, value in found.items():
        if (_SYS / path).exists():
            (_SYS / path).write_text(value)


def make_bridge(log: Path) -> None:
    """The bridge exists before the first pod, so that the node has its address from the start."""
    if not (Path("/sys/class/net") / BRIDGE).exists():
        run(["ip", "link", "add", BRIDGE, "type", "bridge"], log=log)
        run(["ip", "address", "add", f"{NODE_ADDRESS}/{POD_RANGE.partition('/')[2]}", "dev", BRIDGE], log=log)
    run(["ip", "link", "set", BRIDGE, "up"], log=log)


def remove_bridge() -> None:
    """Removes the bridge; the pods' ends went with their network namespaces."""
    quietly(["ip", "link", "delete", BRIDGE])


def mounts_below(*folders: Path) -> list[str]:
    """Mount points below the folders, the innermost first."""
    prefixes = tuple(f"{folder}/" for folder in folders)
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return sorted({point for point in points if point.startswith(prefixes)}, key=len, reverse=True)


def unmount_below(*folders: Path) -> None:
    """Unmounts everything below the folders, lazily what is still busy. A volume may be a folder of the machine: fails rather than
    let the caller remove the folders with something mounted there."""
    for point in mounts_below(*folders):
        if not quietly(["umount", point]):
            quietly(["umount", "--lazy", point])
    left = mounts_below(*folders)
    if left:
        raise ClusterError(f"still mounted: {', '.join(left)}; unmount it, then try again")


def remove_pod_networks() -> None:
    """Removes the network namespaces of our pods, and what the plugins wrote down about them."""
    if not _CNI_RESULTS.is_dir():
        return
    for file in _CNI_RESULTS.glob(f"{CNI_NETWORK}-*"):
        text = file.read_text()
        for namespace in network_namespaces(text):
            quietly(["umount", namespace])
            Path(namespace).unlink(missing_ok=True)
        for same_pod in _CNI_RESULTS.glob(f"*-{json.loads(text)['containerId']}-*"):
            same_pod.unlink()


def network_namespaces(text: str) -> list[str]:
    """The network namespaces in what the CNI library keeps of one result: those of a pod's interfaces."""
    interfaces = json.loads(text)["result"].get("interfaces", [])
    return [interface["sandbox"] for interface in interfaces if interface.get("sandbox")]


def pod_cgroups() -> list[Path]:
    """The kubelet's cgroups, in every hierarchy, the innermost first."""
    tops = [*Path("/sys/fs/cgroup").glob("*/kubepods"), Path("/sys/fs/cgroup/kubepods")]
    return [Path(folder) for top in tops for folder, _, _ in os.walk(top, topdown=False)]


def kill_pods() -> None:
    """Kills every process of every pod, whether or not containerd is there to do so."""
    for _ in range(_KILL_ROUNDS):
        pids = {pid for cgroup in pod_cgroups() for pid in _members(cgroup)}
        if not pids:
            return
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_KILL_PAUSE)
    raise ClusterError("processes of pods do not end")


def _members(cgroup: Path) -> list[int]:
    try:
        return [int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()]
    except OSError:  # removed meanwhile: containerd clears away what ended
        return []


def remove_cgroups() -> None:
    """Removes the kubelet's cgroups; the kernel refuses where something still runs in one."""
    for cgroup in pod_cgroups():
        quietly(["rmdir", cgroup])


def has_kubernetes_rules() -> bool:
    """Whether iptables holds chains of Kubernetes."""
    return ":KUBE-" in output_of(["iptables-save"])


def remove_kubernetes_rules() -> None:
    """Takes every line that names a chain of Kubernetes out of the rules, in one step for each protocol."""
    for save, restore in (("iptables-save", "iptables-restore"), ("ip6tables-save", "ip6tables-restore")):
        rules = subprocess.run([save], capture_output=True, text=True, check=False).stdout
        kept = without_kubernetes(rules)
        if kept != rules:
            subprocess.run([restore], input=kept, text=True, capture_output=True, check=False)


def without_kubernetes(rules: str) -> str:
    """iptables-save's text without the lines that declare, fill or jump to a chain named KUBE-…"""
    return "".join(line for line in rules.splitlines(keepends=True) if "KUBE-" not in line)
