# SPDX-License-Identifier: Apache-2.0
"""What a valid Workflow's condition Ready says."""

from __future__ import annotations

from typing import Any

import pytest

from kubesaga.api.parsing import parse_workflow_spec
from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.controller.authoring.workflows import verdict_of

VALID = REASON_TEXT[Reason.VALID]
A = {"name": "a", "handler": "x"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param({"description": "d", "activities": [A]}, VALID, id="nothing to warn of"),
        pytest.param(
            {"activities": [A]},
            f"{VALID} Warning: spec.description: is empty; say in a sentence what the Workflow is for.",
            id="a warning",
        ),
    ],
)
def test_the_message_is(spec: dict[str, Any], said: str) -> None:
    assert verdict_of(parse_workflow_spec(spec)) == said


def test_many_warnings_are_cut() -> None:
    undos = [{"name": f"u{number}", "handler": "x"} for number in range(12)]
    said = verdict_of(
        parse_workflow_spec({"description": "d", "activities": [A], "compensation": {"activities": undos}})
    )
    assert said.count("Warning: ") == 10
    assert said.endswith("There are 2 more warnings.")
