# SPDX-License-Identifier: Apache-2.0
"""JSON on the wire is the same with and without the fast library."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Callable
from typing import Any

import pytest

from kubesaga.kube import encoding

ENCODERS = [encoding.dumps, encoding._fast_dumps, encoding._plain_dumps]


@pytest.mark.parametrize("dumps", ENCODERS, ids=["chosen", "fast", "plain"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"a": [1, 2.5, None, True, "é<"]}, id="an ordinary object"),
        pytest.param({"n": 2**80}, id="an integer beyond 64 bits"),
        pytest.param({"s": "half \ud800 a pair"}, id="half a pair of surrogates"),
    ],
)
def test_what_is_written_is_read_back(dumps: Callable[[Any], bytes], value: Any) -> None:
    assert json.loads(dumps(value)) == value


@pytest.mark.parametrize("dumps", ENCODERS, ids=["chosen", "fast", "plain"])
def test_what_json_does_not_have_is_refused(dumps: Callable[[Any], bytes]) -> None:
    with pytest.raises(TypeError):
        dumps({"a": object()})


def test_reading_refuses_what_is_not_json() -> None:
    with pytest.raises(ValueError, match="line 1"):
        encoding.loads(b"<html>")


@pytest.mark.parametrize(
    "text", ["[1]", "[" + "1," * 600_000 + "1]", "[" + "1," * 600_000], ids=["small", "large", "large and cut off"]
)
def test_reading_leaves_the_garbage_collector_as_it_was(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert encoding.loads(text)[0] == 1
    assert gc.isenabled()
