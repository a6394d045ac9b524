# SPDX-License-Identifier: Apache-2.0
"""Handlers of the operator that is measured. The file is copied into the operator's folder and imported from there."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import kubesaga


@kubesaga.activity("bench:noop")
async def noop(params: dict[str, Any]) -> None:
    """Do nothing, so that only the engine and the API server have work."""


@kubesaga.activity("bench:stamp")
async def stamp(params: dict[str, Any]) -> dict[str, float]:
    """Return when it was called, on the clock that all processes of a Linux machine share."""
    return {"at": time.monotonic()}


@kubesaga.activity("bench:hold")
async def hold(params: dict[str, Any]) -> None:
    """Run until a file appears."""
    while not Path(params["gate"]).exists():
        await asyncio.sleep(0.5)
