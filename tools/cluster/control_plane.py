# SPDX-License-Identifier: Apache-2.0
"""Starts etcd, the API server, the controller manager and the scheduler."""

import socket
import subprocess
from collections.abc import Callable

from . import certificates, control_plane_config, processes
from .api import ApiServer
from .control_plane_config import SERVER, dumps, kubeconfig
from .errors import ClusterError
from .places import API_PORT, ETCD_PEER_PORT, ETCD_PORT, Places
from .progress import say
from .state import Process
from .versions import Programs

Start = Callable[[str, list[str]], Process]  # name and command line; the session keeps the record


def write_files(where: Places, programs: Programs) -> ApiServer:
    """Keys, certificates and configuration files; returns how to reach the API server."""
    token = certificates.make(where.pki, where.logs / "openssl.log")
    authority = (where.pki / "ca.crt").read_bytes()
    for user in ("controller-manager", "scheduler", "proxy", "kubelet", "dns"):
        pair = {"client-certificate": f"{where.pki}/{user}.crt", "client-key": f"{where.pki}/{user}.key"}
        (where.config / f"{user}.kubeconfig").write_text(kubeconfig(authority, pair))
    (where.config / "scheduler.json").write_text(dumps(control_plane_config.scheduler_file(where, programs.version)))
    where.admin_kubeconfig.write_text(kubeconfig(authority, {"token": token}))
    where.admin_kubeconfig.chmod(0o600)
    return ApiServer(server=SERVER, authority=authority.decode(), token=token)


def check_ports(ports: dict[str, int]) -> None:
    """Fails where somebody else serves on a port that a process here needs."""
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise ClusterError(
                    f"port {port}, which {name} needs, is in use: is another cluster running on this machine?"
                )


def start(where: Places, programs: Programs, begin: Start, *, node: bool) -> Process:
    """Starts what the programs allow; returns the API server's process, which is not ready yet."""
    check_ports({"etcd": ETCD_PORT, "etcd's peer port": ETCD_PEER_PORT, "kube-apiserver": API_PORT})
    etcd = programs.find("etcd")
    help_text = subprocess.run([etcd, "--help"], capture_output=True, text=True, check=False)
    knows_no_fsync = "unsafe-no-fsync" in help_text.stdout + help_text.stderr
    where.etcd.mkdir(mode=0o700, parents=True, exist_ok=True)
    begin("etcd", [str(etcd), *control_plane_config.etcd(where, knows_no_fsync=knows_no_fsync)])
    return begin(
        "kube-apiserver", [str(programs.find("kube-apiserver")), *control_plane_config.apiserver(where, node=node)]
    )


def finish(where: Places, programs: Programs, api: ApiServer, begin: Start, server: Process) -> None:
    """Waits until the API server is ready, then starts its controllers and the scheduler."""
    log = where.logs / "kube-apiserver.log"
    processes.wait_for(api.ready, what="kube-apiserver", process=server, log=log, seconds=60)
    say(f"API server is ready at {SERVER}")
    flags = {
        "kube-controller-manager": control_plane_config.controller_manager(where, programs.version),
        "kube-scheduler": control_plane_config.scheduler(where, programs.version),
    }
    for name, words in flags.items():
        program = programs.optional(name)
        if program is None:
            say(f"no {name} in {programs.folder}: this API server goes without")
        else:
            begin(name, [str(program), *words])
