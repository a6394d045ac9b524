# SPDX-License-Identifier: Apache-2.0
"""The conditions of a trigger: a tree made once of what the author wrote, and then asked of the data of many events.

    {priority: high}                              equality by path; keys beside each other must all hold (S79)
    {priority: {in: [high, urgent]}}              operators; several on one path must all hold
    {ticket.tags[0]: vip, 'labels["a.b"]': x}     paths: names and list indices; a name with dots or the like in ["…"]
    {or: [{…}, {…}], not: {…}}                    `and` and `or` take lists, `not` one object; all three can be nested

What is written wrong is refused when it is written (`compile_conditions`). Asking never fails: `holds` and `explain` have
an answer for whatever JSON arrives.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from kubesaga.api.parsing import field_path, shown
from kubesaga.engine.language.condition_operators import IS_NULL, OPERATORS, WORDS, Operator, fault_of_truth
from kubesaga.engine.language.values import JSON, kind_of
from kubesaga.errors import InvalidSpec, Problem

MAX_TESTS: Final = 200
"""Most questions in the conditions of one trigger."""
MAX_DEPTH: Final = 16
"""How deep and, or and not may stand in each other."""
LOGIC: Final = ("and", "or", "not")

_STEP: Final = re.compile(r'\.?([^.\[\]"\\\s]+)|\[([0-9]{1,9})\]|\[("(?:[^"\\]|\\.)*")\]')


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether something holds and why, in a sentence, with the parts that it comes from."""

    holds: bool
    sentence: str
    parts: tuple[Explanation, ...] = ()


@dataclass(frozen=True, slots=True)
class Test:
    """One question to one value."""

    __test__ = False  # it is no test of pytest's

    path: str
    steps: tuple[str | int, ...]
    operator: Operator | None
    """None: `isnull`."""
    wanted: JSON

    def holds(self, data: JSON) -> bool:
        """Tell whether it holds for an event's data."""
        value = value_at(self.steps, data)
        if self.operator is None:
            return (value is None) is self.wanted
        return self.operator.holds(value, self.wanted)

    def explain(self, data: JSON) -> Explanation:
        """The same with the reason."""
        return Explanation(self.holds(data), self._sentence(value_at(self.steps, data)))

    def _sentence(self, value: JSON) -> str:
        if value is None:
            return f"{self.path} is not there, or null"
        operator = self.operator
        if operator is None:
            return f"{self.path} is there: it is {shown(value)}"
        answer = operator.ask(value, self.wanted)
        if answer is None:
            return f"{self.path} is {shown(value)}, and {operator.word} asks for {operator.asks_for(self.wanted)}"
        if operator.word == "isempty":
            return f"{self.path} is {'not ' if len(value) else ''}empty"
        phrase = f"{self.path} {operator.yes if answer else operator.no} {shown(self.wanted)}"
        return phrase if answer and operator.word in ("eq", "neq") else f"{phrase}: it is {shown(value)}"


@dataclass(frozen=True, slots=True)
class AllOf:
    """Everything must hold."""

    parts: tuple[Node, ...]

    def holds(self, data: JSON) -> bool:
        """Tell whether all parts hold."""
        return all(part.holds(data) for part in self.parts)

    def explain(self, data: JSON) -> Explanation:
        """The same with the reasons."""
        parts = tuple(part.explain(data) for part in self.parts)
        if not parts:
            return Explanation(True, "there are no conditions")
        if len(parts) == 1:
            return parts[0]
        good = all(part.holds for part in parts)
        return Explanation(good, "all of these hold" if good else "not all of these hold", parts)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One must hold."""

    parts: tuple[Node, ...]

    def holds(self, data: JSON) -> bool:
        """Tell whether a part holds."""
        return any(part.holds(data) for part in self.parts)

    def explain(self, data: JSON) -> Explanation:
        """The same with the reasons."""
        parts = tuple(part.explain(data) for part in self.parts)
        good = any(part.holds for part in parts)
        return Explanation(good, "one of these holds" if good else "none of these holds", parts)


@dataclass(frozen=True, slots=True)
class Not:
    """It must not hold."""

    part: Node

    def holds(self, data: JSON) -> bool:
        """Tell whether the part does not hold."""
        return not self.part.holds(data)

    def explain(self, data: JSON) -> Explanation:
        """The same with the reason."""
        part = self.part.explain(data)
        told = "this holds and must not" if part.holds else "this does not hold, as it should be"
        return Explanation(not part.holds, told, (part,))


Node: TypeAlias = Test | AllOf | AnyOf | Not


def compile_conditions(document: Mapping[str, Any] | None, path: str = "conditions") -> Node:
    """Return the conditions ready to be asked. Raises InvalidSpec with all that is wrong with them."""
    reader = _Reader()
    node = reader.object(document or {}, path, 0)
    if reader.problems:
        raise InvalidSpec(reader.problems)
    if reader.tests > MAX_TESTS:
        raise InvalidSpec([Problem(path, f"asks {reader.tests} questions; at most {MAX_TESTS} are allowed")])
    return node


def steps_of(path: str) -> tuple[str | int, ...]:
    """Return the steps of a path. Raises ValueError with a sentence."""
    steps: list[str | int] = []
    at = 0
    while match := _STEP.match(path, at):
        name, index, quoted = match.groups()
        if name is not None and (at == 0) is (path[at] == "."):
            break
        try:
            steps.append(name if name is not None else int(index) if index else str(json.loads(quoted)))
        except ValueError:
            break
        at = match.end()
    if at != len(path) or not steps:
        raise ValueError(
            'is not a path; write names with dots between them, list indices as [0], any other name as ["a.b"]'
        )
    return tuple(steps)


def value_at(steps: Sequence[str | int], data: JSON) -> JSON:
    """Return the value at a path; None: it is not there, or null. A name of digits also finds an item of a list."""
    value = data
    for step in steps:
        if isinstance(value, Mapping):
            value = value.get(str(step)) if isinstance(step, str) else None
        elif isinstance(value, list | tuple):
            index = step if isinstance(step, int) else int(step) if _is_index(step) else -1
            value = value[index] if 0 <= index < len(value) else None
        else:
            return None
    return value


def _is_index(step: str) -> bool:
    return step.isascii() and step.isdecimal() and len(step) < 10


class _Reader:
    """Makes the tree, and takes note of all that is wrong on the way."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.tests = 0

    def object(self, document: Mapping[str, Any], path: str, depth: int) -> AllOf:
        """Return what an object asks for."""
        if depth > MAX_DEPTH:
            self.problems.append(Problem(path, f"is nested too deeply; {MAX_DEPTH} levels are allowed"))
            return AllOf(())
        parts: list[Node] = []
        for key, value in document.items():
            here = field_path(path, key)
            parts += self._logic(key, value, here, depth) if key in LOGIC else self._field(key, value, here)
        return AllOf(tuple(parts))

    def _logic(self, word: str, value: Any, path: str, depth: int) -> Iterator[Node]:
        if word == "not":
            yield Not(self._nested(value, path, depth))
            return
        if not isinstance(value, list) or not value:
            told = "is an empty list" if value == [] else f"is {kind_of(value)}"
            self.problems.append(Problem(path, f"must be a list of conditions, but {told}"))
            return
        parts = tuple(self._nested(part, field_path(path, number), depth) for number, part in enumerate(value))
        yield AllOf(parts) if word == "and" else AnyOf(parts)

    def _nested(self, value: Any, path: str, depth: int) -> Node:
        if isinstance(value, Mapping) and value:
            return self.object(value, path, depth + 1)
        told = "is empty" if value == {} else f"is {kind_of(value)}"
        self.problems.append(Problem(path, f"must be an object with conditions, but {told}"))
        return AllOf(())

    def _field(self, key: str, value: Any, path: str) -> Iterator[Node]:
        try:
            steps = steps_of(key)
        except ValueError as error:
            self.problems.append(Problem(path, str(error)))
            return
        if isinstance(value, Mapping):
            asked = list(value.items())
            if not asked:
                self.problems.append(Problem(path, "is empty; write a value, or operators such as {in: […]}"))
        else:
            asked = [("eq", value)]
        for word, wanted in asked:
            here = field_path(path, word) if isinstance(value, Mapping) else path
            if fault := self._fault(key, word, wanted):
                self.problems.append(Problem(here, fault))
            else:
                self.tests += 1
                yield Test(key, steps, OPERATORS.get(word), wanted)

    def _fault(self, key: str, word: str, wanted: Any) -> str | None:
        if word == IS_NULL:
            return fault_of_truth(wanted)
        if word in OPERATORS:
            return OPERATORS[word].fault(wanted)
        bare = word.removeprefix("~")
        near = [bare] if bare in (*WORDS, *LOGIC) else difflib.get_close_matches(bare, WORDS, n=1, cutoff=0.6)
        if bare in LOGIC:
            return f"stands under {key}; and, or and not take whole conditions and stand beside the paths"
        if near:
            return f"there is no such operator; did you mean {near[0]}?"
        told = f"there is no such operator (there are {', '.join(WORDS)})"
        return f"{told}; for a field below {key} write {key}.{word}, for a whole object {{eq: {{…}}}}"
