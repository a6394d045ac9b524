# SPDX-License-Identifier: Apache-2.0
"""Finds the API server: a kubeconfig file, or the ServiceAccount of the pod that we run in.

What is in those files, exec plugins and identity providers included, is read by the official client's asynchronous
half (`kubernetes.aio.config`). It is imported only when a connection is made: it costs 23 MiB and a quarter of a
second, which commands that need no cluster should not pay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kubesaga.kube.client import KubeClient
from kubesaga.kube.credentials import Authorization, Credentials, CredentialSource, NoCluster
from kubesaga.kube.transport import OnRequest, Timeouts, Transport, unobserved

if TYPE_CHECKING:
    from kubernetes.aio.client import Configuration

_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


async def connect(
    kubeconfig: str | None = None,
    context: str | None = None,
    *,
    clock: Callable[[], float],
    version: str = "dev",
    on_request: OnRequest = unobserved,
    timeouts: Timeouts | None = None,
    connections: int = 64,
) -> KubeClient:
    """Return a client of the cluster that `find` finds. To be closed by the caller (`async with`).

    `clock` is a monotonic clock. `version` is ours, for the User-Agent. `connections` bounds the requests in flight,
    watches included. Raises NoCluster.
    """
    source = find(kubeconfig, context)
    authorization = Authorization(source, await load(source), clock=clock)
    transport = Transport(
        authorization,
        user_agent=f"kubesaga/{version}",
        clock=clock,
        on_request=on_request,
        timeouts=timeouts or Timeouts(),
        connections=connections,
    )
    return KubeClient(transport)


def find(kubeconfig: str | None = None, context: str | None = None) -> CredentialSource:
    """Return where the credentials are.

    In this order: the kubeconfig given (several paths, as in KUBECONFIG, are merged); where neither it nor a context is
    given, the pod's ServiceAccount if we run in a pod; the user's kubeconfig (KUBECONFIG, ~/.kube/config).
    """
    from kubernetes.aio.config import KUBE_CONFIG_DEFAULT_LOCATION

    if kubeconfig is None and context is None and (_SERVICE_ACCOUNT / "token").exists():
        return InCluster()
    return Kubeconfig(kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION, context)


async def load(source: CredentialSource) -> Credentials:
    """Return the credentials of a source, e.g. for Kopf's login handler. Raises NoCluster."""
    return await source.load()


class InCluster:
    """The ServiceAccount of the pod we run in. Its token rotates, so it is read anew each time.

    (The library's own refresh hook reads it once a minute by the wall clock, also when the server refuses it before.)
    """

    def __init__(self, directory: Path = _SERVICE_ACCOUNT, environ: Mapping[str, str] | None = None) -> None:
        """`environ` holds KUBERNETES_SERVICE_HOST and _PORT; None: the process's own."""
        self._directory = directory
        self._environ = environ

    async def load(self) -> Credentials:
        """Read address, certificate authority and token."""
        from kubernetes.aio.config import ConfigException
        from kubernetes.aio.config.incluster_config import InClusterConfigLoader

        configuration = _configuration()
        loader: Any = InClusterConfigLoader  # the library's loaders have no types
        files = {"token_filename": str(self._directory / "token"), "cert_filename": str(self._directory / "ca.crt")}
        environ = {} if self._environ is None else {"environ": self._environ}
        try:
            loader(**files, **environ, try_refresh_token=False).load_and_set(configuration)
        except (ConfigException, OSError) as error:
            raise NoCluster(f"the pod's ServiceAccount cannot be used: {error}") from error
        return _credentials(configuration, self._namespace())

    refresh = load

    def _namespace(self) -> str:
        try:
            return (self._directory / "namespace").read_text().strip() or "default"
        except OSError:
            return "default"


class Kubeconfig:
    """One context of a kubeconfig. What an exec plugin or identity provider gave is renewed when it expires."""

    def __init__(self, path: str, context: str | None = None) -> None:
        self._path = path
        self._context = context
        self._configuration = _configuration()
        self._loader: Any = None  # the library's loader has no types

    async def load(self) -> Credentials:
        """Read the file (a person or a login command may have changed it) and ask its plugin."""
        from kubernetes.aio.config import load_kube_config

        if not _any_file(self._path):
            raise NoCluster(f"there is no kubeconfig at {self._path}: give one with --kubeconfig or KUBECONFIG")
        self._configuration = _configuration()
        try:
            self._loader = await load_kube_config(  # type: ignore[no-untyped-call]  # the library's, without types
                config_file=self._path,
                context=self._context,
                client_configuration=self._configuration,
                persist_config=False,
            )
        except Exception as error:  # a malformed file is a KeyError, TypeError, YAMLError or the library's own
            raise NoCluster(f"the kubeconfig {self._path} cannot be used: {error}") from error
        return self._current()

    async def refresh(self) -> Credentials:
        """Ask the plugin, the identity provider or the token file again, unless the loader knows that it need not."""
        user = self._loader._user  # the loader's own refresh_token() reads it too; there is no public name
        if user is not None and any(key in user for key in ("exec", "auth-provider", "tokenFile")):
            try:
                await self._loader.load_and_set(self._configuration)
            except Exception as error:  # as in load()
                raise NoCluster(f"the credentials of {self._path} cannot be renewed: {error}") from error
        return self._current()

    def _current(self) -> Credentials:
        return _credentials(self._configuration, self._loader.current_context["context"].get("namespace") or "default")


def _any_file(paths: str) -> bool:
    return any(Path(path).expanduser().is_file() for path in paths.split(os.pathsep))


def _configuration() -> Configuration:
    from kubernetes.aio.client import Configuration

    return Configuration()


def _credentials(configuration: Configuration, namespace: str) -> Credentials:
    scheme, _, token = (configuration.api_key.get("BearerToken") or "").partition(" ")
    return Credentials(
        server=configuration.host.rstrip("/"),
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        server_name=getattr(configuration, "tls_server_name", None),
        proxy=configuration.proxy,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        # The library writes `bearer` in a pod and `Bearer` elsewhere, and keeps the file's newline.
        scheme=scheme.capitalize() or None,
        token=token.strip() or None,
        namespace=namespace,
    )
