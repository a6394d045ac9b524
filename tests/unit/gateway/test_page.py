# SPDX-License-Identifier: Apache-2.0
"""docs/gateway.md holds: its sources are valid, its commands are answered as it says, its tables are complete."""

from __future__ import annotations

import asyncio
import base64
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from tests.unit.gateway.test_hostile import ROWS
from tests.unit.gateway.world import gateway

from kubesaga.api.parsing import parse_event_source_spec
from kubesaga.cel.pool import CelPool
from kubesaga.gateway.series import Series
from kubesaga.testing.clock import FakeClock

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "gateway.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def objects() -> Iterator[dict[str, Any]]:
    for block in blocks("yaml"):
        yield from (each for each in yaml.safe_load_all(block) if "kind" in each)


COMMANDS = [block for block in blocks("sh") if "curl" in block]


def test_every_source_of_the_page_is_valid() -> None:
    specs = [each["spec"] for each in objects() if each["kind"] == "WorkflowEventSource"]
    assert {parse_event_source_spec(spec).type for spec in specs} == {"CloudEvents", "Webhook", "Slack", "Thena"}


def test_the_role_of_the_page_lets_the_gateway_read_one_secret() -> None:
    [role] = [each for each in objects() if each["kind"] == "Role"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["desk"], "verbs": ["get"]}]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda text: re.findall(r"/events/support/(\w+)", text)[0])
async def test_a_command_of_the_page_causes_runs(command: str, evaluator: CelPool) -> None:
    async with gateway(evaluator, clock=FakeClock(datetime.now(UTC))) as world:
        for each in objects():
            if each["kind"] == "WorkflowEventSource":
                await world.source(each["metadata"]["name"], **{"eventTypes": [], **each["spec"]})
            elif each["kind"] == "Secret":
                data = {key: base64.b64encode(value.encode()).decode() for key, value in each["stringData"].items()}
                await world.api.put("secrets", {**each, "data": data})
        await world.workflow("desk", "*")
        environment = {"PATH": os.environ["PATH"], "GATEWAY": f"http://127.0.0.1:{world.port}"}
        process = await asyncio.create_subprocess_exec(
            "bash", "-euc", command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, told = await process.communicate()
        assert output.startswith(b"HTTP/1.1 202 "), (output, told)
        assert len(world.runs()) == max(1, command.count('"specversion"'))


def test_the_page_tells_every_status() -> None:
    told = {int(status) for status in re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE)}
    refused = {status for _, status, _ in ROWS.values() if status}
    assert told == refused | {200, 202, 429, 500, 503}


def test_the_page_tells_every_series() -> None:
    series = Series(registry := CollectorRegistry())
    series.watch(connections=lambda: 0, buffered=lambda: 0, sources=lambda: 0)
    there = re.findall(r"^# TYPE (\w+) ", generate_latest(registry).decode(), re.MULTILINE)
    told = set(re.findall(r"^\| `(kubesaga_\w+)` \|", PAGE, re.MULTILINE))
    assert told == {name for name in there if not name.endswith("_created")}
