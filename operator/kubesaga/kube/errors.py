# SPDX-License-Identifier: Apache-2.0
"""What the API server, or the way to it, can answer instead of an object, as a tree.

    ApiError                 any refusal; `status` and `reason` are the server's
    ├── Unauthorized         401  credentials not accepted, also after reading them again
    ├── Forbidden            403  RBAC, quota, admission, a namespace that is being deleted
    ├── NotFound             404
    ├── Conflict             409  the object is no longer the version that the write was based on
    ├── AlreadyExists        409  an object with that name exists (whose it is, the caller must look)
    ├── Gone                 410  the version asked for is too old: list again
    ├── Invalid              422  the object breaks its schema or an immutable field
    ├── TooManyRequests      429  not carried out; wait `retry_after` seconds
    └── ServerUnavailable    5xx or no answer; `sent` tells whether it may have been carried out
        └── Fenced           not sent: the right to write (the Lease) is not certain any more

Texts hold the server's words and the request's target, never a header, a token or a body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubesaga.errors import KubesagaError


class ApiError(KubesagaError):
    """A request that was not answered with what was asked for."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        request: str = "",
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        """HTTP status; 0: there was no answer."""
        self.reason = reason
        """The server's one word (`AlreadyExists`, `Expired`), or ours where there was no answer (`Timeout`)."""
        self.message = message
        """The server's sentence."""
        self.details: Mapping[str, Any] = details or {}
        """`details` of the server's Status: kind, name, causes."""
        self.retry_after = retry_after
        """Seconds that the server asks to wait; None: it did not ask."""
        super().__init__(f"{request}: {status or 'no answer'} {reason}: {message}".removeprefix(": "))

    def has_cause(self, reason: str) -> bool:
        """Tell whether the server names this cause, e.g. `NamespaceTerminating`, `ResourceVersionTooLarge`."""
        return any(cause.get("reason") == reason for cause in self.details.get("causes") or ())


class Unauthorized(ApiError):
    """401: the credentials were read again and are still not accepted."""


class Forbidden(ApiError):
    """403."""


class NotFound(ApiError):
    """404."""


class Conflict(ApiError):
    """409: the write was based on an older version, or a deletion's precondition does not hold. Nothing was changed."""


class AlreadyExists(ApiError):
    """409 of a creation: the name is taken."""


class Gone(ApiError):
    """410: the version or the page asked for is compacted away."""


class Invalid(ApiError):
    """422."""


class TooManyRequests(ApiError):
    """429: not carried out."""


class ServerUnavailable(ApiError):
    """5xx, connection or time-out. A write with `sent` has an unknown outcome: read before doing anything else."""

    def __init__(self, status: int, reason: str, message: str, *, sent: bool = True, **more: Any) -> None:
        super().__init__(status, reason, message, **more)
        self.sent = sent
        """False: certainly not carried out. True: carried out or not, nobody knows."""


class Fenced(ServerUnavailable):
    """Not sent, because the Lease that allows to write is lost or may be lost by now."""

    def __init__(self, request: str) -> None:
        super().__init__(0, "Fenced", "the Lease is not certain any more", sent=False, request=request)


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def error_from_status(
    code: int, status: Mapping[str, Any], *, request: str = "", retry_after: float | None = None
) -> ApiError:
    """Return the error that a Kubernetes `Status` object means. `code` is the HTTP status that came with it."""
    reason = status.get("reason") or ""
    details = status.get("details") or {}
    if retry_after is None and details.get("retryAfterSeconds"):
        retry_after = float(details["retryAfterSeconds"])
    if code >= 500:
        kind: type[ApiError] = ServerUnavailable
    elif reason == "AlreadyExists":
        kind = AlreadyExists
    elif reason == "Expired":
        kind = Gone
    else:
        kind = _BY_STATUS.get(code, ApiError)
    message = status.get("message") or ""
    return kind(code, reason or "Unknown", message, request=request, details=details, retry_after=retry_after)
