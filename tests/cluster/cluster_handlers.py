# SPDX-License-Identifier: Apache-2.0
"""Handlers of the operator under test. Files tell the test what happened, and hold a handler until the test lets it go."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import kubesaga


@kubesaga.activity("test:echo")
async def echo(params: dict[str, Any]) -> dict[str, Any]:
    """Give back what was given."""
    return params


@kubesaga.activity("test:hold")
async def hold(params: dict[str, Any], context: kubesaga.Context) -> dict[str, Any]:
    """Write down the idempotency key, then wait for a file to appear."""
    with Path(params["calls"]).open("a") as calls:
        calls.write(f"{context.idempotency_key} {context.attempt}\n")
    while not Path(params["gate"]).exists():
        await asyncio.sleep(0.05)
    return {"held": True}


@kubesaga.activity("test:block")
async def block(params: dict[str, Any]) -> dict[str, Any]:
    """Do what an async function must not: block the thread."""
    time.sleep(float(params["seconds"]))
    return {}


@kubesaga.activity("test:raise")
def raise_(params: dict[str, Any]) -> dict[str, Any]:
    """Fail."""
    raise ValueError(params["text"])


@kubesaga.activity("test:odd")
def odd(params: dict[str, Any]) -> Any:
    """Return what JSON cannot hold."""
    return {"it": {1, 2, 3}} if params["what"] == "set" else {"it": "x" * 10_000_000}


@kubesaga.activity("test:null")
def null(params: dict[str, Any]) -> dict[str, Any]:
    """Return nothing where something could be."""
    return {"x": None, "y": {"z": None}}


@kubesaga.activity("test:flaky")
def flaky(params: dict[str, Any], context: kubesaga.Context) -> dict[str, Any]:
    """Fail until the attempt that is asked for."""
    with Path(params["calls"]).open("a") as calls:
        calls.write(f"{context.idempotency_key} {context.attempt} {time.time()}\n")
    if context.attempt < params["until"]:
        raise ConnectionError("not yet")
    return {"attempt": context.attempt}


@kubesaga.activity("test:hopeless")
def hopeless(params: dict[str, Any]) -> dict[str, Any]:
    """Fail for good."""
    raise kubesaga.NotRetryable("no such customer")


@kubesaga.activity("test:ledger")
async def ledger(params: dict[str, Any], context: kubesaga.Context) -> dict[str, Any]:
    """Write down what is done, undone or stood in for. Files `hold DEED` and `fail DEED` in the folder hold it and make it fail."""
    folder = Path(params["folder"])
    deed = f"{context.deed} {context.activity}"
    with (folder / "ledger").open("a") as lines:
        lines.write(f"{deed} {context.idempotency_key}\n")
    while (folder / f"hold {deed}").exists():
        await asyncio.sleep(0.05)
    if (folder / f"fail {deed}").exists():
        raise kubesaga.NotRetryable(f"{deed} is not possible")
    return {"ticket": f"T-{context.activity}"}
