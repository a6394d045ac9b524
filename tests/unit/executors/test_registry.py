# SPDX-License-Identifier: Apache-2.0
"""Handlers find their way into the registry, and what cannot be a handler is refused where it is written."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import kubesaga
from kubesaga.errors import InvalidSettings
from kubesaga.executors import registry as registry_module
from kubesaga.executors.registry import Context, Registry, handler_of, load_handlers


def takes_params(params):
    return params


def takes_both(params, context):
    return params


async def takes_both_async(params, context):
    return params


class Callable:
    async def __call__(self, params):
        return params


@pytest.mark.parametrize(
    ("function", "takes_context", "is_async"),
    [
        pytest.param(takes_params, False, False, id="a plain function of params"),
        pytest.param(takes_both, True, False, id="a plain function of params and context"),
        pytest.param(takes_both_async, True, True, id="an async function"),
        pytest.param(lambda anything: anything, False, False, id="the parameters' names do not matter"),
        pytest.param(functools.partial(takes_both_async, {}), False, True, id="a partial of an async function"),
        pytest.param(Callable(), False, True, id="an object with an async __call__"),
    ],
)
def test_a_handler_is_known_by_its_signature(function, takes_context, is_async):
    handler = handler_of("x", function)
    assert (handler.takes_context, handler.is_async) == (takes_context, is_async)


def test_the_decorated_function_stays_as_it_is():
    registry = Registry()
    assert registry.activity("orders:reserve")(takes_params) is takes_params
    assert registry.find("orders:reserve").function is takes_params
    assert (list(registry), len(registry), registry.find("orders")) == (["orders:reserve"], 1, None)


def test_import_kubesaga_gives_the_decorator_that_fills_the_default_registry():
    assert kubesaga.activity == registry_module.handlers.activity
    assert kubesaga.Context is Context


@pytest.mark.parametrize("handler_id", ["a", "9", "orders:reserve", "slack.post-message_v2/eu", "a" * 253])
def test_ids_that_are_allowed(handler_id):
    Registry().activity(handler_id)(takes_params)


@pytest.mark.parametrize("handler_id", ["", ":a", "a b", "a\n", "-a", "ä", "a" * 254, None, takes_params])
def test_ids_that_are_refused(handler_id):
    with pytest.raises(InvalidSettings, match="id starts with a letter or digit"):
        Registry().activity(handler_id)


def generator(params):
    yield params


async def async_generator(params):
    yield params


@pytest.mark.parametrize(
    ("function", "says"),
    [
        pytest.param(lambda: None, r"takes \(\);", id="no parameter"),
        pytest.param(lambda a, b, c: None, r"takes \(a, b, c\);", id="three parameters"),
        pytest.param(lambda a, b=1: None, r"takes \(a, b=1\);", id="a default, which the context would overwrite"),
        pytest.param(lambda *a: None, r"takes \(\*a\);", id="any number of parameters"),
        pytest.param(lambda a, *, b: None, r"takes \(a, \*?b\)|takes \(a, b\);", id="a keyword"),
        pytest.param(generator, "has a yield", id="a generator"),
        pytest.param(async_generator, "has a yield", id="an async generator"),
        pytest.param(Callable, "is not a function", id="a class"),
        pytest.param("text", "is not a function", id="no function at all"),
    ],
)
def test_what_cannot_be_a_handler_is_refused(function, says):
    with pytest.raises(InvalidSettings, match=says):
        Registry().activity("x")(function)


def test_two_functions_under_one_id_are_refused_and_both_places_named():
    registry = Registry()
    registry.activity("x")(takes_params)
    with pytest.raises(InvalidSettings) as raised:
        registry.activity("x")(takes_both)
    assert "takes_params" in str(raised.value)
    assert "takes_both" in str(raised.value)
    assert str(raised.value).count("test_registry.py:") == 2
    assert registry.find("x").function is takes_params


def test_the_same_function_may_be_registered_again_and_a_module_loaded_again():
    def make():
        def handler(params):
            return params

        return handler

    registry = Registry()
    first, again = make(), make()
    registry.activity("x")(first)
    registry.activity("x")(first)
    registry.activity("x")(again)
    assert registry.find("x").function is again


def test_a_context_cannot_be_changed():
    context = Context(
        run="r", namespace="n", workflow="w", activity="a", attempt=1, idempotency_key="u/a/do", deadline=None
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.attempt = 2


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on sys.path, with nothing of it left in sys.modules or in the default registry afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    monkeypatch.setattr(registry_module.handlers, "_handlers", {})
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(site: Path, name: str, text: str) -> None:
    path = site / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text))


HANDLERS = """
    import kubesaga

    @kubesaga.activity("shop:ship")
    def ship(params): return {}
"""


def test_modules_are_imported_by_name_and_their_handlers_copied_to_a_given_registry(site):
    write(site, "shop_handlers.py", HANDLERS)
    registry = Registry()
    assert load_handlers(["shop_handlers"], registry) is registry
    assert list(registry) == ["shop:ship"]
    assert list(registry_module.handlers) == ["shop:ship"]


def test_entry_points_of_installed_packages_are_loaded(site):
    write(site, "shop_handlers.py", HANDLERS)
    write(site, "shop-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    write(site, "shop-1.0.dist-info/entry_points.txt", "[kubesaga.handlers]\nshop = shop_handlers\n")
    assert list(load_handlers([])) == ["shop:ship"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(None, r"'shop_handlers' could not be imported: ModuleNotFoundError: No module", id="absent"),
        pytest.param("1 / 0", r"'shop_handlers' could not be imported: ZeroDivisionError: division", id="raising"),
        pytest.param("x =", r"'shop_handlers' could not be imported: SyntaxError", id="not Python"),
        pytest.param("import sys; sys.exit(3)", r"'shop_handlers' ended the program .*\(exit 3\)", id="exiting"),
        pytest.param(
            "import kubesaga\nkubesaga.activity('x')(lambda: 1)",
            r"'shop_handlers': handler 'x': .* takes \(\)",
            id="wrong",
        ),
    ],
)
def test_a_module_that_cannot_be_loaded_is_named_with_the_cause(site, text, says):
    if text is not None:
        write(site, "shop_handlers.py", text)
    with pytest.raises(InvalidSettings, match=says):
        load_handlers(["shop_handlers"])


def test_import_kubesaga_needs_nothing_but_the_standard_library():
    script = (
        "import sys, kubesaga; "
        "print([m for m in ('pydantic', 'aiohttp', 'kopf', 'kubernetes', 'asyncio') if m in sys.modules])"
    )
    path = str(Path(kubesaga.__file__).parents[1])
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    assert answer.stdout.strip() == "[]"
