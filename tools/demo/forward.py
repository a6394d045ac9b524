# SPDX-License-Identifier: Apache-2.0
"""A forwarded port of a Service, for a while."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from demo.shell import DemoFailed, kubectl_program, show


@contextmanager
def forwarded(namespace: str, service: str) -> Iterator[int]:
    """Forward a free port of this machine to a Service, and say so; yield the port. Raises DemoFailed."""
    words = ("-n", namespace, "port-forward", f"service/{service}", ":80")
    show(f"kubectl {' '.join(words)} &")
    with subprocess.Popen([*kubectl_program(), *words], stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            told = forward.stdout.readline().strip()
            print(told, flush=True)
            if (port := re.search(r"127\.0\.0\.1:(\d+)", told)) is None:
                raise DemoFailed("kubectl port-forward did not forward a port; what it said stands above")
            yield int(port[1])
        finally:
            forward.terminate()
