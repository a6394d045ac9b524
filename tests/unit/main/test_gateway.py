# SPDX-License-Identifier: Apache-2.0
"""`kubesaga gateway` as a process: it is ready when its caches are, takes deliveries, and leaves without losing one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.gateway.world import NAMESPACE, event
from tests.unit.kube.server import ApiServer, serving

ROOT = Path(__file__).resolve().parents[3]


class Process:
    """The process, and what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def says(self, pattern: str) -> re.Match[str]:
        """Return when it has said something that fits."""
        assert self.process.stderr is not None
        async with asyncio.timeout(60):
            while not (found := re.search(pattern, self.said)):
                line = await self.process.stderr.readline()
                assert line, f"it has ended: {self.said}"
                self.said += line.decode()
        return found

    async def port(self, of: str) -> int:
        return int((await self.says(rf"{of} on port (\d+)"))[1])


@asynccontextmanager
async def started(folder: Path, url: str, *words: str, **environ: str) -> AsyncIterator[Process]:
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "x", "clusters": [{"name": "x", "cluster": {"server": url}}],
        "users": [{"name": "x", "user": {}}], "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }  # fmt: skip
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator"), "KUBESAGA_LOG_FORMAT": "text",
        "KUBESAGA_GATEWAY_HOST": "127.0.0.1", "KUBESAGA_HTTP_HOST": "127.0.0.1", "KUBESAGA_GATEWAY_DRAIN_DELAY": "1", **environ,
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kubesaga", "gateway", "--kubeconfig", str(folder / "kubeconfig"), "--port", "0", "--probe-port", "0",
        *words, stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ask(port: int, path: str, body: Any = None) -> tuple[int, str]:
    def go() -> tuple[int, str]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/cloudevents+json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(go)


async def fill(api: ApiServer) -> None:
    metadata = {"namespace": NAMESPACE, "name": "tickets"}
    source = {"type": "CloudEvents", "auth": {"none": {}}}
    await api.put("workfloweventsources", {"metadata": metadata, "spec": source})
    workflow = {
        "triggers": [{"name": "created", "event": "ticket:*"}],
        "activities": [{"name": "a", "handler": "greet"}],
    }
    await api.put("workflows", {"metadata": {**metadata, "name": "greet"}, "spec": workflow})


async def test_a_gateway_comes_takes_and_leaves_in_order(tmp_path: Path) -> None:
    async with serving() as api:
        await fill(api)
        async with started(tmp_path, api.url) as gateway:
            probes = await gateway.port("serves probes")
            port = await gateway.port("takes deliveries")
            assert (await ask(probes, "/readyz"))[0] == 200
            assert (await ask(probes, "/healthz")) == (200, "[+] source watch\n[+] workflow watch\n")
            assert (await ask(port, f"/events/{NAMESPACE}/tickets", event()))[0] == 202
            _, metrics = await ask(probes, "/metrics")
            assert 'kubesaga_gateway_runs_total{namespace="support",result="created",workflow="greet"} 1.0' in metrics
            gateway.process.send_signal(signal.SIGTERM)
            await gateway.says("for 1 s more")
            # Not ready any more, so that nobody new comes; and those who have not heard of it yet are served.
            assert (await ask(probes, "/readyz")) == (503, "[-] draining: the gateway has been told to stop\n")
            assert (await ask(port, f"/events/{NAMESPACE}/tickets", event(id="e-2")))[0] == 202
            assert await gateway.process.wait() == 0
        assert len([key for key in api.objects if key[0] == "workflowruns"]) == 2


async def test_a_gateway_without_its_caches_is_not_ready_and_stops_at_once_when_told(tmp_path: Path) -> None:
    async with serving() as api:
        api.fail("GET", *(["hang"] * 20))
        async with started(tmp_path, api.url) as gateway:
            probes = await gateway.port("serves probes")
            status, told = await ask(probes, "/readyz")
            assert (status, told) == (503, "[-] caches: event sources and Workflows are being listed\n")
            gateway.process.send_signal(signal.SIGTERM)
            assert await gateway.process.wait() == 0
            assert "takes deliveries" not in gateway.said


async def test_a_gateway_of_one_namespace_asks_for_no_other(tmp_path: Path) -> None:
    async with serving() as api:
        await fill(api)
        async with started(tmp_path, api.url, "--namespace", NAMESPACE) as gateway:
            port = await gateway.port("takes deliveries")
            assert (await ask(port, f"/events/{NAMESPACE}/tickets", event()))[0] == 202
        assert all(f"/namespaces/{NAMESPACE}/" in each.path for each in api.requests)


@pytest.mark.parametrize(("environ", "told"), [
    pytest.param({"KUBESAGA_GATEWAY_TLS_CERT": "/x"}, "kubesaga gateway: KUBESAGA_GATEWAY_TLS_CERT, KUBESAGA_GATEWAY_TLS_KEY: set both or none", id="half a certificate"),
    pytest.param({"KUBESAGA_GATEWAY_TLS_CERT": "/x", "KUBESAGA_GATEWAY_TLS_KEY": "/y"}, "/x and /y cannot be used", id="a certificate that is not there"),
    pytest.param({"KUBESAGA_GATEWAY_TIMEOUT": "0"}, "KUBESAGA_GATEWAY_TIMEOUT=0.0: must be above 0", id="no time"),
    pytest.param({"KUBESAGA_GATEWAY_DRAIN_DELAY": "-1"}, "KUBESAGA_GATEWAY_DRAIN_DELAY=-1.0: must not be below 0", id="a negative delay"),
    pytest.param({"KUBESAGA_GATEWAY_PROT": "1"}, "there is no such setting", id="a misspelt name"),
])  # fmt: skip
async def test_a_gateway_does_not_start_with(tmp_path: Path, environ: dict[str, str], told: str) -> None:
    async with started(tmp_path, "http://127.0.0.1:1", **environ) as gateway:
        assert gateway.process.stderr is not None
        said = (await gateway.process.stderr.read()).decode()
        assert (await gateway.process.wait(), said.count("\n")) == (2, 1)
        assert told in said
