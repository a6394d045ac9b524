# SPDX-License-Identifier: Apache-2.0
"""`kubesaga lint` tells what is wrong, and in which line of which file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Invoke = Callable[..., Result]
Write = Callable[[str, str], Path]

HEAD = "apiVersion: kubesaga.dev/v1alpha1\nkind: Workflow\nmetadata: {name: w}\n"
GOOD = (
    HEAD
    + "spec:\n  description: d\n  inputs: [{name: a, type: integer, required: true}]\n  activities:\n  - {name: x, handler: h}\n"
)
RUN = "apiVersion: kubesaga.dev/v1alpha1\nkind: WorkflowRun\nmetadata: {name: r}\n"
SOURCE = "apiVersion: kubesaga.dev/v1alpha1\nkind: WorkflowEventSource\nmetadata: {name: s}\n"
ACTION = "apiVersion: kubesaga.dev/v1alpha1\nkind: WorkflowAction\nmetadata: {generateName: a-}\n"


def test_the_examples_are_right(kubesaga: Invoke, examples: Path) -> None:
    result = kubesaga("lint", "--strict", examples)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith("objects checked: no problems, no warnings\n")


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        pytest.param(
            HEAD + "spec:\n  description: d\n  activities:\n  - name: x\n    handlr: h\n",
            "w.yaml:8: spec.activities[0].handlr: there is no such field; did you mean handler?",
            id="a field that does not exist",
        ),
        pytest.param(
            HEAD + "spec:\n  description: d\n  activities:\n  - name: x\n    handler: h\n    handler: g\n",
            "w.yaml:9: spec.activities[0].handler: the key handler stands here twice, first in line 8; remove one of them",
            id="a key that is there twice",
        ),
        pytest.param(
            HEAD + "spec:\n  description: d\n  activities:\n  - name: x\n    handler: h\n    params: {v: '${1 +}'}\n",
            "w.yaml:9: spec.activities[0].params.v: in `1 +`: it ends too early",
            id="an expression that does not compile",
        ),
        pytest.param(
            HEAD + "spec:\n  description: d\n  activities:\n  - {name: x, handler: h}\n  - {name: x, handler: h}\n",
            "w.yaml:8: spec.activities[1].name: spec.activities[0] is called x already",
            id="a name that is there twice",
        ),
        pytest.param(HEAD, "w.yaml:1: spec: is required", id="no spec"),
        pytest.param(
            GOOD.replace("{name: w}", "{name: W}"),
            "w.yaml:3: metadata.name: 'W' is not a name of a Kubernetes object; use small letters, digits, - and .",
            id="a name that Kubernetes refuses",
        ),
        pytest.param(
            GOOD.replace("{name: w}", "{name: n}"),
            "w.yaml:3: metadata.name: must be a string; put it in quotes (YAML reads n as false)",
            id="a name that is a boolean in YAML",
        ),
        pytest.param(GOOD.replace("{name: w}", "{}"), "w.yaml:3: metadata.name: is required", id="no name"),
        pytest.param(
            GOOD + "extra: 1\n",
            "w.yaml:9: extra: there is no such field; the fields here are apiVersion, kind, metadata, spec, status",
            id="a field beside spec",
        ),
        pytest.param(
            GOOD.replace("v1alpha1", "v1"),
            "w.yaml:1: apiVersion: kubesaga.dev/v1 is not known; write kubesaga.dev/v1alpha1",
            id="another version",
        ),
        pytest.param(
            GOOD.replace("Workflow", "Workflw"),
            "w.yaml:2: kind: Workflw is not a kind of kubesaga.dev; there are Workflow, WorkflowRun, Activity, WorkflowEventSource, WorkflowAction",
            id="another kind",
        ),
        pytest.param(
            ACTION + "spec:\n  targetRef: {name: r}\n  action: Skip\n",
            "w.yaml:4: spec.activity: is required with Skip: the activity whose undo is left out",
            id="an action that lacks something",
        ),
        pytest.param(ACTION, "w.yaml:1: spec: is required", id="an empty action"),
        pytest.param(SOURCE, "w.yaml:1: spec: is required", id="an empty event source"),
        pytest.param(
            SOURCE + "spec:\n  type: CloudEvents\n  auth: {}\n",
            "w.yaml:6: spec.auth: must have exactly one of hmac, bearer and none, but has none of them",
            id="an event source that says nothing of who may send",
        ),
        pytest.param(
            SOURCE + "spec:\n  type: Webhook\n  auth: {none: {}}\n  mapping:\n    type: body.kind\n    id: bdy.id\n",
            "w.yaml:9: spec.mapping.id: in `bdy.id`: ",
            id="a mapping that reads what is not there",
        ),
        pytest.param(
            SOURCE
            + "spec:\n  type: CloudEvents\n  auth: {none: {}}\n  eventTypes:\n  - {type: a, schema: {requird: [x]}}\n",
            "w.yaml:8: spec.eventTypes[0].schema.requird: requird is not a keyword of JSON Schema that is checked here; did you mean required?",
            id="a schema with a keyword that does not exist",
        ),
        pytest.param(
            "a: 1\n", "w.yaml:1: is no Kubernetes object: it needs apiVersion and kind", id="no object at all"
        ),
        pytest.param(
            RUN + "spec: {}\n",
            "w.yaml:4: spec: names nothing to run; give workflowRef, or a workflowSpec",
            id="an empty run",
        ),
        pytest.param(
            GOOD + "---\n" + RUN + "spec:\n  workflowRef: {name: w}\n  inputs: {a: one}\n",
            "w.yaml:15: spec.inputs.a: must be of type integer, but is a string",
            id="an input of the wrong type",
        ),
        pytest.param(
            RUN + "spec:\n  workflowSpec:\n    description: d\n    activities: [{name: x, compensation: {}}]\n",
            "w.yaml:7: spec.workflowSpec.activities[0].compensation: does nothing; give it one of uses, pod, http",
            id="a Workflow within a run",
        ),
    ],
)
def test_a_problem(kubesaga: Invoke, write: Write, text: str, finding: str) -> None:
    write("w.yaml", text)
    result = kubesaga("lint", "w.yaml")
    assert result.exit_code == 1
    assert any(line.startswith(finding) for line in result.stdout.splitlines()), result.stdout


@pytest.mark.parametrize(
    ("make", "finding"),
    [
        pytest.param(lambda path: None, "w.yaml: cannot be read: No such file or directory", id="no file"),
        pytest.param(lambda path: path.write_bytes(b"a: 1\n\xff"), "w.yaml:2: is not text in UTF-8", id="no text"),
        pytest.param(lambda path: path.write_text("a: 1\nb: ["), "w.yaml:2: is not YAML", id="no YAML"),
        pytest.param(
            lambda path: path.write_bytes(b"#" * 1_100_000), "w.yaml: is larger than 1,048,576 bytes", id="too large"
        ),
        pytest.param(
            lambda path: path.write_text("{a: " * 5_000), "w.yaml:1: is nested deeper than 100 levels", id="too deep"
        ),
    ],
)
def test_a_file_that_cannot_be_read(
    kubesaga: Invoke, tmp_path: Path, make: Callable[[Path], object], finding: str
) -> None:
    make(tmp_path / "w.yaml")
    result = kubesaga("lint", "w.yaml")
    assert result.exit_code == 2
    assert result.stdout.startswith(finding)


def test_a_warning_is_a_problem_only_if_one_is_strict(kubesaga: Invoke, write: Write) -> None:
    write("w.yaml", GOOD.replace("description: d", "description: ''"))
    told = "w.yaml:5: warning: spec.description: is empty; say in a sentence what the Workflow is for\n"
    easy, strict = kubesaga("lint", "w.yaml"), kubesaga("lint", "--strict", "w.yaml")
    assert (easy.exit_code, easy.stdout) == (0, told)
    assert (strict.exit_code, strict.stdout) == (1, told)


def test_a_folder_is_searched_for_what_is_ours(kubesaga: Invoke, write: Write) -> None:
    write("here/w.yaml", GOOD)
    write("here/below/r.yml", RUN + "spec: {workflowRef: {name: w}, inputs: {a: x}}\n")
    write("here/template.yaml", "{{ not YAML at all")
    write("here/.hidden/w.yaml", "kubesaga.dev/ {{")
    write("here/notes.txt", "kubesaga.dev/ {{")
    result = kubesaga("lint", "here")
    assert result.exit_code == 1
    assert result.stdout == "here/below/r.yml:4: spec.inputs.a: must be of type integer, but is a string\n"
    assert result.stderr == "2 objects checked: 1 problem, no warnings\n"


def test_a_run_of_a_workflow_that_is_not_there_may_be_right(kubesaga: Invoke, write: Write) -> None:
    write("r.yaml", RUN + "spec: {workflowRef: {name: elsewhere}, inputs: {b: 1}}\n")
    assert kubesaga("lint", "r.yaml").exit_code == 0


def test_a_run_of_another_namespace_is_another_workflows(kubesaga: Invoke, write: Write) -> None:
    run = RUN.replace("{name: r}", "{name: r, namespace: other}")
    write("w.yaml", GOOD + "---\n" + run + "spec: {workflowRef: {name: w}, inputs: {b: 1}}\n")
    assert kubesaga("lint", "w.yaml").exit_code == 0


def test_standard_input(kubesaga: Invoke) -> None:
    result = kubesaga("lint", "-", text=GOOD + "more: 1\n")
    assert result.exit_code == 1
    assert result.stdout.startswith("<stdin>:9: more: there is no such field")


def test_objects_of_others_are_passed_over(kubesaga: Invoke, write: Write) -> None:
    write("w.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n---\n" + GOOD)
    assert kubesaga("lint", "w.yaml").exit_code == 0


def test_nothing_of_ours_is_no_success(kubesaga: Invoke, write: Write) -> None:
    write("w.yaml", "apiVersion: v1\nkind: Service\n")
    result = kubesaga("lint", "w.yaml")
    assert result.exit_code == 2
    assert result.stderr == "there is no object of kubesaga.dev in it: nothing was checked\n"


def test_json_is_for_machines(kubesaga: Invoke, write: Write) -> None:
    write("w.yaml", GOOD + "extra: 1\n")
    result = kubesaga("lint", "w.yaml", "-o", "json")
    message = "there is no such field; the fields here are apiVersion, kind, metadata, spec, status"
    assert json.loads(result.stdout) == [
        {"file": "w.yaml", "line": 9, "path": "extra", "message": message, "severity": "error"}
    ]
    assert result.stderr == ""


WAITS = (
    HEAD
    + "spec:\n  description: d\n  triggers: [{name: t, event: 'desk:opened'}]\n  activities: [{name: x, handler: h}]\n"
)
REGISTERS = SOURCE + "spec: {type: CloudEvents, auth: {none: {}}, eventTypes: [{type: 'desk:*'}]}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(WAITS, "spec.triggers[0].event: desk:opened is not a known event type", id="alone, nobody's"),
        pytest.param(f"{WAITS}---\n{REGISTERS}", "", id="beside its source, known"),
        pytest.param(f"{WAITS}---\n{REGISTERS}".replace("{name: s}", "{name: s, namespace: other}").replace("{name: w}", "{name: w, namespace: shop}"), "spec.triggers[0].event", id="beside a source of another namespace, nobody's"),
        pytest.param(f"{WAITS}---\n{REGISTERS}".replace("none: {}", ""), "spec.triggers[0].event", id="beside a source that is wrong, nobody's"),
    ],
)  # fmt: skip
def test_an_event_type_is(kubesaga: Invoke, write: Write, text: str, told: str) -> None:
    write("w.yaml", text)
    warned = [line for line in kubesaga("lint", "w.yaml").stdout.splitlines() if "warning" in line]
    assert len(warned) == bool(told)
    assert all(told in line for line in warned)


WAITING = (
    "apiVersion: kubesaga.dev/v1alpha1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  description: d\n"
    "  inputs: [{name: id, required: true}]\n"
    "  activities:\n  - {name: a, waitFor: {event: 'ticket:*', when: received.data.id == inputs.id, timeout: 1h}}\n"
)


@pytest.mark.parametrize(
    ("type_", "told"),
    [
        pytest.param("ticket:created", "", id="nothing, where it waits for the event; no inputs are asked for"),
        pytest.param("ticket", "w.yaml:13: warning: spec.event: no activity of the Workflow waits for events of type ticket,", id="that nobody waits for it"),
    ],
)  # fmt: skip
def test_of_a_run_that_gives_its_event_to_the_runs_of_a_workflow_is_told(
    kubesaga: Invoke, write: Write, type_: str, told: str
) -> None:
    event = json.dumps(json.dumps({"type": type_}))
    write("w.yaml", f"{WAITING}---\n{RUN}spec: {{workflowRef: {{name: w}}, deliver: true, event: {event}}}\n")
    result = kubesaga("lint", "w.yaml")
    assert result.exit_code == 0, result.stdout
    assert result.stdout.startswith(told)
    assert bool(result.stdout) is bool(told)
