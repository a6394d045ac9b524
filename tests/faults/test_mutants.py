# SPDX-License-Identifier: Apache-2.0
"""The harness can fail: an operator that breaks a law is noticed. `make faults` does this for all mutants."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.faults.campaign import Result, play_all
from tests.faults.mutants import MUTANTS
from tests.faults.plans import mutant_cases
from tests.faults.upstream import connected

LAWS = {"forgets names": "I1"}
"""One of them in the short version, and what it must be noticed by."""


def test_there_is_a_case_for_every_mutant() -> None:
    assert mutant_cases().keys() == MUTANTS.keys()


@pytest.mark.cluster
@pytest.mark.parametrize("mutant", LAWS)
def test_a_mutant_is_noticed(mutant: str, faults_kubeconfig: Path) -> None:
    async def campaign() -> list[Result]:
        async with connected(faults_kubeconfig) as upstream:
            return await play_all(upstream, [mutant_cases()[mutant]], mutant=mutant)

    (result,) = asyncio.run(campaign())
    assert any(LAWS[mutant] in told for told in result.violations), result.violations
