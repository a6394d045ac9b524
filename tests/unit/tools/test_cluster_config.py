# SPDX-License-Identifier: Apache-2.0
"""The command lines and configuration files of the local cluster."""

import base64
import ipaddress
import json
import tomllib
from pathlib import Path

import pytest
from tools.cluster import control_plane_config, node_config, places, versions
from tools.cluster.certificates import API_SERVER_NAMES, IDENTITIES, Identity, extension_file, subject
from tools.cluster.errors import ClusterError
from tools.cluster.places import Places

WHERE = Places(
    build=Path("/c/build"), base=Path("/var/b"), run=Path("/run/r"), etcd=Path("/dev/shm/e"), cache=Path("/home/k")
)
OLD, NEW = (1, 20), (1, 36)


def flags(words: list[str]) -> dict[str, str]:
    return dict(word.removeprefix("--").partition("=")[::2] for word in words)


@pytest.mark.parametrize(
    ("node", "address", "name", "value"),
    [
        pytest.param(
            True,
            "0.0.0.0",
            "advertise-address",
            places.NODE_ADDRESS,
            id="with a node, pods reach it by the node's address",
        ),
        pytest.param(
            False,
            "127.0.0.1",
            "endpoint-reconciler-type",
            "none",
            id="without, it is on loopback alone and says so to nobody",
        ),
    ],
)
def test_where_the_api_server_listens(node: bool, address: str, name: str, value: str) -> None:
    given = flags(control_plane_config.apiserver(WHERE, node=node))
    assert given["bind-address"] == address
    assert given[name] == value
    assert given["authorization-mode"] == "Node,RBAC"


@pytest.mark.parametrize(
    ("words", "flag", "old", "new"),
    [
        pytest.param(
            control_plane_config.controller_manager, "port", "0", None, id="controller manager: no insecure port"
        ),
        pytest.param(control_plane_config.scheduler, "port", "0", None, id="scheduler: no insecure port"),
        pytest.param(node_config.kubelet, "container-runtime", "remote", None, id="kubelet: containerd, not Docker"),
    ],
)
def test_flags_that_newer_versions_no_longer_know(words, flag: str, old: str, new: None) -> None:  # type: ignore[no-untyped-def]  # three functions of one shape
    assert flags(words(WHERE, OLD)).get(flag) == old
    assert flags(words(WHERE, NEW)).get(flag) is new


@pytest.mark.parametrize(
    ("version", "api"),
    [((1, 20), "v1beta1"), ((1, 22), "v1beta2"), ((1, 24), "v1beta2"), ((1, 25), "v1"), ((1, 36), "v1")],
)
def test_the_scheduler_reads_its_configuration(version: tuple[int, int], api: str) -> None:
    document = control_plane_config.scheduler_file(WHERE, version)
    assert document["apiVersion"] == f"kubescheduler.config.k8s.io/{api}"


def test_a_new_kubelet_accepts_cgroup_v1_and_an_old_one_is_not_asked() -> None:
    assert node_config.kubelet_file(WHERE, NEW)["failCgroupV1"] is False
    assert "failCgroupV1" not in node_config.kubelet_file(WHERE, OLD)


@pytest.mark.parametrize(("text", "version"), [("Kubernetes v1.20.2", (1, 20)), ("Kubernetes v1.36.0-rc.1\n", (1, 36))])
def test_versions_are_read(text: str, version: tuple[int, int]) -> None:
    assert versions.parse(text) == version


def test_a_text_without_a_version_is_refused() -> None:
    with pytest.raises(ClusterError, match="no Kubernetes version"):
        versions.parse("command not found")


def test_containerd_keeps_to_its_own_folders_and_to_what_this_machine_may_do() -> None:
    document = tomllib.loads(node_config.containerd_toml(WHERE))
    cri = document["plugins"]["io.containerd.grpc.v1.cri"]
    assert (document["root"], document["state"]) == ("/var/b/containerd", "/run/r/containerd")
    assert document["grpc"]["address"] == "/run/r/containerd.sock"
    assert cri["restrict_oom_score_adj"] is True
    assert cri["sandbox_image"] == node_config.PAUSE_IMAGE
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is False


def test_the_addresses_fit_together() -> None:
    pods, services = ipaddress.ip_network(places.POD_RANGE), ipaddress.ip_network(places.SERVICE_RANGE)
    assert not pods.overlaps(services)
    assert ipaddress.ip_address(places.NODE_ADDRESS) in pods
    assert ipaddress.ip_address(places.API_SERVICE) == services[1]
    assert pods.num_addresses > 2 * node_config.kubelet_file(WHERE, OLD)["maxPods"]
    assert {"127.0.0.1", places.NODE_ADDRESS, places.API_SERVICE, "kubernetes.default.svc"} <= set(API_SERVER_NAMES)


def test_the_kubeconfig_needs_no_other_file() -> None:
    document = json.loads(control_plane_config.kubeconfig(b"PEM", {"token": "t"}))
    cluster = document["clusters"][0]["cluster"]
    assert base64.b64decode(cluster["certificate-authority-data"]) == b"PEM"
    assert cluster["server"] == "https://127.0.0.1:6443"
    assert document["current-context"] == document["contexts"][0]["name"]


def test_certificates_name_users_groups_and_addresses_as_kubernetes_reads_them() -> None:
    assert subject(Identity(file="f", user="system:node:n", group="system:nodes")) == "/O=system:nodes/CN=system:node:n"
    assert subject(Identity(file="f", user="u")) == "/CN=u"
    text = extension_file(("localhost", "127.0.0.1", "10.0.0.1.nip.example"))
    assert "subjectAltName=DNS:localhost,IP:127.0.0.1,DNS:10.0.0.1.nip.example" in text
    assert "serverAuth" in text
    assert "serverAuth" not in extension_file(())
    assert len({identity.file for identity in IDENTITIES}) == len(IDENTITIES)
