# SPDX-License-Identifier: Apache-2.0
"""What entitles a test to a second try, and what does not: pods as kubelets have left them. Needs no cluster."""

from __future__ import annotations

import pytest
from tests.cluster import kubelet
from tests.cluster.kubelet import ContainerLost, lost_by_kubelet, twice
from tests.unit.executors.pod_objects import deleted, ended, lost_track, made, running, v1_20, v1_36, waiting

GONE = "The container could not be located when the pod was terminated"


@pytest.mark.parametrize(
    ("pod", "lost"),
    [
        pytest.param(v1_36("Failed", lost_track(GONE)), True, id="it says so"),
        pytest.param(v1_20("Failed", waiting("ContainerCreating"), last=lost_track(GONE)), True, id="it says so (1.20)"),
        pytest.param(deleted(v1_20("Running", running()), grace=0), True, id="it is done with a pod and told no end of it"),
        pytest.param(deleted(v1_20("Running", running())), False, id="a deleted pod may still end"),
        pytest.param(deleted(v1_20("Failed", ended(1)), grace=0), False, id="a deleted pod whose end is known"),
        pytest.param(v1_20("Failed", ended(137)), False, id="a container that was killed"),
        pytest.param(made(), False, id="a pod that was just made"),
    ],
)  # fmt: skip
def test_a_container_is_lost_by_the_kubelets_own_word(pod, lost):
    assert lost_by_kubelet(pod) is lost


def test_only_a_lost_container_is_done_again_and_only_once(monkeypatch):
    monkeypatch.setattr(kubelet, "SECOND_TRIES", [])
    names = []

    def loses_them_all(name):
        names.append(name)
        raise ContainerLost("pod-1")

    def is_wrong(name):
        names.append(name)
        raise AssertionError("a defect of ours")

    with pytest.raises(ContainerLost):
        twice("a", loses_them_all)
    with pytest.raises(AssertionError, match="a defect of ours"):
        twice("b", is_wrong)
    assert (names, kubelet.SECOND_TRIES) == (["a", "a-again", "b"], ["a: pod-1"])
