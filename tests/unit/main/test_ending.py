# SPDX-License-Identifier: Apache-2.0
"""How the operator's process ends: whatever swallows its cancellation does not keep it alive."""

from __future__ import annotations

import asyncio

from kubesaga.main.controller import _end_what_is_left


async def stubborn(cancellations: list[int]) -> None:
    """Begin again when cancelled, twice, as Kopf's watchers may do."""
    for _ in range(3):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancellations.append(1)


def test_a_task_that_swallows_its_cancellation_is_cancelled_until_it_ends() -> None:
    cancellations: list[int] = []

    async def main() -> bool:
        task = asyncio.create_task(stubborn(cancellations))
        await asyncio.sleep(0)
        await _end_what_is_left()
        return task.done()

    assert asyncio.run(main())
    assert len(cancellations) == 3


def test_nothing_is_waited_for_where_nothing_is_left() -> None:
    asyncio.run(asyncio.wait_for(_end_what_is_left(), timeout=0.2))
