# SPDX-License-Identifier: Apache-2.0
"""Which limits hold for each scope: those of the Workflow as it is now; of one that is gone, those in its runs' revisions.

Of several revisions that of the run that was created last holds, whichever run is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from kubesaga.api.limits import Concurrency
from kubesaga.engine.admission.gate import Scope
from kubesaga.engine.admission.standing import Standing

_Order = tuple[datetime, str]
_LAST: Final[_Order] = (datetime.max.replace(tzinfo=UTC), "")
"""After the order of any run."""


class Scopes:
    """Pure, like all of the ledger. Scopes without live runs, that no Workflow is known for, are forgotten."""

    def __init__(self, apply: Callable[[Scope, Concurrency | None], None], forget: Callable[[Scope], None]) -> None:
        """`apply` is told of limits that hold from now on, `forget` of scopes that are not known any more."""
        self._apply = apply
        self._forget = forget
        self._live: dict[Scope, Concurrency | None] = {}
        self._revised: dict[Scope, tuple[_Order, Concurrency | None]] = {}
        self._runs: dict[Scope, set[str]] = defaultdict(set)

    @property
    def known(self) -> set[Scope]:
        """The scopes that anything is known of."""
        return {*self._live, *self._revised, *self._runs}

    def configure(self, scope: Scope, concurrency: Concurrency | None) -> None:
        """Take in how a Workflow limits itself now."""
        self._live[scope] = concurrency
        self._apply(scope, concurrency)

    def gone(self, scope: Scope) -> None:
        """A Workflow is gone: for the runs that are left holds what it said last."""
        if scope not in self._live:
            return
        last = self._live.pop(scope)
        if scope in self._runs:
            self._revised[scope] = (_LAST, last)
        else:
            self._revised.pop(scope, None)
            self._forget(scope)

    def of(self, standing: Standing, default: Concurrency | None) -> Concurrency | None:
        """Return the limits that hold for a run; `default`: those in its revision."""
        scope = standing.scope
        if scope in self._live:
            return self._live[scope]
        order = (standing.created, standing.key.name)
        known = self._revised.get(scope)
        if known is None or known[0] <= order:
            known = self._revised[scope] = (order, default)
            self._apply(scope, default)
        return known[1]

    def joined(self, standing: Standing) -> None:
        """A run is there."""
        self._runs[standing.scope].add(standing.uid)

    def left(self, standing: Standing) -> None:
        """A run is over, or gone."""
        scope = standing.scope
        self._runs[scope].discard(standing.uid)
        if not self._runs[scope]:
            del self._runs[scope]
            if self._revised.pop(scope, None) is not None and scope not in self._live:
                self._forget(scope)
