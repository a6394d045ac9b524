# SPDX-License-Identifier: Apache-2.0
"""kube/ against a real API server: what the stand-in of the unit tests claims is true there."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.cluster.waiting import PATIENCE

from kubesaga.kube import errors
from kubesaga.kube.client import EventType, KubeClient, Object, Selection
from kubesaga.kube.connection import Kubeconfig, connect
from kubesaga.kube.credentials import Authorization, Credentials
from kubesaga.kube.events import EventPoster, reference_to
from kubesaga.kube.informer import Informer
from kubesaga.kube.lease import Elector
from kubesaga.kube.resources import CONTROLLER_REVISIONS, EVENTS, LEASES, NAMESPACES, PODS, Resource
from kubesaga.kube.revisions import Revisions
from kubesaga.kube.transport import Request, Transport

pytestmark = pytest.mark.cluster

CONFIG_MAPS = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")
SERVICE_ACCOUNTS = Resource(group="", version="v1", plural="serviceaccounts", kind="ServiceAccount")

SPEC: dict[str, Any] = {
    "description": '<a & b> \u2028 \u2029 é 日本 😀 \x7f " \\ \n',
    "zeta": [1.0, 1.5, -0.0, 1e-7, 1e21, 2**53, 12345678901234567890],
    "alpha": {"<key>": True, "nothing": None, "empty": {}, "": []},
}


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def client(kubeconfig: Any) -> AsyncIterator[KubeClient]:
    async with await connect(str(kubeconfig), clock=time.monotonic, version="test") as client:
        yield client


@pytest.fixture
async def namespace(client: KubeClient) -> AsyncIterator[str]:
    name = f"kube-client-{uuid.uuid4().hex[:8]}"
    await client.create(NAMESPACES, None, {"metadata": {"name": name}})
    await until(lambda: takes_pods(client, name))
    yield name
    await client.delete(NAMESPACES, None, name)


async def takes_pods(client: KubeClient, namespace: str) -> bool:
    """A new namespace takes pods only when its ServiceAccount is there, and before 1.24 that one's token too."""
    pod = {
        "metadata": {"generateName": "try-"},
        "spec": {"nodeName": "none", "containers": [{"name": "a", "image": "a"}]},
    }
    try:
        made = await client.create(PODS, namespace, {"apiVersion": "v1", "kind": "Pod", **pod})
    except (errors.ServerUnavailable, errors.Forbidden):
        return False
    await client.delete(PODS, namespace, made["metadata"]["name"], grace=0)
    return True


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


async def exists(client: KubeClient, resource: Resource, namespace: str, name: str) -> bool:
    try:
        await client.get(resource, namespace, name)
    except errors.NotFound:
        return False
    return True


def config_map(name: str, **metadata: Any) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": {"a": "1"}}


async def a_pod(client: KubeClient, namespace: str) -> Object:
    """A pod that no scheduler and no kubelet looks at."""
    await until(lambda: exists(client, SERVICE_ACCOUNTS, namespace, "default"))
    containers = [{"name": "c", "image": "none"}]
    spec = {"schedulerName": "nobody", "containers": containers}
    return await client.create(PODS, namespace, {"metadata": {"name": "p"}, "spec": spec})


# The client


async def test_verbs_and_failures(client: KubeClient, namespace: str) -> None:
    created = await client.create(CONFIG_MAPS, namespace, config_map("a"))
    assert created["metadata"]["managedFields"][0]["manager"] == "kubesaga"
    with pytest.raises(errors.AlreadyExists):
        await client.create(CONFIG_MAPS, namespace, config_map("a"))
    with pytest.raises(errors.Invalid):
        await client.create(CONFIG_MAPS, namespace, config_map("Not A Name"))
    with pytest.raises(errors.NotFound):
        await client.merge_patch(CONFIG_MAPS, namespace, "b", {})
    patched = await client.json_patch(CONFIG_MAPS, namespace, "a", [{"op": "add", "path": "/data/b", "value": "2"}])
    assert patched["data"] == {"a": "1", "b": "2"}
    with pytest.raises(errors.Conflict):
        await client.delete(CONFIG_MAPS, namespace, "a", uid=str(uuid.uuid4()))
    with pytest.raises(errors.Conflict):
        await client.delete(CONFIG_MAPS, namespace, "a", resource_version=created["metadata"]["resourceVersion"])
    await client.delete(CONFIG_MAPS, namespace, "a", uid=created["metadata"]["uid"], grace=0)
    with pytest.raises(errors.NotFound):
        await client.get(CONFIG_MAPS, namespace, "a")


async def test_a_version_in_a_merge_patch_is_a_compare_and_swap(client: KubeClient, namespace: str) -> None:
    pod = await a_pod(client, namespace)
    old = pod["metadata"]["resourceVersion"]

    async def write(message: str, version: str) -> Object:
        body = {"metadata": {"resourceVersion": version}, "status": {"message": message}}
        return await client.merge_patch(PODS, namespace, "p", body, subresource="status")

    new = await write("first", old)
    assert new["status"]["message"] == "first"
    with pytest.raises(errors.Conflict):
        await write("second", old)
    assert (await client.get(PODS, namespace, "p"))["status"]["message"] == "first"
    await client.delete(PODS, namespace, "p", grace=0)


async def test_only_the_metadata_comes_where_only_that_is_wanted(client: KubeClient, namespace: str) -> None:
    await client.create(CONFIG_MAPS, namespace, config_map("a", labels={"t": "1"}))
    got = await client.get(CONFIG_MAPS, namespace, "a", metadata_only=True)
    patched = await client.merge_patch(CONFIG_MAPS, namespace, "a", {"data": {"b": "2"}}, metadata_only=True)
    (listed,) = (await client.list(CONFIG_MAPS, Selection(namespace=namespace, labels="t=1"), metadata_only=True)).items
    version = str(int(got["metadata"]["resourceVersion"]) - 1)
    selection = Selection(namespace=namespace, labels="t=1")
    async with aclosing(client.watch(CONFIG_MAPS, selection, resource_version=version, metadata_only=True)) as events:
        _, watched = await anext(events)
    for answer in (got, patched, listed, watched):
        assert (answer["kind"], "data" in answer) == ("PartialObjectMetadata", False)


async def test_lists_come_in_pages_of_one_moment(client: KubeClient, namespace: str) -> None:
    for number in range(5):
        await client.create(CONFIG_MAPS, namespace, config_map(f"m{number}", labels={"t": "1"}))
    selection = Selection(namespace=namespace, labels="t=1")
    sizes, versions = [], set()
    async for page in client.pages(CONFIG_MAPS, selection, limit=2):
        sizes.append(len(page.items))
        versions.add(page.resource_version)
        if len(sizes) == 1:
            await client.create(CONFIG_MAPS, namespace, config_map("later", labels={"t": "1"}))
    assert (sizes, len(versions)) == ([2, 2, 1], 1)
    (version,) = versions
    for asked in ("0", version):
        listing = await client.list(CONFIG_MAPS, selection, limit=2, resource_version=asked)
        assert len(listing.items) >= 5


async def test_a_server_that_has_not_seen_a_version_says_so(client: KubeClient) -> None:
    with pytest.raises(errors.ServerUnavailable) as caught:
        await client.list(CONFIG_MAPS, resource_version="999999999999")
    assert caught.value.has_cause("ResourceVersionTooLarge")


async def test_one_that_leaves_the_selector_is_told_as_deleted_with_a_newer_version(
    client: KubeClient, namespace: str
) -> None:
    created = await client.create(CONFIG_MAPS, namespace, config_map("a", labels={"t": "1"}))
    version = created["metadata"]["resourceVersion"]
    events = client.watch(CONFIG_MAPS, Selection(namespace=namespace, labels="t=1"), resource_version=version)
    async with aclosing(events), asyncio.timeout(PATIENCE):
        changed = await client.merge_patch(CONFIG_MAPS, namespace, "a", {"metadata": {"labels": {"t": "2"}}})
        type_, obj = await anext(events)
    assert type_ == EventType.DELETED
    assert obj["metadata"]["labels"] == {"t": "1"}, "its body is the one from before"
    assert obj["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"], "its version is not"


async def test_a_certificate_that_nobody_vouches_for_is_refused_before_the_token_is_sent(kubeconfig: Any) -> None:
    credentials = replace(await Kubeconfig(str(kubeconfig)).load(), ca_path=None)
    transport = transport_of(credentials)
    with pytest.raises(errors.ServerUnavailable) as caught:
        await KubeClient(transport).list(NAMESPACES)
    await transport.close()
    assert caught.value.sent is False
    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value)


async def test_a_wrong_token_is_said(kubeconfig: Any) -> None:
    transport = transport_of(replace(await Kubeconfig(str(kubeconfig)).load(), token="wrong"))
    with pytest.raises(errors.Unauthorized):
        await KubeClient(transport).list(NAMESPACES)
    await transport.close()


def transport_of(credentials: Credentials) -> Transport:
    class Fixed:
        async def load(self) -> Credentials:
            return credentials

        refresh = load

    authorization = Authorization(Fixed(), credentials, clock=time.monotonic)
    return Transport(authorization, user_agent="kubesaga/test", clock=time.monotonic)


# The memory of a watch


async def test_an_informer_follows_a_real_server(client: KubeClient, namespace: str) -> None:
    told: list[str] = []
    memory = Informer(
        client,
        CONFIG_MAPS,
        Selection(namespace=namespace, labels="t=1"),
        clock=time.monotonic,
        sleep=asyncio.sleep,
        random=lambda: 0.5,
    )
    memory.on_change(
        lambda key, old, new: told.append(f"{'+' if old is None else '-' if new is None else '~'}{key[1]}")
    )

    async def has(entry: str) -> bool:
        return entry in told

    await client.create(CONFIG_MAPS, namespace, config_map("a", labels={"t": "1"}))
    task = asyncio.create_task(memory.run())
    await memory.wait_synced()
    memory.adopt(await client.create(CONFIG_MAPS, namespace, config_map("b", labels={"t": "1"})))
    await client.merge_patch(CONFIG_MAPS, namespace, "b", {"data": {"b": "2"}})
    await until(lambda: has("~b"))
    await client.delete(CONFIG_MAPS, namespace, "b")
    await client.merge_patch(CONFIG_MAPS, namespace, "a", {"metadata": {"labels": None}})
    await until(lambda: has("-a"))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert told == ["+a", "+b", "~b", "-b", "-a"]
    assert memory.store == {}


# Leader election


async def test_a_lease_changes_hands_on_a_real_server(client: KubeClient, namespace: str) -> None:
    looked = asyncio.Event()

    async def sleep(_: float) -> None:
        looked.set()
        await asyncio.sleep(0.05)

    def candidate(identity: str) -> Elector:
        return Elector(
            client,
            namespace=namespace,
            name="kubesaga",
            identity=identity,
            clock=lambda: 0.0,  # stands still: nobody sees the Lease run out, only its release lets another one in
            now=now,
            sleep=sleep,
            on_lost=lambda: None,
        )

    first, second = candidate("first"), candidate("second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.wait_for(looked.wait(), PATIENCE)
    assert (first.valid_for(), second.valid_for(), waiting.done()) == (10, 0, False)
    await candidate("first").acquire()
    restarted = candidate("first")
    await restarted.acquire()
    assert not waiting.done()
    await restarted.release()
    await asyncio.wait_for(waiting, PATIENCE)
    spec = (await client.get(LEASES, namespace, "kubesaga"))["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"], spec["leaseDurationSeconds"]) == ("second", 1, 15)
    assert spec["acquireTime"] == spec["renewTime"]


# Events


async def test_events_are_accepted_and_counted(client: KubeClient, namespace: str) -> None:
    about = reference_to(await client.create(CONFIG_MAPS, namespace, config_map("a")))
    for _ in range(2):
        poster = EventPoster(client, clock=time.monotonic, now=now, sleep=asyncio.sleep, instance="test")
        poster.post(about, "Warning", "Tested", "ü" * 2000)
        await poster.close(within=PATIENCE)
        assert poster.tally.posted == 1
    (event,) = (await client.list(EVENTS, Selection(namespace=namespace, fields="reason=Tested"))).items
    assert (event["count"], event["involvedObject"]["uid"]) == (2, about.uid)


# Revisions


async def test_a_revision_stays_changeable_whatever_it_holds(client: KubeClient, namespace: str) -> None:
    name = await Revisions(client).ensure(namespace, "tickets", SPEC)
    assert await Revisions(client).ensure(namespace, "tickets", SPEC) == name, "it is recognised after a restart"
    read = await Revisions(client).read(namespace, name)
    assert json.loads(json.dumps(read)) == json.loads(json.dumps(SPEC)) | {
        "zeta": [1, 1.5, 0, 1e-7, 1e21, 2**53, 12345678901234567000]
    }
    for number in range(2):
        await client.merge_patch(
            CONTROLLER_REVISIONS, namespace, name, {"metadata": {"labels": {"n": str(number)}, "finalizers": ["a.b/c"]}}
        )
    await client.json_patch(
        CONTROLLER_REVISIONS, namespace, name, [{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}]
    )
    await strategic_patch(client, namespace, name, {"metadata": {"labels": {"n": "kubectl"}}})
    await strategic_patch(client, namespace, name, {"metadata": {"finalizers": None}})
    assert await Revisions(client).read(namespace, name) == read
    await Revisions(client).delete(namespace, name)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param('{"b":1,"a":2}', id="keys that are not sorted"),
        pytest.param('{"a":1.0}', id="an integral float"),
        pytest.param('{"a":"<"}', id="an unescaped angle bracket"),
    ],
)
async def test_text_that_is_not_canonical_is_what_breaks(client: KubeClient, namespace: str, data: str) -> None:
    body = (
        f'{{"apiVersion":"apps/v1","kind":"ControllerRevision","metadata":{{"name":"r"}},"revision":1,"data":{data}}}'
    )
    await client.create(CONTROLLER_REVISIONS, namespace, body.encode())
    with pytest.raises((errors.Invalid, errors.Forbidden)):
        await strategic_patch(client, namespace, "r", {"metadata": {"labels": {"n": "1"}}})


async def strategic_patch(client: KubeClient, namespace: str, name: str, body: Object) -> None:
    """As kubectl label and apply do."""
    await client._write(
        Request(
            verb="patch",
            resource=CONTROLLER_REVISIONS,
            path=CONTROLLER_REVISIONS.path(namespace, name),
            target=name,
            body=json.dumps(body).encode(),
            content_type="application/strategic-merge-patch+json",
        )
    )
