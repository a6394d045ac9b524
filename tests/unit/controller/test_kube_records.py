# SPDX-License-Identifier: Apache-2.0
"""The memory of live runs is never older than our own last write, and knows what it does not know."""

from __future__ import annotations

from typing import Any

import pytest

from kubesaga.api.names import FINISHED_LABEL, RUN_FINALIZER
from kubesaga.controller import loader
from kubesaga.controller.kube_records import KubeRecords
from kubesaga.controller.records import Conflict
from kubesaga.engine.snapshot import Run
from kubesaga.kube.errors import ServerUnavailable
from kubesaga.testing.api_server import FakeApiServer, merged
from kubesaga.testing.builders import KEY, UID
from kubesaga.testing.clock import FakeClock


class Server(FakeApiServer):
    """Counts reads, and loses answers when told to."""

    def __init__(self) -> None:
        super().__init__(FakeClock(), self._fail)
        self.reads = 0
        self.fail_at = ""
        self.create(KEY, UID, {"workflowRef": {"name": "order"}})

    async def get(self, *words: Any, **more: Any) -> dict[str, Any]:
        self.reads += 1
        return await super().get(*words, **more)

    def _fail(self, moment: str) -> None:
        if moment == self.fail_at:
            raise ServerUnavailable(0, "Timeout", "no answer", sent=moment == "after")

    def told(self) -> dict[str, Any]:
        """Return the run as a watch would tell of it now."""
        body: dict[str, Any] = merged(self.objects[KEY], {})
        return body


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def records(server: Server) -> KubeRecords:
    return KubeRecords(server)  # type: ignore[arg-type]  # it has what records call


async def run_of(records: KubeRecords, **how: bool) -> Run:
    body = await records.read(KEY, **how)
    assert body is not None
    return loader.run_of(KEY, body)[0]


async def test_what_the_watch_told_is_read_from_memory(server: Server, records: KubeRecords) -> None:
    assert records.saw(KEY, server.told())
    await records.read(KEY)
    assert server.reads == 0


async def test_what_was_never_seen_is_read_from_the_api_server(server: Server, records: KubeRecords) -> None:
    assert (await run_of(records)).uid == UID
    assert server.reads == 1


async def test_the_echo_of_our_own_write_is_no_news(server: Server, records: KubeRecords) -> None:
    records.saw(KEY, server.told())
    await records.write_status(await run_of(records), {}, {"phase": "Running"})
    assert not records.saw(KEY, server.told())


async def test_an_older_copy_is_ignored(server: Server, records: KubeRecords) -> None:
    old = server.told()
    server.edit(KEY, suspend=True)
    records.saw(KEY, server.told())
    assert not records.saw(KEY, old)
    assert (await run_of(records)).spec.suspend


async def test_a_copy_from_the_watch_is_not_confirmed_and_one_from_a_read_or_write_is(
    server: Server, records: KubeRecords
) -> None:
    records.saw(KEY, server.told())
    assert not records.is_confirmed(await run_of(records))
    assert records.is_confirmed(await run_of(records, confirmed=True))
    assert server.reads == 1
    await records.read(KEY, confirmed=True)
    assert server.reads == 1, "it is confirmed already"
    await records.write_status(await run_of(records), {}, {"phase": "Running"})
    assert records.is_confirmed(await run_of(records))


async def test_a_write_on_an_old_version_conflicts_and_the_next_read_asks_the_api_server(
    server: Server, records: KubeRecords
) -> None:
    records.saw(KEY, server.told())
    run = await run_of(records)
    server.edit(KEY, suspend=True)
    with pytest.raises(Conflict):
        await records.write_status(run, {}, {"phase": "Running"})
    assert (await run_of(records)).spec.suspend


async def test_a_write_whose_answer_was_lost_is_found_out_by_reading(server: Server, records: KubeRecords) -> None:
    records.saw(KEY, server.told())
    server.fail_at = "after"
    with pytest.raises(ServerUnavailable):
        await records.write_status(await run_of(records), {}, {"phase": "Running"})
    server.fail_at = ""
    assert (await run_of(records)).status.phase == "Running"
    assert server.reads == 1


async def test_a_run_that_is_gone_is_none_and_forgotten(server: Server, records: KubeRecords) -> None:
    body = server.told()
    records.saw(KEY, body)
    server.delete(KEY)
    assert records.lost(KEY, body)
    assert await records.read(KEY) is None
    assert records.versions() == {}


async def test_a_tidied_run_costs_no_memory_and_its_leaving_is_no_news(server: Server, records: KubeRecords) -> None:
    records.saw(KEY, server.told())
    await records.claim(await run_of(records), {})
    before = server.told()
    await records.tidy(await run_of(records))
    assert records.versions() == {}
    assert server.objects[KEY]["metadata"]["labels"][FINISHED_LABEL] == "true"
    assert not records.lost(KEY, before)
    assert not records.saw(KEY, server.told())


async def test_others_finalizers_are_kept(server: Server, records: KubeRecords) -> None:
    server.edit(KEY, {"finalizers": ["theirs/keep"]})
    records.saw(KEY, server.told())
    await records.claim(await run_of(records), {"a": "b"})
    assert server.objects[KEY]["metadata"]["finalizers"] == ["theirs/keep", RUN_FINALIZER]
    await records.tidy(await run_of(records))
    assert server.objects[KEY]["metadata"]["finalizers"] == ["theirs/keep"]
