# SPDX-License-Identifier: Apache-2.0
"""The Helm chart, rendered by Helm's own engine."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # ships no type information
import pytest
import yaml
from helm_python import lint
from tools.generate_manifests import CHART, NAMESPACE, ROOT, SET_BY_CHART, camel_case, render, settings_schema

from kubesaga.errors import InvalidSettings
from kubesaga.settings import Settings

Object = dict[str, Any]

SETUPS = {
    "the default values": "{}",
    "two namespaces": "watchNamespaces: [support, billing]",
    "two replicas with a budget": "{replicas: 2, podDisruptionBudget: {enabled: true}}",
    "a budget in percent": "{replicas: 3, podDisruptionBudget: {enabled: true, maxUnavailable: 50%}}",
    "a network policy": """
        networkPolicy: {enabled: true, ingressFrom: [{podSelector: {}}], egress: [{ports: [{port: 443}]}]}""",
    "handlers from a ConfigMap": """
        settings: {handlers: [acme_activities]}
        pythonPath: [/handlers]
        extraVolumes: [{name: handlers, configMap: {name: acme-activities}}]
        extraVolumeMounts: [{name: handlers, mountPath: /handlers, readOnly: true}]
        extraEnv: [{name: ACME_TOKEN, valueFrom: {secretKeyRef: {name: acme, key: token}}}]
        extraEnvFrom: [{configMapRef: {name: acme}}]""",
    "a chosen place": """
        priorityClassName: system-cluster-critical
        nodeSelector: {kubernetes.io/os: linux}
        tolerations: [{key: dedicated, operator: Exists}]
        affinity: {nodeAffinity: {}}
        topologySpreadConstraints: [{topologyKey: zone, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}]
        imagePullSecrets: [{name: registry}]
        podAnnotations: {a: b}
        podLabels: {team: platform}
        commonLabels: {cost-centre: "4711"}""",
    "another way to the API server": "apiServer: {host: 10.0.0.1, port: 443}",
    "a service monitor": "serviceMonitor: {enabled: true, interval: 30s, labels: {release: prometheus}}",
    "a pod monitor": "podMonitor: {enabled: true, scrapeTimeout: 5s}",
    "nothing but the deployment": """
        crds: {install: false}
        rbac: {create: false, aggregatedRoles: false}
        serviceAccount: {create: false, name: given}""",
    "a user id chosen by the cluster": "podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}",
    "a gateway": "gateway: {enabled: true}",
    "a gateway with everything": """
        watchNamespaces: [support, billing]
        settings: {gatewayPort: 9443, logLevel: debug}
        networkPolicy: {enabled: true}
        serviceAccount: {create: false, name: given}
        gateway:
          enabled: true
          replicas: 3
          tlsSecretName: events-tls
          serviceAccountName: given-too
          service: {type: LoadBalancer, port: 443, annotations: {a: b}}
          ingressFrom: [{ipBlock: {cidr: 10.0.0.0/8}}]""",
    "an object of the user's own": """
        extraObjects: [{apiVersion: v1, kind: ConfigMap, metadata: {name: "{{ .Release.Name }}-x"}}]""",
    "an object of the user's own, as text": """
        extraObjects: ["{apiVersion: v1, kind: ConfigMap, metadata: {name: x-{{ .Release.Namespace }}}}"]""",
}
each_setup = pytest.mark.parametrize("values", [*map(yaml.safe_load, SETUPS.values())], ids=SETUPS.keys())


def all_objects(values: Object | None = None, **release: str) -> list[Object]:
    return [document for documents in render(values, **release).values() for document in documents]


def of_kind(kind: str, values: Object | None = None) -> list[Object]:
    return [document for document in all_objects(values) if document["kind"] == kind]


def pod_spec(values: Object | None = None) -> Object:
    [deployment] = of_kind("Deployment", values)
    spec: Object = deployment["spec"]["template"]["spec"]
    return spec


def container(values: Object | None = None) -> Object:
    [only] = pod_spec(values)["containers"]
    found: Object = only
    return found


def environment(values: Object | None = None) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container(values)["env"] if "value" in variable}


# --- the chart as a whole ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kube_version", ["v1.20.0", "v1.37.0"])
@each_setup
def test_lint_finds_nothing(values: Object, kube_version: str) -> None:
    report = lint(CHART, values, strict=True, namespace=NAMESPACE, kube_version=kube_version)
    serious = [message for message in report["messages"] if message["severity"] > 1]
    assert report["total_charts_linted"] == 1
    assert (serious, report["errors"]) == ([], [])


@pytest.mark.parametrize("version", ["1.25", "1.31", "1.37"])
@each_setup
def test_every_object_is_valid_kubernetes(values: Object, version: str) -> None:
    """Kubernetes has no schema of its own for the Prometheus operator's kinds."""
    own = [found for found in all_objects(values) if not found["apiVersion"].startswith("monitoring.coreos.com")]
    assert own
    for found in own:
        kubernetes_validate.validate(found, version, strict=True)


def test_the_validation_above_notices_a_misspelt_field() -> None:
    [deployment] = of_kind("Deployment")
    deployment["spec"]["replicaz"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="replicaz"):
        kubernetes_validate.validate(deployment, "1.37", strict=True)


@each_setup
def test_no_object_and_no_list_holds_a_key_twice(values: Object) -> None:
    """Server-side apply refuses such objects, and Helm 4 applies that way."""
    metadata = [(found["kind"], found["metadata"]) for found in all_objects(values)]
    named = [(kind, each.get("namespace"), each["name"]) for kind, each in metadata]
    assert len(named) == len(set(named))
    lists = {"env": "name", "ports": "containerPort", "volumeMounts": "mountPath"}
    for deployment in of_kind("Deployment", values):
        pod = deployment["spec"]["template"]["spec"]
        [only] = pod["containers"]
        for keys in [
            [volume["name"] for volume in pod["volumes"]],
            *([item[key] for item in only.get(field, ())] for field, key in lists.items()),
        ]:
            assert len(keys) == len(set(keys))


@each_setup
def test_every_object_bears_the_release_and_stands_in_a_known_namespace(values: Object) -> None:
    allowed = {NAMESPACE, *values.get("watchNamespaces", [])}
    for found in all_objects(values, name="blue", namespace=NAMESPACE):
        if found["kind"] in ("ConfigMap", "CustomResourceDefinition"):
            continue  # the user's own, and those of the whole cluster
        assert found["metadata"]["labels"]["app.kubernetes.io/instance"] == "blue"
        assert found["metadata"].get("namespace", NAMESPACE) in allowed
        assert ("namespace" in found["metadata"]) != found["kind"].startswith("Cluster")


def test_the_chart_has_the_version_of_the_package() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'\nversion = "{chart["version"]}"\n' in project
    assert chart["appVersion"] == chart["version"]


# --- the operator's settings ---------------------------------------------------------------------------------------


def test_the_chart_knows_every_setting_of_the_operator_with_its_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"]["settings"]["properties"] == settings_schema()
    defaults = Settings()
    for name in set(Settings.__dataclass_fields__) - SET_BY_CHART:
        default = getattr(defaults, name)
        shown = settings_schema()[camel_case(name)]["default"]
        assert (tuple(shown) if isinstance(default, tuple) else shown) == default


OTHER_SETTINGS: Object = {
    "catalogueNamespace": "catalogue", "leaseName": "blue", "leaseDuration": 7.5, "handlers": ["acme", "acme.more"], "handlerThreads": 4,
    "egressAllow": ["*.example.com", "10.0.0.0/8:443"], "httpTimeout": 5,
    "maxOutputBytes": 1000000, "maxRunBytes": 1500000,
    "podStartTimeout": 60, "stopTimeout": 10, "maxInterruptions": 1, "defaultImagePullPolicy": "Always", "workers": 8,
    "maxWorkflows": 1000, "maxActivities": 100, "queueStrategy": "Fair", "queueTimeout": 30,
    "defaultPodRequests": ["cpu=100m", "memory=64Mi"], "defaultPodLimits": ["memory=1Gi"],
    "celProcesses": 1, "celDeadline": 0.05, "resyncInterval": 3600, "retentionInterval": 3600, "httpPort": 9090,
    "httpHost": "::", "logLevel": "debug", "logFormat": "text",
    "gatewayPort": 9443, "gatewayHost": "::", "gatewayMaxBodyBytes": 65536, "gatewayMaxBufferedBytes": 1000000,
    "gatewayTimeout": 2.5, "gatewayMaxConnections": 10, "gatewayMaxInFlight": 5,
    "gatewayDrainDelay": 0,
}  # fmt: skip


def test_every_setting_reaches_the_operator_as_it_was_written() -> None:
    assert set(OTHER_SETTINGS) == set(settings_schema())
    read = Settings.from_env(environment({"settings": OTHER_SETTINGS, "watchNamespaces": ["support", "billing"]}))
    assert read.namespaces == ("support", "billing")
    for name in set(Settings.__dataclass_fields__) - SET_BY_CHART:
        written = OTHER_SETTINGS[camel_case(name)]
        assert getattr(read, name) == (tuple(written) if isinstance(written, list) else written), name


def test_without_settings_the_operator_has_its_defaults() -> None:
    assert Settings.from_env(environment()) == Settings()


def test_the_pod_tells_the_operator_who_and_where_it_is() -> None:
    sources = {variable["name"]: variable.get("valueFrom") for variable in container()["env"]}
    fields = {name: source["fieldRef"]["fieldPath"] for name, source in sources.items() if source}
    assert fields == {"KUBESAGA_IDENTITY": "metadata.name", "KUBESAGA_LEASE_NAMESPACE": "metadata.namespace"}


@pytest.mark.parametrize(("setting", "value", "refused"), [
    pytest.param(name, value, refused, id=f"{name} {value!r}")
    for name, part in settings_schema().items() if "enum" in part
    for value, refused in [*((choice, False) for choice in part["enum"]), ("nonsense", True)]
])  # fmt: skip
def test_the_choices_of_the_chart_are_those_of_the_operator(setting: str, value: str, refused: bool) -> None:
    variable = f"KUBESAGA_{next(name for name in Settings.__dataclass_fields__ if camel_case(name) == setting).upper()}"
    with pytest.raises(InvalidSettings) if refused else nullcontext():
        Settings.from_env({variable: value})


@pytest.mark.parametrize(("values", "port", "lease"), [
    pytest.param({}, 8080, "kubesaga-controller", id="by default those of the operator"),
    pytest.param({"settings": {"httpPort": 9090, "leaseName": "blue"}}, 9090, "blue", id="or those of the settings"),
])  # fmt: skip
def test_port_and_lease_are_the_same_everywhere(values: Object, port: int, lease: str) -> None:
    read = Settings.from_env(environment(values))
    assert (read.http_port, read.lease_name) == (port, lease)
    assert [found["containerPort"] for found in container(values)["ports"]] == [port]
    [service] = of_kind("Service", values)
    assert [(found["port"], found["targetPort"]) for found in service["spec"]["ports"]] == [(port, "http")]
    names = [rule.get("resourceNames") for role in of_kind("Role", values) for rule in role["rules"]]
    assert names == [None, [lease]]


# --- the gateway ---------------------------------------------------------------------------------------------------


def gateway_of(**values: Any) -> tuple[Object, Object, Settings]:
    """Return the gateway's pod, its Service, and the settings that it reads."""
    every = {"settings": OTHER_SETTINGS, **values, "gateway": {"enabled": True, **values.get("gateway", {})}}
    [found] = [each for each in of_kind("Deployment", every) if each["metadata"]["name"] == "kubesaga-gateway"]
    [service] = [each for each in of_kind("Service", every) if each["metadata"]["name"] == "kubesaga-gateway"]
    pod = found["spec"]["template"]["spec"]
    variables = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    return pod, service, Settings.from_env(variables)


def test_by_default_there_is_no_gateway() -> None:
    assert [found["metadata"]["name"] for found in all_objects() if "gateway" in found["metadata"]["name"]] == []


def test_the_gateway_listens_where_its_service_sends() -> None:
    pod, service, settings = gateway_of(gateway={"service": {"port": 443}})
    ports = {each["name"]: each["containerPort"] for each in pod["containers"][0]["ports"]}
    assert ports == {"events": 9443, "http": 9090}
    assert (settings.gateway_port, settings.http_port) == (9443, 9090)
    assert [(each["port"], each["targetPort"]) for each in service["spec"]["ports"]] == [(443, "events")]


def test_neither_service_selects_the_others_pods() -> None:
    every = {"gateway": {"enabled": True}}
    services = {each["metadata"]["name"]: each["spec"]["selector"] for each in of_kind("Service", every)}
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in of_kind("Deployment", every)
    }
    for name, selector in services.items():
        assert [pod for pod, labels in pods.items() if selector.items() <= labels.items()] == [name]


def test_the_gateway_reads_its_certificate_from_the_secret_that_is_named() -> None:
    pod, _, settings = gateway_of(gateway={"tlsSecretName": "events-tls"})
    [mount] = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "tls"]
    assert {"name": "tls", "secret": {"secretName": "events-tls"}} in pod["volumes"]
    assert settings.gateway_tls_cert == f"{mount['mountPath']}/tls.crt"
    assert settings.gateway_tls_key == f"{mount['mountPath']}/tls.key"


def test_the_gateway_serves_the_operators_namespaces_and_has_time_to_drain() -> None:
    pod, _, settings = gateway_of(watchNamespaces=["support"])
    assert settings.namespaces == ("support",)
    assert pod["terminationGracePeriodSeconds"] > Settings().gateway_drain_delay + 20


def test_the_gateways_pods_are_as_confined_as_the_operators() -> None:
    pod, _, _ = gateway_of()
    own = pod_spec()
    assert pod["securityContext"] == own["securityContext"]
    assert pod["containers"][0]["securityContext"] == own["containers"][0]["securityContext"]
    assert (pod["enableServiceLinks"], pod["containers"][0]["args"]) == (False, ["gateway"])
