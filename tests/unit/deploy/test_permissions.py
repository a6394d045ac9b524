# SPDX-License-Identifier: Apache-2.0
"""What the chart gives the operator and its users: permissions, exact to the verb, and the confinement of the pods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import yaml
from tools.generate_manifests import CHART, NAMESPACE, crd_files, render, without_helm

from kubesaga.settings import Settings

Object = dict[str, Any]
APP_VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
Grants = dict[str, set[str]]

OPERATOR: Grants = {
    "kubesaga.dev/workflows": {"get", "list", "watch", "patch"},
    "kubesaga.dev/workflowruns": {"get", "list", "watch", "create", "patch", "delete"},
    "kubesaga.dev/workfloweventsources": {"get", "list", "watch"},
    "kubesaga.dev/workfloweventsources/status": {"get", "patch"},
    "kubesaga.dev/workflowactions": {"get", "list", "watch", "patch", "delete"},
    "kubesaga.dev/activities": {"get", "list", "watch"},
    "kubesaga.dev/activities/status": {"get", "patch"},
    "kubesaga.dev/workflows/status": {"get", "patch"},
    "kubesaga.dev/workflowruns/status": {"get", "patch"},
    "kubesaga.dev/workflowactions/status": {"get", "patch"},
    "kubesaga.dev/workflowruns/finalizers": {"update"},
    "/pods": {"get", "list", "watch", "create", "patch", "delete"},
    "/services": {"get"},
    "/endpoints": {"get"},
    "/events": {"get", "create", "patch"},
    "/namespaces": {"get"},
    "apps/controllerrevisions": {"get", "list", "create", "delete"},
}
LEASE: Grants = {
    "coordination.k8s.io/leases": {"create"},
    "coordination.k8s.io/leases kubesaga-controller": {"get", "update", "patch"},
}
GATEWAY: Grants = {
    "kubesaga.dev/workflows": {"get", "list", "watch"},
    "kubesaga.dev/workfloweventsources": {"get", "list", "watch"},
    "kubesaga.dev/workflowruns": {"get", "create"},
}
ACTIONS = "kubesaga.dev/workflowactions"
OF_PEOPLE = (
    "kubesaga.dev/workflows", "kubesaga.dev/workflowruns", "kubesaga.dev/activities", "kubesaga.dev/workfloweventsources",
)  # fmt: skip
VIEW: Grants = {
    **{kind: {"get", "list", "watch"} for kind in (*OF_PEOPLE, ACTIONS)},
    **{f"{kind}/status": {"get"} for kind in (*OF_PEOPLE, ACTIONS)},
}
EDIT: Grants = {
    **VIEW,
    **{kind: VIEW[kind] | {"create", "update", "patch", "delete"} for kind in OF_PEOPLE},
    ACTIONS: VIEW[ACTIONS] | {"create"},
}
ADMIN: Grants = {
    **EDIT,
    **{kind: EDIT[kind] | {"deletecollection"} for kind in OF_PEOPLE},
    ACTIONS: EDIT[ACTIONS] | {"delete", "deletecollection"},
}

FOR_PEOPLE: Mapping[str, Grants] = {
    "ClusterRole kubesaga-view": VIEW,
    "ClusterRole kubesaga-edit": EDIT,
    "ClusterRole kubesaga-admin": ADMIN,
}
ELECTION = f"{NAMESPACE}/kubesaga-leader-election"
CLUSTER_MODE: Mapping[str, Grants] = {
    **FOR_PEOPLE,
    "ClusterRole kubesaga": OPERATOR,
    f"Role {ELECTION}": LEASE,
}
NAMESPACED_MODE: Mapping[str, Grants] = {
    **FOR_PEOPLE,
    "Role support/kubesaga": OPERATOR,
    "Role billing/kubesaga": OPERATOR,
    f"Role {ELECTION}": LEASE,
}
CATALOGUE_ELSEWHERE: Mapping[str, Grants] = {
    **NAMESPACED_MODE,
    "Role catalogue/kubesaga-catalogue": {"kubesaga.dev/activities": {"get", "list", "watch"}},
}
NAMESPACED: Object = {"watchNamespaces": ["support", "billing"]}
FORBIDDEN_VERBS = {"*", "escalate", "bind", "impersonate"}
FORBIDDEN_RESOURCES = {
    "*", "secrets", "configmaps", "pods/exec", "pods/attach", "pods/portforward",
    "serviceaccounts", "serviceaccounts/token",
}  # fmt: skip


def objects(values: Object | None = None) -> list[Object]:
    return [document for documents in render(values).values() for document in documents]


def of_kind(kind: str, values: Object | None = None) -> list[Object]:
    return [found for found in objects(values) if found["kind"] == kind]


def deployment(values: Object | None = None) -> Object:
    [only] = of_kind("Deployment", values)
    return only


def pod_spec(values: Object | None = None) -> Object:
    spec: Object = deployment(values)["spec"]["template"]["spec"]
    return spec


def title(found: Object) -> str:
    metadata = found["metadata"]
    return f"{found['kind']} " + "/".join(part for part in (metadata.get("namespace"), metadata["name"]) if part)


def grants(rules: Iterable[Object]) -> Grants:
    """Return the verbs by `group/resource`, with the names of the objects where a rule is tied to some."""
    found: Grants = {}
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                key = " ".join([f"{group}/{resource}", *rule.get("resourceNames", [])])
                found.setdefault(key, set()).update(rule["verbs"])
    return found


WATCHABLE: Object = {
    "watchableKinds": [
        {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps"},
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "resource": "ingresses"},
    ]
}
WATCHER: Grants = {
    **OPERATOR, "/configmaps": {"get", "list", "watch"}, "networking.k8s.io/ingresses": {"get", "list", "watch"},
}  # fmt: skip


@pytest.mark.parametrize(("values", "expected"), [
    pytest.param({}, CLUSTER_MODE, id="in the whole cluster"),
    pytest.param(WATCHABLE, {**CLUSTER_MODE, "ClusterRole kubesaga": WATCHER}, id="with objects that may be watched"),
    pytest.param({**NAMESPACED, **WATCHABLE}, {
        **NAMESPACED_MODE, "Role support/kubesaga": WATCHER, "Role billing/kubesaga": WATCHER,
    }, id="with objects that may be watched in two namespaces"),
    pytest.param(NAMESPACED, NAMESPACED_MODE, id="in two namespaces"),
    pytest.param(
        {**NAMESPACED, "settings": {"catalogueNamespace": "catalogue"}}, CATALOGUE_ELSEWHERE,
        id="in two namespaces, with a catalogue in a third",
    ),
    pytest.param(
        {**NAMESPACED, "settings": {"catalogueNamespace": "support"}}, NAMESPACED_MODE,
        id="in two namespaces, with the catalogue in one of them",
    ),
    pytest.param({"rbac": {"create": False}}, FOR_PEOPLE, id="with roles of somebody else"),
    pytest.param({"rbac": {"create": False, "aggregatedRoles": False}}, {}, id="without any roles"),
    pytest.param({"gateway": {"enabled": True}}, {**CLUSTER_MODE, "ClusterRole kubesaga-gateway": GATEWAY}, id="with a gateway"),
    pytest.param({**NAMESPACED, "gateway": {"enabled": True}}, {
        **NAMESPACED_MODE, "Role support/kubesaga-gateway": GATEWAY, "Role billing/kubesaga-gateway": GATEWAY,
    }, id="with a gateway for two namespaces"),
    pytest.param({"rbac": {"create": False}, "gateway": {"enabled": True}}, FOR_PEOPLE, id="with a gateway and roles of somebody else"),
])  # fmt: skip
def test_the_permissions_are_exactly_these(values: Object, expected: Mapping[str, Grants]) -> None:
    roles = {
        title(found): grants(found["rules"]) for found in objects(values) if found["kind"] in ("Role", "ClusterRole")
    }
    assert roles == expected


@pytest.mark.parametrize(
    "values",
    [{}, NAMESPACED, {"gateway": {"enabled": True}}],
    ids=["in the whole cluster", "in two namespaces", "with a gateway"],
)
def test_no_role_holds_what_would_make_it_a_way_to_more(values: Object) -> None:
    for found in objects(values):
        for rule in found.get("rules", []):
            assert not FORBIDDEN_VERBS & set(rule["verbs"])
            assert not FORBIDDEN_RESOURCES & set(rule["resources"])
            assert "*" not in rule["apiGroups"]
            assert "nonResourceURLs" not in rule


@pytest.mark.parametrize(("values", "expected"), [
    pytest.param({}, {"ClusterRoleBinding kubesaga"}, id="in the whole cluster"),
    pytest.param(NAMESPACED, {"RoleBinding support/kubesaga", "RoleBinding billing/kubesaga"}, id="in two namespaces"),
])  # fmt: skip
def test_only_the_operators_service_account_gets_the_operators_roles(values: Object, expected: set[str]) -> None:
    every = objects(values)
    bindings = {title(found): found for found in every if found["kind"].endswith("Binding")}
    assert set(bindings) == expected | {f"RoleBinding {ELECTION}"}
    [account] = [found for found in every if found["kind"] == "ServiceAccount"]
    subject = {"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": NAMESPACE}
    for name, binding in bindings.items():
        assert binding["subjects"] == [subject]
        role = f"{binding['roleRef']['kind']} {name.split(' ')[1]}"
        assert role in {title(found) for found in every}
        assert binding["roleRef"]["name"] == binding["metadata"]["name"]


@pytest.mark.parametrize("values", [{}, NAMESPACED], ids=["in the whole cluster", "in two namespaces"])
def test_the_gateways_service_account_gets_the_gateways_role_alone(values: Object) -> None:
    bindings = [
        found for found in objects({**values, "gateway": {"enabled": True}})
        if found["kind"].endswith("Binding") and found["subjects"][0]["name"] == "kubesaga-gateway"
    ]  # fmt: skip
    assert len(bindings) == max(1, len(values.get("watchNamespaces", [])))
    assert {binding["roleRef"]["name"] for binding in bindings} == {"kubesaga-gateway"}


def test_in_namespaced_mode_nothing_of_the_operator_reaches_beyond_its_namespaces() -> None:
    assert of_kind("ClusterRoleBinding", NAMESPACED) == []
    variables = pod_spec(NAMESPACED)["containers"][0]["env"]
    told = {variable["name"]: variable["value"] for variable in variables if "value" in variable}
    assert Settings.from_env(told).namespaces == ("support", "billing")


def test_the_operator_is_told_which_kinds_it_may_watch() -> None:
    variables = pod_spec(WATCHABLE)["containers"][0]["env"]
    told = {variable["name"]: variable["value"] for variable in variables if "value" in variable}
    assert Settings.from_env(told).watchable_kinds == ("v1/ConfigMap", "networking.k8s.io/v1/Ingress")


def test_nobody_may_change_a_workflowaction_but_the_operator_who_marks_it() -> None:
    for name, roles in CLUSTER_MODE.items():
        changing = {"update", "patch"} & roles.get(ACTIONS, set())
        assert changing == ({"patch"} if name == "ClusterRole kubesaga" else set()), name


@pytest.mark.parametrize("level", ["view", "edit", "admin"])
def test_a_role_for_people_joins_the_clusters_role_of_its_name(level: str) -> None:
    [role] = [found for found in objects() if title(found) == f"ClusterRole kubesaga-{level}"]
    joins = {key for key in role["metadata"]["labels"] if key.startswith("rbac.authorization.k8s.io/")}
    assert joins == {f"rbac.authorization.k8s.io/aggregate-to-{level}"}


# --- the pods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [{}, NAMESPACED, {"replicas": 2}], ids=["by default", "in two namespaces", "with two replicas"]
)
def test_the_operators_pods_meet_the_restricted_standard(values: Object) -> None:
    pod = pod_spec(values)
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "initContainers"} & set(pod)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [only] = pod["containers"]
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not any("hostPort" in port for port in only["ports"])
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {}}]
    assert only["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


def test_only_the_operators_pods_get_the_token_and_no_service_variables() -> None:
    [account] = of_kind("ServiceAccount")
    pod = pod_spec()
    assert account["automountServiceAccountToken"] is False
    assert pod["automountServiceAccountToken"] is True
    assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize(("replicas", "strategy"), [
    pytest.param(0, "Recreate", id="none"),
    pytest.param(1, "Recreate", id="one leaves before the next comes"),
    pytest.param(2, "RollingUpdate", id="two take over from each other"),
])  # fmt: skip
def test_the_way_of_updating_follows_the_number_of_replicas(replicas: int, strategy: str) -> None:
    spec = deployment({"replicas": replicas})["spec"]
    assert (spec["replicas"], spec["strategy"]) == (replicas, {"type": strategy})


@pytest.mark.parametrize(("probe", "path"), [
    ("startupProbe", "/healthz"),
    ("livenessProbe", "/healthz"),
    ("readinessProbe", "/readyz"),
])  # fmt: skip
def test_each_probe_asks_at_its_path(probe: str, path: str) -> None:
    asked = pod_spec({probe: {"periodSeconds": 7}})["containers"][0][probe]
    assert asked["httpGet"] == {"path": path, "port": "http"}
    assert asked["periodSeconds"] == 7
    assert asked["timeoutSeconds"] >= 1


DIGEST = "sha256:" + 64 * "a"


@pytest.mark.parametrize(("image", "expected"), [
    pytest.param({}, f"kubesaga:{APP_VERSION}", id="the chart's appVersion"),
    pytest.param({"tag": "edge"}, "kubesaga:edge", id="a tag"),
    pytest.param({"tag": "edge", "digest": DIGEST}, f"kubesaga@{DIGEST}", id="a digest wins over a tag"),
    pytest.param({"repository": "example.com:5000/x/y"}, f"example.com:5000/x/y:{APP_VERSION}", id="a port and a path"),
])  # fmt: skip
def test_the_image_is_named_by(image: Object, expected: str) -> None:
    assert pod_spec({"image": image})["containers"][0]["image"] == expected


def test_spread_constraints_mean_the_operators_own_pods_unless_they_say_otherwise() -> None:
    own = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
    other = {**own, "labelSelector": {"matchLabels": {"a": "b"}}}
    spread = pod_spec({"topologySpreadConstraints": [own, other]})["topologySpreadConstraints"]
    assert [found["labelSelector"] for found in spread] == [deployment()["spec"]["selector"], other["labelSelector"]]


SPREAD = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}


@pytest.mark.parametrize(("values", "keys"), [
    pytest.param({}, None, id="one has nobody to keep away from"),
    pytest.param({"replicas": 2}, ["kubernetes.io/hostname"], id="two go to different nodes, if they can"),
    pytest.param({"replicas": 2, "topologySpreadConstraints": [SPREAD]}, ["zone"], id="or as they are told"),
    pytest.param({"replicas": 2, "affinity": {"podAntiAffinity": {}}}, None, id="or as their affinity says"),
])  # fmt: skip
def test_replicas_spread(values: Object, keys: list[str] | None) -> None:
    spread = pod_spec(values).get("topologySpreadConstraints")
    assert (spread and [found["topologyKey"] for found in spread]) == keys
    for found in spread or ():
        assert found["labelSelector"] == deployment()["spec"]["selector"]
        assert found["whenUnsatisfiable"] == ("DoNotSchedule" if keys == ["zone"] else "ScheduleAnyway")


def test_a_budget_lets_one_of_the_operators_pods_be_evicted_at_a_time() -> None:
    [budget] = of_kind("PodDisruptionBudget", {"replicas": 2, "podDisruptionBudget": {"enabled": True}})
    assert budget["spec"] == {"maxUnavailable": 1, "selector": deployment()["spec"]["selector"]}


def test_replicas_are_told_apart_by_their_pods_names() -> None:
    """Of two processes of one identity each would take the Lease from the other."""
    [identity] = [each for each in pod_spec()["containers"][0]["env"] if each["name"] == "KUBESAGA_IDENTITY"]
    assert identity["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_labels_of_the_user_never_replace_those_that_select_the_pods() -> None:
    taken = {"app.kubernetes.io/name": "other", "team": "platform"}
    values = {"podLabels": taken, "commonLabels": taken}
    spec = deployment(values)["spec"]
    assert spec["template"]["metadata"]["labels"] == {**spec["selector"]["matchLabels"], "team": "platform"}
    for found in objects(values):
        if found["kind"] != "CustomResourceDefinition":
            assert found["metadata"]["labels"]["team"] == "platform"
            assert found["metadata"]["labels"]["app.kubernetes.io/name"] == "kubesaga"


# --- the custom resource definitions -------------------------------------------------------------------------------


def sources() -> list[Object]:
    return [yaml.safe_load(path.read_text()) for path in crd_files()]


def test_the_chart_installs_every_definition_unchanged_and_keeps_it() -> None:
    kinds = ("workflows", "workflowruns", "activities", "workflowactions", "workfloweventsources")
    assert {f"{kind}.kubesaga.dev" for kind in kinds} == {found["metadata"]["name"] for found in sources()}
    kept = [(found["metadata"].get("annotations") or {}, found) for found in of_kind("CustomResourceDefinition")]
    assert [annotations.pop("helm.sh/resource-policy") for annotations, _ in kept] == ["keep"] * len(sources())
    assert [without_helm(found) for _, found in kept] == sources()


@pytest.mark.parametrize(("values", "expected"), [
    pytest.param({"keep": False}, sources(), id="without keep they go with the release"),
    pytest.param({"install": False}, [], id="somebody else installs them"),
])  # fmt: skip
def test_the_definitions_of_the_release(values: Object, expected: list[Object]) -> None:
    assert of_kind("CustomResourceDefinition", {"crds": values}) == expected


def test_the_catalogue_entry_lists_the_definitions() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    listed = yaml.safe_load(chart["annotations"]["artifacthub.io/crds"])
    there = {
        (found["metadata"]["name"], found["spec"]["names"]["kind"], version["name"])
        for found in sources()
        for version in found["spec"]["versions"]
    }
    assert {(entry["name"], entry["kind"], entry["version"]) for entry in listed} == there
