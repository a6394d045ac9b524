# SPDX-License-Identifier: Apache-2.0
"""Who may be reached by http activities: rules and their judgement. Values in, values out; nothing is looked up here."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final
from urllib.parse import urlsplit

from yarl import URL

from kubesaga.errors import InvalidSettings
from kubesaga.executors.addresses import Address, Reach, effective, special_of

SETTING: Final = "KUBESAGA_EGRESS_ALLOW"
ADVICE: Final = f"the administrator of the operator can allow it ({SETTING})"
HOST_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_][a-z0-9_-]{0,62}(\.[a-z0-9_][a-z0-9_-]{0,62})*")
NUMBER: Final = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)")
"""A host whose last label is a number is meant as an address (WHATWG URL), however it is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of a list: a host, a `*.suffix`, or a network; of all ports or of one."""

    host: str = ""
    suffix: str = ""
    network: IPv4Network | IPv6Network | None = None
    port: int | None = None

    def fits_host(self, host: str, port: int) -> bool:
        """Tell whether the rule names this host."""
        named = host == self.host if self.host else bool(self.suffix) and host.endswith(self.suffix)
        return named and self.port in (None, port)

    def fits_address(self, address: Address, port: int) -> bool:
        """Tell whether the rule's network has this address."""
        return self.network is not None and address in self.network and self.port in (None, port)

    def permits(self, address: Address, reach: Reach) -> bool:
        """Tell whether a rule that fits says enough for an address of that kind."""
        match reach:
            case Reach.ALLOWABLE:
                return True
            case Reach.LOOPBACK:
                loopback = self.network is not None and self.network.is_loopback
                return loopback or self.host == "localhost"
            case Reach.ITSELF:
                return self.network is not None and self.network == ip_network(address)
            case Reach.NEVER:
                return False


def parse_rule(entry: str) -> Rule:
    """Return the rule that an entry writes: HOST, *.SUFFIX, ADDRESS or NETWORK, each with an optional :PORT.

    An IPv6 address or network with a port stands in brackets. Raises ValueError with a sentence.
    """
    text = entry.strip().lower()
    if "://" in text:
        raise ValueError("is a URL; leave the scheme and the path out")
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::([^:]*))?", text)
    if bracketed:
        body, port = bracketed.groups()
    elif text.count(":") == 1:
        body, _, port = text.partition(":")
    else:
        body, port = text, None
    return _rule(body, None if port is None else _port(port))


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise ValueError(f"has the port {text!r}; a port is a number from 1 to 65535")
    return int(text)


def _rule(body: str, port: int | None) -> Rule:
    if "/" in body or ":" in body or NUMBER.fullmatch(body):
        try:
            network = ip_network(body)
        except ValueError as error:
            raise ValueError(f"is neither an address nor a network: {error}") from None
        return Rule(network=network, port=port)
    host = _ascii(body.removeprefix("*."))
    if not HOST_NAME.fullmatch(host):
        raise ValueError("is not a host name, *.SUFFIX, address or network (CIDR)")
    return Rule(suffix=f".{host}", port=port) if body.startswith("*.") else Rule(host=host, port=port)


def _ascii(host: str) -> str:
    try:
        return (URL.build(scheme="http", host=host).raw_host or "").rstrip(".") if host else ""
    except ValueError:
        return ""


def parse_rules(entries: Collection[str], setting: str) -> tuple[Rule, ...]:
    """Return the rules of a setting. Raises InvalidSettings with a sentence for each entry that is wrong."""
    rules, problems = [], []
    for entry in entries:
        try:
            rules.append(parse_rule(entry))
        except ValueError as error:
            problems.append(f"{setting}: {entry!r} {error}")
    if problems:
        raise InvalidSettings("; ".join(problems))
    return tuple(rules)


class EgressPolicy:
    """Judges hosts and addresses; does nothing else.

    `allow` are the entries of KUBESAGA_EGRESS_ALLOW. `api_server` says where the API server is: URLs, hosts, addresses
    or networks, of all ports where none is given. That is denied whatever else is allowed.
    """

    def __init__(self, allow: Collection[str] = (), *, api_server: Collection[str] = ()) -> None:
        self._allow = parse_rules(allow, SETTING)
        self._api_server = parse_rules([_without_scheme(entry) for entry in api_server], "the API server's address")

    def is_api_server(self, host: str, port: int) -> bool:
        """Tell whether a host is a name of the API server."""
        labels = host.split(".")
        known = labels[:2] == ["kubernetes", "default"] and labels[2:3] in ([], ["svc"])
        return known or any(rule.fits_host(host, port) for rule in self._api_server)

    def allows_host(self, host: str, port: int) -> bool:
        """Tell whether the administrator has listed a host's name."""
        return any(rule.fits_host(host, port) for rule in self._allow)

    def objection(self, address: Address, host: str, port: int, *, own_pod: bool = False) -> str | None:
        """Return why an address must not be connected to, as the end of a sentence; None: nothing speaks against it.

        `host` is the name that led to it. `own_pod`: it is a pod's of the run's own namespace.
        """
        end = effective(address)
        if any(rule.fits_address(end, port) for rule in self._api_server):
            return "that is the API server, which http activities never reach"
        special = special_of(end)
        if special is None or (own_pod and special.reach is Reach.ALLOWABLE):
            return None
        rules = [rule for rule in self._allow if rule.fits_host(host, port) or rule.fits_address(end, port)]
        if any(rule.permits(end, special.reach) for rule in rules):
            return None
        advice = "" if special.reach is Reach.NEVER else f"; {ADVICE}"
        return f"{end} is {special.name} ({special.network}){advice}"

    def is_granted(self, address: Address, host: str, port: int) -> bool:
        """Tell whether an address is reached by the administrator's word and not because it is public."""
        return self.allows_host(host, port) or special_of(effective(address)) is not None


def _without_scheme(entry: str) -> str:
    if "://" not in entry:
        return entry
    parts = urlsplit(entry)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
