# SPDX-License-Identifier: Apache-2.0
"""up, down and status, whatever the kind of cluster."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from . import build, control_plane, debian, kind_cluster, node, state
from .api import from_kubeconfig
from .choice import Kind
from .errors import ClusterError
from .places import Places, prepare
from .processes import alive
from .progress import say
from .session import Session
from .state import State
from .versions import Programs, programs_in


def up(where: Places, kind: Kind, env: Mapping[str, str]) -> None:
    """Leaves a cluster of the kind running and its kubeconfig in build/. `env` may name programs or a kubeconfig to use."""
    found = state.load(where.state)
    if found is not None and _runs(where, found):
        if _is_wanted(found, kind, env):
            _publish(where, kind, env)
            say(f"already running: {kind} {found.version}, kubeconfig {where.kubeconfig}")
            return
        raise ClusterError(
            f"a cluster of kind {found.kind} from {found.folder or 'elsewhere'} runs: `python3 tools/cluster down` first"
        )
    if found is not None:
        say(f"removing what is left of an earlier cluster of kind {found.kind}")
        down(where)
        prepare(where)
    if kind in (Kind.CURRENT, Kind.KIND):
        kind_cluster.up(where, kind, env)
    else:
        _start(where, kind, env)
    say(f"up: kubeconfig {where.kubeconfig}, logs {where.build / 'cluster' / 'logs'}")


def down(where: Places) -> None:
    """Stops and removes the cluster; what was built stays in the cache."""
    found = state.load(where.state)
    if found is None:
        say("nothing runs")
        return
    if found.kind in (Kind.CURRENT, Kind.KIND):
        kind_cluster.down(where, Kind(found.kind))
    else:
        _stop(where, found)
    where.kubeconfig.unlink(missing_ok=True)
    for folder in (where.etcd, where.run, where.base):
        shutil.rmtree(folder, ignore_errors=True)
    if (where.build / "cluster").is_symlink():
        (where.build / "cluster").unlink()
    say("down")


def status(where: Places) -> int:
    """Prints what runs; 0 where the whole cluster does."""
    found = state.load(where.state)
    if found is None:
        print("no cluster")
        return 1
    print(f"{found.kind} {found.version}".strip())
    for name, process in found.processes.items():
        print(f"  {name:<24} {'runs' if alive(process) else 'DIED'} (pid {process.pid})")
    if found.kind == Kind.NODE:
        print(f"  {node.describe()}")
    print(f"  kubeconfig {where.kubeconfig}")
    return 0 if _runs(where, found) else 1


def _runs(where: Places, found: State) -> bool:
    if found.kind in (Kind.CURRENT, Kind.KIND):
        return kind_cluster.runs(where)
    ours = found.boot == state.boot_id() and bool(found.processes) and all(alive(p) for p in found.processes.values())
    return ours and from_kubeconfig(where.admin_kubeconfig).ready()


def _start(where: Places, kind: Kind, env: Mapping[str, str]) -> None:
    programs = _programs(where, kind, env)
    major, minor = programs.version
    say(f"starting {kind}: Kubernetes {major}.{minor} from {programs.folder}")
    started = State(kind=kind, boot=state.boot_id(), version=f"{major}.{minor}", folder=str(programs.folder))
    session = Session(where, started)
    api = control_plane.write_files(where, programs)
    is_node = kind == Kind.NODE
    if is_node:
        control_plane.check_ports(node.PORTS)
        node.prepare(session, programs)
    server = control_plane.start(where, programs, session.begin, node=is_node)
    # The kubelet starts beside the API server: it tries again until that answers.
    kubelet = node.start(session, programs) if is_node else None
    control_plane.finish(where, programs, api, session.begin, server)
    if kubelet is not None:
        node.finish(session, programs, api, kubelet)
    _publish(where, kind, env)


def _programs(where: Places, kind: Kind, env: Mapping[str, str]) -> Programs:
    """The programs of KUBEBUILDER_ASSETS, else those built here; Debian's for the rest of the node."""
    log = where.logs / "apt.log"
    if kind == Kind.NODE:
        debian.install(debian.NODE_PACKAGES, log)
    assets = env.get("KUBEBUILDER_ASSETS")
    if assets:
        return programs_in(Path(assets))
    debian.install(debian.CONTROL_PLANE_PACKAGES, log)
    return programs_in(build.kubernetes(where.cache, where.logs / "build.log"))


def _stop(where: Places, found: State) -> None:
    session = Session(where, found)
    if found.kind == Kind.NODE:
        node.stop(session)
    # Nothing of theirs is kept, and an open watch would hold the API server for long.
    session.end(tuple(session.state.processes), grace=1)


def _is_wanted(found: State, kind: Kind, env: Mapping[str, str]) -> bool:
    """Whether what runs is of this kind and, where KUBEBUILDER_ASSETS names programs, runs those."""
    assets = env.get("KUBEBUILDER_ASSETS")
    return found.kind == kind and (not assets or kind in (Kind.CURRENT, Kind.KIND) or found.folder == assets)


def _publish(where: Places, kind: Kind, env: Mapping[str, str]) -> None:
    """The kubeconfig, in this checkout: the cluster may have been started from another."""
    if kind in (Kind.CURRENT, Kind.KIND):
        kind_cluster.up(where, kind, env)
        return
    where.kubeconfig.touch(mode=0o600)
    where.kubeconfig.write_text(where.admin_kubeconfig.read_text())
    where.kubeconfig.chmod(0o600)
