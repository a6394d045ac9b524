# SPDX-License-Identifier: Apache-2.0
"""What a condition can ask of one value: the operators, the values they take, and what they make of each JSON value.

A positive operator answers True, False, or None where the question makes no sense for a value of that type. Its negation
(`neq`, `nin`, `nregex` …) answers the opposite where there is an answer, and False where the type is wrong too: a
condition never holds by mistake. What is not there, or null, is no value: only negations and `isnull` hold for it (A9).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kubesaga.engine.language.patterns import compiled, found
from kubesaga.engine.language.values import JSON, kind_of

Ask = Callable[[JSON, JSON], bool | None]
"""Takes the value that is there and the one that is wanted; None: the type is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One word of the grammar."""

    word: str
    ask: Ask
    fault: Callable[[JSON], str | None]
    """Returns what is wrong with a value that somebody wants, None if nothing is."""
    asks_for: Callable[[JSON], str]
    """Returns the kind of value that it makes sense for, in words."""
    yes: str
    """Stands between the path and the wanted value where the positive question is answered by True."""
    no: str
    negated: bool = False

    def holds(self, value: JSON, wanted: JSON) -> bool:
        """Tell whether it holds for a value; None: there is none."""
        if value is None:
            return self.negated
        answer = self.ask(value, wanted)
        return answer is not None and answer is not self.negated


def equal(one: JSON, other: JSON) -> bool:
    """Tell whether two JSON values are equal: 1 is 1.0, true is not 1, the order of an object's keys says nothing."""
    rest = [(one, other)]
    while rest:
        a, b = rest.pop()
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            if a.keys() != b.keys():
                return False
            rest += [(a[key], b[key]) for key in a]
        elif isinstance(a, list | tuple) and isinstance(b, list | tuple):
            if len(a) != len(b):
                return False
            rest += zip(a, b, strict=True)
        elif isinstance(a, bool) is not isinstance(b, bool) or a != b:
            return False
    return True


# --- questions ------------------------------------------------------------------------------------------------------


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _compared(answer: Callable[[Any, Any], bool]) -> Ask:
    """Numbers are compared with numbers, strings by their characters' code points with strings."""

    def ask(value: JSON, wanted: JSON) -> bool | None:
        same = (_is_number(value) and _is_number(wanted)) or (isinstance(value, str) and isinstance(wanted, str))
        return answer(value, wanted) if same else None

    return ask


def _of_text(answer: Callable[[str, str], bool]) -> Ask:
    return lambda value, wanted: answer(value, wanted) if isinstance(value, str) else None


def _contains(value: JSON, wanted: JSON) -> bool | None:
    if isinstance(value, str):
        return wanted in value if isinstance(wanted, str) else None
    if isinstance(value, Sequence):
        return any(equal(item, wanted) for item in value)
    return None


def _is_empty(value: JSON, wanted: JSON) -> bool | None:
    return (len(value) == 0) is wanted if isinstance(value, str | Sequence | Mapping) else None


# --- wanted values --------------------------------------------------------------------------------------------------


def _no_null(wanted: JSON) -> str | None:
    return "is null; ask for what is not there, or null, by isnull: true" if wanted is None else None


def _ordered(wanted: JSON) -> str | None:
    if isinstance(wanted, str) or (_is_number(wanted) and math.isfinite(wanted)):
        return None
    return f"must be a number or a string, but is {kind_of(wanted)}"


def _choices(wanted: JSON) -> str | None:
    if not isinstance(wanted, list):
        return f"must be a list of values, but is {kind_of(wanted)}"
    if not wanted:
        return "is an empty list, of which no value is one"
    return "has null in it; ask for what is not there, or null, by isnull: true" if None in wanted else None


def _text(wanted: JSON) -> str | None:
    if not isinstance(wanted, str):
        return f"must be a string, but is {kind_of(wanted)}"
    return None if wanted else "is empty, and so is found in every string"


def _content(wanted: JSON) -> str | None:
    return _text(wanted) if wanted == "" else _no_null(wanted)


def _pattern(wanted: JSON) -> str | None:
    if fault := _text(wanted):
        return fault
    try:
        compiled(wanted)
    except ValueError as error:
        return str(error)
    return None


def _truth(wanted: JSON) -> str | None:
    return None if isinstance(wanted, bool) else f"must be true or false, but is {kind_of(wanted)}"


# --- the table ------------------------------------------------------------------------------------------------------


def _kind(words: str) -> Callable[[JSON], str]:
    return lambda _: words


def _positive(word: str, ask: Ask, fault: Callable[[JSON], str | None], kind: Any, yes: str, no: str) -> Operator:
    return Operator(word=word, ask=ask, fault=fault, asks_for=kind, yes=yes, no=no)


_ANY: Final = _kind("any value")
_STRING: Final = _kind("a string")
_LIKE: Final = kind_of
"""An order asks for a value of the kind that is wanted."""

_POSITIVE: Final = (
    _positive("eq", equal, _no_null, _ANY, "equals", "does not equal"),
    _positive("gt", _compared(lambda a, b: a > b), _ordered, _LIKE, "is greater than", "is not greater than"),
    _positive("gte", _compared(lambda a, b: a >= b), _ordered, _LIKE, "is at least", "is below"),
    _positive("lt", _compared(lambda a, b: a < b), _ordered, _LIKE, "is less than", "is not less than"),
    _positive("lte", _compared(lambda a, b: a <= b), _ordered, _LIKE, "is at most", "is above"),
    _positive("in", lambda value, wanted: any(equal(value, item) for item in wanted), _choices, _ANY, "is one of", "is none of"),
    _positive("regex", _of_text(lambda a, b: found(compiled(b), a)), _pattern, _STRING, "fits the pattern", "does not fit the pattern"),
    _positive("starts", _of_text(str.startswith), _text, _STRING, "begins with", "does not begin with"),
    _positive("ends", _of_text(str.endswith), _text, _STRING, "ends with", "does not end with"),
    _positive("contains", _contains, _content, lambda wanted: "a string or a list" if isinstance(wanted, str) else "a list", "contains", "does not contain"),
    _positive("isempty", _is_empty, _truth, _kind("a string, a list or an object"), "has what was asked for by isempty:", "has not what was asked for by isempty:"),
)  # fmt: skip
_NEGATED: Final = ("eq", "in", "regex", "starts", "ends", "contains")


def _negation(of: Operator) -> Operator:
    return Operator(
        word=f"n{of.word}", ask=of.ask, fault=of.fault, asks_for=of.asks_for, yes=of.yes, no=of.no, negated=True
    )


IS_NULL: Final = "isnull"
"""The one operator that asks whether there is a value at all; it is carried out where the others are not even asked."""

OPERATORS: Final[Mapping[str, Operator]] = {
    operator.word: operator
    for operator in (*_POSITIVE, *(_negation(known) for known in _POSITIVE if known.word in _NEGATED))
}
"""All others, by their word: eq, neq, gt, gte, lt, lte, in, nin, regex, nregex, starts, nstarts, ends, nends, contains, ncontains, isempty."""

WORDS: Final = (*OPERATORS, IS_NULL)

fault_of_truth: Final = _truth
