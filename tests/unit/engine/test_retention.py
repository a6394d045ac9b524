# SPDX-License-Identifier: Apache-2.0
"""Which finished runs and revisions are kept, by what the Workflow says."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kubesaga.engine.attempt import RunKey
from kubesaga.engine.retention import FOR_EVER, Finished, Revision, Terms, due, surplus, terms_of
from kubesaga.testing.clock import START

HOUR = timedelta(hours=1)


def finished(name: str, hour: float, *, succeeded: bool = True) -> Finished:
    """Return a run that finished so many hours after the start."""
    key = RunKey(namespace="shop", name=name)
    return Finished(key=key, uid=name, succeeded=succeeded, completed=START + hour * HOUR, workflow="order")


GOOD = [finished(f"good-{hour}", hour) for hour in (2, 0, 1)]
BAD = [finished(f"bad-{hour}", hour, succeeded=False) for hour in (1, 2, 0)]


def told(runs: list[Finished], terms: Terms, hour: float) -> list[str]:
    return [f"{run.key.name} {why}" for run, why in due(runs, terms, START + hour * HOUR)]


@pytest.mark.parametrize(("terms", "hour", "going"), [
    pytest.param(Terms(), 10_000, [], id="none where nothing is said"),
    pytest.param(Terms(ttl=2 * HOUR), 1.99, [], id="none before its time is over"),
    pytest.param(Terms(ttl=2 * HOUR), 2, ["bad-0 TTLAfterFinished", "good-0 TTLAfterFinished"], id="those whose time is over, from that moment on"),
    pytest.param(Terms(successful=1), 3, ["good-0 HistoryLimit", "good-1 HistoryLimit"], id="the oldest beyond the limit, of those that succeeded"),
    pytest.param(Terms(failed=2), 3, ["bad-0 HistoryLimit"], id="the oldest beyond the limit, of those that did not"),
    pytest.param(Terms(successful=3, failed=3), 3, [], id="none up to the limits"),
    pytest.param(Terms(successful=0, failed=100), 3, ["good-0 HistoryLimit", "good-1 HistoryLimit", "good-2 HistoryLimit"], id="all with a limit of 0"),
    pytest.param(Terms(ttl=2 * HOUR, successful=2), 2, ["bad-0 TTLAfterFinished", "good-0 TTLAfterFinished"], id="by time, what goes anyway"),
])  # fmt: skip
def test_the_runs_that_go_are(terms: Terms, hour: float, going: list[str]) -> None:
    assert told(GOOD + BAD, terms, hour) == going


def test_runs_that_finished_together_go_in_the_order_of_their_names() -> None:
    twins = [finished(name, 0) for name in "bca"]
    assert told(twins, Terms(successful=1), 1) == ["a HistoryLimit", "b HistoryLimit"]


@pytest.mark.parametrize(("hour", "going"), [
    pytest.param(1, ["unheard Messenger"], id="those that need not keep a second one away"),
    pytest.param(23.99, ["unheard Messenger"], id="none while they keep a second one away"),
    pytest.param(24, ["heard Messenger", "unheard Messenger"], id="all whose window is over"),
])  # fmt: skip
def test_whatever_is_said_of_runs_the_messengers_that_go_are(hour: float, going: list[str]) -> None:
    messengers = [
        replace(finished("heard", 0), messenger=True, needed_until=START + 24 * HOUR),
        replace(finished("unheard", 1), messenger=True),
    ]
    for terms in (FOR_EVER, Terms(successful=0), Terms(ttl=HOUR / 2), Terms(ttl=1_000 * HOUR)):
        assert told(messengers, terms, hour) == going


def test_messengers_count_for_no_limit() -> None:
    messengers = [
        replace(finished(f"m-{hour}", 2 + hour), messenger=True, needed_until=START + 99 * HOUR) for hour in (0, 1)
    ]
    assert told([*GOOD, *messengers], Terms(successful=3), 4) == []


@pytest.mark.parametrize(("spec", "terms"), [
    pytest.param({}, FOR_EVER, id="nothing"),
    pytest.param(
        {"ttlAfterFinished": "90m", "successfulRunsHistoryLimit": 3, "failedRunsHistoryLimit": 0, "revisionHistoryLimit": 2},
        Terms(ttl=1.5 * HOUR, successful=3, failed=0, revisions=2), id="everything",
    ),
    pytest.param({"ttlAfterFinished": "soon"}, FOR_EVER, id="a time that is none"),
    pytest.param({"ttlAfterFinished": 5}, FOR_EVER, id="a number for a time"),
    pytest.param({"ttlAfterFinished": "0s", "successfulRunsHistoryLimit": -1}, FOR_EVER, id="less than there is"),
    pytest.param({"successfulRunsHistoryLimit": True, "revisionHistoryLimit": "0"}, FOR_EVER, id="no numbers"),
])  # fmt: skip
def test_an_unchecked_spec_deletes_nothing_by_mistake_when_it_says(spec: dict[str, Any], terms: Terms) -> None:
    assert terms_of(spec) == terms


def revision(name: str, hour: float) -> Revision:
    return Revision(namespace="shop", name=name, uid=name, created=START + hour * HOUR, workflow="order")


OLD = [revision(name, hour) for hour, name in enumerate("abcd")]


@pytest.mark.parametrize(("named", "limit", "going"), [
    pytest.param({"d"}, 10, "", id="none up to the limit"),
    pytest.param({"d"}, 1, "ab", id="the oldest beyond the limit"),
    pytest.param({"d"}, 0, "abc", id="all that nobody works from, with a limit of 0"),
    pytest.param({"a", "d"}, 1, "b", id="none that somebody works from, however old"),
    pytest.param(set("abcd"), 0, "", id="none when somebody works from each"),
])  # fmt: skip
def test_the_revisions_that_go_are(named: set[str], limit: int, going: str) -> None:
    assert "".join(revision.name for revision in surplus(OLD[::-1], named, limit)) == going
