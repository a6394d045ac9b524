# SPDX-License-Identifier: Apache-2.0
"""`kubesaga run` carries a Workflow out without a cluster, or says before anything has happened why it cannot."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result

import kubesaga as kubesaga_package
from kubesaga.api.parsing import parse_workflow_spec
from kubesaga.cli.given_signals import unanswered
from kubesaga.executors.process_launcher import TERMINATION_LOG
from kubesaga.executors.process_logs import NoTerminationLog, termination_logs

Invoke = Callable[..., Result]
Write = Callable[[str, str], Path]
Program = Callable[..., "subprocess.Popen[str]"]

HEAD = "apiVersion: kubesaga.dev/v1alpha1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  description: d\n"
RUN = "apiVersion: kubesaga.dev/v1alpha1\nkind: WorkflowRun\nmetadata: {name: r}\n"
HANDLERS = """
import kubesaga
print("imported")

@kubesaga.activity("test:echo")
def echo(params, context):
    print("echoing", params)
    return {"params": params, "run": context.run}

@kubesaga.activity("test:fail")
def fail(params):
    raise ValueError("as it was told to")

@kubesaga.activity("test:refuse")
def refuse(params):
    raise kubesaga.NotRetryable("card is gone")

@kubesaga.activity("test:hang")
def hang(params):
    import time
    print("hanging")
    time.sleep(600)
"""
ECHO = (
    HEAD
    + """\
  inputs:
  - {name: text, type: string, default: hello}
  - {name: count, type: integer, default: 1}
  activities:
  - {name: a, handler: "test:echo", params: {text: "${inputs.text}", count: "${inputs.count}", event: "${event}"}}
  outputs: {params: "${activities.a.output.params}", run: "${activities.a.output.run}"}
"""
)


@pytest.fixture
def local_pods(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where this machine can give no process a /dev/termination-log."""

    async def look() -> None:
        (await termination_logs(tmp_path_factory.mktemp("logs"))).close()

    try:
        asyncio.run(look())
    except NoTerminationLog as error:
        pytest.skip(str(error))


@pytest.fixture
def handlers(write: Write) -> str:
    """A module of handlers in the current folder."""
    write("test_run_handlers.py", HANDLERS)
    return "test_run_handlers"


def outputs_of(result: Result) -> Any:
    """The outputs as the text output has them."""
    first, *rest = result.stdout.splitlines()
    assert first.startswith("✓"), result.output
    return yaml.safe_load("\n".join(rest))


# --- the examples ---------------------------------------------------------------------------------------------------


def test_the_example_with_handlers(kubesaga: Invoke, examples: Path) -> None:
    result = kubesaga("run", examples / "handlers" / "workflow.yaml", "--handlers", "orders", "--input", "sku=notebook", "--input", "quantity=3")  # fmt: skip
    assert result.exit_code == 0, result.output
    outputs = outputs_of(result)
    assert outputs["total_cents"] == 1350
    assert outputs["reservation"].startswith("R-")


def test_its_failure_stands_in_the_last_line(kubesaga: Invoke, examples: Path) -> None:
    result = kubesaga("run", examples / "handlers" / "workflow.yaml", "--handlers", "orders", "--input", "sku=pen")
    assert result.exit_code == 1
    assert "Failed" in result.stdout
    assert "ActivityFailed: price: HandlerFailed: ValueError: there is no price for 'pen'" in result.stdout


@pytest.mark.usefixtures("local_pods")
@pytest.mark.parametrize(
    ("words", "outputs"),
    [
        pytest.param(["hello/workflow.yaml"], {"greeting": "Hello, world!"}, id="hello"),
        pytest.param(["hello/workflow.yaml", "hello/run.yaml"], {"greeting": "Hello, Kubernetes!"}, id="hello with the inputs of its run"),
        pytest.param(["diamond/workflow.yaml", "diamond/run.yaml"], {"summary": "parcel Skipped, freight Succeeded"}, id="diamond"),
    ],
)  # fmt: skip
def test_the_examples_with_pods(kubesaga: Invoke, examples: Path, words: list[str], outputs: dict[str, str]) -> None:
    result = kubesaga("run", *(examples / word for word in words), "--pods", "local")
    assert result.exit_code == 0, result.output
    assert outputs_of(result) == outputs
    assert result.stderr.count("images") == 1


@pytest.mark.parametrize(
    ("fail", "status", "undone"),
    [
        pytest.param("", 0, [], id="nothing fails"),
        pytest.param("flight", 1, [], id="the first one fails: there is nothing to undo"),
        pytest.param("hotel", 4, ["flight"], id="the hotel fails"),
        pytest.param("car", 4, ["hotel", "flight"], id="the car fails"),
        pytest.param("pay", 4, ["car", "hotel", "flight"], id="paying fails"),
        pytest.param("answer", 4, ["pay", "car", "hotel", "flight"], id="paying is in doubt"),
    ],
)
def test_the_example_of_a_saga_is_undone_backwards(
    kubesaga: Invoke, examples: Path, fail: str, status: int, undone: list[str]
) -> None:
    result = kubesaga("run", examples / "saga" / "workflow.yaml", "--handlers", "trips", "--input", f"fail={fail}")
    assert result.exit_code == status, result.output
    assert re.findall(r"^(\w+): .* is (?:cancelled|paid back)$", result.stderr, re.MULTILINE) == undone
    assert ("in the books: nothing" in result.stderr) is bool(fail)


# --- what is given --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text", "count"),
    [
        pytest.param([], "hello", 1, id="nothing: the defaults"),
        pytest.param(["--input", "text=7", "--input", "count=7"], "7", 7, id="each as the type it is declared"),
        pytest.param(["--inputs-file", "in.yaml"], "from a file", 1, id="a file"),
        pytest.param(["--inputs-file", "in.yaml", "--input", "text=typed"], "typed", 1, id="what is typed wins over a file"),
        pytest.param(["r.yaml"], "from a run", 2, id="a WorkflowRun"),
        pytest.param(["r.yaml", "--inputs-file", "in.yaml"], "from a file", 2, id="a file wins over a WorkflowRun"),
    ],
)  # fmt: skip
def test_inputs(kubesaga: Invoke, write: Write, handlers: str, words: list[str], text: str, count: int) -> None:
    write("w.yaml", ECHO)
    write("in.yaml", "text: from a file\n")
    write("r.yaml", RUN + "spec: {workflowRef: {name: w}, inputs: {text: from a run, count: 2}}\n")
    result = kubesaga("run", "w.yaml", "--handlers", handlers, *words)
    assert result.exit_code == 0, result.output
    assert outputs_of(result)["params"] == {"text": text, "count": count, "event": {}}


@pytest.mark.parametrize(
    ("words", "run"),
    [
        pytest.param(["--name", "mine"], "mine", id="as asked for"),
        pytest.param(["r.yaml"], "r", id="the WorkflowRun's"),
        pytest.param(["r.yaml", "--name", "mine"], "mine", id="as asked for, not the WorkflowRun's"),
    ],
)
def test_the_name_of_the_run(kubesaga: Invoke, write: Write, handlers: str, words: list[str], run: str) -> None:
    write("w.yaml", ECHO)
    write("r.yaml", RUN + "spec: {workflowRef: {name: w}}\n")
    result = kubesaga("run", "w.yaml", "--handlers", handlers, *words)
    assert outputs_of(result)["run"] == run


def test_an_event(kubesaga: Invoke, write: Write, handlers: str) -> None:
    write("w.yaml", ECHO)
    write("event.json", '{"type": "ticket:created", "data": {"id": 7}}')
    result = kubesaga("run", "w.yaml", "--handlers", handlers, "--event", "event.json")
    assert outputs_of(result)["params"]["event"] == {"type": "ticket:created", "data": {"id": 7}}


def test_standard_input(kubesaga: Invoke, handlers: str) -> None:
    assert kubesaga("run", "-", "--handlers", handlers, text=ECHO).exit_code == 0


def test_a_workflow_within_a_run(kubesaga: Invoke, write: Write, handlers: str) -> None:
    spec = yaml.safe_load(ECHO)["spec"]
    write("r.yaml", RUN + yaml.safe_dump({"spec": {"workflowSpec": spec, "inputs": {"text": "x"}}}))
    result = kubesaga("run", "r.yaml", "--handlers", handlers)
    assert outputs_of(result)["params"]["text"] == "x"


def test_one_of_several_workflows(kubesaga: Invoke, write: Write, handlers: str) -> None:
    write(
        "w.yaml",
        ECHO + "---\n" + ECHO.replace("{name: w}", "{name: other}").replace("default: hello", "default: other"),
    )
    result = kubesaga("run", "w.yaml", "--handlers", handlers, "--workflow", "other")
    assert outputs_of(result)["params"]["text"] == "other"


def test_a_longest_time(kubesaga: Invoke, write: Write, handlers: str) -> None:
    write("w.yaml", HEAD + '  timeout: 1h\n  activities:\n  - {name: a, handler: "test:hang"}\n')
    result = kubesaga("run", "w.yaml", "--handlers", handlers, "--timeout", "100ms")
    assert result.exit_code == 1
    assert "DeadlineExceeded: the run took longer than 100ms" in result.stdout


# --- what is printed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_the_finished_run_for_machines(
    kubesaga: Invoke, write: Write, handlers: str, form: str, read: Callable[[str], Any]
) -> None:
    """Standard output holds the object alone, whatever handlers print."""
    write("w.yaml", ECHO)
    result = kubesaga("run", "w.yaml", "--handlers", handlers, "--name", "r", "-o", form)
    body = read(result.stdout)
    assert (body["kind"], body["metadata"]["name"], body["status"]["phase"]) == ("WorkflowRun", "r", "Succeeded")
    assert body["spec"] == {"workflowRef": {"name": "w"}}
    assert body["status"]["activities"]["a"]["output"]["run"] == "r"
    assert "Succeeded" not in result.stderr
    assert "echoing" in result.stderr


def test_progress_is_one_line_a_change(kubesaga: Invoke, write: Write, handlers: str) -> None:
    write("w.yaml", ECHO)
    lines = kubesaga("run", "w.yaml", "--handlers", handlers).stderr.splitlines()
    assert [line.split()[:3] for line in lines if line[0] in "●✓"] == [["●", "a", "Running"], ["✓", "a", "Succeeded"]]


def test_why_a_handler_failed_is_told_with_its_place(kubesaga: Invoke, write: Write, handlers: str) -> None:
    write("w.yaml", HEAD + '  activities:\n  - {name: a, handler: "test:fail"}\n')
    result = kubesaga("run", "w.yaml", "--handlers", handlers)
    assert result.exit_code == 1
    assert "test_run_handlers.py" in result.stderr
    assert "ValueError: as it was told to" in result.stderr


# --- http -----------------------------------------------------------------------------------------------------------


class _Greeter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"greeting": "hello"}')

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[int]:
    """A web server on this machine; its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Greeter) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running.server_address[1]
        running.shutdown()
        thread.join()


def test_an_address_inside_is_denied_and_the_way_to_allow_it_told(kubesaga: Invoke, write: Write, server: int) -> None:
    place = f"127.0.0.1:{server}"
    write(
        "w.yaml",
        HEAD
        + f'  activities:\n  - {{name: a, http: {{url: "http://{place}/"}}}}\n  outputs: {{g: "${{activities.a.output.greeting}}"}}\n',
    )
    denied = kubesaga("run", "w.yaml")
    assert denied.exit_code == 1
    assert "EgressDenied" in denied.stdout
    assert f"hint: --allow {place} lets http activities reach it" in denied.stderr
    allowed = kubesaga("run", "w.yaml", "--allow", place)
    assert outputs_of(allowed) == {"g": "hello"}


# --- what is wrong --------------------------------------------------------------------------------------------------

POD = HEAD + "  activities:\n  - {name: p, pod: {image: i}}\n"


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        pytest.param(None, [], "w.yaml: cannot be read: No such file or directory", id="no file"),
        pytest.param("a: [", [], "w.yaml:1: is not YAML", id="no YAML"),
        pytest.param("apiVersion: v1\nkind: Service\n", [], "there is no Workflow in what was given", id="no Workflow"),
        pytest.param(ECHO + "---\n" + ECHO.replace("{name: w}", "{name: v}"), [], "there are 2 of kind Workflow: w, v; say which one by --workflow NAME", id="two Workflows"),
        pytest.param(ECHO, ["--workflow", "v"], "there is no Workflow v in what was given; there are w", id="no such Workflow"),
        pytest.param(ECHO + "---\n" + RUN + "spec: {workflowRef: {name: v}}\n", [], "there is no Workflow v in what was given; there are w", id="a run of another Workflow"),
        pytest.param(ECHO + ("---\n" + RUN + "spec: {workflowRef: {name: w}}\n") * 2, [], "there are 2 of kind WorkflowRun: r, r; say which one by --name NAME", id="two runs"),
        pytest.param(ECHO + "---\n" + RUN + "spec: {workflowRef: {name: w}, suspend: true}\n", [], "w.yaml:16: spec.suspend: would keep the run from ever starting here; remove it", id="a suspended run"),
        pytest.param(HEAD + "  activities:\n  - {name: a, handlr: x}\n", [], "w.yaml:7: spec.activities[0].handlr: there is no such field; did you mean handler?", id="a field that does not exist"),
        pytest.param(HEAD + "  activities:\n  - {name: a, handler: x, handler: 'test:echo'}\n", [], "w.yaml:7: spec.activities[0].handler: the key handler stands here twice, first in line 7; remove one of them", id="a key that is there twice"),
        pytest.param(HEAD + "  activities:\n  - {name: a, handler: x}\n", [], "w.yaml:7: spec.activities[0].handler: no handler x is registered", id="an unknown handler"),
        pytest.param(HEAD + "  activities: [{name: a, handler: 'test:echo'}]\n  finally: [{name: z, handler: x}]\n", [], "w.yaml:7: spec.finally[0].handler: no handler x is registered", id="an unknown handler in finally"),
        pytest.param(POD, [], "w.yaml:7: spec.activities[0].pod: p is a pod; without a cluster it runs only as a local process: --pods local", id="a pod"),
        pytest.param(POD, ["--pods", "local"], "w.yaml:7: spec.activities[0].pod.command: is needed to run it as a local process", id="a pod without a command"),
        pytest.param(ECHO, ["--input", "txt=1"], "input txt: the Workflow has no such input; did you mean text?", id="an unknown input"),
        pytest.param(ECHO, ["--input", "count=one"], "input count: must be of type integer, but is a string", id="an input of the wrong type"),
        pytest.param(ECHO, ["--input", "count"], "--input: 'count' is not NAME=VALUE", id="an input without a value"),
        pytest.param(ECHO.replace("default: hello", "required: true"), [], "input text: the Workflow needs this input; give text, of type string", id="a missing input"),
        pytest.param(ECHO, ["--inputs-file", "none.yaml"], "--inputs-file: none.yaml: cannot be read", id="no file of inputs"),
        pytest.param(ECHO, ["--event", "test_run_handlers.py"], "--event: test_run_handlers.py", id="an event that is none"),
        pytest.param(ECHO, ["--timeout", "soon"], "--timeout: 'soon' is not a duration", id="a timeout that is none"),
        pytest.param(ECHO, ["--name", "No Name"], "--name: 'No Name' is not a name of a Kubernetes object", id="a name that Kubernetes would refuse"),
        pytest.param(ECHO, ["--handlers", "no_such_module"], "handlers module 'no_such_module' could not be imported: ModuleNotFoundError", id="no such module"),
        pytest.param(ECHO, ["--allow", "http://x"], "--allow: 'http://x' is a URL; leave the scheme and the path out", id="a host that is none"),
    ],
)  # fmt: skip
def test_nothing_starts_where_something_is_wrong(
    kubesaga: Invoke, write: Write, handlers: str, text: str | None, words: list[str], line: str
) -> None:
    if text is not None:
        write("w.yaml", text)
    result = kubesaga("run", "w.yaml", "--handlers", handlers, *words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert any(told.startswith(line) for told in result.stderr.splitlines()), result.stderr


def test_all_that_is_wrong_is_told_at_once(kubesaga: Invoke, write: Write) -> None:
    write(
        "w.yaml",
        HEAD + "  activities:\n  - {name: a, handler: x}\n  - {name: b, pod: {image: i}}\n  - {name: b, handler: z}\n",
    )
    result = kubesaga("run", "w.yaml")
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        "spec.activities[2].name", "spec.activities[0].handler", "spec.activities[1].pod", "spec.activities[2].handler",
    ]  # fmt: skip


def test_a_setting_that_cannot_be_used(kubesaga: Invoke, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("w.yaml", ECHO)
    monkeypatch.setenv("KUBESAGA_HTTP_TIMEOUT", "long")
    result = kubesaga("run", "w.yaml")
    assert (result.exit_code, result.stderr) == (2, "KUBESAGA_HTTP_TIMEOUT='long': must be a number of seconds\n")


# --- as a program ---------------------------------------------------------------------------------------------------


def told(process: subprocess.Popen[str], text: str) -> str:
    """Read standard error up to a line that holds a text."""
    assert process.stderr is not None
    read = ""
    for line in process.stderr:
        read += line
        if text in line:
            return read
    raise AssertionError(f"{text!r} was never told:\n{read}")


LONG = (
    HEAD
    + """\
  activities:
  - {name: a, dependsOn: [], handler: "test:hang"}
  - {name: b, dependsOn: [], pod: {image: i, command: [sh, -c, "echo begun; trap '' TERM; sleep 600 & wait; sleep 600"]}}
  finally:
  - {name: z, handler: "test:echo"}
"""
)


@pytest.mark.usefixtures("local_pods")
def test_a_second_ctrl_c_terminates_the_run_and_a_third_one_leaves_at_once(
    write: Write, program: Program, handlers: str, tmp_path: Path
) -> None:
    write("w.yaml", LONG)
    process = program("run", "w.yaml", "--handlers", handlers, "--pods", "local", TMPDIR=str(tmp_path))
    told(process, "b | begun")
    process.send_signal(signal.SIGINT)
    told(process, "a  Cancelled")
    process.send_signal(signal.SIGINT)
    told(process, "once more to leave at once")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert list(tmp_path.glob("kubesaga-*")) == []


def test_a_terminated_run_has_a_status_of_its_own(write: Write, program: Program, handlers: str) -> None:
    hang = 'handler: "test:hang"'
    write(
        "w.yaml", f"{HEAD}  activities: [{{name: a, {hang}}}]\n  finally: [{{name: b, {hang}}}, {{name: c, {hang}}}]\n"
    )
    process = program("run", "w.yaml", "--handlers", handlers, "--name", "r", "-o", "json")
    told(process, "hanging")
    process.send_signal(signal.SIGTERM)
    told(process, "hanging")  # in finally
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    status = json.loads(output)["status"]
    assert (process.returncode, status["phase"], status["reason"]) == (3, "Terminated", "Terminated")
    assert set(status["activities"]) == {"a", "b"}, "the rest of finally is left out"


# --- undoing --------------------------------------------------------------------------------------------------------

SAGA = (
    HEAD
    + """\
  activities:
  - name: book
    handler: "test:echo"
    compensation: {handler: "test:UNDO"}
  - {name: ship, handler: "test:fail", errorHandling: {retry: {maxAttempts: 1}}}
  finally:
  - {name: z, handler: "test:echo"}
  compensation: {mode: MODE, timeout: 1m}
"""
)


@pytest.mark.parametrize(
    ("undo", "mode", "status", "phase", "told"),
    [
        pytest.param("echo", "Automatic", 4, "Compensated", "undoing what was done: ActivityFailed: ship: ", id="what was done is undone"),
        pytest.param("refuse", "Automatic", 6, "Terminated", "not undone: book (NotRetryable: card is gone); in a cluster", id="an undo fails"),
        pytest.param("echo", "Manual", 6, "Terminated", "undoing waits to be approved (compensation.mode: Manual); in a cluster", id="undoing must be approved"),
    ],
)  # fmt: skip
def test_a_saga_that_fails(
    kubesaga: Invoke, write: Write, handlers: str, undo: str, mode: str, status: int, phase: str, told: str
) -> None:
    write("w.yaml", SAGA.replace("UNDO", undo).replace("MODE", mode))
    result = kubesaga("run", "w.yaml", "--handlers", handlers, "--name", "r")
    assert result.exit_code == status, result.output
    assert told in result.stderr
    assert f" r {phase} in " in result.stdout


def test_what_undos_and_fallbacks_need_is_told_before_anything_starts(kubesaga: Invoke, write: Write) -> None:
    write(
        "w.yaml",
        HEAD
        + """\
  activities:
  - name: a
    http: {url: "http://desk"}
    errorHandling: {fallback: {handler: x}}
    compensation: {pod: {image: i}}
  compensation: {activities: [{name: u, pod: {image: i, command: [b]}}]}
""",
    )
    result = kubesaga("run", "w.yaml")
    assert result.exit_code == 2
    assert [
        line.split(": ", 1)[1].partition(" (there are")[0].partition("; ")[0] for line in result.stderr.splitlines()
    ] == [
        "spec.activities[0].errorHandling.fallback.handler: no handler x is registered",
        "spec.activities[0].compensation.pod: the undo of a is a pod",
        "spec.compensation.activities[0].pod: this undo is a pod",
    ]
    result = kubesaga("run", "w.yaml", "--pods", "local")
    assert "spec.activities[0].compensation.pod.command: is needed" in result.stderr


def test_kinds_that_only_undos_and_fallbacks_are_of_can_be_carried_out(
    kubesaga: Invoke, write: Write, handlers: str, server: int
) -> None:
    write(
        "w.yaml",
        HEAD
        + f"""\
  errorHandling: {{activityError: {{retry: {{maxAttempts: 1}}}}}}
  activities:
  - name: book
    http: {{url: "http://127.0.0.1:{server}/book"}}
    compensation: {{handler: "test:echo"}}
  - name: ship
    http: {{url: "http://127.0.0.1:{server}/ship", expectedStatus: [201]}}
    errorHandling: {{fallback: {{handler: "test:fail"}}}}
""",
    )
    result = kubesaga("run", "w.yaml", "--handlers", handlers, "--allow", "127.0.0.1", "--name", "r")
    assert result.exit_code == 4, result.output
    assert "its fallback failed too: HandlerFailed" in result.stdout


def test_ctrl_c_cancels_the_run_and_undoes_what_was_done(write: Write, program: Program, handlers: str) -> None:
    write("w.yaml", SAGA.replace("test:fail", "test:hang").replace("UNDO", "echo").replace("MODE", "Automatic"))
    process = program("run", "w.yaml", "--handlers", handlers, "-o", "json")
    told(process, "hanging")
    process.send_signal(signal.SIGINT)
    output, said = process.communicate(timeout=20)
    status = json.loads(output)["status"]
    assert (process.returncode, status["phase"], status["reason"]) == (5, "Cancelled", "Cancelled"), said
    phases = {name: activity["phase"] for name, activity in status["activities"].items()}
    assert phases == {"book": "Compensated", "ship": "Cancelled", "z": "Succeeded"}


def test_neither_run_nor_lint_pays_for_a_kubernetes_client(
    write: Write, handlers: str, examples: Path, tmp_path: Path
) -> None:
    """What is imported is what takes the time of a short run."""
    write("w.yaml", ECHO)
    script = f"""
import sys
sys.path.insert(0, {str(examples.parent / "operator")!r})
from kubesaga.cli.app import main
for words in (["lint", {str(examples)!r}], ["run", "w.yaml", "--handlers", {handlers!r}]):
    main(words, standalone_mode=False)
print("; ".join(name for name in ("kopf", "kubernetes", "rich") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


# --- where the kernel makes no namespaces ---------------------------------------------------------------------------

_NO_NAMESPACES = "echo 0 > /proc/sys/user/max_user_namespaces"
_UNPRIVILEGED = 'exec setpriv --bounding-set -sys_admin "$@"'
_READ_ONLY_DEV = "mount --rbind /dev /dev && mount -o remount,bind,ro /dev"


def confined(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command as most containers would: as root of nothing. Skips where not even that can be tried."""
    program = [sys.executable, "-m", "kubesaga", *(str(word) for word in words)]
    outer = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run([*outer, f"{_NO_NAMESPACES} && exec setpriv --version"], capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("this machine cannot imitate one without namespaces: it takes util-linux and user namespaces")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(kubesaga_package.__file__).parents[1])}
    inner = f"{_NO_NAMESPACES} && {script} && {_UNPRIVILEGED}"
    return subprocess.run(
        [*outer, inner, "sh", *program], capture_output=True, text=True, env=env, timeout=60, check=False
    )


def test_without_namespaces_processes_take_turns_with_one_log(examples: Path) -> None:
    log = Path(TERMINATION_LOG)
    if not os.access(log.parent, os.W_OK) or log.exists():
        pytest.skip(f"{log} cannot be made here, or is somebody else's")
    done = confined("true", "run", examples / "diamond" / "workflow.yaml", "--input", "pieces=4", "--pods", "local")
    assert done.returncode == 0, done.stderr
    assert "summary: parcel Succeeded, freight Skipped" in done.stdout
    assert not log.exists()


def test_with_neither_it_is_said_what_is_missing(examples: Path) -> None:
    done = confined(_READ_ONLY_DEV, "run", examples / "hello" / "workflow.yaml", "--pods", "local")
    assert done.returncode == 2
    assert "a mount namespace is refused (Operation not permitted" in done.stderr
    assert "/dev cannot be written to" in done.stderr
    assert done.stdout == ""


# --- waits ----------------------------------------------------------------------------------------------------------

WAITS = HEAD + (
    "  activities:\n"
    "  - {name: nap, sleep: {for: 200ms}}\n"
    "  - {name: paid, waitFor: {TIMEOUT}}\n"
    '  outputs: {paid: "${activities.paid.output}"}\n'
)


def test_a_sleep_is_slept_and_a_signal_is_given_from_the_start(kubesaga: Invoke, write: Write) -> None:
    file = write("w.yaml", WAITS.replace("TIMEOUT", ""))
    result = kubesaga("run", file, "--signal", 'paid={"amount": 1350}', "-o", "json")
    assert result.exit_code == 0, result.output
    status = json.loads(result.stdout)["status"]
    assert status["outputs"] == {"paid": {"amount": 1350}}
    assert status["activities"]["nap"]["completionTime"] >= status["activities"]["nap"]["until"]


@pytest.mark.parametrize(
    ("timeout", "exit_code", "told"),
    [
        pytest.param("", 6, "paid: waits for a Signal, which nobody can send here; give it from the start: --signal paid=VALUE", id="ends the run"),
        pytest.param("timeout: 300ms", 1, "paid: WaitTimeout: no Signal came to paid within 300ms", id="waits out its time"),
    ],
)  # fmt: skip
def test_a_wait_whose_signal_was_not_given(
    kubesaga: Invoke, write: Write, timeout: str, exit_code: int, told: str
) -> None:
    result = kubesaga("run", write("w.yaml", WAITS.replace("TIMEOUT", timeout)))
    assert (result.exit_code, told in result.output) == (exit_code, True), result.output


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param(["payd=1"], "--signal: payd is no waitFor; did you mean paid?", id="for nobody"),
        pytest.param(["nap=1"], "--signal: nap is no waitFor", id="for a sleep"),
        pytest.param(["paid=card"], "--signal: paid: 'card' is not JSON; write a string with its quotes", id="that is not JSON"),
        pytest.param(["paid=1", "paid"], "--signal: paid is given twice, and takes one", id="twice"),
    ],
)  # fmt: skip
def test_nothing_is_started_for_a_signal(kubesaga: Invoke, write: Write, given: list[str], told: str) -> None:
    options = [word for text in given for word in ("--signal", text)]
    result = kubesaga("run", write("w.yaml", WAITS.replace("TIMEOUT", "")), *options)
    assert (result.exit_code, told in result.output) == (2, True), result.output


WAITING = {"phase": "Waiting", "reason": "AwaitingSignal"}
FOR_EVENT = {"phase": "Waiting", "reason": "AwaitingEvent"}


@pytest.mark.parametrize(
    ("activities", "told"),
    [
        pytest.param({"paid": FOR_EVENT}, "paid: waits for payment:received, and no event comes here; give it from the start: --signal paid=EVENT", id="an event"),
        pytest.param({"paid": FOR_EVENT, "told": WAITING}, "paid, told: waits for payment:received, and no event comes here, nor a Signal; give it from the start: --signal paid=EVENT --signal told=VALUE", id="an event and a Signal"),
        pytest.param({"paid": {**FOR_EVENT, "until": "2026-01-01T00:00:00.000Z"}}, None, id="an event, for a while"),
        pytest.param({"paid": FOR_EVENT, "told": {"phase": "Running"}}, None, id="an event, while something runs"),
    ],
)  # fmt: skip
def test_what_is_told_where_everything_waits_for(activities: dict[str, Any], told: str | None) -> None:
    waits = [{"name": "paid", "waitFor": {"event": "payment:received"}}, {"name": "told", "waitFor": {}}]
    spec = parse_workflow_spec({"activities": waits})
    assert unanswered({"phase": "Waiting", "activities": activities}, spec) == told


def test_a_run_that_only_gives_its_event_to_live_ones_is_not_the_one_to_run(kubesaga: Invoke, write: Write) -> None:
    deliver = "---\n" + RUN + "spec: {workflowRef: {name: w}, deliver: true, event: '{}'}\n"
    result = kubesaga(
        "run", write("w.yaml", ECHO + deliver + "---\n" + RUN + "spec: {workflowRef: {name: w}}\n"), "-o", "json"
    )
    assert "there are 2 of kind" not in result.output
