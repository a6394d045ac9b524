# SPDX-License-Identifier: Apache-2.0
"""Where the API server is found, as whom, and what happens when that changes or cannot be read."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.kube.conftest import Clock, Source
from tests.unit.kube.server import ApiServer

from kubesaga.kube.connection import InCluster, Kubeconfig, connect, find
from kubesaga.kube.credentials import Authorization, Credentials, NoCluster

ENVIRON = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def kubeconfig(path: Path, user: dict[str, Any], *, cluster: dict[str, Any] | None = None, **context: Any) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster or {"server": "http://127.0.0.1:1/"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"} | context}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.fixture
def service_account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("projected-1\n")
    (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "namespace").write_text("ops\n")
    return tmp_path


# In a pod


async def test_a_pod_uses_its_service_account(service_account: Path) -> None:
    assert await InCluster(service_account, ENVIRON).load() == Credentials(
        server="https://10.96.0.1:443",
        ca_path=str(service_account / "ca.crt"),
        scheme="Bearer",
        token="projected-1",
        namespace="ops",
    )


async def test_an_ipv6_address_is_put_in_brackets(service_account: Path) -> None:
    credentials = await InCluster(service_account, ENVIRON | {"KUBERNETES_SERVICE_HOST": "fd00::1"}).load()
    assert credentials.server == "https://[fd00::1]:443"


async def test_a_projected_token_is_read_anew(service_account: Path) -> None:
    source = InCluster(service_account, ENVIRON)
    await source.load()
    (service_account / "token").write_text("projected-2")
    assert (await source.refresh()).token == "projected-2"


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
async def test_what_is_missing_in_a_pod_is_said(service_account: Path, missing: str) -> None:
    (service_account / missing).unlink()
    with pytest.raises(NoCluster, match=r"the pod's ServiceAccount cannot be used: .*does not exist"):
        await InCluster(service_account, ENVIRON).load()


# With a kubeconfig


async def test_a_static_token(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "config", {"token": "static"}, namespace="support")
    assert await Kubeconfig(path).load() == Credentials(
        server="http://127.0.0.1:1", scheme="Bearer", token="static", namespace="support"
    )


async def test_a_password(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "config", {"username": "anna", "password": "secret"})
    credentials = await Kubeconfig(path).load()
    assert credentials.authorization == "Basic YW5uYTpzZWNyZXQ="


async def test_a_server_whose_certificate_is_not_checked_or_named_otherwise(tmp_path: Path) -> None:
    cluster = {"server": "https://10.0.0.1:6443", "insecure-skip-tls-verify": True, "tls-server-name": "api.example"}
    credentials = await Kubeconfig(kubeconfig(tmp_path / "config", {"token": "t"}, cluster=cluster)).load()
    assert (credentials.insecure, credentials.server_name) == (True, "api.example")


async def test_a_token_file_is_read_anew(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one")
    source = Kubeconfig(kubeconfig(tmp_path / "config", {"tokenFile": "token"}))
    assert (await source.load()).token == "one"
    (tmp_path / "token").write_text("two")
    assert (await source.refresh()).token == "two"


async def test_an_exec_plugin_is_asked_again_only_when_its_token_expires(tmp_path: Path) -> None:
    script = tmp_path / "plugin.py"
    script.write_text(
        "import json, pathlib, sys\n"
        "calls = pathlib.Path(sys.argv[1])\n"
        "calls.write_text(calls.read_text() + 'x')\n"
        "status = {'token': f'exec-{len(calls.read_text())}', 'expirationTimestamp': sys.argv[2]}\n"
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential', 'status': status}))\n"
    )
    (tmp_path / "calls").write_text("")
    tokens = []
    for expires in ("2999-01-01T00:00:00Z", "2001-01-01T00:00:00Z"):
        plugin = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": [str(script), str(tmp_path / "calls"), expires],
        }
        source = Kubeconfig(kubeconfig(tmp_path / "config", {"exec": plugin}))
        tokens += [(await source.load()).token, (await source.refresh()).token]
    assert tokens == ["exec-1", "exec-1", "exec-2", "exec-3"]


@pytest.mark.parametrize(
    ("text", "context", "expected"),
    [
        pytest.param(None, None, "there is no kubeconfig at .*config: give one with --kubeconfig", id="no file"),
        pytest.param("a: [", None, "cannot be used", id="not YAML"),
        pytest.param("[]", None, "cannot be used", id="not a kubeconfig"),
        pytest.param("", "nowhere", "cannot be used: .*nowhere", id="an unknown context"),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_is_said(
    tmp_path: Path, text: str | None, context: str | None, expected: str
) -> None:
    path = tmp_path / "config"
    if text is not None:
        kubeconfig(path, {"token": "t"})
        path.write_text(text or path.read_text())
    with pytest.raises(NoCluster, match=expected):
        await Kubeconfig(str(path), context).load()


def test_the_kubeconfig_given_is_used_and_else_the_users(tmp_path: Path) -> None:
    assert isinstance(find(str(tmp_path / "config")), Kubeconfig)
    assert isinstance(find(None, "a-context"), Kubeconfig)


async def test_connecting(server: ApiServer, tmp_path: Path, clock: Clock) -> None:
    server.token = "static"
    path = kubeconfig(tmp_path / "config", {"token": "static"}, cluster={"server": server.url})
    from kubesaga.kube.resources import PODS

    async with await connect(path, clock=clock, version="1.2.3") as client:
        assert (await client.list(PODS)).items == []
    assert server.requests[0].headers["User-Agent"] == "kubesaga/1.2.3"


# Keeping them


class Failing:
    """A source that cannot be read any more."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def load(self) -> Credentials:
        raise self.error

    refresh = load


@pytest.mark.parametrize("error", [NoCluster("the plugin failed"), FileNotFoundError("token"), ssl.SSLError("half")])
async def test_old_credentials_are_kept_when_new_ones_cannot_be_read(
    clock: Clock, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    authorization = Authorization(
        Failing(error), Credentials(server="http://x", scheme="Bearer", token="old"), clock=clock
    )
    clock.advance(60)
    assert await authorization.header() == "Bearer old"
    assert await authorization.renew("Bearer old") is None
    assert "the old ones are kept" in caplog.text


async def test_another_token_than_the_refused_one_is_taken_without_reading_again(clock: Clock) -> None:
    current = Credentials(server="http://x", scheme="Bearer", token="current")
    source = Source(current)
    assert await Authorization(source, current, clock=clock).renew("Bearer stale") == "Bearer current"
    assert source.loads == 0


def test_secrets_do_not_show() -> None:
    shown = repr(Credentials(server="https://x", scheme="Bearer", token="sesame"))
    assert "sesame" not in shown
    assert "https://x" in shown
