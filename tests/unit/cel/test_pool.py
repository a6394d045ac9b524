# SPDX-License-Identifier: Apache-2.0
"""Expressions that mean harm, children that die: each fails with a sentence, in time, and nobody else notices.

Everything here runs the real processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kubesaga.cel.child import Bounds, Child
from kubesaga.cel.pool import CelPool
from kubesaga.cel.worker import LENGTH
from kubesaga.engine.language.expressions import EvaluatorUnavailable, ExpressionError

SCOPE: dict[str, Any] = {"inputs": {"text": "x" * 1000, "list": list(range(200)), "n": 1}}
IN_TIME = 2.5
"""Seconds within which a hostile expression must have failed: some 0.3 on an idle machine; the pool itself gives up on a
child that a busy machine does not let work after 8 deadlines."""

SLOW = "sets.contains(lists.range(100000), lists.range(100000))"
"""Works for minutes, in little memory."""


@pytest.fixture(scope="module")
def pool() -> Iterator[CelPool]:
    with CelPool(size=1) as it:
        yield it


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)  # between two looks, not for something to happen
    raise AssertionError("it never held")


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def cpu_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11])


def child_of(pool: CelPool) -> int:
    """The process id of the child of a pool of one."""
    (child,) = pool._children
    return child.pid


MEMORY = "it needed too much memory"
TIME = "it took longer than 250 ms"
DEEP = "it is nested too deeply"


@pytest.mark.parametrize(
    ("expression", "sentences"),
    [
        pytest.param("[inputs.text]" + ".map(x, x + x)" * 20, (MEMORY, TIME), id="a string doubled twenty times"),
        pytest.param("inputs.text.replace('x', inputs.text).replace('x', inputs.text)", (MEMORY, TIME), id="replace, squared"),
        pytest.param("lists.range(1000000000).size()", (MEMORY,), id="a list of a billion numbers"),
        pytest.param("lists.range(9223372036854775807).size()", (MEMORY,), id="the longest list there is"),
        pytest.param("lists.range(9999).map(x, inputs.text).join('').size()", (MEMORY, TIME), id="a list of long strings"),
        pytest.param("[1]" + ".map(x, [x, x, x, x])" * 29, (TIME, MEMORY), id="a list that grows fourfold, over and over"),
        pytest.param(SLOW, (TIME,), id="every item against every item"),
        pytest.param("inputs.list.all(a, inputs.list.all(b, inputs.list.all(c, true)))", ("it loops too often",), id="loops in loops"),
        pytest.param("x" * 100_000, ("it is too long: 100,000 characters",), id="100,000 characters"),
        pytest.param("(" * 2000 + "1" + ")" * 2000, (DEEP,), id="2,000 parentheses"),
        pytest.param("[" * 4000, (DEEP,), id="4,000 open brackets"),
        pytest.param("1" + "+1" * 2000, (DEEP,), id="2,000 additions"),
        pytest.param("inputs.text.matches('(((x{0,99}){0,99}){0,99}){0,99}')", ("invalid regular expression",), id="a huge pattern"),
        pytest.param("inputs.text.replace('x', inputs.text)", ("the value is too large: 1,000,002 bytes",), id="a large value"),
        pytest.param("[optional.of(1)]", ("it ends in an optional value",), id="an optional inside a list, fatal to the library"),
        pytest.param("'\\000' + inputs.\0", ("a text holds the character NUL",), id="NUL"),
        pytest.param("'\ud800'", ("a text holds half a surrogate pair",), id="half a character"),
    ],
)  # fmt: skip
def test_a_hostile_expression_fails_in_time_and_the_next_one_is_served(
    expression: str, sentences: tuple[str, ...], pool: CelPool
) -> None:
    pool.evaluate("inputs.n", SCOPE)  # the child is up
    began = time.monotonic()
    with pytest.raises(ExpressionError) as failed:
        pool.evaluate(expression, SCOPE)
    assert time.monotonic() - began < IN_TIME
    assert failed.value.message.startswith(sentences)
    assert pool.evaluate("inputs.n + 1", SCOPE) == 2


def test_a_pattern_that_ruins_other_engines_is_harmless(pool: CelPool) -> None:
    assert pool.evaluate("('a' + inputs.text + '!').matches('(a|x+)+$')", SCOPE) is False


def test_a_hostile_expression_is_found_when_it_is_checked(pool: CelPool) -> None:
    assert pool.check(SLOW, {"inputs"}) == TIME
    assert pool.check("lists.range(1000000000)", ()) == MEMORY
    assert pool.check("x" * 100_000, ()) == "it is too long: 100,000 characters, 4,096 are allowed"


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        pytest.param("inputs.anything.at + all", "`all` is not known at character 22; what can be used here: inputs, run", id="an unknown name"),
        pytest.param("inputs.x.map(y, y + 1)[0] > run.z", None, id="values are not known and need not be"),
        pytest.param("1 +", "it ends too early", id="half an expression"),
        pytest.param("inputs.\n  x y", "`y` is not expected in line 2, character 5", id="in several lines"),
        pytest.param("'a' + 1", "`+` cannot be applied to string and int at character 5", id="types that do not fit"),
        pytest.param("inputs.x.transformMap(k, v, v)", "transformMap and transformMapEntry are not available",
                     id="a macro without its function"),
        pytest.param("size(1, 2)", "there is no function `size`, or none with these arguments, at character 5",
                     id="arguments that do not fit"),
        pytest.param("inputs.x.upper()", "there is no function `upper`, or none with these arguments, at character 15", id="an unknown method"),
        pytest.param("math.pow(2, 3)", "there is no function `math.pow`, or none with these arguments, at character 1", id="an unknown function"),
        pytest.param("[1].all(package, true)", "`package` is a reserved word at character 9", id="a reserved word"),
        pytest.param("has(inputs)", "has() argument must be a field selection at character 5", id="a macro used wrongly"),
    ],
)  # fmt: skip
def test_checking_says_what_is_wrong_and_where(expression: str, sentence: str | None, pool: CelPool) -> None:
    assert pool.check(expression, {"run", "inputs"}) == sentence


def test_more_than_two_mebibytes_are_not_looked_at_but_may_be_there(pool: CelPool) -> None:
    scope = {"inputs": {"large": "x" * 2_100_000, "n": 1}}
    assert pool.evaluate("inputs.n + 1", scope) == 2
    with pytest.raises(
        ExpressionError, match=r"it looks at too much: 2,100,0\d\d bytes of JSON, 2,097,152 are allowed"
    ):
        pool.evaluate("size(inputs.large)", scope)


def test_a_result_of_exactly_the_limit_is_allowed(pool: CelPool) -> None:
    scope = {"inputs": {"x": "x" * (256 * 1024 - 2)}}
    assert pool.evaluate("inputs.x + ''", scope) == scope["inputs"]["x"]
    with pytest.raises(ExpressionError, match="too large: 262,145 bytes"):
        pool.evaluate("inputs.x + 'x'", scope)


def test_an_optional_inside_a_list_does_not_cost_the_child(pool: CelPool) -> None:
    assert pool.evaluate("inputs.n", SCOPE) == 1
    before = child_of(pool)
    for expression in ("[optional.of(1)]", "{'a': [inputs.?n]}", "[[1].first()]", "[regex.extract('a', 'b')]"):
        with pytest.raises(ExpressionError, match="it ends in an optional value"):
            pool.evaluate(expression, SCOPE)
    assert child_of(pool) == before


def test_objects_come_out_in_one_order(pool: CelPool) -> None:
    scope = {"inputs": {name: {"b": 1, "a": 2} for name in "zyxwvutsrqponm"}}
    assert json.dumps(pool.evaluate("{'x': inputs}.x", scope)) == json.dumps(scope["inputs"], sort_keys=True)


# --- children that die ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_child_that_is_killed_while_idle_is_replaced(how: signal.Signals) -> None:
    with CelPool(size=1) as pool:
        assert pool.evaluate("inputs.n", SCOPE) == 1
        before = child_of(pool)
        os.kill(before, how)
        eventually(lambda: not is_alive(before))
        if how is signal.SIGSEGV:
            with pytest.raises(ExpressionError, match="it broke the process that evaluates expressions"):
                pool.evaluate("inputs.n", SCOPE)
        assert pool.evaluate("inputs.n + 1", SCOPE) == 2
        assert child_of(pool) != before


def kill_at_work(pool: CelPool, except_for: int | None = None) -> int:
    """Kill the child of a pool of one as soon as it works; return its process id."""
    eventually(lambda: len(pool._children) == 1 and child_of(pool) != except_for)
    victim = child_of(pool)
    with suppress(FileNotFoundError):
        before = cpu_ticks(victim)
        eventually(lambda: cpu_ticks(victim) > before + 10)  # far more than starting takes
    os.kill(victim, signal.SIGKILL)
    return victim


def test_an_evaluation_whose_child_is_killed_is_done_by_another() -> None:
    with CelPool(size=1, deadline=60) as pool, ThreadPoolExecutor() as threads:
        work = threads.submit(pool.evaluate, "sets.contains(lists.range(15000), lists.range(15000))", SCOPE)
        kill_at_work(pool)
        assert work.result() is True


def test_an_evaluation_whose_child_is_killed_twice_fails() -> None:
    with CelPool(size=1, deadline=60) as pool, ThreadPoolExecutor() as threads:
        work = threads.submit(pool.evaluate, SLOW, SCOPE)
        kill_at_work(pool, except_for=kill_at_work(pool))
        with pytest.raises(ExpressionError, match="killed twice; it may need too much memory"):
            work.result()
        assert pool.evaluate("inputs.n", SCOPE) == 1


def test_a_child_that_the_machine_does_not_let_work_is_not_the_authors_fault() -> None:
    with CelPool(size=1, deadline=0.05) as pool:
        pool.evaluate("inputs.n", SCOPE)
        os.kill(child_of(pool), signal.SIGSTOP)
        with pytest.raises(EvaluatorUnavailable, match="no processor time"):
            pool.evaluate("inputs.n", SCOPE)
        assert pool.evaluate("inputs.n", SCOPE) == 1


@pytest.mark.parametrize(
    "last_words",
    [
        pytest.param("os.write(1, b'nonsense')", id="no frame"),
        pytest.param(r"os.write(1, b'\xff\xff\xff\xff')", id="a frame of four gigabytes"),
        pytest.param(r"os.write(1, b'\0\0\0\3no!')", id="no JSON"),
        pytest.param("pass", id="nothing"),
    ],
)
def test_a_child_that_talks_nonsense_fails_the_expression(
    last_words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(f"import os\nos.write(1, b'\\0\\0\\0\\2{{}}')\nos.read(0, 100000)\n{last_words}\n")
    monkeypatch.setattr("kubesaga.cel.child._WORKER", worker)
    with CelPool(size=1) as pool, pytest.raises(ExpressionError, match="it broke the process"):
        pool.evaluate("inputs.n", SCOPE)


def test_a_worker_that_does_not_start_is_not_the_authors_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubesaga.cel.child._WORKER", tmp_path / "missing.py")
    with CelPool(size=1) as pool, pytest.raises(EvaluatorUnavailable, match="does not start: it was ended by itself"):
        pool.evaluate("inputs.n", SCOPE)


def test_without_the_library_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with (
        CelPool(size=1) as pool,
        pytest.raises(EvaluatorUnavailable, match="cel-expr-python, which evaluates expressions, is not installed"),
    ):
        pool.evaluate("inputs.n", SCOPE)


# --- several threads, the end ---------------------------------------------------------------------------------------


def test_threads_share_the_children_and_a_hostile_one_harms_nobody() -> None:
    def innocent(number: int) -> bool:
        return all(pool.evaluate(f"inputs.n + {number} + {n}", SCOPE) == 1 + number + n for n in range(50))

    def hostile(_: int) -> str:
        with pytest.raises(ExpressionError) as failed:
            pool.evaluate(SLOW, SCOPE)
        return failed.value.message

    with CelPool(size=2, deadline=0.1) as pool, ThreadPoolExecutor(8) as threads:
        harmed = [threads.submit(innocent, number) for number in range(6)]
        harming = [threads.submit(hostile, number) for number in range(3)]
        assert all(work.result() for work in harmed)
        assert {work.result() for work in harming} == {"it took longer than 100 ms"}


def test_closing_ends_children_and_evaluations() -> None:
    pool = CelPool(size=2, deadline=60)
    assert pool.evaluate("inputs.n", SCOPE) == 1
    children = [child.pid for child in pool._children]
    with ThreadPoolExecutor() as threads:
        at_work = [threads.submit(pool.evaluate, SLOW, SCOPE) for _ in range(4)]
        eventually(lambda: pool._free.empty())
        pool.close()
        for work in at_work:
            with pytest.raises(EvaluatorUnavailable, match="has been closed"):
                work.result()
    assert not any(is_alive(pid) for pid in children)
    assert not pool._children
    with pytest.raises(EvaluatorUnavailable, match="has been closed"):
        pool.evaluate("inputs.n", SCOPE)
    pool.close()


PARENT = f"""
import sys
from kubesaga.cel.pool import CelPool
with CelPool(size=2, deadline=0.2) as pool:
    print(*(child.pid for child in pool._children), flush=True)
    while True:
        try:
            pool.evaluate({SLOW!r}, {{}})
        except Exception:
            print(*(child.pid for child in pool._children), flush=True)
"""


def test_children_do_not_survive_their_parent() -> None:
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env=environment, cwd="/") as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        # After a deadline: one child has just been made, the other is soon at work.
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        parent.kill()
    eventually(lambda: not any(is_alive(pid) for pid in children))


def test_a_child_that_nobody_waits_for_ends_itself() -> None:
    child = Child(Bounds(deadline=0.05))
    child.ask(b'{"do":"check","expression":"1","roots":[],"scope":{}}')
    request = json.dumps({"do": "evaluate", "expression": SLOW, "roots": [], "scope": {}}).encode()
    assert child._process.stdin is not None
    os.write(child._process.stdin.fileno(), LENGTH.pack(len(request)) + request)
    try:
        assert child._process.wait(20) == -signal.SIGALRM
    finally:
        child.bury()


def test_a_child_has_nothing_that_is_not_its_own(pool: CelPool) -> None:
    readable, writable = os.pipe()
    os.set_inheritable(writable, True)
    try:
        child = Child(Bounds())
        child.ask(b'{"do":"check","expression":"1","roots":[],"scope":{}}')
        proc = Path(f"/proc/{child.pid}")
        assert (proc / "environ").read_bytes() == b""
        assert sorted(entry.name for entry in (proc / "fd").iterdir()) == ["0", "1", "2"]
        assert os.readlink(proc / "cwd") == "/"
        assert (proc / "oom_score_adj").read_text().strip() == "1000"
        limits = dict(line.split("  ", 1) for line in (proc / "limits").read_text().splitlines()[1:])
        assert 256 << 20 < int(limits["Max address space"].split()[0]) < 512 << 20
        for nothing in ("Max core file size", "Max file size", "Max processes"):
            assert limits[nothing].split()[0] == "0"
        child.bury()
    finally:
        os.close(readable)
        os.close(writable)


def test_which_names_are_known_is_not_mixed_up_between_evaluations(pool: CelPool) -> None:
    for _ in range(2):
        assert pool.evaluate("a + 1", {"a": 1}) == 2
        with pytest.raises(ExpressionError, match="`a` is not known at character 1; what can be used here: b"):
            pool.evaluate("a + 1", {"b": 1})
        assert pool.evaluate("a + 1", {"a": 2, "b": 1}) == 3


def test_a_child_that_keeps_too_much_is_replaced_before_somebody_else_needs_the_memory() -> None:
    with CelPool(size=1, memory=64 << 20) as pool:
        children = set()
        for number in range(400):
            wide = ",".join(f"inputs.n{number}x{column}" for column in range(250))
            assert pool.check(f"[{wide}]", {"inputs"}) is None
            children.add(child_of(pool))
        assert len(children) > 1, "400 compiled programs of 200 KB fit into no child"
