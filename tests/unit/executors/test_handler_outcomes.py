# SPDX-License-Identifier: Apache-2.0
"""Every way in which a handler can end is an outcome; what it is given is its own."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import logging

import pytest
from tests.unit.executors.handler_world import LIMIT, World, raise_

from kubesaga.api.reasons import Reason
from kubesaga.engine.attempt import Failed, Succeeded
from kubesaga.executors.in_process import NotJson, output_outcome, plain_json, shortened
from kubesaga.executors.registry import Context, NotRetryable


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.executor.close()


def both(body):
    """A handler as a plain and as an async function."""

    async def is_async(params):
        return body(params)

    return [pytest.param(body, id="plain"), pytest.param(is_async, id="async")]


class Unreadable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Number(int):
    pass


def nested(levels: int):
    value = {}
    for _ in range(levels):
        value = {"in": value}
    return value


OUTPUTS = [
    pytest.param({"agent": "A-1"}, Succeeded(output={"agent": "A-1"}), id="an object is the output"),
    pytest.param(None, Succeeded(), id="nothing is no output"),
    pytest.param({}, Succeeded(output={}), id="an empty object"),
    pytest.param({"a": (1, 2)}, Succeeded(output={"a": [1, 2]}), id="a tuple is an array"),
    pytest.param({"a": Number(3)}, Succeeded(output={"a": 3}), id="a kind of int is an int"),
    pytest.param("done", "the output is a string; it must be a JSON object", id="a string"),
    pytest.param([1], "the output is an array; it must", id="an array"),
    pytest.param(True, "the output is a truth value; it must", id="a truth value"),
    pytest.param(0, "the output is a number; it must", id="a number"),
    pytest.param(
        {"at": datetime.datetime(2026, 1, 1)}, "output.at is a datetime, which JSON does not", id="a datetime"
    ),
    pytest.param({"a": [{"b": {1}}]}, "output.a[0].b is a set, which JSON", id="a set deep down"),
    pytest.param({"a": float("nan")}, "output.a is nan, which is no JSON number", id="NaN"),
    pytest.param({"a": float("-inf")}, "output.a is -inf, which is no JSON number", id="infinity"),
    pytest.param({"a": b"x"}, "output.a is a bytes", id="bytes"),
    pytest.param({"a": {1: "x"}}, "output.a has the key 1, a int", id="a key that is no string"),
    pytest.param({"a": 2**63}, "output.a is an integer beyond 64 bits", id="an integer beyond 64 bits"),
    pytest.param({"a": 10**5000}, "output.a is an integer beyond 64 bits", id="an integer of 5000 digits"),
    pytest.param(nested(101), "lies deeper than 100 levels", id="too deep"),
    pytest.param(object(), "output is a object, which JSON", id="any object"),
]


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize(("value", "expected"), OUTPUTS)
async def test_what_a_handler_returns(world, value, expected, kind):
    async def asynchronous(params):
        return value

    outcome = await world.call(asynchronous if kind == "async" else lambda params: value)
    if isinstance(expected, str):
        assert (outcome.reason, outcome.retryable) == (Reason.OUTPUT_INVALID, False)
        assert expected in outcome.message
    else:
        assert outcome == expected


def test_the_output_is_a_copy_that_nobody_else_holds():
    value = {"a": [1]}
    output = output_outcome(value, LIMIT).output
    value["a"].append(2)
    assert output == {"a": [1]}


def test_a_value_that_contains_itself_is_refused():
    value: dict = {}
    value["me"] = value
    with pytest.raises(NotJson, match="deeper than 100 levels"):
        plain_json(value)


@pytest.mark.parametrize("function", both(lambda params: {"text": "x" * 10_000_000}))
async def test_a_large_output_fails_with_both_sizes_and_nothing_of_it_is_kept(world, function):
    outcome = await world.call(function)
    assert (outcome.reason, outcome.retryable) == (Reason.OUTPUT_TOO_LARGE, False)
    assert "10000011 bytes" in outcome.message
    assert "65536 are allowed" in outcome.message


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        pytest.param("x" * (LIMIT - 8), True, id="exactly the limit"),
        pytest.param("x" * (LIMIT - 7), False, id="a byte more"),
        pytest.param("ä" * ((LIMIT - 8) // 2), True, id="two bytes a letter, exactly"),
        pytest.param("ä" * ((LIMIT - 8) // 2) + "x", False, id="two bytes a letter, and a byte more"),
        pytest.param("\ud800", True, id="half a surrogate pair"),
    ],
)
def test_the_size_is_that_of_the_json_in_utf_8(text, fits):
    assert isinstance(output_outcome({"t": text}, LIMIT), Succeeded if fits else Failed)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(ValueError("no such agent"), "ValueError: no such agent", id="an exception"),
        pytest.param(KeyError("ticket"), "KeyError: 'ticket'", id="a missing key"),
        pytest.param(TimeoutError(), "TimeoutError", id="an exception without text"),
        pytest.param(SystemExit(3), "SystemExit: 3", id="SystemExit"),
        pytest.param(KeyboardInterrupt(), "KeyboardInterrupt", id="KeyboardInterrupt"),
        pytest.param(GeneratorExit(), "GeneratorExit", id="GeneratorExit"),
        pytest.param(asyncio.CancelledError("mine"), "CancelledError: mine", id="CancelledError of its own"),
        pytest.param(Unreadable(), "Unreadable (its text cannot be read)", id="an exception whose text fails"),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_what_a_handler_raises_is_its_failure(world, error, message, kind):
    async def asynchronous(params):
        raise error

    outcome = await world.call(asynchronous if kind == "async" else lambda params: raise_(error))
    assert outcome == Failed(reason=Reason.HANDLER_FAILED, message=message)
    world.add(lambda params: {}, "other")
    assert await world.outcome(await world.start("other", 2)) == Succeeded(output={})


@pytest.mark.parametrize("function", both(lambda params: raise_(NotRetryable("no such customer"))))
async def test_a_handler_can_say_that_another_attempt_would_not_help(world, function):
    outcome = await world.call(function)
    assert outcome == Failed(reason=Reason.NOT_RETRYABLE, message="no such customer", retryable=False)


@pytest.mark.parametrize("function", both(lambda params: raise_(ValueError("ä" * 5000))))
async def test_the_message_is_bounded_in_bytes(world, function):
    message = (await world.call(function)).message
    assert len(message.encode()) <= 1024
    assert message.endswith("ä…")


def test_a_text_that_fits_is_not_cut():
    assert shortened("ä" * 512) == "ä" * 512
    assert shortened("\ud800") == "?"


async def test_the_traceback_is_logged_with_run_and_activity(world, caplog):
    def fails(params):
        raise ValueError("no such agent")

    with caplog.at_level(logging.ERROR, "kubesaga.activity_executor"):
        await world.call(fails, activity="assign")
    (record,) = caplog.records
    assert (record.namespace, record.run, record.activity, record.attempt) == ("support", "ticket-1", "assign", 1)
    assert record.exc_info[2].tb_next.tb_frame.f_code.co_name == "fails"


async def test_a_handler_gets_its_params_and_its_context(world):
    given = []

    def handler(params, context):
        given.append((params, context))
        params["changed"] = True

    params = {"ticket": "T-1"}
    world.add(handler)
    await world.outcome(await world.start(params=params, activity="assign", number=2))
    assert given[0][1] == Context(
        run="ticket-1",
        namespace="support",
        workflow="tickets",
        activity="assign",
        attempt=2,
        idempotency_key="run-uid/assign/do",
        deadline=datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC),
    )
    assert params == {"ticket": "T-1"}


@pytest.mark.parametrize("function", both(lambda params: {"got": params}))
async def test_no_params_are_an_empty_object(world, function):
    assert await world.call(function) == Succeeded(output={"got": {}})


async def test_a_plain_handler_that_returns_a_coroutine_is_told_so(world):
    async def inner(params):
        return {}

    outcome = await world.call(lambda params: inner(params))
    assert outcome.reason is Reason.HANDLER_FAILED
    assert "async def" in outcome.message


VARIABLE = contextvars.ContextVar("variable", default="default")


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_context_variables_leak_neither_in_nor_out(world, kind):
    def plain(params):
        seen = VARIABLE.get()
        VARIABLE.set("the handler's")
        return {"seen": seen}

    async def asynchronous(params):
        return plain(params)

    VARIABLE.set("the operator's")
    world.add(asynchronous if kind == "async" else plain)
    for number in (1, 2):
        assert await world.outcome(await world.start(number=number)) == Succeeded(output={"seen": "default"})
    assert VARIABLE.get() == "the operator's"


async def test_an_unknown_id_ends_with_advice_and_near_names(world):
    world.add(lambda params: {}, "orders:reserve")
    outcome = await world.outcome(await world.start("orders:reserv"))
    assert (outcome.reason, outcome.retryable) == (Reason.HANDLER_NOT_FOUND, False)
    assert "--handlers MODULE" in outcome.message
    assert "Did you mean orders:reserve?" in outcome.message
