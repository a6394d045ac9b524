# SPDX-License-Identifier: Apache-2.0
"""The group of commands, and the small ones."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result

from kubesaga import __version__
from kubesaga.settings import Settings

Invoke = Callable[..., Result]
Program = Callable[..., "subprocess.Popen[str]"]

COMMANDS = ["run", "lint", "events", "queue", "crds", "controller", "gateway", "version"]


def test_the_help_lists_the_commands_in_the_order_of_a_newcomers_interest(kubesaga: Invoke) -> None:
    lines = kubesaga("--help").stdout.splitlines()
    listed = lines[lines.index("Commands:") + 1 :]
    assert [line.split()[0] for line in listed] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(kubesaga: Invoke, command: str) -> None:
    result = kubesaga(command, "-h")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {command}")


def test_an_unknown_command_is_an_error(kubesaga: Invoke) -> None:
    result = kubesaga("rnu")
    assert result.exit_code == 2
    assert "No such command 'rnu'" in result.stderr


def test_the_version(program: Program) -> None:
    """Also: `python -m kubesaga` is the same program."""
    output, _ = program("version").communicate(timeout=20)
    assert output == f"kubesaga {__version__}\n"


def test_the_shell_is_told_what_may_come_next(program: Program) -> None:
    output, _ = program(
        _KUBESAGA_COMPLETE="bash_complete", COMP_WORDS="kubesaga run --pods ", COMP_CWORD="3"
    ).communicate(timeout=20)
    assert output.split() == ["plain,refuse", "plain,local"]


def test_the_definitions_are_those_of_the_manifests(kubesaga: Invoke, examples: Path) -> None:
    printed = list(yaml.safe_load_all(kubesaga("crds").stdout))
    shipped = [yaml.safe_load(path.read_text()) for path in sorted((examples.parent / "crds").glob("*.yaml"))]
    by_name: Callable[[Any], str] = lambda body: str(body["metadata"]["name"])  # noqa: E731 - a key for both
    assert sorted(printed, key=by_name) == sorted(shipped, key=by_name)


# --- controller -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "environ", "line"),
    [
        pytest.param(
            [], {}, "kubesaga controller: there is no kubeconfig at /nowhere: give one with --kubeconfig or KUBECONFIG\n", id="no cluster"
        ),
        pytest.param([], {"KUBESAGA_WORKERS": "many"}, "kubesaga controller: KUBESAGA_WORKERS='many': must be a whole number\n", id="a setting"),
        pytest.param(
            ["--handlers", "no_such_module"], {},
            "kubesaga controller: handlers module 'no_such_module' could not be imported: "
            "ModuleNotFoundError: No module named 'no_such_module'\n",
            id="no such module",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line(
    program: Program, words: list[str], environ: dict[str, str], line: str
) -> None:
    process = program("controller", "--kubeconfig", "/nowhere", *words, **environ)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (2, line)


def test_options_win_over_the_environment(kubesaga: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator itself is left out: it would need a cluster."""
    given: list[Any] = []

    async def run_controller(settings: Settings, **where: Any) -> int:
        given.extend([settings, where])
        return 70

    monkeypatch.setattr("kubesaga.main.controller.run_controller", run_controller)
    for name, text in {
        "NAMESPACES": "a,b",
        "LOG_LEVEL": "error",
        "HTTP_PORT": "1",
        "WORKERS": "7",
        "IDENTITY": "me",
    }.items():
        monkeypatch.setenv(f"KUBESAGA_{name}", text)
    result = kubesaga(
        "controller", "--kubeconfig", "k", "--context", "c", "--namespace", "x", "--namespace", "y", "--handlers", "m",
        "--egress-allow", "h:1", "--port", "0", "--log-format", "text", "--log-level", "debug",
    )  # fmt: skip
    settings, where = given
    assert where == {"kubeconfig": "k", "context": "c"}
    assert settings == Settings(
        namespaces=("x", "y"), handlers=("m",), egress_allow=("h:1",), http_port=0, log_format="text", log_level="debug",
        workers=7, identity="me",
    )  # fmt: skip
    assert result.exit_code == 70


def test_without_options_the_environment_counts(kubesaga: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Settings] = []

    async def run_controller(settings: Settings, **_: Any) -> int:
        given.append(settings)
        return 0

    monkeypatch.setattr("kubesaga.main.controller.run_controller", run_controller)
    monkeypatch.setenv("KUBESAGA_NAMESPACES", "a,b")
    monkeypatch.setenv("KUBESAGA_IDENTITY", "me")
    assert kubesaga("controller").exit_code == 0
    assert given == [Settings(namespaces=("a", "b"), identity="me")]
