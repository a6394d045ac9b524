# SPDX-License-Identifier: Apache-2.0
"""`${…}` in the strings of a Workflow: found, checked, replaced by what the CEL expression inside yields (S101, A8).

A string that is exactly one expression becomes the expression's value and keeps its JSON type. An expression with
text around it becomes text: strings as they are, numbers and booleans as JSON; anything else there is an error. `$${`
stands for the two characters `${`. It is a single pass: what an expression yields is never looked into for further
expressions. Keys of objects are taken literally. `when` is an expression without `${}`.

The language itself is carried out by an `Evaluator`. Only an expression that is a mere path (`inputs.ticket_id`) is
followed here, because most are and a look into a dictionary is hundreds of times cheaper; values and errors are the
same either way. Conditions that compare texts are answered here too (`equalities`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from kubesaga.engine.language.equalities import holds
from kubesaga.engine.language.references import MAX_EXPRESSION, closing_brace, scan
from kubesaga.engine.language.values import JSON, Missing, copy, follow, kind_of, member
from kubesaga.errors import KubesagaError, Problem

_FAST_PATH: Final = 16
"""Longest path that is followed without the evaluator, which refuses very long ones for their depth."""

_SHORT: Final = 1024
"""Longest string whose parts are kept in memory, in characters."""


class ExpressionError(KubesagaError):
    """An expression does not compile or has no value. It is the author's: repeating the pass will not help.

    `path` names the field (`params.items[2].id`) once it is known, `message` says in a sentence what is wrong.
    """

    def __init__(self, expression: str, message: str, path: str = "") -> None:
        self.expression = expression
        self.message = message
        self.path = path
        shown = expression if len(expression) <= 80 else f"{expression[:77]}..."
        sentence = message if message.startswith(shown) else f"in `{shown}`: {message}"
        super().__init__(f"{path}: {sentence}" if path else sentence)


class EvaluatorUnavailable(KubesagaError):
    """No expression can be evaluated just now (no process to be had, machine stalled): the pass is repeated later."""


class Evaluator(Protocol):
    """Carries out CEL expressions."""

    def evaluate(self, expression: str, scope: Mapping[str, JSON]) -> JSON:
        """Return the JSON value of `expression` where the keys of `scope` are the variables.

        Raises ExpressionError if it has none, EvaluatorUnavailable if that cannot be found out now.
        """

    def check(self, expression: str, roots: Collection[str]) -> str | None:
        """Return a sentence on why `expression` can never be evaluated with the variables `roots`, None if it can."""


@dataclass(frozen=True, slots=True)
class Expression:
    """The CEL between `${` and `}`, without the blanks around it."""

    source: str


@dataclass(frozen=True, slots=True)
class Template:
    """A string taken apart: literal text and expressions in turn."""

    parts: tuple[str | Expression, ...]

    @property
    def whole(self) -> Expression | None:
        """The expression, if there is nothing else in the string."""
        match self.parts:
            case (Expression() as only,):
                return only
        return None


def parse(text: str) -> Template:
    """Take `text` apart. Raises ExpressionError for an `${` that is never closed or has nothing inside."""
    return _parse_short(text) if len(text) <= _SHORT else _parse(text)


def expressions_in(value: JSON, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the source of every expression in the strings of `value`, in order.

    `path` is where `value` stands. Raises ExpressionError, with the path, at a string that cannot be taken apart.
    """
    for where, text in _strings(value, path):
        for part in _parse_at(text, where).parts:
            if isinstance(part, Expression):
                yield where, part.source


def problems_in(value: JSON, roots: Collection[str], evaluator: Evaluator, path: str = "") -> Iterator[Problem]:
    """Yield all that is wrong with the expressions in `value`, in order, where the variables `roots` may be used."""
    for where, text in _strings(value, path):
        try:
            parts = parse(text).parts
        except ExpressionError as error:
            yield Problem(where, error.message)
            continue
        for part in parts:
            if isinstance(part, Expression) and (fault := evaluator.check(part.source, roots)):
                yield Problem(where, f"in `{part.source}`: {fault}")


def render(value: JSON, scope: Mapping[str, JSON], evaluator: Evaluator, path: str = "") -> JSON:
    """Return `value` with the expressions in its strings replaced by their values; `value` itself is not changed.

    `path` is where `value` stands. Raises ExpressionError, with the path, for the first expression that has no value.
    """
    try:
        return _render(value, scope, evaluator, path)
    except RecursionError:
        raise ExpressionError("", "this is nested too deeply", path) from None


def condition(expression: str, scope: Mapping[str, JSON], evaluator: Evaluator, path: str = "") -> bool:
    """Return whether a bare expression (of `when`, say) holds. Raises ExpressionError, also if it is no boolean."""
    if (answer := holds(expression, scope)) is not None:
        return answer
    value = _evaluate_at(expression.strip(), scope, evaluator, path)
    if not isinstance(value, bool):
        raise ExpressionError(expression, f"a condition must be true or false, this is {kind_of(value)}", path)
    return value


def evaluate(expression: str, scope: Mapping[str, JSON], evaluator: Evaluator) -> JSON:
    """Return the value of one expression: a mere path is followed here, everything else is the evaluator's.

    Raises ExpressionError.
    """
    path = scan(expression).path
    if path is None or len(path) > _FAST_PATH or path[0] not in scope:
        return evaluator.evaluate(expression, scope)
    value = follow(path, scope)
    if isinstance(value, Missing):
        raise ExpressionError(expression, value.sentence)
    return _copy(expression, value)


# --------------------------------------------------------------------------------------------------------------------


def _parse(text: str) -> Template:
    parts: list[str | Expression] = []
    literal: list[str] = []
    at = 0
    while (found := text.find("${", at)) >= 0:
        if found > at and text[found - 1] == "$":
            literal += text[at : found - 1], "${"
            at = found + 2
            continue
        expression, end = _expression(text, found)
        parts += "".join((*literal, text[at:found])), expression
        literal, at = [], end
    parts.append("".join((*literal, text[at:])))
    return Template(tuple(part for part in parts if part))


_parse_short = lru_cache(maxsize=4096)(_parse)


def _expression(text: str, found: int) -> tuple[Expression, int]:
    """Return the expression whose `${` stands at `found`, and the offset behind its `}`."""
    try:
        end = closing_brace(text, found + 2)
    except ValueError as error:
        raise ExpressionError(text[found : found + MAX_EXPRESSION], str(error)) from None
    source = text[found + 2 : end].strip()
    if not source:
        raise ExpressionError(text[found : end + 1], f"there is no expression in the ${{}} at character {found + 1}")
    return Expression(source), end + 1


def _strings(value: JSON, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path and text of the strings in `value` that may hold expressions, in order, however deep they are."""
    rest = [(path, value)]
    while rest:
        where, found = rest.pop()
        match found:
            case str():
                if "${" in found:
                    yield where, found
            case Mapping():
                rest += reversed([(member(where, key), item) for key, item in found.items()])
            case Sequence() if not isinstance(found, (bytes, bytearray)):
                rest += reversed([(f"{where}[{n}]", item) for n, item in enumerate(found)])


def _parse_at(text: str, path: str) -> Template:
    try:
        return parse(text)
    except ExpressionError as error:
        raise ExpressionError(error.expression, error.message, path) from None


def _evaluate_at(expression: str, scope: Mapping[str, JSON], evaluator: Evaluator, path: str) -> JSON:
    try:
        return evaluate(expression, scope, evaluator)
    except ExpressionError as error:
        raise ExpressionError(error.expression, error.message, path) from None


def _render(value: JSON, scope: Mapping[str, JSON], evaluator: Evaluator, path: str) -> JSON:
    match value:
        case str():
            return _render_text(value, scope, evaluator, path)
        case Mapping():
            return {key: _render(item, scope, evaluator, member(path, key)) for key, item in value.items()}
        case Sequence() if not isinstance(value, (bytes, bytearray)):
            return [_render(item, scope, evaluator, f"{path}[{n}]") for n, item in enumerate(value)]
    return value


def _render_text(text: str, scope: Mapping[str, JSON], evaluator: Evaluator, path: str) -> JSON:
    if "${" not in text:
        return text
    template = _parse_at(text, path)
    if template.whole:
        return _evaluate_at(template.whole.source, scope, evaluator, path)
    return "".join(
        part if isinstance(part, str) else _as_text(part, _evaluate_at(part.source, scope, evaluator, path), path)
        for part in template.parts
    )


def _as_text(expression: Expression, value: JSON, path: str) -> str:
    match value:
        case str():
            return value
        case bool() | int() | float():
            return json.dumps(value)
    advice = "let the field be this one ${…} alone, or make it a string in the expression"
    raise ExpressionError(expression.source, f"{kind_of(value)} cannot stand inside text; {advice}", path)


def _copy(expression: str, value: JSON) -> JSON:
    try:
        return copy(value)
    except ValueError as error:
        raise ExpressionError(expression, str(error)) from None
