# SPDX-License-Identifier: Apache-2.0
"""The operator's own process on its way to the Lease: what its probes say, and what it leaves when it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.unit.kube.server import ApiServer, serving, until

OPERATOR = Path(__file__).parents[3] / "operator"
KEY = ("leases", "ops", "kubesaga-controller")
FORBIDDEN = (403, {"kind": "Status", "reason": "Forbidden", "code": 403, "message": "you may not read leases"})
PATIENCE = 30.0


class Operator:
    """`kubesaga controller` as a process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def port(self) -> int | None:
        """Where its probes are, once it has said so."""
        found = re.search(r"/readyz on port (\d+)", self._log.read_text())
        return int(found[1]) if found else None

    async def get(self, path: str) -> tuple[int, str]:
        await until(lambda: self.port)
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            return answer.status, await answer.text()

    async def wait_for(self, path: str, expected: tuple[int, str]) -> None:
        async with asyncio.timeout(PATIENCE):
            while (found := await self.get(path)) != expected:
                await asyncio.sleep(0.05)
        assert found == expected


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with serving() as made:
        yield made


@pytest.fixture
async def operator(server: ApiServer, tmp_path: Path) -> AsyncIterator[Operator]:
    """Start it once a test has made the server ready."""
    kubeconfig, log = tmp_path / "kubeconfig", tmp_path / "log"
    named: dict[str, Any] = {
        "clusters": [{"name": "it", "cluster": {"server": server.url}}],
        "users": [{"name": "it", "user": {"token": "sesame"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    kubeconfig.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "it", **named}))
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(OPERATOR),
        "KUBESAGA_LEASE_NAMESPACE": "ops",
        "KUBESAGA_LEASE_DURATION": "2",
        "KUBESAGA_HTTP_HOST": "127.0.0.1",
        "KUBESAGA_HTTP_PORT": "0",
    }
    await server.put("leases", {"metadata": {"name": KEY[2], "namespace": KEY[1]}, "spec": {"holderIdentity": ""}})
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kubesaga", "controller", "--kubeconfig", str(kubeconfig),
            env=environment, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield Operator(process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        print(log.read_text()[-3000:])


async def test_a_standby_that_may_not_read_the_lease_says_so(server: ApiServer, operator: Operator) -> None:
    server.fail("GET", *[FORBIDDEN] * 1000)
    told = "get leases ops/kubesaga-controller: 403 Forbidden: you may not read leases"
    assert await operator.get("/readyz") == (200, "[+] lease\n"), "it has only begun to try"
    await operator.wait_for("/readyz", (503, f"[-] lease: {told}\n"))
    assert await operator.get("/healthz") == (200, ""), "to start it again would not help"
    await server.put("leases", {"metadata": server.objects[KEY]["metadata"], "spec": {"holderIdentity": "other"}})
    server.forgive()
    await operator.wait_for("/readyz", (200, "[+] lease\n"))


async def test_one_that_is_told_to_stop_while_it_takes_the_lease_gives_it_back(
    server: ApiServer, operator: Operator
) -> None:
    server.fail("PATCH", "hold")
    await until(lambda: any(request.method == "PATCH" for request in server.requests))
    operator.process.terminate()
    with contextlib.suppress(aiohttp.ClientError):  # once it answers, or has ended, it has seen the signal
        await operator.get("/healthz")
    server.go_on.set()
    assert await asyncio.wait_for(operator.process.wait(), PATIENCE) == 0
    await until(lambda: server.objects[KEY]["spec"]["holderIdentity"] == "")
    assert len([request for request in server.requests if request.method == "PATCH"]) == 2
