# SPDX-License-Identifier: Apache-2.0
"""The pod of an attempt: a pure function of what the status records, so that a repeated start asks for the same pod.

Nothing is copied from the labels and annotations of the Workflow or the run: GitOps tools mark what they own by them,
and would delete our pods as theirs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from kubesaga.api.canonical import canonical_json
from kubesaga.api.fields import parse_quantity
from kubesaga.api.names import (
    ACTIVITY_ANNOTATION,
    ACTIVITY_LABEL,
    API_VERSION,
    ATTEMPT_LABEL,
    DEED_ANNOTATION,
    DEED_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    POD_FINALIZER,
    RUN_LABEL,
    RUN_UID_LABEL,
    SPEC_HASH_ANNOTATION,
    WORKFLOW_LABEL,
    Deed,
    digest,
    label_value,
)
from kubesaga.api.reasons import Reason
from kubesaga.api.work import EnvVar, PodActivity, ResourceList, Resources
from kubesaga.engine.attempt import Attempt, Failed
from kubesaga.engine.compiling import merged_resources

CONTAINER: Final = "main"
"""The container whose end is the attempt's; a mesh may put others beside it."""
OWNER_KIND: Final = "WorkflowRun"

PARAMS_VARIABLE: Final = "KUBESAGA_PARAMS"
MAX_VARIABLE_BYTES: Final = 131_072
"""Linux hands a program no longer string: MAX_ARG_STRLEN (execve(2)), name, `=` and the closing NUL included."""
MAX_ENVIRONMENT_BYTES: Final = 1_048_576
"""All variables together. Linux would take about twice as much; etcd refuses objects of 1.5 MiB."""

Env = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodDefaults:
    """What the administrator gives pods that say nothing of it."""

    image_pull_policy: str = ""
    resources: Resources | None = None


NO_DEFAULTS: Final = PodDefaults()


def build_pod(attempt: Attempt, defaults: PodDefaults = NO_DEFAULTS) -> dict[str, Any] | Failed:
    """Return the pod to create for an attempt, or why there can be none.

    It fits the Pod Security Standard "restricted" but for `runAsNonRoot`: many images, busybox among them, run as root.
    """
    container = attempt.activity.pod
    assert container is not None, f"{attempt.id.activity} is not a pod activity"
    given = _given(attempt, container)
    if (problem := _problem(container, given)) is not None:
        return Failed(reason=Reason.INVALID_INPUT, message=problem, retryable=False)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(attempt),
        "spec": _spec(attempt, container, _env(container, given), defaults),
    }


def spec_hash(attempt: Attempt) -> str:
    """Return a digest of all that the attempt asks for.

    Of the attempt and not of the pod, so that neither another version of the operator nor other settings make an
    attempt's own pod look like somebody else's.
    """
    container = attempt.activity.pod
    resources = attempt.resources.wire() if attempt.resources else {}
    asked = {
        "pod": container.wire() if container else {},
        "input": attempt.input or {},
        "env": dict(attempt.env),
        "resources": resources,
        "serviceAccountName": attempt.service_account or "",
    }
    return digest(canonical_json(asked), length=16)


def params_json(value: Any) -> str:
    """Return params as JSON: one text for one value, also after the value went through the API server and came back."""
    # The canonical text hides `<`, `>` and `&` from browsers; a shell script that cuts a URL out would trip over that.
    return json.dumps(json.loads(canonical_json(value or {})), ensure_ascii=False, separators=(",", ":"))


def _metadata(attempt: Attempt) -> dict[str, Any]:
    labels = {
        MANAGED_BY_LABEL: MANAGED_BY,
        WORKFLOW_LABEL: label_value(attempt.workflow),
        RUN_LABEL: label_value(attempt.run.name),
        RUN_UID_LABEL: attempt.id.run_uid,
        ACTIVITY_LABEL: label_value(attempt.id.activity),
        ATTEMPT_LABEL: str(attempt.id.number),
        DEED_LABEL: attempt.id.deed,
    }
    owner = {
        "apiVersion": API_VERSION,
        "kind": OWNER_KIND,
        "name": attempt.run.name,
        "uid": attempt.id.run_uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "name": attempt.id.pod_name(attempt.run.name),
        "namespace": attempt.run.namespace,
        "labels": {key: value for key, value in labels.items() if value},
        "annotations": {
            ACTIVITY_ANNOTATION: attempt.id.activity,
            **({} if attempt.id.deed is Deed.DO else {DEED_ANNOTATION: attempt.id.deed}),
            SPEC_HASH_ANNOTATION: spec_hash(attempt),
        },
        "ownerReferences": [owner],
        "finalizers": [POD_FINALIZER],
    }


def with_defaults(own: Resources | None, defaults: Resources | None) -> Resources | None:
    """Return the resources with those of the administrator where there are none.

    A default gives way where it would put a request above its limit: the API server would refuse the pod.
    """
    merged = merged_resources(own, defaults)
    if merged is None or merged.requests is None or merged.limits is None or own is None:
        return merged
    requests, limits = merged.requests.wire(), merged.limits.wire()
    for name in requests.keys() & limits.keys():
        if parse_quantity(requests[name]) > parse_quantity(limits[name]):
            asked = own.requests is not None and getattr(own.requests, name) is not None
            del (limits if asked else requests)[name]
    return Resources(
        requests=ResourceList(**requests) if requests else None, limits=ResourceList(**limits) if limits else None
    )


def _spec(attempt: Attempt, container: PodActivity, env: Env, defaults: PodDefaults) -> dict[str, Any]:
    resources = with_defaults(attempt.resources, defaults.resources)
    runs_as = container.security_context.wire() if container.security_context else {}
    main = {
        "name": CONTAINER,
        "image": container.image,
        "command": container.command,
        "args": container.args,
        "env": env,
        "workingDir": container.working_dir,
        "imagePullPolicy": container.image_pull_policy or defaults.image_pull_policy or None,
        "resources": resources.wire() if resources else None,
        # With exit code 0 only the file counts; a failing container that wrote none is explained by its last log lines.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "serviceAccountName": attempt.service_account,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, **runs_as},
        "nodeSelector": container.node_selector,
        "tolerations": [toleration.wire() for toleration in container.tolerations or ()] or None,
        "priorityClassName": container.priority_class_name,
        "containers": [_without_absent(main)],
    }
    return _without_absent(spec)


def _given(attempt: Attempt, container: PodActivity) -> dict[str, str]:
    """Return the values that are data and not the author's own text: ours, and those that were rendered."""
    ours = {
        PARAMS_VARIABLE: params_json(attempt.input),
        "KUBESAGA_NAMESPACE": attempt.run.namespace,
        "KUBESAGA_WORKFLOW": attempt.workflow,
        "KUBESAGA_RUN": attempt.run.name,
        "KUBESAGA_ACTIVITY": attempt.id.activity,
        "KUBESAGA_DEED": attempt.id.deed,
        "KUBESAGA_ATTEMPT": str(attempt.id.number),
        "KUBESAGA_IDEMPOTENCY_KEY": attempt.idempotency_key,
    }
    authors = {var.name for var in container.env or ()}
    return ours | {name: value for name, value in attempt.env.items() if name in authors and name not in ours}


def _env(container: PodActivity, given: dict[str, str]) -> Env:
    """Return the container's env: ours first, so that the author's values can refer to them; then the author's.

    Ours win over the author's of the same name. No name occurs twice.
    """
    authors = {var.name: _authors(var) for var in container.env or ()}
    ours = {name: {"name": name, "value": literal(value)} for name, value in given.items() if name not in authors}
    rendered = {name: {"name": name, "value": literal(value)} for name, value in given.items()}
    return list((ours | authors | rendered).values())


def _authors(var: EnvVar) -> dict[str, Any]:
    if var.value_from is not None:
        return {"name": var.name, "valueFrom": var.value_from.wire()}
    return {"name": var.name, "value": var.value or ""}


def literal(value: str) -> str:
    """Return `value` so that the kubelet leaves it as it is: it reads `$(NAME)` as a reference and `$$` as one `$`.

    Only for values that hold data: in what the author wrote, `$(NAME)` is the author's.
    """
    return value.replace("$", "$$")


def _problem(container: PodActivity, given: dict[str, str]) -> str | None:
    values = {var.name: var.value or "" for var in container.env or ()} | given
    total = 0
    for name, value in values.items():
        size = len(f"{name}={value}\0".encode(errors="replace"))
        total += size
        if size > MAX_VARIABLE_BYTES:
            what = "params are" if name == PARAMS_VARIABLE else f"env {name} is"
            return (
                f"{what} too large for an environment variable: {size} bytes, and Linux takes {MAX_VARIABLE_BYTES}; "
                "hand over a reference to the data instead"
            )
        if "\0" in value:
            return f"env {name} holds a NUL character, which no environment variable can"
    if total > MAX_ENVIRONMENT_BYTES:
        return f"env and params are {total} bytes together; at most {MAX_ENVIRONMENT_BYTES} fit into a pod"
    return None


def _without_absent(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, {})}
