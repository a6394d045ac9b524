# SPDX-License-Identifier: Apache-2.0
"""The egress guard: what http activities may reach.

Public addresses, Services of the run's own namespace, and what the administrator lists; never the API server. A host is
resolved once, each of its addresses is judged, and the connection goes to an address that was found good: neither a
second DNS answer nor another spelling of an address leads past the judgement. The same holds for each redirect.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Failed
from kubesaga.executors.addresses import parse_address
from kubesaga.executors.egress_policy import ADVICE, HOST_NAME, NUMBER, EgressPolicy
from kubesaga.kube.services import Endpoint, ServiceProblem

_MAX_URL: Final = 8192
_MAX_TARGETS: Final = 8
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")


def _denied(message: str) -> Failed:
    return Failed(reason=Reason.EGRESS_DENIED, message=message, retryable=False)


def _invalid(message: str) -> Failed:
    return Failed(reason=Reason.INVALID_INPUT, message=message, retryable=False)


def parse_url(text: Any, base: URL | None = None) -> URL | Failed:
    """Return the URL that a text writes, its host in the one form that is judged, or why it cannot be used.

    With `base`, the text may be relative to it. The URL is parsed once, here, by the library that connects.
    """
    if not isinstance(text, str) or not text or len(text) > _MAX_URL or _UNSAFE.search(text):
        return _invalid(f"the url must be a string of 1 to {_MAX_URL} characters without control characters or \\.")
    try:
        url = URL(text) if base is None else base.join(URL(text))
    except ValueError:  # its text may repeat what is secret in the url
        return _invalid("the url cannot be read; it looks like https://HOST:PORT/PATH.")
    if url.scheme not in ("http", "https") or not url.raw_host or not url.port:
        return _invalid("the url must begin with http:// or https:// and a host, its port being from 1 to 65535.")
    if "@" in url.raw_authority:
        return _invalid("the url holds a user or password, which would end up in logs; send a header instead.")
    host = url.raw_host.lower().rstrip(".")
    address = parse_address(host)
    if "%" in host or (address is None and not HOST_NAME.fullmatch(host)):
        return _invalid(f"{host[:100]!r} is not a host: it is a name of letters, digits, - and ., or an address.")
    if address is None and NUMBER.fullmatch(host):
        return _denied(f"{host} is not an address in its ordinary form; write four numbers, as in 192.0.2.1.")
    return url.with_host(host).with_fragment(None)


def shown_url(url: URL) -> str:
    """Return what messages and logs may hold of a URL: its query may be secret."""
    text = str(url.with_query(None).with_fragment(None).with_user(None))
    return text if len(text) <= 200 else f"{text[:199]}…"


class Lookup(Protocol):
    """DNS."""

    async def __call__(self, host: str) -> Sequence[str]:
        """Return the addresses of a host. Raises OSError."""


class SystemLookup:
    """The system's resolver (resolv.conf, /etc/hosts), in threads of its own: a slow name server holds up nobody else."""

    def __init__(self, threads: int = 8) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="egress-dns")

    async def __call__(self, host: str) -> Sequence[str]:
        """See Lookup."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._pool, _getaddrinfo, host)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _getaddrinfo(host: str) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))


class ServiceResolver(Protocol):
    """Where a Service is (kube.services.KubeServices)."""

    async def resolve(self, namespace: str, service: str, port: int) -> tuple[Endpoint, ...] | ServiceProblem:
        """Return addresses behind a port of a Service, at least one, in the order to try them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A URL with the addresses that were found good for it, in the order to try them."""

    url: URL
    targets: tuple[tuple[str, int], ...]
    public: bool
    """It is reached because its addresses are public."""


class EgressGuard:
    """Finds the way to a URL, or why there is none.

    Without `services` there is no cluster (`kubesaga run`): names without a dot are the resolver's then.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        lookup: Lookup,
        *,
        services: ServiceResolver | None = None,
        cluster_domain: str = "cluster.local",
    ) -> None:
        self._policy = policy
        self._lookup = lookup
        self._services = services
        self._cluster_domain = cluster_domain

    async def route(self, url: URL, namespace: str) -> Route | Failed:
        """Resolve and judge the host of a URL that `parse_url` returned, for a run of a namespace."""
        host, port = url.raw_host or "", url.port or 0
        if self._policy.is_api_server(host, port):
            return _denied(f"{host} is the API server, which http activities never reach.")
        address = parse_address(host)
        if address is not None:
            return self._judged(url, [str(address)])
        if self._services is None or self._policy.allows_host(host, port):
            return await self._by_dns(url, host)
        if host == "localhost" or host.endswith(".localhost"):
            # RFC 6761: always loopback, and never the name of a Service, though one could be called so.
            return self._judged(url, ["127.0.0.1"])
        service = service_name(host, namespace, self._cluster_domain)
        if isinstance(service, Failed):
            return service
        if service is None:
            # Absolute: the search list of a pod would make another namespace's Service of `desk.other`.
            return await self._by_dns(url, f"{host}.")
        if (service, namespace) == ("kubernetes", "default"):
            return _denied(f"{host} is the API server, which http activities never reach.")
        return self._of_service(url, await self._services.resolve(namespace, service, port))

    async def _by_dns(self, url: URL, name: str) -> Route | Failed:
        try:
            addresses = await self._lookup(name)
        except (OSError, UnicodeError) as error:
            cause = getattr(error, "strerror", None) or type(error).__name__
            message = f"the host {url.raw_host} could not be found: {cause}."
            return Failed(reason=Reason.HTTP_FAILED, message=message, retryable=True)
        return self._judged(url, addresses)

    def _judged(self, url: URL, addresses: Sequence[str]) -> Route | Failed:
        host, port = url.raw_host or "", url.port or 0
        parsed = [address for text in addresses if (address := parse_address(text)) is not None]
        objections = {address: self._policy.objection(address, host, port) for address in parsed}
        good = [address for address, objection in objections.items() if objection is None][:_MAX_TARGETS]
        if not good:
            why = next((objection for objection in objections.values() if objection), "it has no address")
            return _denied(f"{host} cannot be reached: {why}.")
        public = not any(self._policy.is_granted(address, host, port) for address in good)
        return Route(url=url, targets=tuple((str(address), port) for address in good), public=public)

    def _of_service(self, url: URL, found: tuple[Endpoint, ...] | ServiceProblem) -> Route | Failed:
        if isinstance(found, ServiceProblem):
            reason = Reason.EGRESS_DENIED if found.denied else Reason.HTTP_FAILED
            return Failed(reason=reason, message=found.message, retryable=not found.denied)
        why, targets = "it has no address", []
        for endpoint in found:
            address = parse_address(endpoint.ip)
            if address is None:
                continue
            objection = self._policy.objection(address, "", endpoint.port, own_pod=endpoint.own_pod)
            if objection is None:
                targets.append((str(address), endpoint.port))
            else:
                why = f"behind it is no pod of this namespace's own, and {objection}"
        if not targets:
            return _denied(f"{url.raw_host} cannot be reached: {why}.")
        return Route(url=url, targets=tuple(targets), public=False)


def service_name(host: str, namespace: str, cluster_domain: str) -> str | Failed | None:
    """Return the Service of the run's own namespace that a host names; None: it names none of the cluster's Services.

    NAME, NAME.NAMESPACE, NAME.NAMESPACE.svc and NAME.NAMESPACE.svc.CLUSTER-DOMAIN are Services.
    """
    inside = host.removesuffix(f".{cluster_domain}")
    labels = inside.split(".")
    if inside == host and labels[-1] != "svc":
        if len(labels) == 1 or (len(labels) == 2 and labels[1] == namespace):
            return labels[0]
        return None
    if len(labels) == 1 and inside == host:
        return labels[0]
    if len(labels) == 3 and labels[1:] == [namespace, "svc"]:
        return labels[0]
    return _denied(
        f"{host} is not a Service of the run's own namespace, {namespace}; those are reached as NAME, or "
        f"NAME.{namespace}.svc. For others, {ADVICE}."
    )


class _Pinned(AbstractResolver):
    """Answers with the addresses of a route, whatever is asked."""

    def __init__(self, route: Route) -> None:
        self._route = route

    async def resolve(
        self,
        host: str,
        port: int = 0,  # noqa: ARG002 - the route knows the port
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - and the families
    ) -> list[ResolveResult]:
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=at,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=flags,
            )
            for address, at in self._route.targets
        ]

    async def close(self) -> None:
        pass


def connector(route: Route) -> aiohttp.TCPConnector:
    """Return a connector that reaches the addresses of a route and no others.

    It is for one request: connections that are kept could be another run's, of another namespace.
    """
    good = {(parse_address(address), port) for address, port in route.targets}

    def new_socket(info: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
        # The second lock: whatever the library made of host and resolver, this is what is connected to.
        family, kind, protocol, _, address = info
        if (parse_address(str(address[0])), address[1]) not in good:
            raise PermissionError(errno.EACCES, "the egress guard has not judged this address")
        return socket.socket(family=family, type=kind, proto=protocol)

    return aiohttp.TCPConnector(
        resolver=_Pinned(route), use_dns_cache=False, force_close=True, limit=1, socket_factory=new_socket
    )
