# SPDX-License-Identifier: Apache-2.0
"""The server's certificate, read again when its files change: cert-manager and the kubelet replace them while we run."""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from kubesaga.errors import InvalidSettings

_log: Final = logging.getLogger("kubesaga.gateway")
LOOK: Final = 30.0
"""Seconds between two looks at the files."""


class Certificate:
    """A TLS context whose certificate follows its files. Connections that are open keep the old one."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read the files. Raises InvalidSettings."""
        self._paths = (certificate, key)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._digest = self._read()
            self.context.load_cert_chain(certificate, key)
        except OSError as error:
            told = (
                f"KUBESAGA_GATEWAY_TLS_CERT, KUBESAGA_GATEWAY_TLS_KEY: {certificate} and {key} cannot be used: {error}"
            )
            raise InvalidSettings(told) from error

    def look(self) -> bool:
        """Read the files again if they have changed; tell whether they are in use. Files that do not fit stay unused."""
        try:
            digest = self._read()
            if digest == self._digest:
                return False
            self._digest = digest
            # Tried apart: a context that was given half a pair would serve neither the old one nor the new one.
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(*self._paths)
            self.context.load_cert_chain(*self._paths)
        except OSError as error:
            _log.warning("the new certificate cannot be used, the old one stays: %s", error)
            return False
        _log.info("the certificate was read again")
        return True

    async def follow(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Look again and again until cancelled."""
        while True:
            await sleep(LOOK)
            self.look()

    def _read(self) -> str:
        return hashlib.sha256(b"".join(path.read_bytes() for path in self._paths)).hexdigest()
