# SPDX-License-Identifier: Apache-2.0
"""A Service is where its pods are, and the pods prove it."""

from __future__ import annotations

from typing import Any

import pytest

from kubesaga.kube.services import Endpoint, KubeServices, ServiceProblem, api_server_addresses


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    return {"metadata": {"name": "desk", "namespace": "support"}, "spec": {"ports": ports} | spec}


def endpoints(*addresses: dict[str, Any], ports: Any = ({"name": "http", "port": 8080},)) -> dict[str, Any]:
    subsets = [{"addresses": list(addresses), "ports": list(ports)}]
    return {"metadata": {"name": "desk", "namespace": "support"}, "subsets": subsets}


def address(ip: str, target: Any = "desk-1", **more: Any) -> dict[str, Any]:
    return {"ip": ip} | ({} if target is None else {"targetRef": {"kind": "Pod", "name": target} | more})


def a_pod(*ips: str, name: str = "desk-1", **spec: Any) -> dict[str, Any]:
    status = {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    return {"metadata": {"name": name, "namespace": "support"}, "spec": spec, "status": status}


OWN = (Endpoint(ip="10.244.0.7", port=8080, own_pod=True),)


FOREIGN = (Endpoint(ip="10.244.0.7", port=8080, own_pod=False),)


@pytest.mark.parametrize(
    ("objects", "port", "expected"),
    [
        pytest.param({}, 80, OWN, id="a pod behind a port of the Service"),
        pytest.param({"services": None}, 80, "There is no Service desk in the namespace support", id="no Service"),
        pytest.param({"endpoints": None}, 80, "There is no Service desk", id="no Endpoints"),
        pytest.param({"services": service(type="ExternalName")}, 80, "is an ExternalName", id="an ExternalName"),
        pytest.param({}, 81, "has no port 81; its ports: 80", id="no such port"),
        pytest.param({}, 53, "has no port 53", id="not TCP"),
        pytest.param({"endpoints": endpoints()}, 80, "no ready pods at port 80", id="no ready pod"),
        pytest.param({"endpoints": {"metadata": {"name": "desk", "namespace": "support"}, "subsets": None}}, 80, "no ready pods", id="Endpoints without subsets"),
        pytest.param(
            {"endpoints": endpoints(address("10.244.0.7"), ports=[{"name": "other", "port": 1}])}, 80,
            "no ready pods", id="the port has another name",
        ),
        pytest.param({"pods": None}, 80, "names pods that are not there", id="a pod that is not there"),
        pytest.param({"pods": a_pod("10.244.0.99")}, 80, FOREIGN, id="a pod with another address"),
        pytest.param({"pods": a_pod("fd00::7", "10.244.0.7")}, 80, OWN, id="a pod's second address"),
        pytest.param({"pods": a_pod("10.244.0.7", hostNetwork=True)}, 80, FOREIGN, id="a pod on its node's network"),
        pytest.param({"endpoints": endpoints(address("10.244.0.7", None))}, 80, FOREIGN, id="no pod named"),
        pytest.param(
            {"endpoints": endpoints(address("10.244.0.7", namespace="other"))}, 80, FOREIGN,
            id="a pod of another namespace",
        ),
        pytest.param(
            {"endpoints": endpoints(address("10.244.0.7", kind="Node"))}, 80, FOREIGN, id="a node is no pod"
        ),
        pytest.param(
            {"services": service(clusterIP="None")}, 9000,
            (Endpoint(ip="10.244.0.7", port=9000, own_pod=True),), id="a headless Service: the pods' own ports",
        ),
    ],
)  # fmt: skip
async def test_a_service_is_resolved_to_pods_that_prove_to_be_the_namespaces_own(
    server, client, objects, port, expected
):
    world = {"services": service(), "endpoints": endpoints(address("10.244.0.7")), "pods": a_pod("10.244.0.7")}
    for plural, found in (world | objects).items():
        if found is not None:
            await server.put(plural, found)
    found = await KubeServices(client, shuffle=list).resolve("support", "desk", port)
    if isinstance(expected, str):
        assert expected in found.message
        assert found.denied is ("ExternalName" in expected)
    else:
        assert found == expected


async def test_the_order_is_the_callers_and_only_a_few_pods_are_looked_up(server, client):
    addresses = [address(f"10.244.0.{n}", f"desk-{n}") for n in range(1, 10)]
    await server.put("services", service())
    await server.put("endpoints", endpoints(*addresses))
    for number in range(1, 10):
        await server.put("pods", a_pod(f"10.244.0.{number}", name=f"desk-{number}"))
    resolver = KubeServices(client, shuffle=lambda candidates: candidates[::-1])
    found = await resolver.resolve("support", "desk", 80)
    assert [endpoint.ip for endpoint in found] == ["10.244.0.9", "10.244.0.8", "10.244.0.7"]
    assert len(server.requests) == 5


async def test_a_refusal_of_the_api_server_is_told_and_may_be_tried_again(server, client):
    server.fail("GET", (403, {"kind": "Status", "reason": "Forbidden", "message": "no"}))
    found = await KubeServices(client, shuffle=list).resolve("support", "desk", 80)
    assert found == ServiceProblem(message="The API server could not be asked for the Service desk: 403 Forbidden.")


async def test_the_api_server_is_known_by_all_its_doors(server, client):
    assert await api_server_addresses(client) == [server.url]
    default = {"name": "kubernetes", "namespace": "default"}
    await server.put("services", {"metadata": default, "spec": {"clusterIP": "10.96.0.1"}})
    subsets = [{"addresses": [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}], "ports": [{"port": 6443}]}]
    await server.put("endpoints", {"metadata": default, "subsets": subsets})
    assert await api_server_addresses(client) == [server.url, "10.96.0.1", "10.0.0.2:6443", "[fd00::2]:6443"]
