# SPDX-License-Identifier: Apache-2.0
"""Whose pod it is, however its labels look."""

from __future__ import annotations

import pytest
from tests.unit.executors.pod_objects import RUN, UID, attempt_of, made

from kubesaga.engine.attempt import AttemptId, RunKey
from kubesaga.executors.pod_identity import Identity, difference, identify, key_of, missing_marks

OURS = Identity(run=RUN, attempt=AttemptId(run_uid=UID, activity="score", number=1))


def changed(**metadata):
    pod = made()
    pod["metadata"] |= metadata
    return pod


def owned_by(**change):
    owner = made()["metadata"]["ownerReferences"][0] | change
    return changed(ownerReferences=[{"kind": "Node", "name": "n", "uid": "u", "apiVersion": "v1"}, owner])


@pytest.mark.parametrize(
    ("pod", "identity"),
    [
        pytest.param(made(), OURS, id="a pod as it was made"),
        pytest.param(changed(labels={}), OURS, id="without its labels"),
        pytest.param(changed(labels={"kubesaga.dev/attempt": "7"}), OURS, id="with other labels"),
        pytest.param(owned_by(), OURS, id="with another owner besides"),
        pytest.param(owned_by(apiVersion="kubesaga.dev/v1"), OURS, id="with an owner of a later version"),
        pytest.param(changed(annotations={}), None, id="without its annotations"),
        pytest.param(changed(annotations=None), None, id="with no annotations at all"),
        pytest.param(changed(annotations={"kubesaga.dev/activity": "other"}), None, id="of another activity"),
        pytest.param(changed(name="score-1"), None, id="with a name of its own"),
        pytest.param(changed(name="score"), None, id="with a name without a number"),
        pytest.param(changed(ownerReferences=None), None, id="without an owner"),
        pytest.param(owned_by(controller=False), None, id="with an owner that does not control it"),
        pytest.param(owned_by(kind="Job"), None, id="of a Job"),
        pytest.param(owned_by(apiVersion="example.com/v1"), None, id="of another group's WorkflowRun"),
        pytest.param(owned_by(uid="another"), None, id="of a run of the same name from before"),
    ],
)
def test_identify(pod, identity):
    assert identify(pod) == identity


@pytest.mark.parametrize("number", [1, 12])
def test_every_attempt_is_found_again(number):
    attempt = attempt_of("Assign_Agent", number, run=RunKey(namespace="ns", name="a.b"))
    identity = Identity(run=attempt.run, attempt=attempt.id)
    pod = made(attempt)
    assert identify(pod) == identity
    assert key_of(identity) == ("ns", pod["metadata"]["name"])


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        pytest.param(made(), None, id="the attempt's own"),
        pytest.param(changed(labels={}), None, id="the attempt's own without its labels"),
        pytest.param(changed(ownerReferences=[]), "it is not controlled by this run", id="nobody's"),
        pytest.param(owned_by(uid="other"), "it is not controlled by this run", id="of another run"),
        pytest.param(
            changed(annotations={}), "its annotation kubesaga.dev/activity is another", id="without annotations"
        ),
        pytest.param(
            made(attempt_of(image="evil:1")),
            "its annotation kubesaga.dev/spec-hash is another",
            id="of another content",
        ),
    ],
)
def test_difference(found, problem):
    assert difference(found, made()) == problem


def test_marks_that_are_missing():
    found = changed(labels={"team": "support"}, annotations=made()["metadata"]["annotations"] | {"note": "hi"})
    assert missing_marks(found, made()) == {"labels": made()["metadata"]["labels"]}
    assert missing_marks(made(), made()) == {}
