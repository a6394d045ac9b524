# SPDX-License-Identifier: Apache-2.0
"""Metrics and log lines, as Prometheus and people read them."""

from __future__ import annotations

import json
import logging

import pytest

from kubesaga.telemetry.logs import ABOUT, JsonFormatter, TextFormatter
from kubesaga.telemetry.metrics import Metrics
from kubesaga.triggers.ticker import STARTED


def test_gauges_show_what_was_read_last() -> None:
    metrics, phases = Metrics("1"), [(("shop", "Running"), 2.0)]
    metrics.gauge("kubesaga_runs", "Live runs.", ["namespace", "phase"], lambda: phases)
    metrics.plain_gauge("kubesaga_leader", "Leads.", lambda: 1.0)
    assert b"kubesaga_leader 1.0" not in metrics.exposition()
    metrics.refresh()
    text = metrics.exposition().decode()
    assert 'kubesaga_runs{namespace="shop",phase="Running"} 2.0' in text
    assert "kubesaga_leader 1.0" in text


def test_requests_are_counted_by_verb_kind_and_code() -> None:
    metrics = Metrics("1")
    metrics.on_request("patch", "workflowruns", 200, 0.003)
    metrics.on_request("get", "pods", 0, 0.003)
    text = metrics.exposition().decode()
    assert 'kubesaga_api_requests_total{code="200",resource="workflowruns",verb="patch"} 1.0' in text
    assert 'code="none"' in text


def test_ticks_are_counted_by_what_became_of_them() -> None:
    metrics = Metrics("1")
    metrics.on_tick(STARTED)
    assert 'kubesaga_schedule_ticks_total{result="started"} 1.0' in metrics.exposition().decode()


def test_a_watch_that_lasts_for_minutes_does_not_count_as_a_slow_request() -> None:
    metrics = Metrics("1")
    metrics.on_request("watch", "pods", 200, 300)
    assert 'kubesaga_api_request_duration_seconds_count{verb="watch"}' not in metrics.exposition().decode()


def record(**extra: object) -> logging.LogRecord:
    made = logging.LogRecord("kubesaga.workflow_engine", logging.INFO, "f", 1, "it %s", ("works",), None)
    made.__dict__.update(extra)
    return made


def test_a_json_line_bears_what_it_is_about() -> None:
    line = json.loads(JsonFormatter().format(record(workflow_id="u-1", activity="pay", run="order-1")))
    assert {name: line[name] for name in ("level", "component", "workflow_id", "activity", "run", "message")} == {
        "level": "info", "component": "workflow_engine", "workflow_id": "u-1", "activity": "pay", "run": "order-1", "message": "it works",
    }  # fmt: skip
    assert line["timestamp"].endswith("+00:00")


def test_a_json_line_always_has_the_promised_fields() -> None:
    line = json.loads(JsonFormatter().format(record()))
    assert (line["workflow_id"], line["activity"]) == ("", "")


def test_what_the_task_is_about_is_on_every_line_of_it() -> None:
    token = ABOUT.set({"workflow_id": "u-2"})
    try:
        assert json.loads(JsonFormatter().format(record()))["workflow_id"] == "u-2"
    finally:
        ABOUT.reset(token)


@pytest.mark.parametrize("text", ["a\nb", "a\r\n{}", '"quoted"'])
def test_a_message_cannot_forge_a_second_line(text: str) -> None:
    made = record()
    made.msg, made.args = text, ()
    assert "\n" not in JsonFormatter().format(made)


def test_a_text_line_is_for_people() -> None:
    assert "INFO    order-1/pay: it works" in TextFormatter().format(record(run="order-1", activity="pay"))
