#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small ticket desk: a JSON API over SQLite, with nothing but Python's standard library.

It is what the example Workflows call. Three things make it a good partner for a saga:

* Idempotency. A POST or DELETE with the header `Idempotency-Key` is carried out once; a repeat gets the first answer
  again. Only success is remembered: after a refusal or an error nothing was done, and the same key may try again.
* Undo that is safe to ask for. Unassigning a ticket without an agent, or clearing an SLA that was never set, succeeds.
* Proof. `GET /calls` shows every POST and DELETE that could be read. A key with exactly one row that is not `replayed`
  and has a status below 400 was really used, once.

`POST /faults {"path": "/tickets/T-2/sla", "status": 500, "times": 3}` makes the next three requests to that path fail
(-1: all of them, 0: none any more; with `"method": "POST"` the other methods of the path still work).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socketserver
import sqlite3
import tempfile
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MAX_BODY = 64 * 1024  # bytes
MAX_SLA = 24 * 365  # hours

NOW = "TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))"
SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS agents (id TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tickets (id TEXT PRIMARY KEY, time {NOW}, title TEXT, priority TEXT,
    agent_id TEXT REFERENCES agents, sla_hours REAL);
CREATE TABLE IF NOT EXISTS notifications (id INTEGER PRIMARY KEY, time {NOW}, channel TEXT, text TEXT);
CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY, time {NOW}, entry TEXT);
CREATE TABLE IF NOT EXISTS faults (path TEXT, method TEXT, status INTEGER, times INTEGER, PRIMARY KEY (path, method));
CREATE TABLE IF NOT EXISTS calls (id INTEGER PRIMARY KEY, time {NOW}, method TEXT, path TEXT, key TEXT, status INTEGER,
    replayed INTEGER, answer TEXT);
CREATE INDEX IF NOT EXISTS tickets_by_agent ON tickets (agent_id);
CREATE INDEX IF NOT EXISTS calls_by_key ON calls (key);
INSERT OR IGNORE INTO agents (id, name) VALUES ('A-456', 'Ada'), ('A-457', 'Grace'), ('A-458', 'Barbara');
INSERT OR IGNORE INTO tickets (id, title, priority) VALUES ('T-123', 'Nobody can log in', 'high');
"""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a client asks for."""

    method: str
    path: str
    key: str | None
    body: Json

    @property
    def ticket_id(self) -> str:
        """ID in /tickets/ID and below."""
        return self.path.split("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the client gets; `replayed` when it is the first answer to its key once more."""

    status: int
    body: Json
    replayed: bool = False


class Refusal(Exception):
    """The call cannot be served. Endpoints raise it before they write anything."""

    def __init__(self, sentence: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(sentence)
        self.answer = Answer(status=status, body={"error": sentence})


class Desk:
    """The tickets, and all that was asked of the desk, in one SQLite file.

    Every call is one transaction behind one lock. So of two calls with the same key at the same moment the second finds
    the answer of the first, and a desk that is killed has either done and recorded a call or neither.
    """

    def __init__(self, database: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(database, timeout=10, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Let the call in progress finish, then close the file."""
        with self._lock:
            self._db.close()

    def answer(self, call: Call) -> Answer:
        """Carry the call out unless its key was answered before; record it unless it only reads."""
        with self._lock, self._db:  # the connection commits, or rolls back after an exception
            self._db.execute("BEGIN IMMEDIATE")
            try:
                answer = self._first_answer(call) or self._fault(call) or self._perform(call)
            except Refusal as refusal:
                answer = refusal.answer
            if call.method != "GET":
                self._db.execute(
                    "INSERT INTO calls (method, path, key, status, replayed, answer) VALUES (?, ?, ?, ?, ?, ?)",
                    (call.method, call.path, call.key, answer.status, answer.replayed, json.dumps(answer.body)),
                )
        return answer

    def _rows(self, query: str, *values: object) -> list[Json]:
        return [dict(row) for row in self._db.execute(query, values)]

    def _first_answer(self, call: Call) -> Answer | None:
        if call.key is None or call.method == "GET":
            return None
        for row in self._rows("SELECT * FROM calls WHERE key = ? AND status < 400 AND NOT replayed", call.key):
            if (row["method"], row["path"]) != (call.method, call.path):
                raise Refusal(f"This Idempotency-Key was used for {row['method']} {row['path']}.", HTTPStatus.CONFLICT)
            return Answer(status=row["status"], body=json.loads(row["answer"]), replayed=True)
        return None

    def _fault(self, call: Call) -> Answer | None:
        if call.path in ("/faults", "/calls"):  # what injects failures and what proves calls does not fail on purpose
            return None
        wanted = "SELECT * FROM faults WHERE path = ? AND method IN (?, '') ORDER BY method DESC LIMIT 1"
        for fault in self._rows(wanted, call.path, call.method):
            one_less = "UPDATE faults SET times = times - 1 WHERE path = ? AND method = ? AND times > 0"
            self._db.execute(one_less, (fault["path"], fault["method"]))
            self._db.execute("DELETE FROM faults WHERE times = 0")
            return Answer(status=fault["status"], body={"error": f"POST /faults wants {call.path} to fail."})
        return None

    def _perform(self, call: Call) -> Answer:
        endpoints = {method: endpoint for method, path, endpoint in ENDPOINTS if re.fullmatch(path, call.path)}
        if not endpoints:
            raise Refusal(f"There is no {call.path}.", HTTPStatus.NOT_FOUND)
        if call.method not in endpoints:
            raise Refusal(f"{call.path} takes {' and '.join(endpoints)}.", HTTPStatus.METHOD_NOT_ALLOWED)
        return endpoints[call.method](self, call)

    def healthz(self, _: Call) -> Answer:
        return Answer(status=200, body={"status": "ok"})

    def list_tickets(self, _: Call) -> Answer:
        return Answer(status=200, body={"tickets": self._rows("SELECT * FROM tickets ORDER BY time, id")})

    def get_ticket(self, call: Call) -> Answer:
        return Answer(status=200, body=self._ticket(call.ticket_id))

    def _ticket(self, ticket_id: str) -> Json:
        for ticket in self._rows("SELECT * FROM tickets WHERE id = ?", ticket_id):
            return ticket
        raise Refusal(f"There is no ticket {ticket_id}.", HTTPStatus.NOT_FOUND)

    def create_ticket(self, call: Call) -> Answer:
        title, priority = text(call.body, "title"), text(call.body, "priority", default="normal")
        ticket_id = text(call.body, "id", default=self._free_ticket_id())
        if "/" in ticket_id:
            raise Refusal("'id' must not contain a slash: it becomes part of a path.")
        if self._rows("SELECT id FROM tickets WHERE id = ?", ticket_id):
            raise Refusal(f"There is a ticket {ticket_id} already.", HTTPStatus.CONFLICT)
        self._db.execute("INSERT INTO tickets (id, title, priority) VALUES (?, ?, ?)", (ticket_id, title, priority))
        return Answer(status=201, body=self._ticket(ticket_id))

    def _free_ticket_id(self) -> str:
        number = self._rows("SELECT COUNT(*) AS count FROM tickets")[0]["count"]  # T-123 is there: the first is T-1
        while self._rows("SELECT id FROM tickets WHERE id = ?", f"T-{number}"):
            number += 1
        return f"T-{number}"

    def assign(self, call: Call) -> Answer:
        """Give the ticket to the agent with the fewest tickets; one that has an agent keeps it."""
        agent_id = self._ticket(call.ticket_id)["agent_id"]
        if agent_id is None:
            least_loaded = """SELECT agents.id FROM agents LEFT JOIN tickets ON tickets.agent_id = agents.id
                              GROUP BY agents.id ORDER BY COUNT(tickets.id), agents.id LIMIT 1"""
            agent_id = self._rows(least_loaded)[0]["id"]
            self._db.execute("UPDATE tickets SET agent_id = ? WHERE id = ?", (agent_id, call.ticket_id))
        return Answer(status=200, body={"success": True, "agent_id": agent_id})

    def unassign(self, call: Call) -> Answer:
        """Take the ticket from its agent; where the body names an `agent_id`, from that one only."""
        assigned = self._ticket(call.ticket_id)["agent_id"]
        changed = assigned is not None and text(call.body, "agent_id", default="") in ("", assigned)
        if changed:
            self._db.execute("UPDATE tickets SET agent_id = NULL WHERE id = ?", (call.ticket_id,))
        return Answer(status=200, body={"success": True, "changed": changed})

    def set_sla(self, call: Call) -> Answer:
        self._ticket(call.ticket_id)
        hours = call.body.get("hours")
        if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 < hours <= MAX_SLA:
            raise Refusal(f"'hours' must be a number above 0 and at most {MAX_SLA}.")
        self._db.execute("UPDATE tickets SET sla_hours = ? WHERE id = ?", (hours, call.ticket_id))
        return Answer(status=200, body={"success": True, "ticket_id": call.ticket_id, "sla_hours": hours})

    def clear_sla(self, call: Call) -> Answer:
        changed = self._ticket(call.ticket_id)["sla_hours"] is not None
        self._db.execute("UPDATE tickets SET sla_hours = NULL WHERE id = ?", (call.ticket_id,))
        return Answer(status=200, body={"success": True, "changed": changed})

    def list_notifications(self, _: Call) -> Answer:
        return Answer(status=200, body={"notifications": self._rows("SELECT * FROM notifications ORDER BY id")})

    def notify(self, call: Call) -> Answer:
        notification = (text(call.body, "channel"), text(call.body, "text"))
        cursor = self._db.execute("INSERT INTO notifications (channel, text) VALUES (?, ?)", notification)
        return Answer(status=201, body={"success": True, "id": cursor.lastrowid})

    def list_audit(self, _: Call) -> Answer:
        rows = self._rows("SELECT * FROM audit ORDER BY id")
        return Answer(status=200, body={"audit": [{**row, "entry": json.loads(row["entry"])} for row in rows]})

    def append_audit(self, call: Call) -> Answer:
        cursor = self._db.execute("INSERT INTO audit (entry) VALUES (?)", (json.dumps(call.body),))
        return Answer(status=201, body={"success": True, "id": cursor.lastrowid})

    def list_calls(self, _: Call) -> Answer:
        rows = self._rows("SELECT id, time, method, path, key, status, replayed FROM calls ORDER BY id")
        return Answer(status=200, body={"calls": [{**row, "replayed": bool(row["replayed"])} for row in rows]})

    def set_fault(self, call: Call) -> Answer:
        path, method = text(call.body, "path"), text(call.body, "method", default="")
        status, times = integer(call.body, "status", 400, 599), integer(call.body, "times", -1, 1_000_000)
        self._db.execute("INSERT OR REPLACE INTO faults VALUES (?, ?, ?, ?)", (path, method, status, times))
        self._db.execute("DELETE FROM faults WHERE times = 0")
        return Answer(status=201, body={"success": True})


ENDPOINTS: tuple[tuple[str, str, Callable[[Desk, Call], Answer]], ...] = (
    ("GET", r"/healthz", Desk.healthz),
    ("GET", r"/tickets", Desk.list_tickets),
    ("POST", r"/tickets", Desk.create_ticket),
    ("GET", r"/tickets/[^/]+", Desk.get_ticket),
    ("POST", r"/tickets/[^/]+/assign", Desk.assign),
    ("POST", r"/tickets/[^/]+/unassign", Desk.unassign),
    ("POST", r"/tickets/[^/]+/sla", Desk.set_sla),
    ("DELETE", r"/tickets/[^/]+/sla", Desk.clear_sla),
    ("GET", r"/notifications", Desk.list_notifications),
    ("POST", r"/notifications", Desk.notify),
    ("GET", r"/audit", Desk.list_audit),
    ("POST", r"/audit", Desk.append_audit),
    ("GET", r"/calls", Desk.list_calls),
    ("POST", r"/faults", Desk.set_fault),
)


def json_object(raw: bytes) -> Json:
    """The body as a JSON object; no body at all is an empty one."""
    try:
        body = json.loads(raw or b"{}")
        json.dumps(body, allow_nan=False, ensure_ascii=False).encode()  # finds NaN and halves of surrogate pairs
    except (ValueError, RecursionError) as error:
        raise Refusal(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise Refusal("The body must be a JSON object.")
    return body


def text(body: Json, name: str, *, default: str | None = None) -> str:
    """The string `name`; it may be absent only where there is a default, and empty only where that is."""
    value = body.get(name, default)
    if not isinstance(value, str) or (not value and value != default):
        raise Refusal(f"'{name}' must be a string that is not empty.")
    return value


def integer(body: Json, name: str, least: int, most: int) -> int:
    """The integer `name`, from `least` to `most`."""
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Refusal(f"'{name}' must be an integer from {least} to {most}.")
    return value


class DeskServer(ThreadingHTTPServer):
    """Serves one Desk, a thread a connection."""

    daemon_threads = True
    request_queue_size = 128  # with the standard library's 5, some of a burst of clients wait a second to try again

    def __init__(self, host: str, port: int, desk: Desk) -> None:
        self.desk = desk
        super().__init__((host, port), DeskHandler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's also looks its own name up, which hangs without DNS
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class DeskHandler(BaseHTTPRequestHandler):
    """HTTP on one side, Call and Answer on the other."""

    server: DeskServer
    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True  # an answer leaves in two writes; the second must not wait for the client
    timeout = 30  # seconds a connection may be idle
    error_content_type = "application/json"  # of what the standard library refuses by itself
    error_message_format = '{"error": "%(explain)s."}\n'

    def respond(self) -> None:
        try:
            answer = self.server.desk.answer(self._call())
        except Refusal as refusal:  # unread: what follows on this connection may be the rest of its body
            self.close_connection = True
            answer = refusal.answer
        except sqlite3.Error:
            traceback.print_exc()
            answer = Answer(status=500, body={"error": "The desk cannot use its database; its log says why."})
        self._send(answer)

    do_GET = do_POST = do_DELETE = respond

    def _call(self) -> Call:
        raw, key = self._raw_body(), self.headers.get("Idempotency-Key")
        if key == "":
            raise Refusal("The Idempotency-Key is empty: leave the header out, or give it a value.")
        path = unquote(self.path.partition("?")[0])
        return Call(method=self.command, path=path, key=key, body=json_object(raw))

    def _raw_body(self) -> bytes:
        if "Transfer-Encoding" in self.headers:
            raise Refusal("Send the body with a Content-Length, not in chunks.", HTTPStatus.LENGTH_REQUIRED)
        length = self.headers.get("Content-Length", "0")
        if not re.fullmatch("[0-9]{1,18}", length):
            raise Refusal("The Content-Length must be a number.")
        if int(length) > MAX_BODY:
            self.rfile.read(min(int(length), 16 * MAX_BODY))  # who is still sending does not see the answer
            raise Refusal(f"The body is larger than {MAX_BODY} bytes.", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        raw = self.rfile.read(int(length))
        if len(raw) < int(length):
            raise Refusal("The body ended before its Content-Length.")
        return raw

    def _send(self, answer: Answer) -> None:
        body = json.dumps(answer.body).encode() + b"\n"
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if answer.replayed:
            self.send_header("Idempotent-Replayed", "true")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if self.path != "/healthz":  # a probe every few seconds would hide what matters
            super().log_request(code, size)


def arguments() -> argparse.Namespace:
    environment = os.environ  # noqa: TID251 - a program of its own: this is where it is configured
    port = environment.get("DESK_PORT", "8080")
    if port.startswith("tcp://"):  # what Kubernetes puts into DESK_PORT for a Service named desk: not meant for us
        port = "8080"
    parser = argparse.ArgumentParser(description="A small ticket desk: what the example Workflows call.")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: all)")
    parser.add_argument("--port", type=int, default=port, help="0 takes a free one (DESK_PORT; default 8080)")
    database = environment.get("DESK_DATABASE")
    parser.add_argument("--database", default=database, help="file (DESK_DATABASE; default: a temporary one)")
    return parser.parse_args()


def main() -> None:
    """Serve until SIGTERM or SIGINT, then stop at once; no call is left half done."""
    options = arguments()
    # Blocked in every thread started later, so that sigwait has them; as process 1 there is no default to rely on.
    signal.pthread_sigmask(signal.SIG_BLOCK, stops := {signal.SIGTERM, signal.SIGINT})
    desk = Desk(Path(options.database or Path(tempfile.mkdtemp(prefix="desk-"), "desk.db")))
    with DeskServer(options.host, options.port, desk) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        print(f"The desk listens on http://{options.host}:{server.server_port}", flush=True)
        signal.sigwait(stops)
        server.shutdown()
    desk.close()


if __name__ == "__main__":
    main()
