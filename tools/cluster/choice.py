# SPDX-License-Identifier: Apache-2.0
"""Which kind of cluster this machine gets: a pure choice from facts that `facts.py` gathers."""

from dataclasses import dataclass
from enum import StrEnum

from .errors import NoClusterPossible

CONTROL_PLANE = ("etcd", "kube-apiserver")
NODE_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")


class Kind(StrEnum):
    """The ways to a cluster, in the order of preference."""

    CURRENT = "current"
    KIND = "kind"
    NODE = "node"
    APISERVER = "apiserver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about the machine and the caller's wishes.

    `wanted` is KUBESAGA_CLUSTER; `assets` the program names found in KUBEBUILDER_ASSETS, None where it is not set.
    """

    wanted: str = ""
    kubeconfig: str = ""
    docker: bool = False
    kind: bool = False
    linux: bool = True
    root: bool = False
    debian: bool = False
    assets: frozenset[str] | None = None


def choose(facts: Facts) -> Kind:
    """The kind of cluster to make. NoClusterPossible says in one line what is missing."""
    if facts.wanted:
        return _forced(facts)
    if facts.docker and facts.kind:
        return Kind.KIND
    if _missing_for_node(facts) is None:
        return Kind.NODE
    if _missing_for_apiserver(facts) is None:
        return Kind.APISERVER
    raise NoClusterPossible(
        "no cluster is possible here: "
        f"kind: {_missing_for_kind(facts)}; node: {_missing_for_node(facts)}; API server: {_missing_for_apiserver(facts)}; "
        "or set KUBESAGA_CLUSTER=current and KUBECONFIG to use a cluster that you have"
    )


def _forced(facts: Facts) -> Kind:
    try:
        kind = Kind(facts.wanted)
    except ValueError:
        raise NoClusterPossible(f"KUBESAGA_CLUSTER={facts.wanted} is not one of {', '.join(Kind)}") from None
    missing = {
        Kind.CURRENT: _missing_for_current,
        Kind.KIND: _missing_for_kind,
        Kind.NODE: _missing_for_node,
        Kind.APISERVER: _missing_for_apiserver,
    }[kind](facts)
    if missing is not None:
        raise NoClusterPossible(f"KUBESAGA_CLUSTER={kind} is not possible here: {missing}")
    return kind


def _missing_for_current(facts: Facts) -> str | None:
    return None if facts.kubeconfig else "KUBECONFIG is not set"


def _missing_for_kind(facts: Facts) -> str | None:
    if not facts.kind:
        return "`kind` is not on PATH"
    return None if facts.docker else "no Docker engine answers"


def _missing_for_node(facts: Facts) -> str | None:
    if not facts.linux:
        return "a node needs Linux"
    if not facts.root:
        return "a node needs root"
    if not facts.debian:
        return "a node needs Debian's package manager (apt-get)"
    if facts.assets is None:
        return None
    lacking = [name for name in NODE_PROGRAMS if name not in facts.assets]
    return f"KUBEBUILDER_ASSETS has no {', '.join(lacking)}" if lacking else None


def _missing_for_apiserver(facts: Facts) -> str | None:
    if facts.assets is None:
        return None if facts.root and facts.debian and facts.linux else "KUBEBUILDER_ASSETS is not set"
    lacking = [name for name in CONTROL_PLANE if name not in facts.assets]
    return f"KUBEBUILDER_ASSETS has no {', '.join(lacking)}" if lacking else None
