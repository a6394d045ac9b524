# SPDX-License-Identifier: Apache-2.0
"""Running kubectl and telling about it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KUBECONFIG = ROOT / "build" / "kubeconfig"
_COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


class DemoFailed(Exception):
    """The demo cannot go on; the message says why and where to look."""


def say(text: str) -> None:
    """Tell what happens now."""
    print(f"\n\033[1m{text}\033[0m" if _COLOUR else f"\n== {text}", flush=True)


def show(command: str) -> None:
    """Show a command that a person would type."""
    print(f"\033[36m$ {command}\033[0m" if _COLOUR else f"$ {command}", flush=True)


def kubectl_program() -> list[str]:
    """Return the words with which kubectl is called as the cluster's administrator."""
    return [shutil.which("kubectl") or str(Path(sys.executable).with_name("kubectl")), "--kubeconfig", str(KUBECONFIG)]


def kubectl(*words: str, stdin: str | None = None, quiet: bool = False) -> str:
    """Run kubectl as the cluster's administrator, in the checkout; return what it printed. Raises DemoFailed."""
    if not quiet:
        show(f"kubectl {' '.join(words)}")
    done = subprocess.run(
        [*kubectl_program(), *words], input=stdin, capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode != 0:
        raise DemoFailed(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
    if not quiet and done.stdout.strip():
        print(done.stdout.rstrip(), flush=True)
    return done.stdout


def read(*words: str) -> Any:
    """Return what kubectl finds, as a value."""
    return json.loads(kubectl(*words, "-o", "json", quiet=True))


def wait(what: str, done: Callable[[], bool], within: float, hint: str) -> None:
    """Wait for something. Raises DemoFailed with the hint where to look."""
    end = time.monotonic() + within
    while not done():
        if time.monotonic() > end:
            raise DemoFailed(f"{what} did not happen within {within:g} s; look at: {hint}")
        time.sleep(0.5)
