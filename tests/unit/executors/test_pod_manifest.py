# SPDX-License-Identifier: Apache-2.0
"""The pod of an attempt: what is in it, what never is, and that it is the same whenever it is asked for."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes_validate import validate
from tests.unit.executors.pod_objects import RUN, UID, attempt_of

from kubesaga.api.names import Deed, pod_name
from kubesaga.api.reasons import Reason
from kubesaga.api.work import Resources
from kubesaga.engine.attempt import Failed, RunKey
from kubesaga.executors.pod_identity import identify
from kubesaga.executors.pod_manifest import MAX_VARIABLE_BYTES, PodDefaults, build_pod, literal, params_json, spec_hash

FULL = {
    "command": ["sh", "-c"],
    "args": ["echo ${HOME} $(GREETING)"],
    "working_dir": "/tmp",
    "image_pull_policy": "IfNotPresent",
    "env": [
        {"name": "GREETING", "value": "hello $(KUBESAGA_RUN)"},
        {"name": "AGENT", "value": "${workflow.agent}"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "desk", "key": "token", "optional": True}}},
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "desk", "key": "mode"}}},
    ],
}


def container(pod):
    return pod["spec"]["containers"][0]


def values(pod):
    return {var["name"]: var.get("value") for var in container(pod)["env"]}


def expanded(text: str, variables: dict[str, str]) -> str:
    """What the kubelet makes of a value: `$$` is one `$`, `$(NAME)` the variable, where there is one."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", one, text)


def test_the_whole_pod():
    attempt = attempt_of(
        "assign agent".replace(" ", "_"), 2, input={"id": 7}, rendered={"AGENT": "A-1"}, service_account="tickets",
        resources={"requests": {"cpu": "100m"}, "limits": {"cpu": "200m", "memory": "64Mi"}}, **FULL,
    )  # fmt: skip
    pod = build_pod(attempt)
    assert pod == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name("ticket-1", UID, "assign_agent", 2),
            "namespace": "support",
            "labels": {
                "app.kubernetes.io/managed-by": "kubesaga",
                "kubesaga.dev/workflow": "tickets",
                "kubesaga.dev/run": "ticket-1",
                "kubesaga.dev/run-uid": UID,
                "kubesaga.dev/activity": "assign_agent",
                "kubesaga.dev/attempt": "2",
                "kubesaga.dev/deed": "do",
            },
            "annotations": {"kubesaga.dev/activity": "assign_agent", "kubesaga.dev/spec-hash": spec_hash(attempt)},
            "ownerReferences": [
                {
                    "apiVersion": "kubesaga.dev/v1alpha1",
                    "kind": "WorkflowRun",
                    "name": "ticket-1",
                    "uid": UID,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "finalizers": ["kubesaga.dev/outcome"],
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "serviceAccountName": "tickets",
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "main",
                    "image": "busybox:1.35",
                    "command": ["sh", "-c"],
                    "args": ["echo ${HOME} $(GREETING)"],
                    "workingDir": "/tmp",
                    "imagePullPolicy": "IfNotPresent",
                    "env": [
                        {"name": "KUBESAGA_PARAMS", "value": '{"id":7}'},
                        {"name": "KUBESAGA_NAMESPACE", "value": "support"},
                        {"name": "KUBESAGA_WORKFLOW", "value": "tickets"},
                        {"name": "KUBESAGA_RUN", "value": "ticket-1"},
                        {"name": "KUBESAGA_ACTIVITY", "value": "assign_agent"},
                        {"name": "KUBESAGA_DEED", "value": "do"},
                        {"name": "KUBESAGA_ATTEMPT", "value": "2"},
                        {"name": "KUBESAGA_IDEMPOTENCY_KEY", "value": f"{UID}/assign_agent/do"},
                        {"name": "GREETING", "value": "hello $(KUBESAGA_RUN)"},
                        {"name": "AGENT", "value": "A-1"},
                        {
                            "name": "TOKEN",
                            "valueFrom": {"secretKeyRef": {"name": "desk", "key": "token", "optional": True}},
                        },
                        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "desk", "key": "mode"}}},
                    ],
                    "resources": {
                        "requests": {"cpu": "100m"},
                        "limits": {"cpu": "200m", "memory": "64Mi"},
                    },
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }


def test_the_pod_of_an_undo_says_so_and_has_a_name_and_a_key_of_its_own():
    done = attempt_of("assign_agent")
    undone = replace(done, id=replace(done.id, deed=Deed.UNDO))
    pod = build_pod(undone)
    assert pod["metadata"]["name"].startswith("ticket-1-undo-assign-agent-")
    assert pod["metadata"]["labels"]["kubesaga.dev/deed"] == "undo"
    assert pod["metadata"]["annotations"]["kubesaga.dev/deed"] == "undo"
    assert values(pod)["KUBESAGA_DEED"] == "undo"
    assert values(pod)["KUBESAGA_IDEMPOTENCY_KEY"] == f"{UID}/assign_agent/undo"
    assert identify(pod).attempt == undone.id
    assert identify(build_pod(done)).attempt == done.id


def test_what_is_not_asked_for_is_left_to_kubernetes():
    pod = build_pod(attempt_of(workflow=""))
    assert set(container(pod)) == {"name", "image", "env", "terminationMessagePolicy", "securityContext"}
    assert "serviceAccountName" not in pod["spec"]
    assert "kubesaga.dev/workflow" not in pod["metadata"]["labels"], "a run with its own spec has no Workflow"


@pytest.mark.parametrize("version", ["1.25", "1.30", "1.36"])
def test_kubernetes_knows_every_field(version):
    attempt = attempt_of(input={"id": 7}, rendered={"AGENT": "A-1"}, resources={"limits": {"memory": "64Mi"}}, **FULL)
    validate(build_pod(attempt), version, strict=True)


@pytest.mark.parametrize(
    ("own", "default", "expected"),
    [
        pytest.param("Never", "Always", "Never", id="the activity's own wins"),
        pytest.param(None, "Always", "Always", id="else the operator's default"),
        pytest.param(None, "", None, id="else Kubernetes decides"),
    ],
)
def test_image_pull_policy(own, default, expected):
    pod = build_pod(attempt_of(image_pull_policy=own), PodDefaults(image_pull_policy=default))
    assert container(pod).get("imagePullPolicy") == expected


def test_ours_win_over_the_authors_variables_of_the_same_name():
    env = [{"name": "KUBESAGA_RUN", "value": "mine"}, {"name": "KUBESAGA_ATTEMPT", "value": "${inputs.n}"}]
    pod = build_pod(attempt_of(env=env, rendered={"KUBESAGA_ATTEMPT": "9"}))
    names = [var["name"] for var in container(pod)["env"]]
    assert len(names) == len(set(names)), "a name that occurs twice could not be patched"
    assert (values(pod)["KUBESAGA_RUN"], values(pod)["KUBESAGA_ATTEMPT"]) == ("ticket-1", "1")


def test_a_rendered_value_for_a_variable_that_the_author_did_not_write_is_not_passed():
    assert "SECRET" not in values(build_pod(attempt_of(rendered={"SECRET": "x"})))


@pytest.mark.parametrize(
    ("data", "passed"),
    [
        pytest.param("$(PATH)", "$$(PATH)", id="a reference"),
        pytest.param("$$(PATH)", "$$$$(PATH)", id="an escaped reference"),
        pytest.param("5$", "5$$", id="a dollar"),
        pytest.param("plain", "plain", id="nothing special"),
    ],
)
def test_data_is_never_read_as_a_reference(data, passed):
    env = [{"name": "WHO", "value": "${inputs.who}"}]
    pod = build_pod(attempt_of(env=env, rendered={"WHO": data}, input={"who": data}))
    assert values(pod)["WHO"] == passed
    assert values(pod)["KUBESAGA_PARAMS"] == f'{{"who":"{passed}"}}'


def test_what_the_author_wrote_keeps_its_references():
    pod = build_pod(attempt_of(**FULL))
    assert values(pod)["GREETING"] == "hello $(KUBESAGA_RUN)"
    assert container(pod)["args"] == ["echo ${HOME} $(GREETING)"]


@given(st.text(alphabet="$(){}AB \\"))
def test_the_kubelet_gives_back_what_was_passed(data):
    assert expanded(literal(data), {"A": "expanded", "B": "too"}) == data


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=10,
    )
)  # fmt: skip
def test_params_are_one_text_before_and_after_they_went_through_the_api_server(value):
    stored = json.loads(json.dumps({"value": value}, sort_keys=True))
    assert params_json({"value": value}) == params_json(stored)
    text = params_json({"value": value})
    assert params_json(json.loads(text)) == text


def test_params_are_readable_by_a_shell_script():
    assert params_json({"b": 1.0, "a": "https://x/?q=1&r=<2>", "c": "grün"}) == (
        '{"a":"https://x/?q=1&r=<2>","b":1,"c":"grün"}'
    )


def test_no_params_are_an_empty_object():
    assert values(build_pod(attempt_of()))["KUBESAGA_PARAMS"] == "{}"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        pytest.param({}, True, id="the same attempt"),
        pytest.param({"input": {"b": 2, "a": 1.0}}, True, id="params in another order and notation"),
        pytest.param({"input": {"a": 2, "b": 2}}, False, id="other params"),
        pytest.param({"image": "busybox:1.36"}, False, id="another image"),
        pytest.param({"rendered": {"A": "2"}}, False, id="another rendered value"),
        pytest.param({"resources": {"limits": {"memory": "1Gi"}}}, False, id="other resources"),
        pytest.param({"service_account": "admin"}, False, id="another ServiceAccount"),
    ],
)
def test_the_hash_tells_attempts_apart(change, same):
    basis = {"input": {"a": 1, "b": 2}, "rendered": {"A": "1"}}
    assert (spec_hash(attempt_of(**basis)) == spec_hash(attempt_of(**(basis | change)))) is same


def test_the_hash_does_not_depend_on_the_operators_settings():
    always, never = (build_pod(attempt_of(), PodDefaults(image_pull_policy=policy)) for policy in ("Always", "Never"))
    assert always["metadata"]["annotations"] == never["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        pytest.param("x" * (MAX_VARIABLE_BYTES - len("WHO=\0")), True, id="the longest that Linux takes"),
        pytest.param("x" * (MAX_VARIABLE_BYTES - len("WHO=\0") + 1), False, id="one byte more"),
        pytest.param("é" * (MAX_VARIABLE_BYTES // 2), False, id="bytes count, not characters"),
        pytest.param(
            "$" * (MAX_VARIABLE_BYTES - len("WHO=\0")), True, id="escapes do not count: the kubelet removes them"
        ),
        pytest.param("a\0b", False, id="a NUL character"),
    ],
)
def test_a_value_that_cannot_be_an_environment_variable(value, fits):
    made = build_pod(attempt_of(env=[{"name": "WHO", "value": "${inputs.who}"}], rendered={"WHO": value}))
    assert isinstance(made, dict) is fits
    if isinstance(made, Failed):
        assert (made.reason, made.retryable) == (Reason.INVALID_INPUT, False)
        assert made.message.startswith("env WHO ")


def test_params_that_are_too_large_fail_with_a_sentence():
    made = build_pod(attempt_of(input={"text": "x" * 131_072}))
    assert made == Failed(
        reason=Reason.INVALID_INPUT,
        message="params are too large for an environment variable: 131100 bytes, and Linux takes 131072; "
        "hand over a reference to the data instead",
        retryable=False,
    )


def test_an_environment_that_is_too_large_as_a_whole():
    env = [{"name": f"V{number}", "value": "x" * 32_768} for number in range(33)]
    made = build_pod(attempt_of(env=env))
    assert isinstance(made, Failed)
    assert made.message.startswith("env and params are 108")


def test_params_with_a_nul_character_pass_as_json():
    assert values(build_pod(attempt_of(input={"a": "\0"})))["KUBESAGA_PARAMS"] == '{"a":"\\u0000"}'


def test_long_names_fit():
    pod = build_pod(attempt_of("a" * 63, 10, run=RunKey(namespace="support", name="r" * 253), workflow="w" * 253))
    metadata = pod["metadata"]
    assert len(metadata["name"]) <= 63
    assert all(len(value) <= 63 for value in metadata["labels"].values())
    assert metadata["annotations"]["kubesaga.dev/activity"] == "a" * 63
    assert metadata["ownerReferences"][0]["name"] == "r" * 253


def test_nothing_comes_from_labels_or_annotations_of_others():
    """GitOps tools own what bears their marks: the pod has ours alone."""
    metadata = build_pod(attempt_of())["metadata"]
    marks = [*metadata["labels"], *metadata["annotations"]]
    assert all(mark.startswith(("kubesaga.dev/", "app.kubernetes.io/managed-by")) for mark in marks)
    assert metadata["namespace"] == RUN.namespace


def test_where_and_as_whom_a_pod_runs():
    asked = {
        "nodeSelector": {"disk": "ssd"}, "priorityClassName": "batch",
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "batch", "effect": "NoSchedule"}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000},
    }  # fmt: skip
    spec = build_pod(attempt_of(**asked))["spec"]
    assert {name: spec[name] for name in ("nodeSelector", "priorityClassName", "tolerations")} == {
        name: asked[name] for name in ("nodeSelector", "priorityClassName", "tolerations")
    }
    assert spec["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}, **asked["securityContext"]}


DEFAULTS = Resources.model_validate(
    {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
)


@pytest.mark.parametrize(
    ("own", "given"),
    [
        pytest.param(None, DEFAULTS.wire(), id="a pod that says nothing gets the administrator's"),
        pytest.param({"limits": {"cpu": "2"}}, {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "512Mi"}},
                     id="field by field"),
        pytest.param({"requests": {"cpu": "4"}}, {"requests": {"cpu": "4", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
                     id="a default limit gives way to a higher request"),
        pytest.param({"limits": {"memory": "32Mi"}}, {"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "32Mi"}},
                     id="a default request gives way to a lower limit"),
    ],
)  # fmt: skip
def test_resources_that_are_not_given_are_the_administrators(own, given):
    attempt = attempt_of(resources=own)
    pod = build_pod(attempt, PodDefaults(resources=DEFAULTS))
    assert container(pod)["resources"] == given
    assert spec_hash(attempt) == pod["metadata"]["annotations"]["kubesaga.dev/spec-hash"], (
        "other defaults make no other attempt"
    )
