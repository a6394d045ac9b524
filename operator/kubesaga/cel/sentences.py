# SPDX-License-Identifier: Apache-2.0
"""The CEL library's messages in words for the author of a Workflow. One that is not known here is passed on, tidied.

The patterns are those of cel-expr-python 0.1.3; `tests/unit/cel/test_sentences.py` holds them against the installed
library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from kubesaga.engine.language.references import scan
from kubesaga.engine.language.values import Missing, follow

_COMPILE: Final = re.compile(r"ERROR: <input>:(?P<line>-?\d+):(?P<column>-?\d+): (?P<text>[^\n]*)")
_STATUS: Final = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
_TYPES: Final = {"int64": "int", "uint64": "uint", "null_type": "null"}

_TOO_DEEP: Final = "it is nested too deeply: 32 levels, or 31 operators in a row, are the most; split it with cel.bind"
_OPTIONAL: Final = "it ends in an optional value; add .orValue(…) to say what stands in for an absent one"
_RESULTS: Final = {
    "an optional value": _OPTIONAL,
    "bytes": "it ends in bytes, which JSON does not have; use base64.encode(…) or string(…)",
    "a type": "it ends in a type, which JSON does not have",
    "NaN": "it ends in NaN or an infinite number, which JSON does not have",
    "nesting": "it ends in a value that is nested too deeply",
}


def why_not_compiled(message: str, expression: str, roots: Collection[str]) -> str:
    """Return a sentence on why `expression` does not compile with the variables `roots`; it says where, if known."""
    if re.search(r"recursion (?:depth|limit)", message):
        return _TOO_DEEP
    found = _COMPILE.search(message)
    if not found:
        return _tidy(message)
    line, column, text = int(found["line"]), int(found["column"]), found["text"]
    place = f" at character {column}" if "\n" not in expression else f" in line {line}, character {column}"
    for pattern, sentence in _COMPILE_SENTENCES:
        if match := re.match(pattern, text):
            return sentence(match, place, expression, roots)
    return _tidy(text) + place


def why_no_value(message: str, expression: str, scope: Mapping[str, Any]) -> str:
    """Return a sentence on why `expression` has no value in `scope`; what is missing is called by its whole path."""
    for pattern, sentence in _RUN_SENTENCES:
        if match := re.search(pattern, message, re.DOTALL):
            return sentence(match, expression, scope)
    return _tidy(message)


def why_no_json(fault: str) -> str:
    """Return a sentence on why a value cannot be used, from the worker's word for it."""
    return _RESULTS.get(fault, f"it ends in {fault}; JSON objects have strings as keys")


# --------------------------------------------------------------------------------------------------------------------


def _undeclared(match: re.Match[str], place: str, expression: str, roots: Collection[str]) -> str:
    name = match["name"].lstrip(".")
    root = name.split(".")[0]
    start = next((read.start for read in scan(expression).reads if read.root == root), None)
    if start is None:
        called = re.search(rf"\b{re.escape(name)}\.\w+(?=\()", expression)
        return f"there is no function `{called.group() if called else name}`, or none with these arguments,{place}"
    # For `a.b` the library points at the dot.
    where = f" at character {start + 1}" if "\n" not in expression else place
    known = f"what can be used here: {', '.join(sorted(roots))}" if roots else "nothing can be used here but constants"
    return f"`{root}` is not known{where}; {known}"


def _syntax(match: re.Match[str], place: str, expression: str, _: Collection[str]) -> str:
    word = match["word"].strip()
    if expression.startswith("${"):
        return "${ and } do not belong here: this field is an expression by itself"
    return "it ends too early" if word == "<EOF>" else f"`{word}` is not expected{place}"


def _no_overload(match: re.Match[str], place: str, *_: Any) -> str:
    return _not_applicable(match["name"], match["types"]) + place


_CompileSentence = Callable[[re.Match[str], str, str, Collection[str]], str]
_COMPILE_SENTENCES: Final[tuple[tuple[str, _CompileSentence], ...]] = (
    (r"undeclared reference to '(?P<name>.*?)'", _undeclared),
    (r"Syntax error: .*?'(?P<word>.*?)'(?: expecting|$)", _syntax),
    (r"found no matching overload for '(?P<name>.*)' applied to '\((?P<types>.*)\)'", _no_overload),
    (r"reserved identifier: (?P<word>\w+)", lambda m, place, *_: f"`{m['word']}` is a reserved word{place}"),
)


def _missing(match: re.Match[str], expression: str, scope: Mapping[str, Any]) -> str:
    key = match["key"]
    # The library writes quotes around a key and escapes what is not printable; such a key is not compared.
    return _paths("key", expression, scope, None if "\\" in key else key[1:-1]) or f"no such key: {key}"


def _wrong_container(_: re.Match[str], expression: str, scope: Mapping[str, Any]) -> str:
    general = "a member is asked of something that is neither an object nor a list"
    return _paths("container", expression, scope) or general


def _wrong_index(_: re.Match[str], expression: str, scope: Mapping[str, Any]) -> str:
    return _paths("container", expression, scope) or "the index of a list must be a whole number"


def _bad_index(match: re.Match[str], expression: str, scope: Mapping[str, Any]) -> str:
    general = f"no such item: {match['index']}, the list has {match['size']}"
    return _paths("item", expression, scope, int(match["index"])) or general


def _paths(kind: str, expression: str, scope: Mapping[str, Any], member: str | int | None = None) -> str:
    """Return which of the paths that the expression reads may have failed so; the library does not say which it was."""
    sentences: dict[str, None] = {}
    for read in scan(expression).reads:
        needed = read.members[: read.required - 1 if read.tested and kind == "key" else read.required]
        missing = None if read.bound else follow((read.root, *needed), scope)
        if isinstance(missing, Missing) and missing.kind == kind and member in (None, missing.member):
            sentences[missing.sentence] = None
    return ", or ".join(sentences)


def _cannot_apply(match: re.Match[str], *_: Any) -> str:
    return _not_applicable(match["name"], match["types"])


def _not_applicable(name: str, types: str) -> str:
    shown = " and ".join(_TYPES.get(kind, kind) for kind in types.split(", "))
    mixed = {"int", "double"} <= set(shown.split(" and "))
    return f"`{_as_written(name)}` cannot be applied to {shown}" + ("; use int(…) or double(…)" if mixed else "")


def _cannot_ask(match: re.Match[str], *_: Any) -> str:
    target = _TYPES.get(match["target"], match["target"])
    return f"`{match['name']}` cannot be asked of {target} with ({match['types']})"


def _needs_booleans(match: re.Match[str], *_: Any) -> str:
    return f"`{_as_written(match['name'])}` needs true or false"


def _some_values(match: re.Match[str], *_: Any) -> str:
    return f"`{_as_written(match['name'])}` cannot be applied to these values"


def _as_written(function: str) -> str:
    """Return the library's name of an operator as it is written: `+` for `_+_`."""
    return {"_?._": ".?", "_[?_]": "[?…]"}.get(function) or function.strip("_")


def _always(sentence: str) -> _RunSentence:
    return lambda *_: sentence


_RunSentence = Callable[[re.Match[str], str, Mapping[str, Any]], str]
_NONE_FITS: Final = "No matching overloads found : "
_RUN_SENTENCES: Final[tuple[tuple[str, _RunSentence], ...]] = (
    (r"Key not found in map : (?P<key>.*)", _missing),
    (r"Applying SELECT to non-message type|Invalid container type", _wrong_container),
    (r"Index error: index=(?P<index>-?\d+) size=(?P<size>\d+)", _bad_index),
    (r"Index error: expected integer type", _wrong_index),
    (r"Iteration budget exceeded", _always("it loops too often: 10,000 steps are the most")),
    (r"optional\.none\(\) dereference", _always("an optional value is absent; use .orValue(…)")),
    (r"<jump_condition>", _always("what stands before ? must be true or false")),
    (_NONE_FITS + r"(?P<name>_&&_|_\|\|_|!_)$", _needs_booleans),
    (_NONE_FITS + r"\((?P<target>[^)]*)\)\.(?P<name>\w+)\((?P<types>.*)\)", _cannot_ask),
    (_NONE_FITS + r"(?P<name>[^(]*)\((?P<types>.*)\)", _cannot_apply),
    (_NONE_FITS + r"(?P<name>\S+)$", _some_values),
    (r"reference resolve step for cel\.@mapInsert", _always("transformMap and transformMapEntry are not available")),
)


def _tidy(message: str) -> str:
    return _STATUS.sub("", _STATUS.sub("", message.split("\n")[0]))
