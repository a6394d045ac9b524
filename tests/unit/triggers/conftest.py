# SPDX-License-Identifier: Apache-2.0
"""Fixtures: those of the controller's tests, with a server that reads label selectors of several terms."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.controller.conftest import client, clock, server
from tests.unit.kube import server as fake

__all__ = ["client", "clock", "selectors", "server"]

_one_term = fake._selected


@pytest.fixture(autouse=True)
def selectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every term of a selector count."""

    def selected(obj: dict[str, Any], selector: str | None) -> bool:
        return all(_one_term(obj, term) for term in selector.split(",")) if selector else True

    monkeypatch.setattr(fake, "_selected", selected)
