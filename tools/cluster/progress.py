# SPDX-License-Identifier: Apache-2.0
"""One line a step, with the time since the start."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import ClusterError

_STARTED = time.monotonic()


def say(text: str) -> None:
    """Prints one line with the elapsed time in seconds."""
    print(f"[{time.monotonic() - _STARTED:6.1f}s] {text}", flush=True)


def run(
    command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> None:
    """Runs a step, its output appended to `log`; a failure names the log and quotes its last lines."""
    words = [str(word) for word in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"$ {' '.join(words)}\n".encode())
        output.flush()
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=cwd, check=False
            )
        except FileNotFoundError:
            raise ClusterError(f"{words[0]} is not installed") from None
    status = done.returncode
    if status != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise ClusterError(f"{words[0]} ended with status {status}; see {log}:\n{tail}")


def output_of(command: Sequence[str | Path]) -> str:
    """What a short command prints; a failure carries what it said."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(words)} ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def quietly(command: Sequence[str | Path]) -> bool:
    """Runs a command whose failure is an answer, not an error; whether it succeeded."""
    words = [str(word) for word in command]
    return (
        subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        ).returncode
        == 0
    )
