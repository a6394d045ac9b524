# SPDX-License-Identifier: Apache-2.0
"""The page on faults names every scenario that there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.faults.mutants import MUTANTS
from tests.faults.scenarios import SCENARIOS, Scenario

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "faults.md").read_text()
ROWS = {found[1]: found[0] for found in re.finditer(r"^\| (F\d+) \|.*$", PAGE, re.MULTILINE)}


def test_every_number_has_its_row() -> None:
    assert list(ROWS) == [f"F{number}" for number in range(1, 51)]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_a_scenario_is_told_in_its_row(scenario: Scenario) -> None:
    assert f"*{scenario.sentence}*" in ROWS[scenario.number]


@pytest.mark.parametrize("number", ROWS)
def test_a_row_tells_of_scenarios_that_there_are(number: str) -> None:
    told = re.findall(r"(?<!\w)\*([^*]+)\*", ROWS[number])
    assert told == [
        sentence for sentence in told if any(s.sentence == sentence for s in SCENARIOS if s.number == number)
    ]


def test_titles_of_cases_are_unique_so_that_one_can_be_played_alone() -> None:
    assert len({scenario.id for scenario in SCENARIOS}) == len(SCENARIOS)


def test_the_mutants_are_told() -> None:
    text = " ".join(PAGE.split())
    assert [name for name in MUTANTS if name not in text] == []
