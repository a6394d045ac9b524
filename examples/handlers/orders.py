# SPDX-License-Identifier: Apache-2.0
"""Two activities as Python functions. A handler takes its params, and the context too where it wants it.

What it returns is the activity's output, a JSON object; what it raises makes the attempt fail.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import kubesaga

CENTS = {"pencil": 90, "notebook": 450}


@kubesaga.activity("orders:price")
def price(params: dict[str, Any]) -> dict[str, Any]:
    """What the order costs. A plain function runs in a thread, so it may block."""
    if params["sku"] not in CENTS:
        raise ValueError(f"there is no price for {params['sku']!r}; for sale are {', '.join(sorted(CENTS))}")
    return {"total_cents": CENTS[params["sku"]] * params["quantity"]}


@kubesaga.activity("orders:reserve")
async def reserve(params: dict[str, Any], context: kubesaga.Context) -> dict[str, Any]:
    """Reserve the goods. The idempotency key is the same in every attempt, and so is the reservation made from it."""
    await asyncio.sleep(0.05)  # the warehouse thinks about it
    number = hashlib.sha256(context.idempotency_key.encode()).hexdigest()[:8]
    return {"reservation": f"R-{number}", "sku": params["sku"], "quantity": params["quantity"]}
