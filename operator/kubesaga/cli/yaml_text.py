# SPDX-License-Identifier: Apache-2.0
"""YAML text to JSON values, each with the line it stands in. Read as `kubectl apply` reads it (sigs.k8s.io/yaml).

Made from the parser's events and not by a loader, because a loader keeps the last of two equal keys, forgets the lines,
and follows aliases and nesting until memory or stack is used up. What words mean is kubectl's reading: `on`, `yes` and
`y` are booleans, 010 is eight, 12:30 and 2026-01-31 are strings.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from kubesaga.api.parsing import field_path
from kubesaga.errors import KubesagaError, Problem

MAX_BYTES: Final = 1024 * 1024
"""Largest text, and largest document once its aliases are written out. etcd takes objects of about 1.5 MiB."""
MAX_DEPTH: Final = 100

Path = tuple[str | int, ...]
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WORDS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"), False),
}
_INTEGER: Final = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|([1-9][0-9]*|0))")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER: Final = re.compile(r"\.(?:nan|NaN|NAN)|[-+]?\.(?:inf|Inf|INF)")
_STEP: Final = re.compile(r'\.?([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]+)\]|\[("(?:[^"\\]|\\.)*")\]')
_STANDARD: Final = "tag:yaml.org,2002:"


class Unreadable(KubesagaError):
    """A text that is no YAML, or none that could be a Kubernetes object. `line` counts from 1; 0: no line in particular."""

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a YAML text."""

    value: Any
    """A JSON value."""
    lines: Mapping[Path, int]
    """Where each part of it stands."""
    problems: tuple[Problem, ...] = ()
    """Keys that are there twice."""
    odd: Mapping[Path, str] = field(default_factory=dict)
    """Words that mean a boolean and do not look like one, such as `n`."""

    def reading(self, path: str) -> str:
        """Return how YAML reads the word at a path where that may surprise, "" elsewhere."""
        word = self.odd.get(_steps(path))
        return f"YAML reads {word} as {json.dumps(_WORDS[word])}" if word else ""

    def line(self, path: str) -> int:
        """Return the line of a field, in the spelling of `field_path`, or of the innermost part around it that is there."""
        steps = _steps(path)
        while steps and steps not in self.lines:
            steps = steps[:-1]
        return self.lines.get(steps, 1)


def read_yaml(text: str) -> list[Document]:
    """Return the documents of a text, without those that hold nothing. Raises Unreadable."""
    if len(text) > MAX_BYTES:
        raise Unreadable(0, f"is longer than {MAX_BYTES:,} characters; no Kubernetes object is that large")
    try:
        return [
            document
            for document in _Composer(yaml.parse(text, Loader=_Loader)).documents()
            if document.value is not None
        ]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        told = " ".join(part for part in (error.context, error.problem) if part)
        last = text.count("\n") + 1  # where the text is cut off, the parser looks a line further
        raise Unreadable(min(mark.line + 1, last) if mark else 0, f"is not YAML: {told}") from None
    except yaml.YAMLError as error:
        raise Unreadable(0, f"is not YAML: {' '.join(str(error).split())}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """A value that was read, and what repeating it by an alias would cost."""

    value: Any
    depth: int
    size: int


@dataclass(slots=True)
class _Composer:
    """Puts events together to documents."""

    events: Iterator[Any]
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    odd: dict[Path, str] = field(default_factory=dict)
    anchors: dict[str, _Node] = field(default_factory=dict)
    size: int = 0

    def documents(self) -> Iterator[Document]:
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.lines, self.problems, self.odd, self.anchors, self.size = {}, [], {}, {}, 0
                value = self._node(next(self.events), ()).value
                yield Document(value=value, lines=self.lines, problems=tuple(self.problems), odd=self.odd)

    def _node(self, event: Any, path: Path) -> _Node:
        line = _line(event)
        self.lines.setdefault(path, line)
        if len(path) > MAX_DEPTH:
            raise Unreadable(line, f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._repeated(event, path)
        before = self.size
        self.size += 2 if isinstance(event, yaml.CollectionStartEvent) else len(event.value) + 1
        if isinstance(event, yaml.ScalarEvent):
            value, depth = _scalar(event), 0
            if isinstance(value, bool) and event.value.lower() not in ("true", "false"):
                self.odd[path] = event.value
        elif isinstance(event, yaml.SequenceStartEvent):
            _refuse_tag(event, "seq")
            value, depth = self._sequence(path)
        else:
            _refuse_tag(event, "map")
            value, depth = self._mapping(path)
        node = _Node(value=value, depth=depth, size=self.size - before)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _repeated(self, event: Any, path: Path) -> _Node:
        node = self.anchors.get(event.anchor)
        if node is None:
            raise Unreadable(_line(event), f"the alias *{event.anchor} names nothing that stands before it")
        self.size += node.size
        if self.size > MAX_BYTES:
            raise Unreadable(_line(event), f"the aliases make it larger than {MAX_BYTES:,} characters")
        if len(path) + node.depth > MAX_DEPTH:
            raise Unreadable(_line(event), f"the aliases make it nested deeper than {MAX_DEPTH} levels")
        return node

    def _sequence(self, path: Path) -> tuple[list[Any], int]:
        items: list[Any] = []
        deepest = 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            node = self._node(event, (*path, len(items)))
            items.append(node.value)
            deepest = max(deepest, node.depth)
        return items, deepest + 1

    def _mapping(self, path: Path) -> tuple[dict[str, Any], int]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        deepest = 0
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise Unreadable(_line(event), "a key must be a string")
            self.size += len(event.value) + 1
            if event.value == "<<" and event.implicit[0]:
                node = self._node(next(self.events), (*path, "<<"))
                merged = _merged(node.value, _line(event)) | merged
            else:
                key = _key(event)
                where = (*path, key)
                if key in own:
                    told = f"the key {key} stands here twice, first in line {self.lines[where]}; remove one of them"
                    self.problems.append(Problem(field_path("", *where), told))
                self.lines[where] = _line(event)
                node = self._node(next(self.events), where)
                own[key] = node.value
            deepest = max(deepest, node.depth)
        return merged | own, deepest + 1


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _key(event: Any) -> str:
    value = _scalar(event)
    if value is None or isinstance(value, bool):
        raise Unreadable(
            _line(event), f"the key {event.value or '(nothing)'} is {json.dumps(value)} in YAML; put it in quotes"
        )
    return value if isinstance(value, str) else str(event.value)


def _merged(value: Any, line: int) -> dict[str, Any]:
    parts = value if isinstance(value, list) else [value]
    merged: dict[str, Any] = {}
    for part in parts:
        if not isinstance(part, dict):
            raise Unreadable(line, "what is merged by << must be an object, or a list of objects")
        merged = part | merged
    return merged


def _scalar(event: Any) -> Any:
    if event.tag in (None, "!", _STANDARD + "str"):
        return _plain(event.value, _line(event)) if event.implicit[0] else event.value
    if event.tag not in {_STANDARD + word for word in ("null", "bool", "int", "float")}:
        _refuse_tag(event, "")
    return _plain(event.value, _line(event))


def _refuse_tag(event: Any, usual: str) -> None:
    if event.tag not in (None, "!", _STANDARD + usual):
        tag = event.tag.replace(_STANDARD, "!!")
        raise Unreadable(_line(event), f"the tag {tag} means nothing in a Kubernetes object; remove it")


def _plain(text: str, line: int) -> Any:
    """Return what a word without quotes means."""
    if text in _WORDS:
        return _WORDS[text]
    if not (text[0].isdigit() or text[0] in "+-."):
        return text
    digits = text.replace("_", "") if text[0] != "." else text
    if match := _INTEGER.fullmatch(digits):
        sign, *bases = match.groups()
        number = next(int(part, base) for part, base in zip(bases, (16, 2, 8, 10), strict=True) if part is not None)
        return -number if sign == "-" else number
    if _NO_NUMBER.fullmatch(text):
        raise Unreadable(line, f"{text} is a number that JSON does not have; put it in quotes")
    if _FLOAT.fullmatch(digits):
        fraction = float(digits)
        if not math.isfinite(fraction):
            raise Unreadable(line, f"the number {text} is too large")
        return fraction
    return text


def _steps(path: str) -> Path:
    """Return the steps of a path such as `spec.activities[2].set["a-b"]`, as far as it is one."""
    steps: list[str | int] = []
    at = 0
    while match := _STEP.match(path, at):
        name, index, quoted = match.groups()
        steps.append(name if name is not None else int(index) if index is not None else json.loads(quoted))
        at = match.end()
    return tuple(steps)
