# SPDX-License-Identifier: Apache-2.0
"""Which kind of cluster a machine gets."""

import pytest
from tools.cluster.choice import Facts, Kind, choose
from tools.cluster.errors import NoClusterPossible

CONTROL_PLANE = frozenset({"etcd", "kube-apiserver"})
EVERYTHING = CONTROL_PLANE | {"kube-controller-manager", "kube-scheduler", "kubelet"}


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        pytest.param(
            Facts(docker=True, kind=True, root=True, debian=True), Kind.KIND, id="kind on Docker comes before a node"
        ),
        pytest.param(Facts(kind=True, root=True, debian=True), Kind.NODE, id="kind without a Docker engine is no kind"),
        pytest.param(Facts(docker=True, root=True, debian=True), Kind.NODE, id="root on Debian gets a node"),
        pytest.param(
            Facts(root=True, debian=True, assets=EVERYTHING), Kind.NODE, id="a node takes a complete KUBEBUILDER_ASSETS"
        ),
        pytest.param(
            Facts(root=True, debian=True, assets=CONTROL_PLANE),
            Kind.APISERVER,
            id="assets without a kubelet make an API server even for root",
        ),
        pytest.param(
            Facts(debian=True, assets=CONTROL_PLANE), Kind.APISERVER, id="without root, the assets' API server"
        ),
        pytest.param(
            Facts(root=True, assets=CONTROL_PLANE), Kind.APISERVER, id="without Debian, the assets' API server"
        ),
        pytest.param(
            Facts(linux=False, root=True, debian=True, assets=CONTROL_PLANE),
            Kind.APISERVER,
            id="without Linux, the assets' API server",
        ),
        pytest.param(
            Facts(docker=True, kind=True, kubeconfig="/k"),
            Kind.KIND,
            id="KUBECONFIG alone never chooses somebody's cluster",
        ),
        pytest.param(
            Facts(wanted="current", kubeconfig="/k", docker=True, kind=True), Kind.CURRENT, id="current when asked"
        ),
        pytest.param(
            Facts(wanted="node", docker=True, kind=True, root=True, debian=True), Kind.NODE, id="node when asked"
        ),
        pytest.param(
            Facts(wanted="apiserver", root=True, debian=True), Kind.APISERVER, id="API server when asked, built here"
        ),
    ],
)
def test_the_first_possible_kind_is_chosen(facts: Facts, kind: Kind) -> None:
    assert choose(facts) is kind


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        pytest.param(
            Facts(), ["`kind` is not on PATH", "needs root", "KUBEBUILDER_ASSETS is not set"], id="nothing at all"
        ),
        pytest.param(
            Facts(kind=True, root=True),
            ["no Docker engine answers", "apt-get"],
            id="kind without Docker, root elsewhere",
        ),
        pytest.param(
            Facts(assets=frozenset({"etcd"})),
            ["KUBEBUILDER_ASSETS has no kube-apiserver"],
            id="assets without the server",
        ),
        pytest.param(Facts(wanted="current"), ["KUBECONFIG is not set"], id="current without KUBECONFIG"),
        pytest.param(
            Facts(wanted="kind", root=True, debian=True),
            ["KUBESAGA_CLUSTER=kind", "PATH"],
            id="kind asked for, not there",
        ),
        pytest.param(
            Facts(wanted="node", root=True, debian=True, assets=CONTROL_PLANE),
            ["kube-controller-manager, kube-scheduler, kubelet"],
            id="a node asked for with assets that lack programs",
        ),
        pytest.param(
            Facts(wanted="minikube", root=True, debian=True), ["current, kind, node, apiserver"], id="an unknown kind"
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(facts: Facts, said: list[str]) -> None:
    with pytest.raises(NoClusterPossible) as caught:
        choose(facts)
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in said if part not in message] == []
    assert caught.value.exit_status == 3
