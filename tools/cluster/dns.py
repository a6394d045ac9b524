# SPDX-License-Identifier: Apache-2.0
"""Cluster DNS of the local node: Services by name, everything else by the machine's own resolvers.

It asks the API server at every query: a test cluster has few, and a name is right the moment its Service exists.
"""

import socket
import socketserver
from typing import Any

from .api import ApiServer, from_kubeconfig
from .dns_message import NO_SUCH_NAME, OK, SERVER_FAILURE, TYPE_A, Question, answer, parse, service_of
from .places import CLUSTER_DOMAIN, DNS_PORT, NODE_ADDRESS, Places

_UPSTREAM_SECONDS = 3.0


def addresses(api: ApiServer, name: str, namespace: str) -> list[str] | None:
    """A Service's address; of a headless one its ready pods'; None where there is no such Service."""
    path = f"/api/v1/namespaces/{namespace}"
    if not api.has(f"{path}/services/{name}"):
        return None
    cluster_ip = api.get(f"{path}/services/{name}")["spec"].get("clusterIP", "None")
    if cluster_ip != "None":
        return [cluster_ip] if cluster_ip else []
    subsets: list[dict[str, Any]] = api.get(f"{path}/endpoints/{name}").get("subsets") or []
    return [entry["ip"] for subset in subsets for entry in subset.get("addresses") or []]


def respond(api: ApiServer, question: Question) -> bytes | None:
    """The answer for a name in the cluster's domain, None for any other name."""
    if question.name != CLUSTER_DOMAIN and not question.name.endswith(f".{CLUSTER_DOMAIN}"):
        return None
    service = service_of(question.name, CLUSTER_DOMAIN)
    if service is None:
        return answer(question, NO_SUCH_NAME)
    try:
        found = addresses(api, *service)
    except OSError:
        return answer(question, SERVER_FAILURE)
    if found is None:
        return answer(question, NO_SUCH_NAME)
    return answer(question, OK, found if question.kind == TYPE_A else ())


def forward(packet: bytes, resolvers: list[str]) -> bytes | None:
    """Asks the machine's resolvers in turn."""
    for resolver in resolvers:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
            upstream.settimeout(_UPSTREAM_SECONDS)
            try:
                upstream.sendto(packet, (resolver, 53))
                return upstream.recv(4096)
            except OSError:  # no answer from this one: the next may
                continue
    return None


def serve(where: Places) -> None:
    """Answers until the process is ended."""
    api = from_kubeconfig(where.admin_kubeconfig)
    lines = (where.config / "resolv.conf").read_text().splitlines()
    resolvers = [line.split()[1] for line in lines if line.startswith("nameserver") and ":" not in line]

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            packet, connection = self.request
            try:
                question = parse(packet)
            except (ValueError, IndexError):
                return
            reply = respond(api, question) or forward(packet, resolvers) or answer(question, SERVER_FAILURE)
            connection.sendto(reply, self.client_address)

    class Server(socketserver.ThreadingUDPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server((NODE_ADDRESS, DNS_PORT), Handler) as server:
        server.serve_forever()
