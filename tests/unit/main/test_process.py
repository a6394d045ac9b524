# SPDX-License-Identifier: Apache-2.0
"""The real clock: what is measured includes the time in which the machine slept."""

from __future__ import annotations

import time

import pytest

from kubesaga.main.process import SystemClock

BOOTTIME = 7


@pytest.mark.parametrize(
    ("has_it", "expected"),
    [
        pytest.param(True, 3600.0, id="the clock that goes on while the machine sleeps is read"),
        pytest.param(False, 5.0, id="where there is none, the one that never goes back"),
    ],
)
def test_which_clock_is_read(monkeypatch: pytest.MonkeyPatch, has_it: bool, expected: float) -> None:
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", BOOTTIME, raising=False)
    monkeypatch.setattr(time, "clock_gettime", {BOOTTIME: 3600.0}.__getitem__)
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    if not has_it:
        monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    assert SystemClock().monotonic() == expected


def test_it_goes_on() -> None:
    clock = SystemClock()
    began = clock.monotonic()
    assert clock.monotonic() >= began > 0
