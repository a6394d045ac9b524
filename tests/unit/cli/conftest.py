# SPDX-License-Identifier: Apache-2.0
"""The command line as tests use it: in this process where that will do, as a program where it will not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kubesaga.cli.app import main

ROOT = Path(__file__).resolve().parents[3]

Invoke = Callable[..., Result]
Program = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def examples() -> Path:
    """The folder of the examples."""
    return ROOT / "examples"


@pytest.fixture
def kubesaga(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Call a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def invoke(*words: object, text: str | None = None) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words], input=text)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Start a command as a program, in an empty folder; what a test leaves running is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: object, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "kubesaga", *(str(word) for word in words)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / "operator"), **environ},
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file of a name and text; return its path."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file
