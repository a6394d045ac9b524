# SPDX-License-Identifier: Apache-2.0
"""The scenarios F1 to F50 that concern what exists, in the short version; `make faults` plays the long one."""

from __future__ import annotations

import pytest
from tests.faults.campaign import Result
from tests.faults.scenarios import SCENARIOS, Scenario

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "scenario", [scenario for scenario in SCENARIOS if not scenario.long], ids=lambda scenario: scenario.id
)
def test_scenario(scenario: Scenario, results: dict[str, Result]) -> None:
    result = results[scenario.id]
    assert result.violations == []
    assert result.counts, (
        f"the fault did not strike, or there was no load: {result.record.struck}, {result.record.writes} writes"
    )
