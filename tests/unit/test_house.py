# SPDX-License-Identifier: Apache-2.0
"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kubesaga.api.deed import ActivityPhase
from kubesaga.api.names import Deed
from kubesaga.api.run import RunPhase
from kubesaga.engine.transitions import ACTIVITY_MOVES, RUN_MOVES, UNDO_MOVES, IllegalMove, mermaid, moved, moved_run

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "operator" / "kubesaga").rglob("*.py"))


def test_operator_is_no_package() -> None:
    """operator/__init__.py would stand in the way of the standard library's `operator`."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    done = subprocess.run([sys.executable, "-m", "json.tool", "--help"], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "operator")))
def test_a_source_file(path: Path) -> None:
    """It is short, says what it is, and bears a name that means something."""
    text = path.read_text()
    assert text.count("\n") <= 400, "over 400 lines"
    assert path.stem not in ("utils", "helpers", "common", "misc", "manager", "operator")
    tree = ast.parse(text)
    assert ast.get_docstring(tree) or path.name == "__main__.py", "no docstring"
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is over 60 lines"


def test_the_layers_hold() -> None:
    """Imports point down; the engine is pure; Kopf is known only at the edge."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("phase", RunPhase)
def test_every_phase_of_a_run_has_its_moves(phase: RunPhase) -> None:
    assert bool(RUN_MOVES[phase]) is not phase.finished, "exactly the finished phases are dead ends"


@pytest.mark.parametrize("phase", ActivityPhase)
def test_every_phase_of_an_activity_has_its_moves(phase: ActivityPhase) -> None:
    undoing = {ActivityPhase.COMPENSATING, ActivityPhase.COMPENSATED}
    if phase.ended and phase not in undoing:
        assert ACTIVITY_MOVES[phase] == {ActivityPhase.COMPENSATING}, "what has ended can only be undone"
    assert bool(ACTIVITY_MOVES[phase]) is not (phase is ActivityPhase.COMPENSATED), "and what is undone stays so"


def test_a_move_that_is_not_in_the_table_is_a_bug() -> None:
    with pytest.raises(IllegalMove):
        moved_run(RunPhase.SUCCEEDED, RunPhase.RUNNING)
    with pytest.raises(IllegalMove):
        moved(Deed.DO, ActivityPhase.FAILED, ActivityPhase.RUNNING)


def test_the_documented_diagrams_are_those_of_the_tables() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert mermaid(RUN_MOVES) in text
    assert mermaid(ACTIVITY_MOVES) in text
    assert mermaid(UNDO_MOVES) in text
