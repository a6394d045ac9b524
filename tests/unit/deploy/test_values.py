# SPDX-License-Identifier: Apache-2.0
"""The chart's values: what is wrong is refused by name, what is right does something, and all of it is documented."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from helm_python import HelmRenderError, HelmValuesError
from tools.generate_manifests import CHART, render

Object = dict[str, Any]
DEFAULTS: Object = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: Object = json.loads((CHART / "values.schema.json").read_text())


@pytest.mark.parametrize(("values", "named"), [
    pytest.param("replica: 2", "'replica'", id="a misspelt value"),
    pytest.param("image: {repo: x}", "'/image': additional properties 'repo'", id="a misspelt value of a group"),
    pytest.param("replicas: two", "/replicas", id="text for a number"),
    pytest.param("replicas: -1", "/replicas", id="fewer than no replicas"),
    pytest.param("image: {repository: 'kubesaga:1'}", "/image/repository", id="a tag in the repository"),
    pytest.param("image: {digest: abc}", "/image/digest", id="a digest without algorithm"),
    pytest.param("image: {pullPolicy: Sometimes}", "/image/pullPolicy", id="an unknown pull policy"),
    pytest.param("watchNamespaces: support", "/watchNamespaces", id="one namespace that is not in a list"),
    pytest.param("watchNamespaces: [Support]", "/watchNamespaces/0", id="a namespace with a capital letter"),
    pytest.param("watchNamespaces: [a, a]", "/watchNamespaces", id="the same namespace twice"),
    pytest.param("watchableKinds: [v1/ConfigMap]", "/watchableKinds/0", id="a kind in one text"),
    pytest.param("watchableKinds: [{apiVersion: v1, kind: ConfigMap}]", "/watchableKinds/0", id="a kind without its plural"),
    pytest.param("watchableKinds: [{apiVersion: v1, kind: X, resource: '*'}]", "/watchableKinds/0/resource", id="all resources of a group"),
    pytest.param("settings: {watchableKinds: [v1/X]}", "'watchableKinds'", id="kinds without the right to watch them"),
    pytest.param("settings: {httpTimeOut: 3}", "'httpTimeOut'", id="an unknown setting"),
    pytest.param("settings: {namespaces: [a]}", "'namespaces'", id="a setting that the chart derives"),
    pytest.param("settings: {httpTimeout: 30s}", "/settings/httpTimeout", id="text for seconds"),
    pytest.param("settings: {leaseDuration: 0}", "/settings/leaseDuration", id="no time at all"),
    pytest.param("settings: {handlerThreads: 1.5}", "/settings/handlerThreads", id="half a thread"),
    pytest.param("settings: {logLevel: verbose}", "/settings/logLevel", id="an unknown log level"),
    pytest.param("settings: {handlers: 'a,b'}", "/settings/handlers", id="modules in one text"),
    pytest.param("settings: {handlers: ['a,b']}", "/settings/handlers/0", id="two modules in one item"),
    pytest.param("settings: {httpPort: 80}", "/settings/httpPort", id="a port that only root may open"),
    pytest.param("crds: {keep: 1}", "/crds/keep", id="a number for a switch"),
    pytest.param("apiServer: {host: a, port: 70000}", "/apiServer/port", id="a port out of range"),
    pytest.param("pythonPath: [handlers]", "/pythonPath/0", id="a relative folder"),
    pytest.param("extraVolumes: [{emptyDir: {}}]", "/extraVolumes/0", id="a volume without name"),
    pytest.param("serviceMonitor: {interval: '30'}", "/serviceMonitor/interval", id="an interval without unit"),
    pytest.param("podDisruptionBudget: {maxUnavailable: half}", "/podDisruptionBudget/max", id="half a budget"),
    pytest.param("podLabels: {team: 7}", "/podLabels/team", id="a label that is a number"),
])  # fmt: skip
def test_a_bad_value_is_refused_by_its_name(values: str, named: str) -> None:
    with pytest.raises(HelmValuesError) as refused:
        render(yaml.safe_load(values))
    assert named in str(refused.value)


@pytest.mark.parametrize(("values", "sentence"), [
    pytest.param(
        "extraEnv: [{name: KUBESAGA_HTTP_TIMEOUT, value: '3'}]",
        "KUBESAGA_HTTP_TIMEOUT belongs to the operator's settings; use the value settings.httpTimeout",
        id="a setting as a plain variable",
    ),
    pytest.param(
        "extraEnv: [{name: A, value: '1'}, {name: A, value: '2'}]",
        "extraEnv[1].name: A is set by extraEnv[0] already",
        id="a variable twice",
    ),
    pytest.param(
        "{apiServer: {host: h}, extraEnv: [{name: KUBERNETES_SERVICE_HOST, value: x}]}",
        "extraEnv[0].name: KUBERNETES_SERVICE_HOST is set by apiServer.host already",
        id="a variable that apiServer sets",
    ),
    pytest.param(
        "{pythonPath: [/a], extraEnv: [{name: PYTHONPATH, value: /b}]}",
        "extraEnv[0].name: PYTHONPATH is set by pythonPath already",
        id="a variable that pythonPath sets",
    ),
    pytest.param(
        "extraVolumes: [{name: tmp, emptyDir: {}}]",
        "extraVolumes[0].name: tmp is the name of a volume of the chart already",
        id="a volume with a taken name",
    ),
    pytest.param(
        "extraVolumeMounts: [{name: data, mountPath: /data}]",
        "extraVolumeMounts[0].name: there is no volume data",
        id="a mount without volume",
    ),
    pytest.param(
        "{extraVolumes: [{name: a}], extraVolumeMounts: [{name: a, mountPath: /tmp}]}",
        "extraVolumeMounts[0].mountPath: /tmp is mounted by the chart already",
        id="a mount at a taken path",
    ),
    pytest.param(
        "podDisruptionBudget: {enabled: true}",
        "podDisruptionBudget.enabled: needs replicas above 1",
        id="a budget for one replica",
    ),
    pytest.param(
        "{serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}",
        "podMonitor.enabled: not together with serviceMonitor.enabled",
        id="two monitors",
    ),
    pytest.param(
        "serviceAccount: {create: false}",
        "serviceAccount.name: must name an existing ServiceAccount",
        id="no ServiceAccount at all",
    ),
])  # fmt: skip
def test_values_that_contradict_each_other_are_refused_in_a_sentence(values: str, sentence: str) -> None:
    with pytest.raises(HelmRenderError) as refused:
        render(yaml.safe_load(values))
    assert sentence in str(refused.value)


# --- every value does something ------------------------------------------------------------------------------------


def leaves(values: Object, prefix: str = "") -> Iterator[str]:
    """Yield the paths of the values; what Kubernetes defines, such as a security context, is one value."""
    for key, value in values.items():
        if isinstance(value, dict) and value and not key.lower().endswith("securitycontext"):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def changed(values: Object, path: str, value: Any) -> Object:
    """Return values with one of them replaced."""
    result = copy.deepcopy(values)
    *parents, last = path.split(".")
    place = result
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value
    return result


ANOTHER: Mapping[type, Any] = {
    bool: True,
    int: 9,
    str: "5s",
    list: [{"name": "a", "mountPath": "/a"}],
    dict: {"a": "b"},
}
"""A value of each type that differs from the default; what needs another one stands in CHANGES."""

CHANGES: Mapping[str, Any] = {
    **dict.fromkeys(
        ["crds.install", "crds.keep", "rbac.create", "rbac.aggregatedRoles", "serviceAccount.create"], False
    ),
    "watchNamespaces": ["a"],
    "watchableKinds": [{"apiVersion": "v1", "kind": "A", "resource": "as"}],
    "settings": {"workers": 1},
    "pythonPath": ["/a"],
    "image.digest": "sha256:" + 64 * "0",
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "a"}],
    "nameOverride": "a",
    "fullnameOverride": "a",
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap"}],
    "gateway.service.type": "NodePort",
    "gateway.serviceAccountName": "other",
    "topologySpreadConstraints": [{"topologyKey": "a", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
}
NEEDED: Mapping[str, str] = {
    "apiServer.port": "apiServer: {host: h}",
    "extraVolumeMounts": "extraVolumes: [{name: a}]",
    "serviceAccount.create": "serviceAccount: {name: other}",
    "podDisruptionBudget.enabled": "replicas: 2",
    "gateway.ingressFrom": "{networkPolicy: {enabled: true}, gateway: {enabled: true}}",
    "podDisruptionBudget.maxUnavailable": "{replicas: 2, podDisruptionBudget: {enabled: true}}",
}
"""What else has to be said for a value to count; members of what can be enabled need it enabled."""


@pytest.mark.parametrize("path", list(leaves(DEFAULTS)))
def test_every_value_does_something(path: str) -> None:
    group, _, member = path.partition(".")
    switch = f"{group}.enabled" in leaves(DEFAULTS) and member != "enabled"
    before: Object = yaml.safe_load(NEEDED.get(path, f"{group}: {{enabled: true}}" if switch else "{}"))
    default: Any = DEFAULTS
    for name in path.split("."):
        default = default[name]
    after = changed(before, path, CHANGES.get(path, ANOTHER[type(default)]))
    assert render(after) != render(before)


# --- documentation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["README.md", "../../docs/install.md"])
def test_every_example_of_values_in_the_documentation_renders(path: str) -> None:
    blocks = [block.split("```")[0] for block in (CHART / path).read_text().split("```yaml\n")[1:]]
    documents = [document for block in blocks for document in yaml.safe_load_all(block)]
    examples = [document for document in documents if "apiVersion" not in document]
    assert examples
    for example in examples:
        assert render(example)["deployment.yaml"]


def test_the_values_in_the_documented_gitops_objects_render() -> None:
    blocks = [block.split("```")[0] for block in (CHART / "../../docs/install.md").read_text().split("```yaml\n")[1:]]
    documents = {found["kind"]: found for block in blocks for found in yaml.safe_load_all(block) if "kind" in found}
    for values in (
        documents["Application"]["spec"]["source"]["helm"]["valuesObject"],
        documents["HelmRelease"]["spec"]["values"],
    ):
        [deployment] = render(values)["deployment.yaml"]
        assert deployment["spec"]["template"]["spec"]["containers"][0]["image"].startswith(
            values["image"]["repository"]
        )


def test_the_schema_knows_exactly_the_values_that_there_are() -> None:
    assert set(SCHEMA["properties"]) - {"global", "enabled"} == set(DEFAULTS)
    for name, part in SCHEMA["properties"].items():
        assert part["description"], name
        if name != "settings" and part.get("additionalProperties") is False:
            assert set(part["properties"]) == set(DEFAULTS[name]), name
            assert all(member["description"] for member in part["properties"].values()), name


@pytest.mark.parametrize("values", ["global: {x: 1}", "enabled: true"])
def test_what_helm_gives_to_a_part_of_another_chart_is_accepted(values: str) -> None:
    assert render(yaml.safe_load(values)) == render()
