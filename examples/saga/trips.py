# SPDX-License-Identifier: Apache-2.0
"""A trip, as Python functions: what books and pays, and what undoes it.

Every undo may be called where there is nothing to undo, and more than once: it looks what is there.
"""

from __future__ import annotations

import asyncio
from typing import Any

import kubesaga

TRIPS: dict[str, dict[str, str]] = {}
"""What is booked and paid for each trip. It ends with this process; a real one asks those who keep the books."""

REFUSALS = {
    "flight": "no seat is left",
    "hotel": "no room is left",
    "car": "no car is left",
    "pay": "the card is declined",
}


async def enter(trip: str, what: str, entry: str, fail: str) -> str:
    """Enter something into the books, and return it; or refuse."""
    await asyncio.sleep(0.1)  # the others think about it
    if fail == what:
        raise kubesaga.NotRetryable(REFUSALS[what])
    TRIPS.setdefault(trip, {})[what] = entry
    print(f"{what}: {entry}")
    return entry


async def strike_out(trip: str, what: str, done: str) -> dict[str, Any]:
    """Strike something out of the books, if it is there."""
    await asyncio.sleep(0.1)
    entry = TRIPS.get(trip, {}).pop(what, None)
    print(f"{what}: {entry} is {done}" if entry else f"{what}: there is nothing to undo")
    return {"undone": entry is not None}


@kubesaga.activity("trips:book")
async def book(params: dict[str, Any], context: kubesaga.Context) -> dict[str, Any]:
    """Book what the activity is named after. The number follows from the key, so a repeat books nothing twice."""
    number = f"{context.activity[0].upper()}-{context.idempotency_key[:6]}"
    return {"booking": await enter(params["trip"], context.activity, number, params["fail"])}


@kubesaga.activity("trips:cancel")
async def cancel(params: dict[str, Any], context: kubesaga.Context) -> dict[str, Any]:
    """Cancel what the activity has booked."""
    return await strike_out(params["trip"], context.activity, "cancelled")


@kubesaga.activity("trips:pay")
async def pay(params: dict[str, Any]) -> dict[str, Any]:
    """Pay for all of it. Where the answer is to fail, it is paid, but nobody hears of it in time."""
    paid = await enter(params["trip"], "pay", "870 EUR", params["fail"])
    if params["fail"] == "answer":
        await asyncio.sleep(60)
    return {"paid": paid}


@kubesaga.activity("trips:refund")
async def refund(params: dict[str, Any]) -> dict[str, Any]:
    """Pay it back."""
    return await strike_out(params["trip"], "pay", "paid back")


@kubesaga.activity("trips:tell")
async def tell(params: dict[str, Any]) -> dict[str, Any]:
    """Tell what the books say in the end."""
    entries = TRIPS.pop(params["trip"], {})
    print(f"in the books: {', '.join(f'{what} {entry}' for what, entry in entries.items()) or 'nothing'}")
    return {"books": entries}
