# SPDX-License-Identifier: Apache-2.0
"""What a delivery is answered that is not taken: a status, a sentence, and the place in the delivery where there is one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from kubesaga.errors import KubesagaError


class Refusal(KubesagaError):
    """A delivery is not taken. `reason` is one word for metrics; sentence and path are for the sender, so no secret is in them."""

    def __init__(
        self,
        status: int,
        reason: str,
        sentence: str,
        *,
        path: str = "",
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason
        self.sentence = sentence
        self.path = path
        """A header (`header ce-id`) or a place in the body (`[2].data`)."""
        self.counted = False
        """Whether a source has counted it as its own."""
        self.headers: Mapping[str, str] = {
            **(headers or {}),
            **({} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}),
        }

    def body(self) -> dict[str, str]:
        """Return what the sender reads."""
        told = f"{self.path}: {self.sentence}" if self.path else self.sentence
        return {"error": told, **({"path": self.path} if self.path else {})}


UNPROVEN_STATUS: Final = 401
"""One answer for a source that is not there and for a delivery that proves nothing: names cannot be found by trying."""


def unproven() -> Refusal:
    """Return the answer to a delivery that has not proven that it may come in, whether or not there is such a source."""
    return Refusal(
        UNPROVEN_STATUS,
        "Unproven",
        "there is no such event source, or the delivery does not prove that it may come in: check the path, and the secret with which it is signed or the token that it bears",
        headers={"WWW-Authenticate": "Kubesaga"},
    )


def malformed(sentence: str, path: str = "") -> Refusal:
    """Return the answer to a delivery that cannot be read."""
    return Refusal(400, "Malformed", sentence, path=path)


def unsupported(sentence: str) -> Refusal:
    """Return the answer to a delivery in a form that is not taken."""
    return Refusal(415, "Unsupported", sentence, path="header content-type")


def too_large(sentence: str, path: str = "") -> Refusal:
    """Return the answer to a delivery that is too large."""
    return Refusal(413, "TooLarge", sentence, path=path)


def unavailable(sentence: str, retry_after: float = 5) -> Refusal:
    """Return the answer where the sender should try again later. Nothing was taken, or not all of it: trying again is safe."""
    return Refusal(503, "Unavailable", sentence, retry_after=retry_after)
