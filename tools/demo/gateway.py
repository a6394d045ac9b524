# SPDX-License-Identifier: Apache-2.0
"""Speaking to the gateway as the desk's own systems would: events, signed with a secret that both know."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from demo.forward import forwarded
from demo.shell import ROOT, DemoFailed, kubectl, show

_PATH = "/events/support/desk"
_TYPE = "application/cloudevents+json"


def share_secret() -> str:
    """Make a new secret for the source, and return it."""
    token = secrets.token_hex(16)
    show("kubectl -n support create secret generic desk-events --from-literal=token=$TOKEN   # TOKEN: 32 random digits")
    metadata = {"name": "desk-events", "namespace": "support"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": token}}
    print(kubectl("apply", "-f", "-", stdin=json.dumps(secret), quiet=True).strip(), flush=True)
    return token


def would_start(workflow: str, event: str) -> None:
    """Show what an event would start of a Workflow, without the cluster. Raises DemoFailed unless it starts something."""
    words = ("events", "test", workflow, "--event", event)
    show(f"kubesaga {' '.join(words)}")
    done = subprocess.run([sys.executable, "-m", "kubesaga", *words], cwd=ROOT, check=False)
    if done.returncode != 0:
        raise DemoFailed(f"{event} starts nothing of {workflow}, says kubesaga events test: see above")


class Sender:
    """Sends signed events through a forwarded port."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token.encode()

    def send(self, file: str) -> dict[str, Any]:
        """Send the event of a file, and show it; return what the answer says of its one run. Raises DemoFailed."""
        show(f"SIGNATURE=$(openssl dgst -sha256 -hmac $TOKEN -r {file} | cut -d' ' -f1)")
        status, answer = self._post((ROOT / file).read_bytes(), file, "$SIGNATURE", self._token)
        runs = answer["events"][0]["runs"] if status == 202 else []
        if len(runs) != 1:
            raise DemoFailed(f"the gateway answered {status} {json.dumps(answer)}; it should have named one run")
        run: dict[str, Any] = runs[0]
        return run

    def forge(self, file: str) -> None:
        """Send it with a signature that somebody has made up. Raises DemoFailed unless that is refused."""
        if (status := self._post((ROOT / file).read_bytes(), file, "made-up", b"a-guess")[0]) != 401:
            raise DemoFailed(f"the gateway answered {status} to a signature that is not right; it should have been 401")

    def _post(self, body: bytes, file: str, shown: str, token: bytes) -> tuple[int, Any]:
        url = f"localhost:{self._port}{_PATH}"
        show(f"curl -i {url} -H 'Content-Type: {_TYPE}' -H \"X-Kubesaga-Signature: {shown}\" --data-binary @{file}")
        signature = hmac.new(token, body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{_PATH}", body, {"Content-Type": _TYPE, "X-Kubesaga-Signature": signature}
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as taken:
                status, text = taken.status, taken.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read().decode()
        except (urllib.error.URLError, TimeoutError) as error:
            raise DemoFailed(f"the gateway does not answer: {error}") from error
        print(f"HTTP {status}  {text.strip()}", flush=True)
        return status, json.loads(text)


@contextmanager
def reached(namespace: str, token: str) -> Iterator[Sender]:
    """Forward a free port to the gateway for a while. Raises DemoFailed."""
    with forwarded(namespace, "kubesaga-gateway") as port:
        yield Sender(port, token)
