# SPDX-License-Identifier: Apache-2.0
"""Where the API server is, how to prove who we are, and how that proof stays fresh."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from kubesaga.errors import KubesagaError

_log = logging.getLogger(__name__)

REFRESH_INTERVAL: Final = 60.0
"""Seconds between two looks at a token that may rotate. Projected ServiceAccount tokens are replaced at 80 %
of their life (10 minutes at least) and stay valid until its end, so a minute is early enough."""
_RELOAD_INTERVAL: Final = 5.0
"""Seconds between two readings of credentials that the server refuses; a wrong token must not start a storm of them."""


class NoCluster(KubesagaError):
    """No API server can be found, or no credentials for it; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An address and the proof of who we are; also what Kopf's login handler needs. Secrets do not show in its repr."""

    server: str
    """`https://host:port`, without a slash at the end."""
    ca_path: str | None = None
    ca_data: str | None = None
    """PEM text."""
    insecure: bool = False
    """The server's certificate is not checked, because the kubeconfig says so."""
    server_name: str | None = None
    """Name to expect in the server's certificate, where it is not the address's."""
    proxy: str | None = None
    """The kubeconfig's `proxy-url`. Proxies of the environment are not used."""
    certificate_path: str | None = None
    private_key_path: str | None = None
    scheme: str | None = None
    """`Bearer` or `Basic`; None: no token."""
    token: str | None = field(default=None, repr=False)
    namespace: str = "default"
    """The context's namespace, or the ServiceAccount's own."""

    @property
    def authorization(self) -> str | None:
        """Value of the Authorization header."""
        return f"{self.scheme} {self.token}" if self.token else None


class CredentialSource(Protocol):
    """Where credentials come from."""

    async def load(self) -> Credentials:
        """Read everything anew."""

    async def refresh(self) -> Credentials:
        """Read again what may rotate, at the least cost."""


class Authorization:
    """Keeps the proof of who we are fresh: read again each minute at most, and at once when the server refuses it."""

    def __init__(self, source: CredentialSource, credentials: Credentials, *, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._lock = asyncio.Lock()
        self._read_at = clock()
        self._reloaded_at = float("-inf")
        self.credentials = credentials
        self.tls = tls_context(credentials)

    async def header(self) -> str | None:
        """Return the Authorization header for a request that starts now."""
        if self._clock() - self._read_at >= REFRESH_INTERVAL:
            async with self._lock:
                if self._clock() - self._read_at >= REFRESH_INTERVAL:
                    await self._read(self._source.refresh)
        return self.credentials.authorization

    async def renew(self, refused: str | None) -> str | None:
        """Return another header than the one that the server refused, None if there is no other."""
        async with self._lock:
            if self.credentials.authorization == refused and self._clock() - self._reloaded_at >= _RELOAD_INTERVAL:
                self._reloaded_at = self._clock()
                await self._read(self._source.load)
        current = self.credentials.authorization
        return None if current == refused else current

    async def _read(self, read: Callable[[], Awaitable[Credentials]]) -> None:
        self._read_at = self._clock()
        try:
            self.credentials = await read()
            if self.credentials.certificate_path:
                # A context may be given a new certificate while in use; connections made from now on present it.
                self.tls.load_cert_chain(self.credentials.certificate_path, self.credentials.private_key_path)
        except (NoCluster, OSError) as error:  # ssl.SSLError is an OSError
            # Half of a rotation, or a plugin that fails: what we have may still be good; the server will say if not.
            _log.warning("the credentials cannot be read again, the old ones are kept: %s", error)


def tls_context(credentials: Credentials) -> ssl.SSLContext:
    """Return the TLS settings of a connection. Raises OSError or ssl.SSLError if a certificate cannot be read."""
    context = ssl.create_default_context(cafile=credentials.ca_path, cadata=credentials.ca_data)
    # Python 3.13 began to demand extensions that the certificate authorities of many clusters do not carry; the chain,
    # the name and the dates are still checked.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if credentials.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if credentials.certificate_path:
        context.load_cert_chain(credentials.certificate_path, credentials.private_key_path)
    return context
