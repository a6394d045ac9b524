# SPDX-License-Identifier: Apache-2.0
"""Revisions never change, and what is read as one is one."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.kube.server import ApiServer

from kubesaga.api.canonical import canonical_json, revision_name
from kubesaga.errors import DefinitionMissing, ForeignObject
from kubesaga.kube.client import KubeClient
from kubesaga.kube.errors import Conflict, ServerUnavailable
from kubesaga.kube.revisions import Revisions

SPEC: dict[str, Any] = {"activities": [{"name": "a", "when": "x < 1 && y > 2", "timeout": 1.0}], "description": "é"}


async def test_a_revision_is_written_once_as_canonical_text(server: ApiServer, client: KubeClient) -> None:
    revisions = Revisions(client)
    name = await revisions.ensure("support", "tickets", SPEC, {"kubesaga.dev/workflow": "tickets"})
    assert name == await revisions.ensure("support", "tickets", SPEC) == revision_name("tickets", SPEC)
    (request,) = server.requests
    assert request.body.decode() == canonical_json(request.json), "the very bytes matter"
    assert request.json == {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "kubesaga", "kubesaga.dev/workflow": "tickets"},
        },
        "data": {"apiVersion": "kubesaga.dev/v1alpha1", "kind": "Workflow", "spec": SPEC},
        "revision": 1,
    }


async def test_a_revision_that_exists_with_the_same_content_is_ours(server: ApiServer, client: KubeClient) -> None:
    first = await Revisions(client).ensure("support", "tickets", SPEC)
    assert await Revisions(client).ensure("support", "tickets", SPEC) == first


async def test_a_revision_that_exists_with_other_content_is_a_visible_error(
    server: ApiServer, client: KubeClient
) -> None:
    name = revision_name("tickets", SPEC)
    await server.put("controllerrevisions", {"metadata": {"name": name, "namespace": "support"}, "data": {"spec": {}}})
    with pytest.raises(ForeignObject, match=f"support/{name} exists and does not hold this Workflow's content"):
        await Revisions(client).ensure("support", "tickets", SPEC)


async def test_a_revision_is_read_once(server: ApiServer, client: KubeClient) -> None:
    name = await Revisions(client).ensure("support", "tickets", SPEC)
    revisions = Revisions(client)
    before = len(server.requests)
    assert await revisions.read("support", name) == SPEC
    assert await revisions.read("support", name) == SPEC
    assert len(server.requests) == before + 1


async def test_the_cache_forgets_the_longest_unread(server: ApiServer, client: KubeClient) -> None:
    revisions = Revisions(client)
    names = [await revisions.ensure("support", "tickets", {"n": number}) for number in range(514)]
    for name in [*names[:512], names[0], names[512], names[513]]:
        await revisions.read("support", name)
    before = len(server.requests)
    await revisions.read("support", names[0])
    assert len(server.requests) == before, "the first was read again, so it stays"
    await revisions.read("support", names[1])
    assert len(server.requests) == before + 1, "the second was not"


async def test_a_revision_that_is_gone_is_said(client: KubeClient) -> None:
    with pytest.raises(DefinitionMissing, match="support/tickets-1 that the run works from does not exist"):
        await Revisions(client).read("support", "tickets-1")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(None, id="no data"),
        pytest.param({"spec": "text"}, id="no spec"),
        pytest.param({"spec": SPEC | {"description": "swapped"}}, id="other content than its name says"),
    ],
)
async def test_content_that_was_swapped_is_never_used(server: ApiServer, client: KubeClient, data: Any) -> None:
    name = revision_name("tickets", SPEC)
    await server.put("controllerrevisions", {"metadata": {"name": name, "namespace": "support"}, "data": data})
    with pytest.raises(ForeignObject, match="does not hold what its name says"):
        await Revisions(client).read("support", name)


async def test_a_deleted_revision_is_made_again_when_it_is_needed(server: ApiServer, client: KubeClient) -> None:
    revisions = Revisions(client)
    name = await revisions.ensure("support", "tickets", SPEC)
    await revisions.read("support", name)
    await revisions.delete("support", name)
    await revisions.delete("support", name)
    with pytest.raises(DefinitionMissing):
        await revisions.read("support", name)
    assert await revisions.ensure("support", "tickets", SPEC) == name
    assert await revisions.read("support", name) == SPEC


async def test_another_revision_of_that_name_is_not_deleted(server: ApiServer, client: KubeClient) -> None:
    revisions = Revisions(client)
    name = await revisions.ensure("support", "tickets", SPEC)
    with pytest.raises(Conflict):
        await revisions.delete("support", name, uid="another")
    await revisions.read("support", name)


async def test_a_revision_whose_creation_was_lost_is_found(server: ApiServer, client: KubeClient) -> None:
    revisions = Revisions(client)
    server.fail("POST", "lose")
    with pytest.raises(ServerUnavailable):
        await revisions.ensure("support", "tickets", SPEC)
    name = await revisions.ensure("support", "tickets", SPEC)
    assert await revisions.read("support", name) == SPEC
