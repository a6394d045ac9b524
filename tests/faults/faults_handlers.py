# SPDX-License-Identifier: Apache-2.0
"""Handlers of the operator under fault. Each notes its call in a file before anything else: that is its effect."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import kubesaga


def note(params: dict[str, Any], context: kubesaga.Context) -> None:
    """Append one line, in one write: what follows may be cut off at any moment."""
    line = {
        "run": context.run,
        "activity": context.activity,
        "attempt": context.attempt,
        "key": context.idempotency_key,
        "at": time.monotonic(),
        "clock": time.time(),
    }
    descriptor = os.open(params["effects"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, (json.dumps(line) + "\n").encode())
    finally:
        os.close(descriptor)


@kubesaga.activity("faults:reserve")
async def reserve(params: dict[str, Any], context: kubesaga.Context) -> dict[str, Any]:
    """Succeed."""
    note(params, context)
    return {"id": "r-1"}


@kubesaga.activity("faults:second-time")
async def second_time(params: dict[str, Any], context: kubesaga.Context) -> dict[str, Any]:
    """Fail the first attempt."""
    note(params, context)
    if context.attempt < 2:
        raise ConnectionError("not yet")
    return {"charged": True}


@kubesaga.activity("faults:audit")
def audit(params: dict[str, Any], context: kubesaga.Context) -> dict[str, Any]:
    """Succeed, in a thread."""
    note(params, context)
    return {"audited": True}


@kubesaga.activity("faults:hopeless")
async def hopeless(params: dict[str, Any], context: kubesaga.Context) -> dict[str, Any]:
    """Fail for good."""
    note(params, context)
    raise kubesaga.NotRetryable("out of stock")
