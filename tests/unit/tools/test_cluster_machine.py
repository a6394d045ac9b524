# SPDX-License-Identifier: Apache-2.0
"""What the local cluster reads from the machine: apt sources, rules, resolvers, DNS queries, its own record."""

import struct
from pathlib import Path

import pytest
from tools.cluster import build, debian, dns_message, kernel, node, state
from tools.cluster.dns_message import NO_SUCH_NAME, OK, TYPE_A, Question

DEB822 = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://other.example/tools
Suites: stable
Components: main
Signed-By: /usr/share/keyrings/other.gpg
"""
ONE_LINE = """\
# deb http://off.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main
deb https://other.example/tools stable main
"""


def test_sources_are_asked_of_the_machines_own_mirror_and_of_debian_alone() -> None:
    lists = debian.source_lists({"debian.sources": DEB822, "sources.list": ONE_LINE})
    assert "Types: deb-src\nURIs: http://mirror.example/debian\n" in lists["debian.sources"]
    assert lists["sources.list"].splitlines() == [
        "deb-src [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main",
        "deb-src http://mirror.example/debian-security bookworm-security main",
    ]
    assert "other.example" not in "".join(lists.values())


def test_a_list_without_debian_gives_no_file() -> None:
    assert debian.source_lists({"other.list": "deb https://other.example/tools stable main\n"}) == {}


@pytest.mark.parametrize("text", [pytest.param(DEB822, id="deb822"), pytest.param(ONE_LINE, id="one line a source")])
def test_the_mirror_of_a_suite_is_found(text: str) -> None:
    assert debian.first_mirror(text, "bookworm") == "http://mirror.example/debian"
    assert debian.first_mirror(text, "trixie") is None


@pytest.mark.parametrize(
    ("banner", "version"),
    [("go version go1.19.8 linux/amd64", "go1.19.8"), ("go version go1.24 linux/arm64", "go1.24")],
)
def test_go_tells_its_version(banner: str, version: str) -> None:
    assert build.go_version(banner) == version


def test_a_cache_counts_only_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / f"kubernetes-{build.VERSION}-go1.19.8" / "bin"
    folder.mkdir(parents=True)
    for name in build.PROGRAMS[1:]:
        (folder / name).touch()
    assert build.cached(tmp_path) is None
    (folder / build.PROGRAMS[0]).touch()
    assert build.cached(tmp_path) == folder


def test_the_build_reads_nothing_from_the_network() -> None:
    made = build.environment(Path("/work"))
    assert made["GOPROXY"] == "off"
    assert made["CGO_ENABLED"] == "0"
    assert (made["KUBE_GIT_MAJOR"], made["KUBE_GIT_MINOR"]) == ("1", "20")


def test_only_kubernetes_packet_rules_are_removed() -> None:
    rules = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A PREROUTING -j MINE\nCOMMIT\n"
    assert kernel.without_kubernetes(rules) == "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j MINE\nCOMMIT\n"


def test_a_pods_network_namespace_is_read_from_what_the_plugins_kept() -> None:
    kept = """{"containerId": "c", "result": {"interfaces": [
        {"name": "kubesaga0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/var/run/netns/cni-1"}]}}"""
    assert kernel.network_namespaces(kept) == ["/var/run/netns/cni-1"]


def test_pods_do_not_get_a_resolver_on_the_machines_loopback() -> None:
    text = "search example\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.7\n"
    assert node.upstream_resolvers(text) == "nameserver 192.0.2.7\n"


def test_the_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    written = state.State(
        kind="node",
        boot="b",
        version="1.20",
        processes={"etcd": state.Process(pid=1, started=2)},
        restore={"net/ipv4/ip_forward": "0"},
    )
    state.save(file, written)
    assert state.load(file) == written


@pytest.mark.parametrize("text", ["", "{", '{"kind": "node"}'], ids=["empty", "cut short", "without its processes"])
def test_a_broken_record_is_no_record(tmp_path: Path, text: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(text)
    assert state.load(file) is None


def query(name: str, kind: int = TYPE_A) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def test_a_query_is_read_and_answered_with_its_addresses() -> None:
    question = dns_message.parse(query("Desk.support.svc.cluster.local"))
    assert (question.name, question.kind) == ("desk.support.svc.cluster.local", TYPE_A)
    packet = dns_message.answer(question, OK, ["10.0.0.1", "10.0.0.2"])
    ident, flags, questions, answers = struct.unpack("!HHHH", packet[:8])
    assert (ident, flags & 0x000F, questions, answers) == (7, OK, 1, 2)
    assert packet[12 : 12 + len(question.wire)] == question.wire
    assert packet.endswith(bytes([10, 0, 0, 2]))


def test_a_name_that_is_not_there_is_said_to_be_missing() -> None:
    packet = dns_message.answer(dns_message.parse(query("x.y.svc.cluster.local")), NO_SUCH_NAME)
    assert packet[3] & 0x0F == NO_SUCH_NAME
    assert packet[6:8] == b"\0\0"


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"short", id="shorter than a header"),
        pytest.param(
            dns_message.answer(Question(ident=1, flags=0, name="a", kind=1, wire=b"\1a\0\0\1\0\1"), OK), id="an answer"
        ),
        pytest.param(query("desk")[:-3], id="without its type"),
        pytest.param(struct.pack("!HHHHHH", 7, 0, 1, 0, 0, 0) + b"\x3fabc", id="a label past the end"),
    ],
)
def test_what_is_no_query_is_refused(packet: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        dns_message.parse(packet)


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("desk.support.svc.cluster.local", ("desk", "support")),
        ("desk.support.cluster.local", None),
        ("a.desk.support.svc.cluster.local", None),
        ("desk.support.svc.example.org", None),
    ],
)
def test_a_service_is_read_from_its_name(name: str, service: tuple[str, str] | None) -> None:
    assert dns_message.service_of(name, "cluster.local") == service
