# SPDX-License-Identifier: Apache-2.0
"""Handlers of replicas under test. They write down who carries out what, so that a repetition is seen wherever it is."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import kubesaga


@kubesaga.activity("replica:hold")
async def hold(params: dict[str, Any], context: kubesaga.Context) -> dict[str, Any]:
    """Wait for a gate, which a file opens for everybody, or for one process: `gate`, or `gate-PID`."""
    _write(params["calls"], "begin", context)
    gate = Path(params["gate"])
    while not gate.exists() and not gate.with_name(f"{gate.name}-{os.getpid()}").exists():
        await asyncio.sleep(0.02)
    _write(params["calls"], "end", context)
    return {"by": os.getpid()}


@kubesaga.activity("replica:step")
async def step(params: dict[str, Any], context: kubesaga.Context) -> dict[str, Any]:
    """Work for a moment."""
    _write(params["calls"], "begin", context)
    await asyncio.sleep(0.05)
    _write(params["calls"], "end", context)
    return {"by": os.getpid()}


def _write(path: str, what: str, context: kubesaga.Context) -> None:
    # In one piece, and after what is there: several processes write.
    with Path(path).open("a") as lines:
        lines.write(f"{what} {context.idempotency_key} {context.attempt} {os.getpid()}\n")
