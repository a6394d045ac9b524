# SPDX-License-Identifier: Apache-2.0
"""Where a Service of a namespace is, as the API server knows it: pods that prove to be the namespace's own.

Not by DNS: its answer proves nothing about whose an address is, and the operator may run where the cluster's DNS is not.
Neither is the Endpoints object a proof: who may write one can name any address in it, and any pod beside it
(CVE-2021-25740). So the pod itself is asked, whose addresses only its kubelet writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kubesaga.kube.client import KubeClient, Object
from kubesaga.kube.errors import ApiError, NotFound
from kubesaga.kube.resources import ENDPOINTS, PODS, SERVICES

CHOICES: Final = 3
"""How many addresses of a Service are looked up and offered: if the first does not accept, the next is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address behind a Service. `own_pod`: it is that of a pod of the namespace, in the pods' network."""

    ip: str
    port: int
    own_pod: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceProblem:
    """Why a Service has no address to offer. `denied`: it must not be used; else it may work later."""

    message: str
    denied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An address as the Endpoints object claims it. `pod` is the pod it names, if it names one."""

    ip: str
    port: int
    pod: str | None


class KubeServices:
    """Resolves Services through the API. `shuffle` puts the addresses of a Service in the order to try them in."""

    def __init__(self, client: KubeClient, *, shuffle: Callable[[Sequence[Candidate]], Sequence[Candidate]]) -> None:
        self._client = client
        self._shuffle = shuffle

    async def resolve(self, namespace: str, service: str, port: int) -> tuple[Endpoint, ...] | ServiceProblem:
        """Return the addresses behind a port of a Service, at least one and at most CHOICES."""
        try:
            return await self._resolve(namespace, service, port)
        except NotFound:
            return ServiceProblem(message=f"There is no Service {service} in the namespace {namespace}.")
        except ApiError as error:
            return ServiceProblem(
                message=f"The API server could not be asked for the Service {service}: {error.status} {error.reason}."
            )

    async def _resolve(self, namespace: str, service: str, port: int) -> tuple[Endpoint, ...] | ServiceProblem:
        found = await self._client.get(SERVICES, namespace, service)
        if found["spec"].get("type") == "ExternalName":
            # Its author would choose the address, past every rule of the egress guard.
            return ServiceProblem(
                message=f"The Service {service} is an ExternalName; write the host itself into the url.", denied=True
            )
        candidates = candidates_of(found, await self._client.get(ENDPOINTS, namespace, service), port)
        if isinstance(candidates, ServiceProblem):
            return candidates
        endpoints = [await self._proven(namespace, candidate) for candidate in self._shuffle(candidates)[:CHOICES]]
        proven = tuple(endpoint for endpoint in endpoints if endpoint is not None)
        return proven or ServiceProblem(message=f"The Service {service} names pods that are not there.")

    async def _proven(self, namespace: str, candidate: Candidate) -> Endpoint | None:
        if candidate.pod is None:
            return Endpoint(ip=candidate.ip, port=candidate.port, own_pod=False)
        try:
            pod = await self._client.get(PODS, namespace, candidate.pod)
        except NotFound:
            return None
        # A pod in the node's network has the node's address: what listens there is not the namespace's.
        own = candidate.ip in _addresses(pod) and not pod["spec"].get("hostNetwork", False)
        return Endpoint(ip=candidate.ip, port=candidate.port, own_pod=own)


async def api_server_addresses(client: KubeClient) -> list[str]:
    """Return where the API server is, as far as this client may see: URLs and addresses, ports where they matter.

    Besides the client's own way, the Service `kubernetes` and what stands behind it: the same server by other doors.
    """
    addresses = [client.credentials.server]
    try:
        service = await client.get(SERVICES, "default", "kubernetes")
        endpoints = await client.get(ENDPOINTS, "default", "kubernetes")
    except ApiError:  # an operator of a few namespaces may not look there
        return addresses
    addresses += service["spec"].get("clusterIPs") or [service["spec"]["clusterIP"]]
    addresses += [
        f"[{address['ip']}]:{port['port']}" if ":" in address["ip"] else f"{address['ip']}:{port['port']}"
        for subset in endpoints.get("subsets") or ()
        for address in subset.get("addresses") or ()
        for port in subset.get("ports") or ()
    ]
    return addresses


def candidates_of(service: Object, endpoints: Object, port: int) -> list[Candidate] | ServiceProblem:
    """Return the ready addresses that an Endpoints object claims for a port of its Service."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    ports = [item for item in service["spec"].get("ports") or () if item.get("protocol", "TCP") == "TCP"]
    wanted = next((item.get("name", "") for item in ports if item["port"] == port), None)
    headless = service["spec"].get("clusterIP") == "None"
    if wanted is None and not headless:
        known = ", ".join(str(item["port"]) for item in ports) or "none"
        return ServiceProblem(message=f"The Service {name} has no port {port}; its ports: {known}.")
    candidates = [
        Candidate(ip=address["ip"], port=target, pod=_pod_name(address, namespace))
        for subset in endpoints.get("subsets") or ()
        # Without a port of that number, a headless Service stands for its pods' own ports.
        for target in ([port] if wanted is None else _targets(subset, wanted))
        for address in subset.get("addresses") or ()
    ]
    return candidates or ServiceProblem(message=f"The Service {name} has no ready pods at port {port}.")


def _targets(subset: dict[str, Any], name: str) -> list[int]:
    return [
        item["port"]
        for item in subset.get("ports") or ()
        if item.get("name", "") == name and item.get("protocol", "TCP") == "TCP"
    ]


def _pod_name(address: dict[str, Any], namespace: str) -> str | None:
    target = address.get("targetRef") or {}
    if target.get("kind") != "Pod" or target.get("namespace", namespace) != namespace:
        return None
    name = target.get("name")
    return name if isinstance(name, str) and name else None


def _addresses(pod: Object) -> set[str]:
    status = pod.get("status") or {}
    return {status.get("podIP", "")} | {item.get("ip", "") for item in status.get("podIPs") or ()}
