# SPDX-License-Identifier: Apache-2.0
"""A container's last words: its termination message as the output of a success or as the explanation of a failure."""

from __future__ import annotations

import json
from typing import Final

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Failed, Outcome, Succeeded
from kubesaga.executors.in_process import output_outcome

MAX_MESSAGE_BYTES: Final = 4096
"""What the kubelet keeps of a termination message: the last so many bytes of the file."""
_SHOWN_BYTES: Final = 1024


def read_output(message: str, max_output_bytes: int) -> Outcome:
    """Return the outcome of a container that exited with 0 and left `message`.

    A JSON object is the output as it is. Other text, JSON or not, is `{"message": TEXT}`; no text is no output.
    A message that is as long as the kubelet keeps, and is no JSON object, was cut off: half an output is none.
    """
    text = message.strip()
    if not text:
        return Succeeded()
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    except RecursionError:
        return Failed(reason=Reason.OUTPUT_INVALID, message="the output is nested too deeply", retryable=False)
    if isinstance(value, dict):
        return output_outcome(value, max_output_bytes)
    if len(message.encode(errors="replace")) >= MAX_MESSAGE_BYTES:
        told = (
            f"the termination message fills the {MAX_MESSAGE_BYTES} bytes that Kubernetes keeps and is no JSON object, "
            "so it was cut off; write a smaller output, or a reference to where it is kept"
        )
        return Failed(reason=Reason.OUTPUT_TOO_LARGE, message=told, retryable=False)
    return output_outcome({"message": text}, max_output_bytes)


def tail(text: str) -> str:
    """Return the end of a text, at most 1 KiB of it: errors come last."""
    kept = text.strip().encode(errors="replace")
    if len(kept) <= _SHOWN_BYTES:
        return kept.decode()
    return "…" + kept[3 - _SHOWN_BYTES :].decode(errors="ignore")
