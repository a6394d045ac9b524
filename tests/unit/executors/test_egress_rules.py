# SPDX-License-Identifier: Apache-2.0
"""What the administrator's rules and the Services of a namespace add to the public addresses."""

from __future__ import annotations

import pytest
from tests.unit.executors.egress_world import PUBLIC, Names, Services, guard_of, pod, route_of

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Failed
from kubesaga.errors import InvalidSettings
from kubesaga.executors.egress import Route, service_name
from kubesaga.executors.egress_policy import EgressPolicy, parse_rule
from kubesaga.kube.services import Endpoint, ServiceProblem


@pytest.mark.parametrize(
    ("rule", "url", "allowed"),
    [
        pytest.param("desk.internal", "http://desk.internal/", True, id="a host"),
        pytest.param("Desk.Internal.", "http://desk.internal/", True, id="a host in another spelling"),
        pytest.param("desk.internal:8080", "http://desk.internal:8080/", True, id="a host and port"),
        pytest.param("desk.internal:8080", "http://desk.internal/", False, id="another port of the host"),
        pytest.param("internal", "http://desk.internal/", False, id="a host is no suffix"),
        pytest.param("*.internal", "http://desk.internal/", True, id="a suffix"),
        pytest.param("*.internal", "http://a.desk.internal/", True, id="a suffix, deeper"),
        pytest.param("*.ternal", "http://desk.internal/", False, id="half a label is no suffix"),
        pytest.param("*.desk.internal", "http://desk.internal/", False, id="a suffix is not the name itself"),
        pytest.param("*.internal:443", "https://desk.internal/", True, id="a suffix and port"),
        pytest.param("10.0.0.9", "http://desk.internal/", True, id="the address of the host"),
        pytest.param("10.0.0.0/24", "http://desk.internal/", True, id="the network of the host"),
        pytest.param("10.0.0.0/24:80", "http://desk.internal/", True, id="the network and port"),
        pytest.param("10.0.0.0/24:81", "http://desk.internal/", False, id="the network at another port"),
        pytest.param("10.0.0.9", "http://10.0.0.9:1234/", True, id="an address"),
        pytest.param("10.0.0.9", "http://[::ffff:10.0.0.9]/", True, id="an address, wrapped"),
        pytest.param("desk.internal", "http://10.0.0.9/", False, id="a host does not allow its address"),
        pytest.param("[fd00::9]:8080", "http://[fd00::9]:8080/", True, id="an IPv6 address and port"),
        pytest.param("fd00::/16", "http://[fd00::9]/", True, id="an IPv6 network"),
        pytest.param("[fd00::/16]:80", "http://[fd00::9]:81/", False, id="an IPv6 network at another port"),
        pytest.param("127.0.0.1:8080", "http://127.0.0.1:8080/", True, id="loopback at a port"),
        pytest.param("127.0.0.1:8080", "http://127.0.0.1:8081/", False, id="loopback at another port"),
        pytest.param("127.0.0.0/8", "http://127.0.0.2/", True, id="the network of loopback"),
        pytest.param("localhost:8080", "http://localhost:8080/", True, id="localhost"),
        pytest.param("localhost:8080", "http://127.0.0.1:8080/", False, id="localhost does not allow its address"),
        pytest.param("[::1]:80", "http://[::1]/", True, id="loopback in IPv6"),
        pytest.param("0.0.0.0/0", "http://127.0.0.1/", False, id="everything is not loopback"),
        pytest.param("sneaky.internal", "http://sneaky.internal/", False, id="a listed host that leads to loopback"),
        pytest.param("meta.internal", "http://meta.internal/", False, id="a listed host that leads to metadata"),
        pytest.param("169.254.0.0/16", "http://169.254.169.254/", False, id="the network of the metadata service"),
        pytest.param("169.254.169.254", "http://169.254.169.254/", True, id="the metadata service itself"),
        pytest.param("fd00::/8", "http://[fd00:ec2::254]/", False, id="a network around a metadata service"),
        pytest.param("0.0.0.0", "http://0.0.0.0/", False, id="the unspecified address, never"),
        pytest.param("2002::/16", "http://[2002:a00:1::]/", False, id="6to4, never"),
    ],
)
async def test_what_a_rule_allows(rule, url, allowed):
    names = Names(
        desk_internal=[["10.0.0.9"]], a_desk_internal=[["10.0.0.9"]], localhost=[["::1", "127.0.0.1"]],
        sneaky_internal=[["127.0.0.1"]], meta_internal=[["169.254.169.254"]],
    )  # fmt: skip
    route = await route_of(url, guard_of(rule, names=names))
    assert isinstance(route, Route) is allowed
    if allowed:
        assert not route.public
    else:
        assert route.reason is Reason.EGRESS_DENIED


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        pytest.param("http://desk", "is a URL; leave the scheme", id="a URL"),
        pytest.param("desk:http", "has the port 'http'", id="a port that is no number"),
        pytest.param("desk:0", "has the port '0'", id="port 0"),
        pytest.param("desk:65536", "has the port '65536'", id="a port too high"),
        pytest.param("10.0.0.1/8", "host bits set", id="a network with host bits"),
        pytest.param("10.0.0.0/33", "neither an address nor a network", id="a network too narrow"),
        pytest.param("127.1", "neither an address nor a network", id="a short form"),
        pytest.param("[fd00::1", "neither an address", id="half a bracket"),
        pytest.param("*", "is not a host name", id="a star alone"),
        pytest.param("*.", "is not a host name", id="a star without a suffix"),
        pytest.param("a*.example", "is not a host name", id="a star within"),
        pytest.param("", "is not a host name", id="nothing"),
        pytest.param("desk support", "is not a host name", id="two words"),
    ],
)
def test_an_entry_that_is_wrong_is_named(entry, says):
    with pytest.raises(InvalidSettings) as raised:
        EgressPolicy(["fine.example", entry])
    assert str(raised.value).startswith(f"KUBESAGA_EGRESS_ALLOW: {entry!r} ")
    assert says in str(raised.value)


def test_all_wrong_entries_are_told_at_once():
    with pytest.raises(InvalidSettings, match=r"'\*'.*'10.0.0.1/8'"):
        EgressPolicy(["*", "10.0.0.1/8"])


def test_a_rule_is_what_it_says():
    assert parse_rule("[fd00::/8]:443").port == 443
    assert parse_rule("*.bücher.example").suffix == ".xn--bcher-kva.example"


@pytest.mark.parametrize(
    "host", ["desk", "desk.support", "desk.support.svc", "desk.support.svc.cluster.local", "DESK.Support.SVC."]
)
async def test_services_of_the_runs_own_namespace_are_reached_at_their_pods(host):
    services, names = Services(desk=(pod("10.244.0.7", 8080), pod("10.244.0.8", 8080))), Names()
    route = await route_of(f"http://{host}:8000/tickets", guard_of(names=names, services=services))
    assert route.targets == (("10.244.0.7", 8080), ("10.244.0.8", 8080))
    assert (services.asked, names.asked, route.public) == ([("support", "desk", 8000)], [], False)


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
async def test_a_services_port_follows_from_the_scheme(scheme, port):
    services = Services(desk=(pod("10.244.0.7"),))
    await route_of(f"{scheme}://desk/", guard_of(services=services))
    assert services.asked == [("support", "desk", port)]


@pytest.mark.parametrize(
    "host",
    [
        "desk.other.svc", "desk.other.svc.cluster.local", "pod-0.desk.support.svc", "desk.cluster.local",
        "10-244-0-7.support.pod.cluster.local", "pod-0.desk.support.svc.cluster.local", "support.svc",
    ],
)  # fmt: skip
async def test_what_else_is_of_the_cluster_is_denied(host):
    services, names = Services(desk=(pod("10.244.0.7"),)), Names()
    refused = await route_of(f"http://{host}/", guard_of(names=names, services=services))
    assert (refused.reason, services.asked, names.asked) == (Reason.EGRESS_DENIED, [], [])
    assert "own namespace, support" in refused.message


async def test_a_name_of_two_labels_is_looked_up_without_the_search_list_of_the_cluster():
    services, names = Services(), Names(desk_other=[[PUBLIC]])
    assert (await route_of("http://desk.other/", guard_of(names=names, services=services))).public
    assert (services.asked, names.asked) == ([], ["desk.other."])


async def test_a_service_of_another_namespace_is_reached_when_it_is_listed():
    services, names = Services(), Names(desk_shared_svc=[["10.96.7.7"]])
    route = await route_of("http://desk.shared.svc/", guard_of("desk.shared.svc", names=names, services=services))
    assert (route.targets, services.asked) == ((("10.96.7.7", 80),), [])


async def test_without_a_cluster_such_names_are_ordinary_names():
    names = Names(desk=[["10.0.0.9"]])
    names.names["desk.other.svc"] = [[PUBLIC]]
    guard = guard_of("desk", names=names)
    assert (await route_of("http://desk/", guard)).targets == (("10.0.0.9", 80),)
    assert (await route_of("http://desk.other.svc/", guard)).targets == ((PUBLIC, 80),)


@pytest.mark.parametrize(
    ("endpoint", "allow", "reached"),
    [
        pytest.param(pod("10.244.0.7"), (), True, id="a pod of the namespace"),
        pytest.param(pod("127.0.0.1"), ("0.0.0.0/0",), False, id="loopback"),
        pytest.param(pod("169.254.169.254"), ("0.0.0.0/0",), False, id="the metadata service"),
        pytest.param(pod("168.63.129.16"), (), False, id="a public metadata service"),
        pytest.param(pod("10.96.0.1", 443), ("0.0.0.0/0",), False, id="the API server"),
        pytest.param(pod("203.0.113.9", 6443), ("0.0.0.0/0",), False, id="the API server at any port"),
        pytest.param(pod("nonsense"), (), False, id="no address"),
        pytest.param(Endpoint(ip="10.0.0.5", port=10250, own_pod=False), (), False, id="no pod: a node"),
        pytest.param(Endpoint(ip="10.0.0.5", port=80, own_pod=False), ("10.0.0.5:80",), True, id="no pod, but listed"),
        pytest.param(Endpoint(ip=PUBLIC, port=80, own_pod=False), (), True, id="no pod, but public"),
    ],
)
async def test_what_stands_behind_a_service_is_judged_too(endpoint, allow, reached):
    route = await route_of("http://desk/", guard_of(*allow, services=Services(desk=(endpoint,))))
    assert isinstance(route, Route) is reached
    if not reached:
        assert route.reason is Reason.EGRESS_DENIED


@pytest.mark.parametrize(
    ("problem", "reason", "retryable"),
    [
        pytest.param(ServiceProblem(message="No pods."), Reason.HTTP_FAILED, True, id="not ready: later"),
        pytest.param(ServiceProblem(message="No.", denied=True), Reason.EGRESS_DENIED, False, id="denied: never"),
    ],
)
async def test_a_problem_of_a_service_is_told(problem, reason, retryable):
    refused = await route_of("http://desk/", guard_of(services=Services(desk=problem)))
    assert refused == Failed(reason=reason, message=problem.message, retryable=retryable)


@pytest.mark.parametrize(
    ("host", "domain", "service"),
    [
        pytest.param("svc", "cluster.local", "svc", id="a Service called svc"),
        pytest.param("desk.support.svc.k8s.corp", "k8s.corp", "desk", id="another cluster domain"),
        pytest.param("desk.support.svc.k8s.corp", "cluster.local", None, id="a domain that is not the cluster's"),
        pytest.param("www.example.com", "cluster.local", None, id="an ordinary name"),
    ],
)
def test_names_of_services(host, domain, service):
    assert service_name(host, "support", domain) == service
