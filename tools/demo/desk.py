# SPDX-License-Identifier: Apache-2.0
"""Speaking to the ticket desk as a person would: reading by the API server's proxy, writing by curl and a forwarded port.

The proxy passes bodies on in chunks, which the desk does not take.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from demo.forward import forwarded
from demo.shell import DemoFailed, kubectl, show

_PROXY = "/api/v1/namespaces/support/services/desk:80/proxy"

Call = dict[str, Any]


def get(path: str) -> Any:
    """Return what the desk answers to a GET. Raises DemoFailed."""
    return json.loads(kubectl("get", "--raw", _PROXY + path, quiet=True))


class Line:
    """A forwarded port of the desk."""

    def __init__(self, port: int) -> None:
        self._port = port

    def post(self, path: str, body: dict[str, Any]) -> None:
        """Send the desk a POST, and show it. Raises DemoFailed."""
        text = json.dumps(body)
        show(f"curl localhost:{self._port}{path} -d '{text}'")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", text.encode(), timeout=20) as answer:
                print(answer.read().decode().strip(), flush=True)
        except (urllib.error.URLError, TimeoutError) as error:
            raise DemoFailed(f"the desk did not take POST {path}: {error}") from error

    def refuse(self, path: str, status: int, times: int = -1) -> None:
        """Let the desk refuse POSTs to one path: -1: all of them, 0: none any more."""
        self.post("/faults", {"path": path, "method": "POST", "status": status, "times": times})


@contextmanager
def called() -> Iterator[Line]:
    """Forward a free port of this machine to the desk for a while. Raises DemoFailed."""
    with forwarded("support", "desk") as port:
        yield Line(port)


def calls_of(run: dict[str, Any]) -> list[Call]:
    """Return what the desk was asked to do for a run, and show it: all that bears an Idempotency-Key of it, in order."""
    show(f"kubectl get --raw {_PROXY}/calls   # those of this run")
    calls = [call for call in get("/calls")["calls"] if (call["key"] or "").startswith(f"{run['metadata']['uid']}/")]
    for call in calls:
        again = "   (a repeat: answered as before)" if call["replayed"] else ""
        print(f"  {call['method']:<5} {call['path']:<24} {call['status']}   Idempotency-Key: {call['key']}{again}")
    return calls


def ticket(ticket_id: str) -> Any:
    """Return a ticket, and show it."""
    show(f"kubectl get --raw {_PROXY}/tickets/{ticket_id}")
    found = get(f"/tickets/{ticket_id}")
    print(f"  {json.dumps(found)}")
    return found


def really_done(calls: list[Call]) -> list[str]:
    """Return the paths of the calls that the desk carried out, in order."""
    return [call["path"] for call in calls if call["status"] < 400 and not call["replayed"]]
