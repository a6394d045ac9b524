# SPDX-License-Identifier: Apache-2.0
"""Settings are read once, strictly, and all problems are told at once."""

from __future__ import annotations

import pytest

from kubesaga.errors import InvalidSettings
from kubesaga.settings import Settings


def test_defaults_hold_where_nothing_is_said() -> None:
    assert Settings.from_env({"PATH": "/bin", "HOME": "/root"}) == Settings()


def test_variables_set_fields_and_overrides_win() -> None:
    settings = Settings.from_env(
        {"KUBESAGA_WORKERS": "4", "KUBESAGA_NAMESPACES": "a, b,", "KUBESAGA_CEL_DEADLINE": "0.5"},
        workers=8,
        identity=None,
    )
    assert (settings.workers, settings.namespaces, settings.cel_deadline) == (8, ("a", "b"), 0.5)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        pytest.param(
            {"KUBESAGA_WORKERS": "many"}, "KUBESAGA_WORKERS='many': must be a whole number", id="a word for a number"
        ),
        pytest.param({"KUBESAGA_WORKERS": "0"}, "KUBESAGA_WORKERS=0: must be above 0", id="no workers"),
        pytest.param(
            {"KUBESAGA_LEASE_DURATION": "-1"}, "KUBESAGA_LEASE_DURATION=-1.0: must be above 0", id="a negative time"
        ),
        pytest.param({"KUBESAGA_LOG_LEVEL": "loud"}, "must be debug, info, warning or error", id="an unknown level"),
        pytest.param({"KUBESAGA_LOG_FORMAT": "xml"}, "must be json or text", id="an unknown format"),
        pytest.param(
            {"KUBESAGA_DEFAULT_POD_LIMITS": "cpu=1,disk=2"},
            "'disk=2' must be cpu=AMOUNT or memory=AMOUNT",
            id="an amount of something else",
        ),
        pytest.param(
            {"KUBESAGA_DEFAULT_POD_REQUESTS": "cpu=1,cpu=2"}, "cpu stands there twice", id="an amount given twice"
        ),
        pytest.param(
            {"KUBESAGA_DEFAULT_IMAGE_PULL_POLICY": "Sometimes"}, "Always, IfNotPresent", id="an unknown policy"
        ),
        pytest.param(
            {"KUBESAGA_WATCHABLE_KINDS": "v1/ConfigMap, configmaps"},
            "'configmaps' must be apiVersion/Kind, such as v1/ConfigMap",
            id="a plural for a kind",
        ),
        pytest.param({"KUBESAGA_WORKER": "4"}, "KUBESAGA_WORKER: there is no such setting", id="a misspelt name"),
    ],
)
def test_what_cannot_be_used_is_told(environment: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidSettings, match="KUBESAGA") as caught:
        Settings.from_env(environment)
    assert told in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings.from_env({"KUBESAGA_WORKERS": "x", "KUBESAGA_LOG_FORMAT": "xml"})
    assert "WORKERS" in str(caught.value)
    assert "LOG_FORMAT" in str(caught.value)


def test_what_kubernetes_says_of_a_service_called_kubesaga_is_no_setting() -> None:
    Settings.from_env(
        {
            "KUBESAGA_SERVICE_HOST": "10.0.0.1",
            "KUBESAGA_PORT": "tcp://10.0.0.1:80",
            "KUBESAGA_PORT_80_TCP_ADDR": "10.0.0.1",
        }
    )
