# SPDX-License-Identifier: Apache-2.0
"""`kubesaga lint` and `kubesaga run` take Activities from the files that they are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Invoke = Callable[..., Result]
Write = Callable[[str, str], Path]

API = "apiVersion: kubesaga.dev/v1alpha1\n"
WORKFLOW = (
    API
    + """\
kind: Workflow
metadata: {name: w}
spec:
  description: d
  activities:
  - {name: a, uses: "text:echo", params: {text: "${run.workflow}"}}
  outputs: {said: "${activities.a.output.params.text}"}
"""
)
ECHO = (
    API
    + """\
kind: Activity
metadata: {name: text.echo}
spec:
  description: d
  handler: activities:echo
  input: {type: object, properties: {text: {type: string, maxLength: 3}}}
"""
)
HANDLERS = """
import kubesaga

@kubesaga.activity("activities:echo")
def echo(params):
    return {"params": params}
"""


@pytest.mark.parametrize(("files", "exit_code", "findings"), [
    pytest.param({"w.yaml": f"{WORKFLOW}---\n{ECHO}"}, 0, [], id="in the same file"),
    pytest.param({"w.yaml": WORKFLOW, "a.yaml": ECHO}, 0, [], id="in a further file"),
    pytest.param(
        {"w.yaml": WORKFLOW.replace("name: w}", "name: w, namespace: shop}"), "a.yaml": ECHO.replace("echo}", "echo, namespace: catalogue}")}, 0, [],
        id="in the only other namespace, which counts as the catalogue",
    ),
    pytest.param({"w.yaml": WORKFLOW}, 0, ["w.yaml:7: warning: spec.activities[0].uses: text:echo is not among what was given, so nothing of it is checked"], id="not given"),
    pytest.param(
        {"w.yaml": WORKFLOW, "a.yaml": ECHO.replace("maxLength: 3", "maxLenght: 3")}, 1,
        [
            "a.yaml:7: spec.input.properties.text.maxLenght: maxLenght is not a keyword of JSON Schema that is checked here; did you mean maxLength?",
            "w.yaml:7: spec.activities[0].uses: the Activity text.echo is not valid, so it cannot be used: spec.input",
        ],
        id="not right",
    ),
    pytest.param(
        {"w.yaml": WORKFLOW.replace("${run.workflow}", "long"), "a.yaml": ECHO}, 1,
        ["w.yaml:7: spec.activities[0].params.text: must have at most 3 characters (the input of the Activity text.echo)"], id="given what it does not take",
    ),
    pytest.param({"a.yaml": ECHO.replace("description: d", 'description: ""')}, 0, ["a.yaml:5: warning: spec.description: is empty"], id="without a description"),
    pytest.param({"a.yaml": f"{API}kind: Activity\nmetadata: {{name: a}}\n"}, 1, ["a.yaml:1: spec: is required"], id="without a spec"),
    pytest.param(
        {"a.yaml": ECHO + "  compensation: {uses: other}\n"}, 0,
        ["a.yaml:8: warning: spec.compensation.uses: other is not among what was given"], id="using what is not given",
    ),
])  # fmt: skip
def test_lint_with_activities(
    kubesaga: Invoke, write: Write, files: dict[str, str], exit_code: int, findings: list[str]
) -> None:
    for name, text in files.items():
        write(name, text)
    result = kubesaga("lint", *files)
    assert result.exit_code == exit_code, result.stdout
    lines = result.stdout.splitlines()
    assert [line[: len(finding)] for line, finding in zip(lines, findings, strict=True)] == findings


def test_run_takes_them_along(kubesaga: Invoke, write: Write) -> None:
    write("activities_echo.py", HANDLERS)
    write("w.yaml", WORKFLOW)
    write("a.yaml", ECHO)
    result = kubesaga("run", "w.yaml", "a.yaml", "--handlers", "activities_echo")
    assert result.exit_code == 0, result.stderr
    assert "said: w" in result.stdout


@pytest.mark.parametrize(("activity", "told"), [
    pytest.param("", "w.yaml:7: spec.activities[0].uses: there is no Activity text:echo in namespace default; there are no Activities", id="is not given"),
    pytest.param(ECHO.replace("activities:echo", "lost"), "spec.activities[0].uses.handler: no handler lost is registered", id="is a function that is not there"),
    pytest.param(ECHO.replace("handler: activities:echo", "pod: {image: i}"), "spec.activities[0].uses.pod: a is a pod; without a cluster", id="is a pod"),
    pytest.param(ECHO + "  compensation: {handler: gone}\n", "spec.activities[0].uses.handler: no handler gone is registered", id="is undone by a function that is not there"),
    pytest.param(ECHO + "  extra: 1\n", "the Activity default/text.echo is not valid, so it cannot be used: spec.extra: there is no such field", id="is not right"),
])  # fmt: skip
def test_nothing_starts_where_what_is_used(kubesaga: Invoke, write: Write, activity: str, told: str) -> None:
    write("w.yaml", WORKFLOW)
    write("a.yaml", activity or "---\n")
    result = kubesaga("run", "w.yaml", "a.yaml")
    assert result.exit_code == 2
    assert any(told in line for line in result.stderr.splitlines()), result.stderr


def test_the_example_of_activities(kubesaga: Invoke, examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(examples / "saga"))
    folder = examples / "activities"
    files = [str(folder / name) for name in ("activities.yaml", "workflow.yaml")]
    result = kubesaga("run", *files, "--handlers", "trips", "--pods", "local", "--input", "fail=hotel")
    assert result.exit_code == 4, result.stderr
    assert "flight" in result.stderr
    assert "Compensated" in result.stdout
