# SPDX-License-Identifier: Apache-2.0
"""The little of RFC 1035's wire format that answering for a Service needs: pure."""

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass

TYPE_A = 1
OK, SERVER_FAILURE, NO_SUCH_NAME = 0, 2, 3
_RESPONSE, _AUTHORITATIVE, _RECURSION_AVAILABLE, _RECURSION_DESIRED = 0x8000, 0x0400, 0x0080, 0x0100
_TTL_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The one question of a query. `name` is lower case without the last dot; `wire` its bytes as they came."""

    ident: int
    flags: int
    name: str
    kind: int
    wire: bytes


def parse(packet: bytes) -> Question:
    """Reads a query. Raises ValueError where it is none with exactly one question."""
    if len(packet) < 12:
        raise ValueError("shorter than a DNS header")
    ident, flags, questions = struct.unpack("!HHH", packet[:6])
    if flags & _RESPONSE or questions != 1:
        raise ValueError("not a query with one question")
    labels, at = [], 12
    while length := packet[at]:
        if length > 63 or at + length + 1 >= len(packet):
            raise ValueError("a label runs past the end")
        labels.append(packet[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += length + 1
    if at + 5 > len(packet):
        raise ValueError("the question has no type")
    (kind,) = struct.unpack("!H", packet[at + 1 : at + 3])
    return Question(ident=ident, flags=flags, name=".".join(labels), kind=kind, wire=packet[12 : at + 5])


def answer(question: Question, code: int, addresses: Sequence[str] = ()) -> bytes:
    """A response with an A record an address."""
    flags = _RESPONSE | _AUTHORITATIVE | _RECURSION_AVAILABLE | (question.flags & _RECURSION_DESIRED) | code
    header = struct.pack("!HHHHHH", question.ident, flags, 1, len(addresses), 0, 0)
    pointer_to_name = 0xC00C
    records = b"".join(
        struct.pack("!HHHIH", pointer_to_name, TYPE_A, 1, _TTL_SECONDS, 4) + ipaddress.IPv4Address(address).packed
        for address in addresses
    )
    return header + question.wire + records


def service_of(name: str, domain: str) -> tuple[str, str] | None:
    """`desk.support.svc.cluster.local` → (desk, support); None for a name of any other shape."""
    labels = name.removesuffix(f".{domain}").split(".")
    return (labels[0], labels[1]) if name.endswith(f".{domain}") and len(labels) == 3 and labels[2] == "svc" else None
