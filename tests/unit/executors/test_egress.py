# SPDX-License-Identifier: Apache-2.0
"""What http activities may reach: a corpus of spellings and addresses, and the connection itself."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.executors.egress_world import PUBLIC, Names, Services, guard_of, pod, route_of

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Failed
from kubesaga.executors.addresses import effective, special_of
from kubesaga.executors.egress import EgressGuard, Route, SystemLookup, connector, parse_url, shown_url
from kubesaga.executors.egress_policy import EgressPolicy

LOOPBACK = [
    "127.0.0.1", "127.0.0.1.", "127.255.255.254", "2130706433", "0x7f000001", "0X7F000001", "017700000001",
    "0177.0.0.1", "0177.0.0.01", "0x7f.0.0.1", "0x7f.1", "127.1", "127.0.1", "127.000.000.001", "1.0x7f",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[::0001]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:0001]",
    "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]",
    "①②⑦.⓪.⓪.①", "127。0。0。1", "127\uff0e0\uff0e0\uff0e1", "0", "0.0.0.0", "[::]", "[::ffff:0:0]", "[::ffff:0.0.0.0]",
]  # fmt: skip


INNER = [
    "169.254.169.254", "169.254.170.2", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "[::ffff:169.254.169.254]",
    "[fd00:ec2::254]", "[fd00:ec2::23]", "[fd20:ce::254]", "[fe80::1]", "[fe80::a9fe:a9fe]", "100.100.100.200",
    "168.63.129.16", "192.0.0.192", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1",
    "100.64.0.1", "100.127.255.255", "[fc00::1]", "[fdff::1]", "[fec0::1]", "34.118.224.10", "198.18.0.1",
    "198.19.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.51.100.7", "203.0.113.7", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255", "[ff02::1]", "[2001:db8::1]", "[2001:2::1]", "[3fff::1]",
    "[::ffff:10.0.0.1]", "[64:ff9b::10.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[::10.0.0.1]",
    "[100::1]", "[4000::1]", "[::2:3:4]", "[5f00::1]",
]  # fmt: skip


API_SERVERS = [
    "10.96.0.1", "[::ffff:10.96.0.1]", "[fd12::1]", "203.0.113.9", "api.cluster.example", "API.cluster.EXAMPLE.",
    "kubernetes.default", "kubernetes.default.svc", "Kubernetes.Default.Svc.", "kubernetes.default.svc.cluster.local",
]  # fmt: skip


MALFORMED = [
    "127.0.0.1%2f", "%31%32%37.0.0.1", "loc%61lhost", "[fe80::1%eth0]", "[fe80::1%25eth0]", "exa mple.com", "a..b",
    ".", "-x-", "a" * 64 + ".com", "[::1", "[127.0.0.1]", "user@127.0.0.1", "user:pass@example.com",
    "example.com\\@127.0.0.1", "example.com:0", "example.com:99999", "example.com:x",
]  # fmt: skip


@pytest.mark.parametrize("namespace_has_services", [True, False], ids=["in a cluster", "without one"])
@pytest.mark.parametrize("host", LOOPBACK + INNER)
async def test_addresses_that_are_not_public_are_denied_however_they_are_written(host, namespace_has_services):
    names = Names()
    guard = guard_of(names=names, services=Services() if namespace_has_services else None)
    refused = await route_of(f"https://{host}/latest/meta-data?token=secret", guard)
    assert (refused.reason, refused.retryable, names.asked) == (Reason.EGRESS_DENIED, False, [])
    assert "secret" not in refused.message


@pytest.mark.parametrize("host", LOOPBACK + INNER)
async def test_no_wide_rule_opens_what_belongs_to_the_machine(host):
    guard = guard_of("0.0.0.0/0", "::/0", "*.example")
    route = await route_of(f"http://{host}/", guard)
    if isinstance(route, Route):
        ends = {effective(ip_address(address)) for address, _ in route.targets}
        assert not [end for end in ends if end.is_loopback or end.is_link_local or end.is_multicast]
        assert all(special_of(end).name in ALLOWABLE_BY_NETWORK for end in ends)


ALLOWABLE_BY_NETWORK = {
    "private", "shared between a provider's customers, and in many clusters the pods'", "not assigned to anyone",
    "of Services, by default, in Google's clusters", "reserved", "reserved for protocols", "for documentation", "for benchmarks",
}  # fmt: skip


@pytest.mark.parametrize("host", API_SERVERS)
@pytest.mark.parametrize("services", [Services(kubernetes=(pod("10.1.0.9"),)), None], ids=["in a cluster", "without"])
async def test_the_api_server_is_denied_even_when_it_is_allowed(host, services):
    listed = (
        "0.0.0.0/0",
        "::/0",
        "10.96.0.1",
        "203.0.113.9",
        "*.example",
        "*.default",
        "*.svc",
        "*.local",
        "*.cluster.local",
    )
    names = Names(api_cluster_example=[["10.96.0.1"]], kubernetes_default=[["10.96.0.1"]])
    guard = guard_of(*listed, names=names, services=services)
    for namespace in ("support", "default"):
        refused = await route_of(f"https://{host}/api", guard, namespace)
        assert refused.reason is Reason.EGRESS_DENIED
        assert "API server" in refused.message


async def test_the_service_kubernetes_is_the_api_server_in_its_own_namespace_only():
    guard = guard_of(services=Services(kubernetes=(pod("10.1.0.9"),)))
    refused = await route_of("http://kubernetes/", guard, "default")
    assert refused.reason is Reason.EGRESS_DENIED
    assert isinstance(await route_of("http://kubernetes/", guard, "support"), Route)


@pytest.mark.parametrize("host", MALFORMED)
async def test_what_is_no_host_is_invalid_and_never_looked_up(host):
    names = Names()
    refused = await route_of(f"http://{host}/", guard_of(names=names))
    assert (refused.reason, refused.retryable, names.asked) == (Reason.INVALID_INPUT, False, [])
    assert "pass" not in refused.message.replace("password", "")


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "//example.com/", "http://", "http:///x", "http:example.com", "ftp://example.com/",
        "file:///etc/passwd", "gopher://example.com/", "unix:///run/docker.sock", "http://example.com/\r\nX: y",
        "http://exa\tmple.com/", "http://example.com/" + "a" * 8192, None, 7,
    ],
)  # fmt: skip
def test_what_is_no_http_url_is_invalid(url):
    assert parse_url(url).reason is Reason.INVALID_INPUT


@pytest.mark.parametrize(
    ("url", "looked_up", "targets"),
    [
        pytest.param("http://EXAMPLE.com/x", "example.com", [(PUBLIC, 80)], id="capitals"),
        pytest.param("https://example.com./x", "example.com", [(PUBLIC, 443)], id="a trailing dot"),
        pytest.param("https://example.com:8443", "example.com", [(PUBLIC, 8443)], id="any port"),
        pytest.param("https://bücher.example", "xn--bcher-kva.example", [(PUBLIC, 443)], id="an international name"),
        pytest.param(f"http://{PUBLIC}/", None, [(PUBLIC, 80)], id="a public address"),
        pytest.param("http://[2606:2800:21f::1]/", None, [("2606:2800:21f::1", 80)], id="a public IPv6 address"),
        pytest.param("http://[::ffff:8.8.8.8]/", None, [("::ffff:8.8.8.8", 80)], id="a public address, wrapped"),
        pytest.param("http://127.0.0.1.nip.example/", "127.0.0.1.nip.example", [(PUBLIC, 80)], id="a name like one"),
    ],
)
async def test_public_addresses_are_reached(url, looked_up, targets):
    names = Names()
    names.names = {str(looked_up): [[PUBLIC]]}
    route = await route_of(url, guard_of(names=names))
    assert [(ip_address(address), port) for address, port in route.targets] == [
        (ip_address(address), port) for address, port in targets
    ]
    assert (names.asked, route.public) == ([looked_up] if looked_up else [], True)


async def test_a_name_is_resolved_once_and_the_checked_address_pinned():
    names = Names(rebind_example=[[PUBLIC], ["127.0.0.1"]])
    route = await route_of("http://rebind.example/", guard_of(names=names))
    assert (route.targets, names.asked) == (((PUBLIC, 80),), ["rebind.example"])
    made = connector(route)
    found = await made._resolver.resolve("rebind.example", 80)
    assert [(item["host"], item["port"]) for item in found] == [(PUBLIC, 80)]
    assert names.asked == ["rebind.example"]
    await made.close()


async def test_of_several_addresses_only_the_good_ones_are_pinned():
    names = Names(mixed_example=[["10.0.0.1", PUBLIC, "127.0.0.1", "not an address"]], inner_example=[["10.0.0.1"]])
    guard = guard_of(names=names)
    assert (await route_of("http://mixed.example/", guard)).targets == ((PUBLIC, 80),)
    assert "10.0.0.1 is private" in (await route_of("http://inner.example/", guard)).message


async def test_a_name_that_cannot_be_found_may_be_tried_again():
    refused = await route_of("http://gone.example/?key=secret", guard_of())
    assert (refused.reason, refused.retryable) == (Reason.HTTP_FAILED, True)
    assert refused.message == "the host gone.example could not be found: Name or service not known."


def test_a_shown_url_holds_no_query_no_fragment_and_is_not_long():
    assert shown_url(parse_url("https://desk:8443/a/b?token=secret#frag")) == "https://desk:8443/a/b"
    assert len(shown_url(parse_url("https://desk/" + "a" * 500))) == 200


def spelled(number: int, base: str) -> str:
    return {"decimal": f"{number}", "octal": f"0{number:o}", "hexadecimal": f"0x{number:x}"}[base]


BASES = st.sampled_from(["decimal", "octal", "hexadecimal"])


FORBIDDEN = st.sampled_from(["127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.1.1", "0.0.0.0", "10.96.0.1"])


@given(address=FORBIDDEN, parts=st.integers(1, 4), bases=st.tuples(BASES, BASES, BASES, BASES), dots=st.integers(0, 2))
async def test_no_spelling_that_the_system_understands_leads_to_a_forbidden_address(address, parts, bases, dots):
    octets = [int(octet) for octet in address.split(".")]
    numbers = [*octets[: parts - 1], int.from_bytes(bytes(octets[parts - 1 :]), "big")]
    host = ".".join(spelled(number, base) for number, base in zip(numbers, bases, strict=False))
    assert {found[4][0] for found in socket.getaddrinfo(host, 80)} == {address}
    route = await route_of(f"http://{host}{'.' * dots}/", guard_of())
    assert isinstance(route, Failed)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["::ffff:0:0", "::", "64:ff9b::"]))
def test_an_address_that_is_wrapped_is_judged_as_the_one_within(number, prefix):
    inner, wrapped = ip_address(number), ip_address(int(ip_address(prefix)) + number)
    if int(wrapped) > 1:
        assert effective(wrapped) == inner


@given(st.ip_addresses())
def test_nothing_is_public_that_python_knows_as_private(address):
    end = effective(address)
    if special_of(end) is None:
        assert not any([end.is_loopback, end.is_link_local, end.is_multicast, end.is_private, end.is_unspecified])


async def test_the_systems_resolver_is_asked_in_its_own_threads():
    lookup = SystemLookup()
    assert set(await lookup("localhost")) <= {"127.0.0.1", "::1"}
    with pytest.raises(OSError, match=r"."):
        await lookup("no-such-host.invalid.")
    lookup.close()


@pytest.fixture
async def server():
    """A real server on loopback; what it is asked is in `server.asked`."""

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.host)
        return web.Response(text="hello")

    asked: list[str] = []
    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = site._server.sockets[0].getsockname()[1]
    server.asked = asked
    yield server
    await runner.cleanup()


async def get(route: Route, url: Any = None) -> int:
    async with (
        aiohttp.ClientSession(connector=connector(route)) as session,
        session.get(url or route.url) as response,
    ):
        return response.status


async def test_a_connection_goes_to_the_pinned_address_and_port_and_names_the_host(server):
    services = Services(desk=(pod("127.0.0.1", server.port),))
    guard = EgressGuard(EgressPolicy([f"127.0.0.1:{server.port}"]), Names(), services=services)
    assert await get(await route_of("http://desk/", guard)) == 200
    assert server.asked == ["desk"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_address_that_was_not_judged_is_not_connected_to(server, host):
    route = Route(url=parse_url("http://good.example/"), targets=((PUBLIC, 80),), public=True)
    if host == "127.0.0.1":  # a literal address passes the library's resolver by
        with pytest.raises(aiohttp.ClientConnectorError, match="not judged this address"):
            await get(route, f"http://127.0.0.1:{server.port}/")
    else:
        made = connector(route)
        found = await made._resolver.resolve(host, server.port)
        assert [item["host"] for item in found] == [PUBLIC]
        await made.close()
    assert server.asked == []


async def test_a_slow_name_server_holds_up_only_who_asks_it():
    started = asyncio.Event()

    async def never(host: str) -> list[str]:
        started.set()
        await asyncio.Event().wait()
        return []

    guard = EgressGuard(EgressPolicy(), never)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await route_of("http://slow.example/", guard)
    assert started.is_set()
