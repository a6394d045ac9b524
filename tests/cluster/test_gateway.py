# SPDX-License-Identifier: Apache-2.0
"""The gateway before a real API server: one run for each event, whoever takes it, with no rights but its own."""

from __future__ import annotations

import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.cluster import Cluster, document
from tests.cluster.event_gateway import ACCOUNT, Gateway
from tests.cluster.waiting import wait_for

SECRET = "open-sesame-4711"
STRUCTURED = "Content-Type: application/cloudevents+json"


def sign(body: str, secret: str = SECRET) -> str:
    return f"X-Kubesaga-Signature: {hmac.new(secret.encode(), body.encode(), hashlib.sha256).hexdigest()}"


def event(**more: Any) -> str:
    return json.dumps({"specversion": "1.0", "id": "e-1", "source": "/desk", "type": "ticket:created", **more})


def set_secret(cluster: Cluster, value: str) -> None:
    """Write the Secret of the source, and let the gateway read it, as docs/gateway.md says."""
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["desk"], "verbs": ["get"]}
    rbac = "rbac.authorization.k8s.io"
    name = {"name": "gateway-reads-desk"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "desk"}, "stringData": {"token": value}},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": name, "rules": [rule]},
        {
            "apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": name,
            "roleRef": {"apiGroup": rbac, "kind": "Role", **name},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": cluster.namespace}],
        },
    )  # fmt: skip


@pytest.fixture
def desk(cluster: Cluster) -> Cluster:
    """A namespace with a signed source, and a Workflow that waits for tickets."""
    set_secret(cluster, SECRET)
    hmac_of = {"hmac": {"secretRef": {"name": "desk", "key": "token"}}}
    cluster.apply(
        document("WorkflowEventSource", "desk", {"type": "CloudEvents", "auth": hmac_of}),
        document(
            "Workflow",
            "greet",
            {
                "triggers": [{"name": "created", "event": "ticket:created"}],
                "activities": [{"name": "a", "handler": "x"}],
            },
        ),
    )
    return cluster


def test_each_event_makes_one_run_though_two_gateways_take_it_at_once(desk: Cluster, tmp_path: Path) -> None:
    path = f"/events/{desk.namespace}/desk"
    with Gateway(desk, tmp_path, "one") as one, Gateway(desk, tmp_path, "two") as two, ThreadPoolExecutor(8) as pool:
        bodies = [event(id=f"e-{number}", data={"ticketId": f"T-{number}"}) for number in range(5)]
        sent = [
            pool.submit(gateway.curl, path, body, STRUCTURED, sign(body))
            for body in bodies for gateway in (one, two) for _ in range(3)
        ]  # fmt: skip
        answers = [each.result() for each in sent]
    assert {status for status, _ in answers} == {202}
    told = [run for _, answer in answers for run in answer["events"][0]["runs"]]
    runs = {run["metadata"]["name"]: run for run in desk.list("workflowruns")}
    assert len(runs) == 5
    assert {run["name"] for run in told} == set(runs)
    assert sum(run["created"] for run in told) == 5
    by_id = {run["metadata"]["annotations"]["kubesaga.dev/event-id"]: run for run in runs.values()}
    for number, body in enumerate(bodies):
        run = by_id[f"e-{number}"]
        assert json.loads(run["spec"]["event"]) == json.loads(body)
        assert run["spec"]["workflowRef"] == {"name": "greet"}
        assert run["metadata"]["annotations"]["kubesaga.dev/event-origin"] == "desk//desk"
        assert run["metadata"]["annotations"]["kubesaga.dev/dedupe-window"] == "24h"


def test_what_is_not_proven_or_other_data_under_an_id_makes_no_run(desk: Cluster, tmp_path: Path) -> None:
    path, body = f"/events/{desk.namespace}/desk", event()
    with Gateway(desk, tmp_path, "one") as gateway:
        wrong, unknown = (
            gateway.curl(path, body, STRUCTURED, sign(body, 16 * "x")),
            gateway.curl(f"/events/{desk.namespace}/nobody", body, STRUCTURED, sign(body)),
        )
        assert wrong == unknown
        assert wrong[0] == 401
        assert desk.list("workflowruns") == []
        assert gateway.curl(path, body, STRUCTURED, sign(body))[0] == 202
        other = event(data={"ticketId": "T-2"})
        assert gateway.curl(path, other, STRUCTURED, sign(other))[0] == 409
        assert SECRET not in gateway.log()
    assert len(desk.list("workflowruns")) == 1


def test_what_is_applied_or_rotated_while_it_runs_holds(desk: Cluster, tmp_path: Path) -> None:
    with Gateway(desk, tmp_path, "one") as gateway:
        body = event()
        assert gateway.curl(f"/events/{desk.namespace}/desk", body, STRUCTURED, sign(body))[0] == 202
        set_secret(desk, "another-sesame-42")

        def taken() -> bool:
            return (
                gateway.curl(f"/events/{desk.namespace}/desk", body, STRUCTURED, sign(body, "another-sesame-42"))[0]
                == 202
            )

        wait_for("the new secret to hold", taken)
        hook = {"type": "Webhook", "auth": {"none": {}}, "mapping": {"type": "body.kind", "id": "string(body.n)"}}
        desk.apply(document("WorkflowEventSource", "hook", hook))
        json_type = "Content-Type: application/json"
        wait_for(
            "the new source to take deliveries",
            lambda: (
                gateway.curl(f"/events/{desk.namespace}/hook", '{"kind":"ticket:created","n":7}', json_type)[0] == 202
            ),
        )
    assert len(desk.list("workflowruns")) == 2


@pytest.mark.parametrize(("spec", "told"), [
    pytest.param({"type": "Email", "auth": {"none": {}}}, "spec.type", id="a type that does not exist"),
    pytest.param({"type": "Kubernetes", "auth": {"none": {}}}, "spec.kubernetes", id="objects that are not named"),
    pytest.param({"type": "CloudEvents", "auth": {}}, "spec.auth", id="no way to prove anything"),
    pytest.param({"type": "Webhook", "auth": {"none": {}}}, "spec", id="a webhook without a mapping"),
    pytest.param({"type": "Slack", "auth": {"none": {}}}, "spec", id="Slack without its secret"),
    pytest.param({"type": "CloudEvents", "auth": {"none": {}}, "maxBodyBytes": 2**21}, "spec.maxBodyBytes", id="a body over the cap"),
])  # fmt: skip
def test_the_api_server_refuses_a_source_with(cluster: Cluster, spec: dict[str, Any], told: str) -> None:
    done = cluster.apply(document("WorkflowEventSource", "desk", spec), check=False)
    assert done.returncode == 1
    assert told in done.stderr


def test_the_gateway_may_do_its_work_and_nothing_else(desk: Cluster, tmp_path: Path) -> None:
    with Gateway(desk, tmp_path, "one"):
        pass
    account = f"system:serviceaccount:{desk.namespace}:{ACCOUNT}"

    def may(verb: str, what: str) -> bool:
        return desk.kubectl("auth", "can-i", verb, what, f"--as={account}", check=False).stdout.strip() == "yes"

    allowed = [
        ("create", "workflowruns"), ("get", "workflowruns"), ("watch", "workflows"), ("watch", "workfloweventsources"),
        ("get", "secrets/desk"),
    ]  # fmt: skip
    denied = [
        ("get", "secrets/gateway-token"), ("list", "secrets"), ("delete", "workflowruns"), ("patch", "workflowruns"),
        ("list", "workflowruns"), ("create", "pods"), ("patch", "workflows"), ("create", "workfloweventsources"),
    ]  # fmt: skip
    assert [each for each in allowed if not may(*each)] == []
    assert [each for each in denied if may(*each)] == []
