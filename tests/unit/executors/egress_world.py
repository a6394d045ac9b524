# SPDX-License-Identifier: Apache-2.0
"""What tests of the egress guard are made of: names, Services, a guard."""

from __future__ import annotations

import socket

from kubesaga.engine.attempt import Failed
from kubesaga.executors.egress import EgressGuard, Route, parse_url
from kubesaga.executors.egress_policy import EgressPolicy
from kubesaga.kube.services import Endpoint, ServiceProblem

PUBLIC = "93.184.215.14"


API_SERVER = ("https://10.96.0.1:443", "https://[fd12::1]:443", "203.0.113.9", "api.cluster.example")


class Names:
    """DNS with the names that a test knows; each answer of a list is given once, the last for ever."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        answers = self.names.get(host.rstrip("."))
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Services:
    """Services of the namespace `support`."""

    def __init__(self, **known: tuple[Endpoint, ...] | ServiceProblem) -> None:
        self.known = known
        self.asked: list[tuple[str, str, int]] = []

    async def resolve(self, namespace: str, service: str, port: int) -> tuple[Endpoint, ...] | ServiceProblem:
        self.asked.append((namespace, service, port))
        return self.known.get(service) or ServiceProblem(message=f"There is no Service {service}.")


def pod(ip: str, port: int = 8080) -> Endpoint:
    return Endpoint(ip=ip, port=port, own_pod=True)


def guard_of(*allow: str, names: Names | None = None, services: Services | None = None) -> EgressGuard:
    return EgressGuard(EgressPolicy(allow, api_server=API_SERVER), names or Names(), services=services)


async def route_of(url: str, guard: EgressGuard, namespace: str = "support") -> Route | Failed:
    parsed = parse_url(url)
    return parsed if isinstance(parsed, Failed) else await guard.route(parsed, namespace)
