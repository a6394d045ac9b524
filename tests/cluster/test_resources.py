# SPDX-License-Identifier: Apache-2.0
"""Objects of a real cluster start runs, each change one, over the deaths of the operator; with the rights that the chart gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import pytest
import yaml
from helm_python import Chart
from tests.cluster.cluster import OURS, ROOT, Cluster, Operator, document
from tests.cluster.waiting import wait_for

ALLOWED: Final = "v1/ConfigMap,v1/Secret,v1/ServiceAccount,acme.example/v1/Ticket"
WORKFLOW: Final = {
    "description": "Note what happens to settings.",
    "inputs": [{"name": "name", "type": "string", "required": True}],
    "triggers": [
        {"name": "each", "event": "kubernetes:configmap:*", "inputs": {"name": "${event.subject}"}},
        {"name": "tokens", "event": "kubernetes:secret:*", "inputs": {"name": "${event.subject}"}},
    ],
    "activities": [{"name": "note", "handler": "test:echo", "params": {"told": "${event.type}"}}],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A namespace with an operator that may watch ConfigMaps and Secrets in it."""

    cluster: Cluster
    operator: Operator

    def ready(self, source: str) -> dict[str, str]:
        """Return the condition Ready of a source."""
        found = self.cluster.find("workfloweventsources", source) or {}
        conditions = [each for each in (found.get("status") or {}).get("conditions", []) if each["type"] == "Ready"]
        return conditions[0] if conditions else {}

    def source(self, name: str, **kubernetes: Any) -> None:
        """Create a source of objects that bear the label source=NAME, and wait until they are watched."""
        objects = {"apiVersion": "v1", "kind": "ConfigMap", "selector": {"matchLabels": {"source": name}}}
        spec = {"type": "Kubernetes", "kubernetes": {**objects, **kubernetes}}
        self.cluster.apply(document("WorkflowEventSource", name, spec))
        wait_for(
            f"{name} to be watched",
            lambda: self.ready(name).get("status") == "True",
            otherwise=lambda: self.ready(name),
        )

    def told(self, source: str) -> list[str]:
        """Return what has started runs, as `name was added`, in order of names."""
        return sorted(f"{event['subject']} {event['type'].rpartition(':')[2]}" for event in self.events(source))

    def events(self, source: str) -> list[dict[str, Any]]:
        """Return the events of a source's runs."""
        runs = self.cluster.list("workflowruns", f"{OURS}event-source={source}")
        return [json.loads(run["spec"]["event"]) for run in runs]

    def wait_told(self, source: str, *told: str) -> None:
        """Wait until this has started runs; fails if anything else has."""
        wait_for(f"runs of {told}", lambda: len(self.told(source)) >= len(told), otherwise=lambda: self.told(source))
        assert self.told(source) == sorted(told)


def config(name: str, source: str, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"source": source}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def rules(namespace: str) -> list[dict[str, Any]]:
    """Return the operator's Role as the chart makes it where ConfigMaps and Secrets may be watched."""
    kinds = [("ConfigMap", "configmaps"), ("Secret", "secrets")]
    values = {
        "watchNamespaces": [namespace], "crds": {"install": False}, "rbac": {"aggregatedRoles": False},
        "watchableKinds": [{"apiVersion": "v1", "kind": kind, "resource": resource} for kind, resource in kinds],
    }  # fmt: skip
    rendered = Chart.load(str(ROOT / "charts" / "kubesaga")).render(values, name="kubesaga", namespace=namespace)
    [text] = [text for name, text in rendered.items() if name.endswith("rbac-operator.yaml")]
    return [each for each in yaml.safe_load_all(text) if each and each["kind"] == "Role"]


@pytest.fixture(scope="module")
def place(shared_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        cluster = stack.enter_context(shared_cluster.in_new_namespace())
        cluster.apply(document("Workflow", "notes", WORKFLOW), config("before", "maps", size="1"))
        operator = Operator(cluster, tmp_path_factory.mktemp("resources"), watchable_kinds=ALLOWED)
        stack.enter_context(operator)
        cluster.apply(*rules(cluster.namespace))
        operator.start("cluster_handlers")
        yield Place(cluster=cluster, operator=operator)


def test_what_is_added_changed_and_deleted_starts_runs_which_run_to_their_end(place: Place) -> None:
    place.source("maps", when='event != "Modified" || object.data.size != old.data.size')
    place.cluster.apply(config("a", "maps", size="1"), config("other", "nobody", size="1"))
    place.wait_told("maps", "a added")
    place.cluster.kubectl("label", "configmap", "a", "seen=yes")
    place.cluster.apply(config("a", "maps", size="2"))
    place.wait_told("maps", "a added", "a modified")
    place.cluster.kubectl("label", "configmap", "a", "source-")
    place.cluster.kubectl("label", "configmap", "before", "seen=yes")
    place.cluster.kubectl("delete", "configmap", "before")
    place.wait_told("maps", "a added", "a modified", "before deleted")
    [changed] = [event["data"] for event in place.events("maps") if event["type"].endswith("modified")]
    assert (changed["old"]["data"], changed["object"]["data"]) == ({"size": "1"}, {"size": "2"})
    assert "managedFields" not in changed["object"]["metadata"]
    for run in place.cluster.list("workflowruns", f"{OURS}event-source=maps"):
        place.cluster.wait_phase(run["metadata"]["name"], "Succeeded")


def test_another_namespace_is_of_no_concern(place: Place, shared_cluster: Cluster) -> None:
    place.source("here")
    with shared_cluster.in_new_namespace() as elsewhere:
        elsewhere.apply(config("there", "here"))
        place.cluster.apply(config("mine", "here"))
        place.wait_told("here", "mine added")


def test_each_change_starts_one_run_though_the_operator_is_killed_over_it(place: Place) -> None:
    place.source("kept")
    place.cluster.apply(config("a", "kept", size="1"), config("b", "kept"), config("d", "kept"))
    place.wait_told("kept", "a added", "b added", "d added")
    many = [config(f"n{number}", "kept") for number in range(20)]
    place.cluster.apply(config("a", "kept", size="2"), *many)
    place.operator.kill()  # with some of them told, some told and not recorded, some neither
    place.cluster.apply(config("c", "kept"))
    place.cluster.kubectl("delete", "configmap", "b")
    place.operator.start("cluster_handlers")
    once = (
        *(f"{each['metadata']['name']} added" for each in many),
        "a added",
        "a modified",
        "b added",
        "b deleted",
        "c added",
        "d added",
    )
    place.wait_told("kept", *once)
    place.cluster.kubectl("delete", "configmap", "d")
    place.wait_told("kept", *once, "d deleted")


def test_a_secret_is_told_of_without_its_values(place: Place) -> None:
    place.source("tokens", kind="Secret")
    metadata = {"name": "token", "labels": {"source": "tokens"}}
    place.cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": "very-secret"}}
    )
    place.wait_told("tokens", "token added")
    assert "dmVyeS1zZWNyZXQ" not in json.dumps(place.events("tokens"))


@pytest.mark.parametrize(("objects", "reason", "told"), [
    pytest.param({"apiVersion": "apps/v1", "kind": "Deployment"}, "KindNotAllowed", "add apps/v1/Deployment to KUBESAGA_WATCHABLE_KINDS", id="of a kind that is not allowed"),
    pytest.param({"apiVersion": "acme.example/v1", "kind": "Ticket"}, "KindNotWatchable", "the cluster has no kind Ticket", id="of a kind that is not there"),
    pytest.param({"apiVersion": "v1", "kind": "ServiceAccount"}, "WatchForbidden", 'cannot list resource "serviceaccounts"', id="of what the operator may not read"),
    pytest.param({"apiVersion": "kubesaga.dev/v1alpha1", "kind": "WorkflowRun"}, "InvalidSpec", "spec.kubernetes.kind: ", id="of runs"),
])  # fmt: skip
def test_not_ready_is_a_source(place: Place, objects: dict[str, Any], reason: str, told: str) -> None:
    name = reason.lower()
    place.cluster.apply(document("WorkflowEventSource", name, {"type": "Kubernetes", "kubernetes": objects}))
    wait_for(reason, lambda: place.ready(name).get("reason") == reason, otherwise=lambda: place.ready(name))
    assert place.ready(name)["status"] == "False"
    assert told in place.ready(name)["message"]


def test_the_server_refuses_what_cannot_be_meant(place: Place) -> None:
    objects = {"apiVersion": "v1", "kind": "ConfigMap"}
    spec = {"type": "Kubernetes", "kubernetes": objects, "auth": {"none": {}}}
    done = place.cluster.apply(document("WorkflowEventSource", "both", spec), check=False)
    assert done.returncode != 0
