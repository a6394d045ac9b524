# SPDX-License-Identifier: Apache-2.0
"""The ticket desk of the examples: the real server on loopback, spoken to over HTTP."""

from __future__ import annotations

import http.client
import importlib.util
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DESK_PY = Path(__file__).parents[3] / "examples" / "ticket-desk" / "desk.py"

Json = dict[str, Any]


def load_desk() -> Any:
    """Import desk.py, which lies in a folder whose name is no Python name."""
    spec = importlib.util.spec_from_file_location("ticket_desk", DESK_PY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


desk_py = load_desk()


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Speaks to the desk on one port; a connection a call."""

    port: int

    def call(
        self, method: str, path: str, body: Json | bytes | None = None, key: str | None = None
    ) -> tuple[int, Json]:
        status, answer, _ = self.exchange(method, path, body, {} if key is None else {"Idempotency-Key": key})
        return status, answer

    def exchange(
        self, method: str, path: str, body: Json | bytes | None, headers: dict[str, str]
    ) -> tuple[int, Json, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, json.dumps(body).encode() if isinstance(body, dict) else body, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read()), response.headers
        finally:
            connection.close()

    def listed(self, path: str) -> list[Json]:
        status, body = self.call("GET", path)
        assert status == 200
        rows: list[Json] = body[path.strip("/")]
        return rows


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Client]:
    """A desk of its own for each test, gone after it."""
    model = desk_py.Desk(tmp_path / "desk.db")
    with desk_py.DeskServer("127.0.0.1", 0, model) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Client(port=server.server_port)
        server.shutdown()
        thread.join()
    model.close()


def test_a_ticket_goes_through_its_life(desk: Client) -> None:
    status, ticket = desk.call("POST", "/tickets", {"title": "Printer on fire", "priority": "high"})
    assert (status, ticket["id"], ticket["agent_id"], ticket["sla_hours"]) == (201, "T-1", None, None)
    assert desk.call("POST", "/tickets/T-1/assign") == (200, {"success": True, "agent_id": "A-456"})
    answer = {"success": True, "ticket_id": "T-1", "sla_hours": 4}
    assert desk.call("POST", "/tickets/T-1/sla", {"hours": 4}) == (200, answer)
    assert desk.call("GET", "/tickets/T-1") == (200, {**ticket, "agent_id": "A-456", "sla_hours": 4})
    changed = (200, {"success": True, "changed": True})
    assert desk.call("DELETE", "/tickets/T-1/sla") == changed
    assert desk.call("POST", "/tickets/T-1/unassign", {"agent_id": "A-456"}) == changed
    assert desk.call("GET", "/tickets/T-1") == (200, ticket)
    assert [row["id"] for row in desk.listed("/tickets")] == ["T-123", "T-1"]


def test_a_number_that_a_client_took_is_not_given_again(desk: Client) -> None:
    assert desk.call("POST", "/tickets", {"title": "mine", "id": "T-2"})[0] == 201
    assert desk.call("POST", "/tickets", {"title": "next"})[1]["id"] == "T-3"


def test_tickets_go_to_the_agent_with_the_fewest(desk: Client) -> None:
    for number in range(1, 5):
        desk.call("POST", "/tickets", {"title": f"ticket {number}"})
    given = [desk.call("POST", f"/tickets/T-{number}/assign")[1]["agent_id"] for number in range(1, 5)]
    assert given == ["A-456", "A-457", "A-458", "A-456"]
    desk.call("POST", "/tickets/T-2/unassign")
    assert desk.call("POST", "/tickets/T-123/assign")[1]["agent_id"] == "A-457"


def test_a_ticket_that_has_an_agent_keeps_it(desk: Client) -> None:
    first = desk.call("POST", "/tickets/T-123/assign")
    assert desk.call("POST", "/tickets/T-123/assign") == first


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", "/tickets/T-123/unassign", None, id="a ticket without an agent is unassigned"),
        pytest.param("POST", "/tickets/T-123/unassign", {"agent_id": ""}, id="no agent is taken off no agent"),
        pytest.param("DELETE", "/tickets/T-123/sla", None, id="an SLA that was never set is cleared"),
    ],
)
def test_undoing_what_was_not_done_is_a_success(desk: Client, method: str, path: str, body: Json | None) -> None:
    assert desk.call(method, path, body) == (200, {"success": True, "changed": False})


def test_a_ticket_is_not_taken_from_another_agent(desk: Client) -> None:
    desk.call("POST", "/tickets/T-123/assign")
    answer = desk.call("POST", "/tickets/T-123/unassign", {"agent_id": "A-458"})
    assert answer == (200, {"success": True, "changed": False})
    assert desk.call("GET", "/tickets/T-123")[1]["agent_id"] == "A-456"


def test_notifications_and_audit_entries_are_kept_in_order(desk: Client) -> None:
    for number in (1, 2):
        sent = {"channel": "#oncall", "text": f"number {number} ✓"}
        assert desk.call("POST", "/notifications", sent) == (201, {"success": True, "id": number})
        assert desk.call("POST", "/audit", {"deed": [number]}) == (201, {"success": True, "id": number})
    assert [row["text"] for row in desk.listed("/notifications")] == ["number 1 ✓", "number 2 ✓"]
    assert [row["entry"] for row in desk.listed("/audit")] == [{"deed": [1]}, {"deed": [2]}]


class TestIdempotencyKey:
    def test_a_repeat_gets_the_first_answer_and_does_nothing(self, desk: Client) -> None:
        first = desk.call("POST", "/notifications", {"channel": "#a", "text": "once"}, key="run-1/notify/do")
        again = desk.call("POST", "/notifications", {"channel": "#a", "text": "twice"}, key="run-1/notify/do")
        assert again == first == (201, {"success": True, "id": 1})
        assert [row["text"] for row in desk.listed("/notifications")] == ["once"]

    def test_only_the_repeat_says_that_it_is_one(self, desk: Client) -> None:
        key = {"Idempotency-Key": "k"}
        headers = [desk.exchange("POST", "/tickets/T-123/assign", None, key)[2] for _ in range(2)]
        assert [header.get("Idempotent-Replayed") for header in headers] == [None, "true"]

    def test_it_holds_for_delete(self, desk: Client) -> None:
        desk.call("POST", "/tickets/T-123/sla", {"hours": 4})
        assert desk.call("DELETE", "/tickets/T-123/sla", key="k") == (200, {"success": True, "changed": True})
        desk.call("POST", "/tickets/T-123/sla", {"hours": 8})
        assert desk.call("DELETE", "/tickets/T-123/sla", key="k") == (200, {"success": True, "changed": True})
        assert desk.call("GET", "/tickets/T-123")[1]["sla_hours"] == 8

    def test_calls_without_one_are_all_carried_out(self, desk: Client) -> None:
        for _ in range(2):
            desk.call("POST", "/notifications", {"channel": "#a", "text": "again"})
        assert len(desk.listed("/notifications")) == 2

    def test_many_at_once_do_it_once(self, desk: Client) -> None:
        together = threading.Barrier(16)

        def notify(_: int) -> tuple[int, Json]:
            together.wait()
            return desk.call("POST", "/notifications", {"channel": "#a", "text": "storm"}, key="k")

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(notify, range(16)))
        assert answers == [(201, {"success": True, "id": 1})] * 16
        assert len(desk.listed("/notifications")) == 1
        assert [row["replayed"] for row in desk.listed("/calls")] == [False] + [True] * 15

    def test_a_key_belongs_to_one_path(self, desk: Client) -> None:
        desk.call("POST", "/tickets/T-123/assign", key="k")
        status, answer = desk.call("POST", "/tickets/T-123/sla", {"hours": 4}, key="k")
        assert (status, answer["error"]) == (409, "This Idempotency-Key was used for POST /tickets/T-123/assign.")
        assert desk.call("GET", "/tickets/T-123")[1]["sla_hours"] is None

    def test_a_refused_call_may_be_made_again_with_its_key(self, desk: Client) -> None:
        assert desk.call("POST", "/tickets/T-1/sla", {"hours": 4}, key="k")[0] == 404
        desk.call("POST", "/tickets", {"title": "now it exists"})
        assert desk.call("POST", "/tickets/T-1/sla", {"hours": 4}, key="k")[0] == 200

    def test_answers_outlive_the_server(self, tmp_path: Path) -> None:
        call = desk_py.Call(method="POST", path="/tickets/T-123/assign", key="k", body={})
        replayed = []
        for _ in range(2):
            model = desk_py.Desk(tmp_path / "desk.db")
            replayed.append(model.answer(call).replayed)
            model.close()
        assert replayed == [False, True]


def test_calls_record_what_changes_and_leave_out_what_reads(desk: Client) -> None:
    desk.call("GET", "/tickets")
    desk.call("POST", "/tickets/T-123/assign", key="k")
    desk.call("DELETE", "/tickets/T-9/sla")
    rows = [[row[name] for name in ("method", "path", "key", "status", "replayed")] for row in desk.listed("/calls")]
    assert rows == [
        ["POST", "/tickets/T-123/assign", "k", 200, False],
        ["DELETE", "/tickets/T-9/sla", None, 404, False],
    ]


def test_different_calls_at_once_are_all_carried_out(desk: Client) -> None:
    def notify(number: int) -> int:
        return desk.call("POST", "/notifications", {"channel": "#a", "text": str(number)}, key=f"k-{number}")[0]

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(notify, range(100))) == {201}
    assert sorted(int(row["text"]) for row in desk.listed("/notifications")) == list(range(100))


class TestFaults:
    SLA = "/tickets/T-123/sla"

    def set_sla(self, desk: Client, key: str | None = None) -> int:
        return desk.call("POST", self.SLA, {"hours": 4}, key=key)[0]

    def test_the_next_calls_fail_and_then_the_same_key_succeeds(self, desk: Client) -> None:
        assert desk.call("POST", "/faults", {"path": self.SLA, "status": 503, "times": 2})[0] == 201
        assert [self.set_sla(desk, key="k") for _ in range(4)] == [503, 503, 200, 200]
        assert [row["status"] for row in desk.listed("/calls") if row["path"] == self.SLA] == [503, 503, 200, 200]

    def test_minus_one_fails_until_it_is_lifted(self, desk: Client) -> None:
        desk.call("POST", "/faults", {"path": self.SLA, "status": 500, "times": -1})
        assert [self.set_sla(desk) for _ in range(5)] == [500] * 5
        desk.call("POST", "/faults", {"path": self.SLA, "status": 500, "times": 0})
        assert self.set_sla(desk) == 200

    def test_a_failed_call_has_done_nothing_and_says_why_it_failed(self, desk: Client) -> None:
        desk.call("POST", "/faults", {"path": self.SLA, "status": 500, "times": 1})
        assert desk.call("POST", self.SLA, {"hours": 4})[1] == {"error": f"POST /faults wants {self.SLA} to fail."}
        assert desk.call("GET", "/tickets/T-123")[1]["sla_hours"] is None

    def test_other_paths_go_on(self, desk: Client) -> None:
        desk.call("POST", "/faults", {"path": self.SLA, "status": 500, "times": -1})
        assert desk.call("POST", "/tickets/T-123/assign")[0] == 200

    def test_a_fault_of_one_method_leaves_the_undo_alone(self, desk: Client) -> None:
        desk.call("POST", "/faults", {"path": self.SLA, "status": 500, "times": -1, "method": "POST"})
        assert (self.set_sla(desk), desk.call("DELETE", self.SLA)[0]) == (500, 200)

    @pytest.mark.parametrize("path", ["/faults", "/calls"])
    def test_what_injects_and_what_proves_never_fails(self, desk: Client, path: str) -> None:
        desk.call("POST", "/faults", {"path": path, "status": 500, "times": -1})
        body = {"path": self.SLA, "status": 500, "times": 1}
        assert desk.call("POST", "/faults", body)[0] == 201
        assert len(desk.listed("/calls")) == 2


BAD_CALLS = [
    pytest.param("POST", "/tickets", b"{", 400, "not JSON", id="half a body"),
    pytest.param("POST", "/tickets", b"\xff\xfe", 400, "not JSON", id="bytes that are no text"),
    pytest.param("POST", "/tickets", b'{"title": "\\ud800"}', 400, "not JSON", id="half a surrogate pair"),
    pytest.param("POST", "/audit", b'{"x": NaN}', 400, "not JSON", id="a NaN"),
    pytest.param("POST", "/audit", b"[" * 60_000, 400, "not JSON", id="brackets without end"),
    pytest.param("POST", "/audit", b"[1]", 400, "must be a JSON object", id="a list"),
    pytest.param("POST", "/audit", b" " * (64 * 1024 + 1), 413, "larger than 65536 bytes", id="a byte over 64 KiB"),
    pytest.param("POST", "/audit", b" " * (900 * 1024), 413, "larger than 65536 bytes", id="far over 64 KiB"),
    pytest.param("POST", "/tickets", {}, 400, "'title' must be", id="a ticket without a title"),
    pytest.param("POST", "/tickets", {"title": 7}, 400, "'title' must be", id="a title that is a number"),
    pytest.param("POST", "/tickets", {"title": "x", "id": ""}, 400, "'id' must be", id="an empty id"),
    pytest.param("POST", "/tickets", {"title": "x", "id": "a/b"}, 400, "a slash", id="an id with a slash"),
    pytest.param("POST", "/tickets", {"title": "x", "id": "T-123"}, 409, "T-123 already", id="an id that is taken"),
    pytest.param("POST", "/notifications", {"channel": "#a"}, 400, "'text' must be", id="a notification without text"),
    pytest.param("POST", "/tickets/T-123/sla", {}, 400, "'hours' must be", id="an SLA without hours"),
    pytest.param("POST", "/tickets/T-123/sla", {"hours": 0}, 400, "'hours' must be", id="an SLA of no time"),
    pytest.param("POST", "/tickets/T-123/sla", {"hours": True}, 400, "'hours' must be", id="an SLA of true hours"),
    pytest.param("POST", "/tickets/T-123/sla", {"hours": 10**30}, 400, "'hours' must be", id="an SLA of forever"),
    pytest.param("POST", "/faults", {"path": "/x", "status": 200, "times": 1}, 400, "'status'", id="a fault of 200"),
    pytest.param("POST", "/faults", {"path": "/x", "status": 500, "times": -2}, 400, "'times'", id="a fault -2 times"),
    pytest.param("POST", "/tickets/T-9/assign", None, 404, "no ticket T-9", id="a ticket that is not there"),
    pytest.param("GET", "/tickets/T%2F9", None, 404, "There is no /tickets/T/9", id="a ticket with a slash"),
    pytest.param("GET", "/nothing", None, 404, "There is no /nothing", id="a path that is not there"),
    pytest.param("DELETE", "/tickets", None, 405, "takes GET and POST", id="a method that the path does not take"),
    pytest.param("PATCH", "/tickets", None, 501, "does not support", id="a method that the desk does not know"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "sentence"), BAD_CALLS)
def test_refused_is(
    desk: Client, method: str, path: str, body: Json | bytes | None, status: int, sentence: str
) -> None:
    answered, answer = desk.call(method, path, body)
    assert answered == status
    assert sentence in answer["error"]
    assert [row["id"] for row in desk.listed("/tickets")] == ["T-123"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Idempotency-Key": ""}, 400, id="an empty key"),
        pytest.param({"Content-Length": "many"}, 400, id="a length that is no number"),
        pytest.param({"Content-Length": "-1"}, 400, id="a length below zero"),
        pytest.param({"Transfer-Encoding": "chunked"}, 411, id="a body in chunks"),
    ],
)
def test_refused_are_headers_with(desk: Client, headers: dict[str, str], status: int) -> None:
    answered, answer, _ = desk.exchange("POST", "/tickets/T-123/assign", None, headers)
    assert (answered, list(answer)) == (status, ["error"])
    assert desk.call("GET", "/tickets/T-123")[1]["agent_id"] is None


def test_a_client_that_breaks_off_in_its_body_changes_nothing(desk: Client) -> None:
    with socket.create_connection(("127.0.0.1", desk.port), timeout=10) as connection:
        connection.sendall(b"POST /tickets/T-123/assign HTTP/1.1\r\nHost: desk\r\nContent-Length: 10\r\n\r\n{}")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 400"
    assert desk.call("GET", "/tickets/T-123")[1]["agent_id"] is None


def test_a_connection_serves_many_calls(desk: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", desk.port, timeout=10)
    connection.connect()
    first = connection.sock
    for path, status in (("/healthz", 200), ("/tickets/T-9", 404), ("/tickets", 200)):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert (response.status, connection.sock) == (status, first)
    connection.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        pytest.param(["--port", "0", "--database", "{file}"], {}, id="by its arguments"),
        pytest.param([], {"DESK_PORT": "0", "DESK_DATABASE": "{file}"}, id="by its environment"),
        pytest.param(
            ["--port", "0", "--database", "{file}"],
            {"DESK_PORT": "tcp://10.0.0.7:80"},
            id="where Kubernetes set DESK_PORT for a Service named desk",
        ),
    ],
)
def test_the_program_serves_until_it_is_told_to_stop(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    how: signal.Signals,
) -> None:
    file = tmp_path / "some.db"
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(file=file))
    words = [sys.executable, str(DESK_PY), *(word.format(file=file) for word in arguments)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        try:
            assert program.stdout is not None
            client = Client(port=int(program.stdout.readline().rsplit(":", 1)[1]))
            assert client.call("GET", "/healthz") == (200, {"status": "ok"})
            with socket.create_connection(("127.0.0.1", client.port)):  # an open connection does not hold it up
                program.send_signal(how)
                assert program.wait(timeout=5) == 0
        finally:
            program.kill()
    assert file.exists()
