# SPDX-License-Identifier: Apache-2.0
"""Secrets, by name alone: kept for half a minute, and read again when a delivery fails against what is kept.

So a rotated secret holds from the first delivery that is signed with it, and a flood of wrong deliveries costs the API
server one request in two seconds.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kubesaga.api.event_source import SecretKeyRef
from kubesaga.errors import KubesagaError
from kubesaga.gateway.proofs import SHORTEST_SECRET
from kubesaga.kube.client import KubeClient, Object
from kubesaga.kube.errors import Forbidden, NotFound
from kubesaga.kube.resources import SECRETS

KEPT: Final = 30.0
"""Seconds after which a Secret is read again."""
PAUSE: Final = 2.0
"""Seconds before which it is not."""
_MOST: Final = 10_000


class SecretUnusable(KubesagaError):
    """There is no secret to hold deliveries against; the sentence is for the log."""


@dataclass(frozen=True, slots=True)
class _Read:
    at: float
    data: Object | SecretUnusable


class Secrets:
    """The gateway's memory of Secrets."""

    def __init__(self, client: KubeClient, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._kept: dict[tuple[str, str], _Read] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}

    async def get(self, namespace: str, ref: SecretKeyRef, *, fresh: bool = False) -> bytes:
        """Return a secret. `fresh`: what is kept was of no use; it is read again unless that was just done.

        Raises SecretUnusable, and ApiError where the API server cannot be asked now.
        """
        key = (namespace, ref.name)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            kept = self._kept.get(key)
            if kept is None or self._clock() - kept.at >= (
                PAUSE if fresh or isinstance(kept.data, Exception) else KEPT
            ):
                kept = await self._read(key)
        if isinstance(kept.data, SecretUnusable):
            raise SecretUnusable(*kept.data.args)
        return _value(namespace, ref, kept.data)

    async def _read(self, key: tuple[str, str]) -> _Read:
        if len(self._kept) >= _MOST:
            self._kept.clear()
            self._locks = {name: lock for name, lock in self._locks.items() if lock.locked()}
        try:
            found: Object | SecretUnusable = (await self._client.get(SECRETS, *key)).get("data") or {}
        except (NotFound, Forbidden) as error:
            what = "may not be read" if isinstance(error, Forbidden) else "does not exist"
            found = SecretUnusable(f"the Secret {key[0]}/{key[1]} {what}")
        self._kept[key] = _Read(self._clock(), found)
        return self._kept[key]


def _value(namespace: str, ref: SecretKeyRef, data: Object) -> bytes:
    where = f"the Secret {namespace}/{ref.name}"
    if ref.key not in data:
        raise SecretUnusable(f"{where} has no key {ref.key}")
    try:
        value = base64.b64decode(data[ref.key], validate=True).rstrip(b"\r\n")
    except (TypeError, ValueError, binascii.Error):
        raise SecretUnusable(f"{where} cannot be read at the key {ref.key}") from None
    if len(value) < SHORTEST_SECRET:
        raise SecretUnusable(
            f"{where} holds fewer than {SHORTEST_SECRET} bytes at the key {ref.key}, which can be guessed"
        )
    return value
