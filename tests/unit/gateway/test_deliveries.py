# SPDX-License-Identifier: Apache-2.0
"""What is delivered causes its runs, once, and the sender is told so."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.unit.gateway.world import NAMESPACE, Delivery, World, event, gateway, signature, signed, slack

from kubesaga.api import event_source as marks
from kubesaga.api.parsing import parse_run_spec
from kubesaga.api.triggers import TRIGGER_KEY_ANNOTATION
from kubesaga.cel.pool import CelPool


async def test_an_event_causes_a_run_that_bears_what_it_is_about(world: World) -> None:
    reply = await world.send(signed(event(subject="T-1")))
    assert (reply.status, reply.headers["content-type"]) == (202, "application/json")
    [run] = world.runs()
    assert reply.json == {
        "events": [
            {"id": "e-1", "type": "ticket:created", "runs": [
                {"name": run["metadata"]["name"], "workflow": "greet", "trigger": "created", "created": True}
            ]}
        ]
    }  # fmt: skip
    spec = parse_run_spec(run["spec"])
    assert spec.workflow_ref is not None
    assert (spec.workflow_ref.name, spec.inputs) == ("greet", {"id": "e-1"})
    assert json.loads(spec.event or "") == event(subject="T-1")
    marks_of = run["metadata"]["annotations"]
    assert marks_of.pop(TRIGGER_KEY_ANNOTATION)
    assert marks_of.pop(marks.EVENT_DIGEST_ANNOTATION)
    assert marks_of == {marks.EVENT_ORIGIN_ANNOTATION: "tickets//desk", marks.EVENT_ID_ANNOTATION: "e-1"}
    assert run["metadata"]["labels"] == {"team": "desk", "kubesaga.dev/event-source": "tickets"}


async def test_a_second_delivery_makes_no_second_run(world: World) -> None:
    first, second = [await world.send(signed(event())) for _ in range(2)]
    assert [run["created"] for run in first.runs + second.runs] == [True, False]
    assert (second.status, len(world.runs())) == (202, 1)


async def test_the_same_id_of_another_source_is_another_event(world: World) -> None:
    await world.source("other")
    for delivery in (
        signed(event()),
        signed(event(source="/shop")),
        signed(event(), path=f"/events/{NAMESPACE}/other"),
    ):
        assert (await world.send(delivery)).status == 202
    assert len(world.runs()) == 3


async def test_each_workflow_with_a_matching_trigger_gets_a_run(world: World) -> None:
    await world.workflow("audit", "*")
    await world.workflow("other", "ticket:deleted")
    reply = await world.send(signed(event()))
    assert [run["workflow"] for run in reply.runs] == ["audit", "greet"]


async def test_an_event_that_live_runs_may_wait_for_causes_a_run_that_gives_it_to_them(world: World) -> None:
    await world.workflow(
        "answers", "ticket:deleted", activities=[{"name": "a", "waitFor": {"event": "ticket:escalated"}}]
    )
    replies = [await world.send(signed(event(type="ticket:escalated"))) for _ in range(2)]
    [run] = world.runs()
    name = run["metadata"]["name"]
    assert [reply.runs for reply in replies] == [
        [{"name": name, "workflow": "answers", "trigger": None, "created": created, "delivers": True}]
        for created in (True, False)
    ]
    assert parse_run_spec(run["spec"]).deliver
    assert run["metadata"]["annotations"][marks.EVENT_ID_ANNOTATION] == "e-1"
    another = await world.send(signed(event(type="ticket:escalated", data={"else": True})))
    assert another.status == 409
    assert "an id is for one event" in another.json["error"]
    of_source = {"namespace": NAMESPACE, "source": "tickets"}
    assert world.counted("kubesaga_gateway_events_total", **of_source, result="caused") == 2
    of_workflow = {"namespace": NAMESPACE, "workflow": "answers"}
    assert world.counted("kubesaga_gateway_runs_total", **of_workflow, result="created") == 1
    assert world.counted("kubesaga_gateway_triggers_total", **of_workflow, result="matched") == 0


async def test_an_event_that_nobody_waits_for_is_taken_and_causes_nothing(world: World) -> None:
    reply = await world.send(signed(event(type="ticket:escalated")))
    assert (reply.status, reply.runs, world.runs()) == (202, [], [])


async def test_a_type_that_the_source_does_not_list_causes_nothing(world: World) -> None:
    await world.source("strict", eventTypes=[{"type": "ticket:created"}, {"type": "sla:*"}])
    await world.workflow("audit", "*")
    replies = [
        await world.send(signed(event(id=type_, type=type_), path=f"/events/{NAMESPACE}/strict"))
        for type_ in ("ticket:created", "sla:breached", "ticket:deleted")
    ]
    assert [len(reply.runs) > 0 for reply in replies] == [True, True, False]
    assert "spec.eventTypes" in replies[2].json["events"][0]["ignored"]


async def test_an_event_is_held_against_the_schema_that_its_source_gives_now(world: World) -> None:
    strict = {"type": "ticket:*", "schema": {"required": ["ticketId"]}}
    await world.source(eventTypes=[strict])
    refused = await world.send(signed(event()))
    assert (refused.status, refused.json["path"], world.runs()) == (422, "data.ticketId", [])
    assert (await world.send(signed(event(data={"ticketId": "T-1"})))).status == 202
    await world.source(eventTypes=[strict, {"type": "ticket:created"}])
    assert (await world.send(signed(event(id="e-2")))).status == 202, "the nearest type counts, and it has no schema"
    await world.source(eventTypes=[{**strict, "schema": {"required": ["id"]}}])
    assert (await world.send(signed(event(id="e-3")))).status == 202


async def test_a_batch_is_answered_event_by_event(world: World) -> None:
    batch = signed([event(id="a"), event(id="b"), event(id="a"), event(id="c", type="other")])
    batch.headers[0] = ("Content-Type", "application/cloudevents-batch+json; charset=UTF-8")
    reply = await world.send(batch)
    assert [len(each["runs"]) for each in reply.json["events"]] == [1, 1, 1, 0]
    assert len(world.runs()) == 2


BINARY = [("ce-specversion", "1.0"), ("ce-id", "e-1"), ("ce-source", "/desk"), ("ce-type", "ticket:created")]


@pytest.mark.parametrize(("content_type", "body", "content"), [
    pytest.param("application/json", b'{"id": "T-1"}', {"data": {"id": "T-1"}}, id="JSON"),
    pytest.param("application/vnd.desk+json; charset=utf-8", b"[1]", {"data": [1]}, id="JSON of a kind"),
    pytest.param("text/plain", "grüß".encode(), {"data": "grüß"}, id="text"),
    pytest.param("application/octet-stream", b"\x00\xff", {"data_base64": "AP8="}, id="bytes"),
    pytest.param(None, b"", {}, id="nothing"),
])  # fmt: skip
async def test_binary_content_holds(
    world: World, content_type: str | None, body: bytes, content: dict[str, Any]
) -> None:
    await world.source("open", auth={"none": {}})
    headers = [*BINARY, ("ce-subject", "T%201"), ("ce-priority", "high")]
    headers += [("Content-Type", content_type)] if content_type else []
    reply = await world.send(Delivery(path=f"/events/{NAMESPACE}/open", headers=headers, body=body))
    assert reply.status == 202, reply.json
    [run] = world.runs()
    kept = {**event(data=...), "subject": "T 1", "priority": "high", **content}
    kept |= {"datacontenttype": content_type.split(";")[0]} if content_type else {}
    assert json.loads(run["spec"]["event"]) == kept


async def test_a_sender_that_asks_first_is_told_to_go_on(world: World) -> None:
    delivery = signed(event())
    delivery.headers.append(("Expect", "100-continue"))
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(delivery.head())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(delivery.body)
    assert b" 202 " in await reader.readline()
    writer.close()


async def test_a_connection_serves_several_deliveries(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    for number in range(3):
        delivery = signed(event(id=str(number)))
        writer.write(delivery.head() + delivery.body)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 202 " in head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()


# --- proofs ---------------------------------------------------------------------------------------------------------


async def test_a_token_lets_in(world: World) -> None:
    await world.source(auth={"bearer": {"secretRef": {"name": "tickets", "key": "token"}}})
    delivery = signed(event())
    delivery.headers[1] = ("Authorization", "bearer open-sesame-4711")
    assert (await world.send(delivery)).status == 202


@pytest.mark.parametrize(("how", "headers"), [
    pytest.param({"header": "X-Hub-Signature-256", "prefix": "sha256="}, lambda body: [("x-hub-signature-256", f"sha256={signature(body)}")], id="as GitHub signs"),
    pytest.param({"encoding": "Base64"}, lambda body: [("X-Kubesaga-Signature", __import__("base64").b64encode(bytes.fromhex(signature(body))).decode())], id="in base64"),
    pytest.param({"timestampHeader": "X-Time", "tolerance": "1m"}, lambda body: [("X-Kubesaga-Signature", signature(b"1767225550." + body).upper()), ("X-Time", "1767225550")], id="with the time"),
])  # fmt: skip
async def test_a_signature_is_read(world: World, how: dict[str, Any], headers: Any) -> None:
    await world.source(auth={"hmac": {"secretRef": {"name": "tickets", "key": "token"}, **how}})
    delivery = signed(event())
    delivery.headers[1:] = headers(delivery.body)
    assert (await world.send(delivery)).status == 202


async def test_a_new_secret_holds_from_the_first_delivery_and_the_old_one_not_any_more(world: World) -> None:
    assert (await world.send(signed(event(id="1")))).status == 202
    world.clock.advance(3)
    await world.secret("another-sesame-42")
    new = signed(event(id="2"))
    new.headers[1] = ("X-Kubesaga-Signature", signature(new.body, "another-sesame-42"))
    assert (await world.send(new)).status == 202
    assert (await world.send(signed(event(id="3")))).status == 401
    assert world.asked("GET", "secrets/tickets") == 2


async def test_newlines_at_the_end_of_a_secret_do_not_count(world: World) -> None:
    await world.secret("open-sesame-4711\r\n")
    assert (await world.send(signed(event()))).status == 202


async def test_wrong_deliveries_do_not_flood_the_api_server(world: World) -> None:
    wrong = signed(event())
    wrong.headers[1] = ("X-Kubesaga-Signature", 64 * "0")
    for _ in range(50):
        assert (await world.send(wrong)).status == 401
    assert world.asked("GET", "secrets/") == 1


# --- webhooks, Slack, Thena -----------------------------------------------------------------------------------------

MAPPING = {
    "type": '"github:" + headers["x-github-event"]',
    "id": "body.delivery",
    "subject": "body.repo",
    "data": "body.issue",
}


def github(body: Any, **headers: str) -> Delivery:
    text = json.dumps(body).encode()
    more = {"Content-Type": "application/json", "X-GitHub-Event": "issues", **headers}
    return Delivery(path=f"/events/{NAMESPACE}/github", body=text, headers=list(more.items()))


async def test_a_webhook_becomes_an_event_by_its_mapping(world: World) -> None:
    await world.source("github", type="Webhook", auth={"none": {}}, mapping=MAPPING)
    await world.workflow("triage", "github:issues")
    reply = await world.send(github({"delivery": 17, "repo": "a/b", "issue": {"n": 1}}))
    assert reply.status == 202, reply.json
    [run] = world.runs()
    assert json.loads(run["spec"]["event"]) == {
        "specversion": "1.0", "id": "17", "source": "github", "type": "github:issues", "subject": "a/b",
        "datacontenttype": "application/json", "data": {"n": 1},
    }  # fmt: skip


async def test_credentials_cannot_be_mapped_into_an_event(world: World) -> None:
    ref = {"secretRef": {"name": "tickets", "key": "token"}}
    await world.source(
        "github", type="Webhook", auth={"bearer": ref}, mapping={"type": '"t"', "id": '"1"', "data": "headers"}
    )
    await world.workflow("triage", "t")
    await world.send(github({}, Authorization="Bearer open-sesame-4711", Cookie="open-sesame-4711"))
    [run] = world.runs()
    assert "sesame" not in json.dumps(run)
    assert "x-github-event" in run["spec"]["event"]


async def test_slack_is_answered_its_challenge(world: World) -> None:
    await world.source("slack", type="Slack")
    reply = await world.send(slack({"type": "url_verification", "challenge": "c-1", "token": "x"}, world.now()))
    assert (reply.status, reply.json) == (200, {"challenge": "c-1"})


MESSAGE = {
    "type": "event_callback", "event_id": "Ev1", "event_time": 1767225600, "team_id": "T1", "api_app_id": "A1",
    "event": {"type": "channel_created", "channel": {"id": "C1"}},
}  # fmt: skip


async def test_slack_is_taken_once_however_often_it_tries(world: World) -> None:
    await world.source("slack", type="Slack")
    await world.workflow("welcome", "slack:channel:created")
    first = await world.send(slack(MESSAGE, world.now()))
    world.clock.advance(60)
    again = await world.send(
        slack(MESSAGE, world.now(), **{"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "timeout"})
    )
    assert [run["created"] for run in first.runs + again.runs] == [True, False]
    [run] = world.runs()
    assert json.loads(run["spec"]["event"]) == {
        "specversion": "1.0", "id": "Ev1", "source": "slack/T1", "type": "slack:channel:created",
        "datacontenttype": "application/json", "time": "2026-01-01T00:00:00.000Z", "slackteam": "T1", "slackapp": "A1",
        "data": {"type": "channel_created", "channel": {"id": "C1"}},
    }  # fmt: skip


async def test_what_slack_says_beside_events_is_passed_over(world: World) -> None:
    await world.source("slack", type="Slack")
    reply = await world.send(slack({"type": "app_rate_limited"}, world.now()))
    assert (reply.status, reply.json) == (202, {"events": []})


COMMENT = {
    "eventId": "E-9", "eventType": "ticket:comment:updated", "timestamp": 1767225600000, "orgId": "O-1",
    "actor": {"id": "U-1", "type": "user", "email": "a@example.com"},
    "payload": {"comment": {"content": "new"}, "previousComment": {"content": "old"}},
}  # fmt: skip


@pytest.mark.parametrize("body", [pytest.param(COMMENT, id="bare"), pytest.param({"message": COMMENT, "messageAttributes": {}}, id="under message")])  # fmt: skip
async def test_a_platform_event_keeps_previous_and_new_content(world: World, body: Any) -> None:
    await world.source("thena", type="Thena", auth={"none": {}})
    await world.workflow("review", "ticket:comment:updated")
    delivery = Delivery(path=f"/events/{NAMESPACE}/thena", body=json.dumps(body).encode(), headers=[("Content-Type", "application/json")])  # fmt: skip
    reply = await world.send(delivery)
    assert reply.status == 202, reply.json
    [run] = world.runs()
    assert json.loads(run["spec"]["event"]) == {
        "specversion": "1.0", "id": "E-9", "source": "thena/O-1", "type": "ticket:comment:updated",
        "datacontenttype": "application/json", "time": "2026-01-01T00:00:00.000Z", "orgid": "O-1", "actorid": "U-1",
        "actortype": "user", "data": COMMENT["payload"],
    }  # fmt: skip


# --- at the same time -----------------------------------------------------------------------------------------------


async def test_two_gateways_and_forty_deliveries_at_once_make_one_run(world: World, evaluator: CelPool) -> None:
    async with gateway(evaluator, api=world.api, clock=world.clock) as other:
        replies = await asyncio.gather(*(each.send(signed(event())) for each in (world, other) for _ in range(20)))
    assert {reply.status for reply in replies} == {202}
    assert len(world.runs()) == 1
    assert sum(run["created"] for reply in replies for run in reply.runs) == 1


async def test_a_rate_limit_counts_events_and_lets_in_again_later(world: World) -> None:
    await world.source(rateLimit={"limit": 3, "period": "10s"})
    batch = signed([event(id="a"), event(id="b")])
    batch.headers[0] = ("Content-Type", "application/cloudevents-batch+json")
    replies = [
        await world.send(batch),
        await world.send(signed(event(id="c"))),
        await world.send(signed(event(id="d"))),
    ]
    assert [reply.status for reply in replies] == [202, 202, 429]
    assert replies[2].headers["retry-after"] == "10"
    assert len(world.runs()) == 3
    world.clock.advance(10)
    assert (await world.send(signed(event(id="d")))).status == 202


# --- the API server's troubles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["refuse", "lose", (500, {"kind": "Status"}), (429, {"kind": "Status"}), (403, {"kind": "Status"})], ids=str)  # fmt: skip
async def test_success_is_told_only_of_runs_that_are_there(world: World, fault: Any) -> None:
    world.api.fail("POST", fault)
    reply = await world.send(signed(event()))
    assert (reply.status, reply.json) == (503, {"error": "the run cannot be made now: try again later"})
    assert int(reply.headers["retry-after"]) >= 1
    again = await world.send(signed(event()))
    assert (again.status, len(world.runs())) == (202, 1)
    assert again.runs[0]["created"] is (fault != "lose")


async def test_a_secret_that_cannot_be_read_now_is_no_wrong_signature(world: World) -> None:
    world.api.fail("GET", (500, {"kind": "Status"}))
    assert (await world.send(signed(event()))).status == 503
    assert (await world.send(signed(event()))).status == 202


async def test_a_run_that_this_event_has_not_caused_is_never_taken_for_its_own(world: World) -> None:
    await world.send(signed(event()))
    [run] = world.runs()
    await world.api.put("workflowruns", {**run, "metadata": {**run["metadata"], "annotations": {}}})
    reply = await world.send(signed(event()))
    assert reply.status == 409
    assert run["metadata"]["name"] in reply.json["error"]


async def test_a_trigger_that_has_stopped_itself_starts_nothing_and_the_sender_is_told(world: World) -> None:
    await world.source()
    await world.workflow("greet", stops=["created"])
    reply = await world.send(signed(event()))
    told = {"id": "e-1", "type": "ticket:created", "runs": [], "stopped": [{"workflow": "greet", "trigger": "created"}]}
    assert (reply.status, reply.json) == (202, {"events": [told]})
    await world.workflow("audit", "*")
    reply = await world.send(signed(event()))
    [event_told] = reply.json["events"]
    assert [run["workflow"] for run in event_told["runs"]] == ["audit"], "the others are not held up"
    assert event_told["stopped"] == told["stopped"]
    of_source = {"namespace": NAMESPACE, "source": "tickets"}
    assert [
        world.counted("kubesaga_gateway_events_total", **of_source, result=result)
        for result in ("stopped", "caused", "unmatched")
    ] == [1, 1, 0]
    of_greet = {"namespace": NAMESPACE, "workflow": "greet"}
    assert world.counted("kubesaga_gateway_triggers_total", **of_greet, result="stopped") == 2


async def test_what_becomes_of_events_is_counted(world: World) -> None:
    await world.source(eventTypes=[{"type": "ticket:*"}, {"type": "ticket:lost", "schema": {"required": ["why"]}}])
    await world.workflow("audit", "ticket:created", filters=2)
    for delivery in (
        signed(event()),
        signed(event()),
        signed(event(id="e-2", type="ticket:escalated")),
        signed(event(id="e-3", type="sla:breached")),
        signed(event(id="e-4", type="ticket:lost")),
    ):
        await world.send(delivery)
    of_source = {"namespace": NAMESPACE, "source": "tickets"}
    deliveries = [
        world.counted("kubesaga_gateway_deliveries_total", **of_source, status=status, reason=reason)
        for status, reason in (("202", ""), ("422", "SchemaViolated"))
    ]
    assert deliveries == [4, 1]
    assert world.counted("kubesaga_gateway_events_received_total", **of_source) == 5
    events = {
        result: world.counted("kubesaga_gateway_events_total", **of_source, result=result)
        for result in ("caused", "unmatched", "unwelcome")
    }
    assert events == {"caused": 2, "unmatched": 1, "unwelcome": 1}
    of_audit = {"namespace": NAMESPACE, "workflow": "audit"}
    assert world.counted("kubesaga_gateway_triggers_total", **of_audit, result="matched") == 2
    assert world.counted("kubesaga_gateway_triggers_total", **of_audit, result="filtered") == 6
    assert [
        world.counted("kubesaga_gateway_runs_total", **of_audit, result=result) for result in ("created", "existing")
    ] == [1, 1]
    assert world.counted("kubesaga_gateway_run_latency_seconds_count") == 2, "one for each Workflow's new run"
