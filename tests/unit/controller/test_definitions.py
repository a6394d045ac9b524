# SPDX-License-Identifier: Apache-2.0
"""What a Workflow that uses Activities is pinned to: their content, as it is when a run begins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubesaga.api.canonical import revision_name
from kubesaga.controller import definitions as module
from kubesaga.controller.definitions import Definitions
from kubesaga.controller.memory import MemoryRevisions
from kubesaga.controller.reading import FreshReads
from kubesaga.engine.attempt import RunKey
from kubesaga.engine.definition import Definition
from kubesaga.engine.uses import Catalogue
from kubesaga.engine.validation.activity import known_of
from kubesaga.errors import InvalidSpec
from kubesaga.testing.paths import PathEvaluator

PLAIN = {"activities": [{"name": "a", "handler": "x"}]}
USING = {"activities": [{"name": "a", "uses": "mail"}]}
KEY = RunKey(namespace="shop", name="order")


class Shop:
    """Definitions over Activities that can be changed; `reads` counts how often they are looked for."""

    def __init__(self) -> None:
        self.there: dict[str, dict[str, Any]] = {}
        self.reads = 0
        self.revisions = MemoryRevisions()
        self.definitions = self.restarted()

    def restarted(self) -> Definitions:
        return Definitions(self._no_workflow, self.revisions, PathEvaluator(), self._activities)

    async def pin(self, document: dict[str, Any]) -> tuple[Definition, str]:
        return await self.definitions.pin("shop", "order", "order", document)

    async def _activities(self, namespace: str) -> Catalogue:
        self.reads += 1
        return Catalogue(known_of(namespace, name, spec, PathEvaluator()) for name, spec in self.there.items())

    async def _no_workflow(self, namespace: str, name: str) -> None:
        return None


async def test_who_uses_nothing_asks_for_nothing_and_keeps_the_revision_that_it_had() -> None:
    shop = Shop()
    _, revision = await shop.pin(PLAIN)
    assert (revision, shop.reads, shop.definitions.users) == (revision_name("order", PLAIN), 0, set())
    assert await shop.revisions.read("shop", revision) == PLAIN


async def test_an_edit_of_an_activity_is_another_revision_and_going_back_is_the_first() -> None:
    shop = Shop()
    shop.there["mail"] = {"handler": "one"}
    first, before = await shop.pin(USING)
    assert await shop.pin(USING) == (first, before), "compiled once"
    shop.there["mail"] = {"handler": "two"}
    second, after = await shop.pin(USING)
    assert (first.main[0].work.handler, second.main[0].work.handler) == ("one", "two")
    assert before != after
    shop.there["mail"] = {"handler": "one"}
    assert (await shop.pin(USING))[1] == before
    assert shop.reads == 4


async def test_a_live_run_keeps_its_own_after_a_restart_though_the_activity_is_gone() -> None:
    shop = Shop()
    shop.there["mail"] = {"handler": "one", "compensation": {"handler": "undo"}}
    definition, revision = await shop.pin(USING)
    shop.there.clear()
    again, _ = await shop.restarted().of_revision("shop", revision, "order")
    assert again == definition


async def test_what_lacks_an_activity_is_refused_leaves_nothing_and_is_known_as_its_user() -> None:
    shop = Shop()
    with pytest.raises(InvalidSpec, match=r"spec.activities\[0\].uses: there is no Activity mail in namespace shop"):
        await shop.pin(USING)
    assert shop.definitions.users == {KEY}
    shop.there["mail"] = {"handler": "one"}
    await shop.pin(USING)
    await shop.pin(PLAIN)
    assert shop.definitions.users == set()


async def test_what_is_too_large_together_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    shop.there["mail"] = {"handler": "one", "description": "x" * 1000}
    monkeypatch.setattr(module, "MAX_REVISION_BYTES", 1000)
    with pytest.raises(InvalidSpec, match="bytes as JSON with the Activities that it uses; at most 1,000"):
        await shop.pin(USING)


async def test_reads_are_shared_but_never_one_that_began_before() -> None:
    began: list[int] = []
    go = asyncio.Event()

    async def read(key: str) -> int:
        began.append(len(began))
        number = began[-1]
        await go.wait()
        return number

    reads = FreshReads(read)
    first = asyncio.create_task(reads.read("a"))
    while not began:
        await asyncio.sleep(0)
    later = [asyncio.create_task(reads.read("a")) for _ in range(3)]
    go.set()
    assert await asyncio.gather(first, *later) == [0, 1, 1, 1]
