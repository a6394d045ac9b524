# SPDX-License-Identifier: Apache-2.0
"""What a CEL expression reads, found by looking at its words: no evaluation, no grammar beyond what that needs.

The lexical rules and the macros are those of the CEL language definition (github.com/cel-expr/cel-spec,
doc/langdef.md) and of cel-cpp's extensions. An expression that does not compile is read as far as it makes sense;
whether it compiles is the evaluator's to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

MAX_EXPRESSION: Final = 4096
"""Longest expression, in characters. What is longer is not looked into: only in short texts are words cheap to find."""

_TOKEN: Final = re.compile(
    r"""
      (?P<skip>    \s+ | //[^\n]* )
    | (?P<string>  [bB]?[rR]  (?: \"{3}.*?\"{3} | '{3}.*?'{3} | (?!\"{3}|'{3}) (?: "[^"\r\n]*" | '[^'\r\n]*' ) )
                 | [bB]?      (?: \"{3}(?:[^\\]|\\.)*?\"{3} | '{3}(?:[^\\]|\\.)*?'{3}
                                | (?!\"{3}|'{3}) (?: "(?:[^"\\\r\n]|\\.)*" | '(?:[^'\\\r\n]|\\.)*' ) ) )
    | (?P<name>    [A-Za-z_][A-Za-z0-9_]* )
    | (?P<quoted>  `[^`\r\n]*` )
    | (?P<number>  0[xX][0-9a-fA-F]+[uU]? | (?: \d+\.\d+ | \.\d+ | \d+ ) (?: [eE][+-]?\d+ )? [uU]? )
    | (?P<sign>    . )
    """,
    re.VERBOSE | re.DOTALL,
)
_NOT_VARIABLES: Final = frozenset((
    "true", "false", "null", "in",
    "int", "uint", "double", "bool", "string", "bytes", "list", "map", "type", "null_type", "dyn",
))  # fmt: skip
_NAMESPACES: Final = frozenset(("base64", "cel", "lists", "math", "optional", "proto", "regex", "sets", "strings"))
"""`math.greatest(…)` is a function of its own, `inputs.contains(…)` a question to `inputs`."""

_ONE_VARIABLE: Final = frozenset(("all", "exists", "exists_one", "map", "filter", "optMap", "optFlatMap", "sortBy"))
_TWO_VARIABLES: Final = frozenset(("all", "exists", "existsOne", "transformList", "transformMap", "transformMapEntry"))
_CLOSERS: Final = {")": "(", "]": "[", "}": "{"}
_OPENERS: Final = frozenset(_CLOSERS.values())


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Reference:
    """One thing that an expression reads: `activities.a` or `activities["a"]` is root `activities`, name `a`.

    `name` is None where the root is used whole (`size(inputs)`) or its member is computed (`inputs[event.key]`).
    """

    root: str
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One appearance of a variable with the members that follow it literally, e.g. `inputs.list[0].id`."""

    root: str
    members: tuple[str | int, ...]
    required: int
    """How many of the members stand before the first optional one (`.?`, `[?…]`)."""
    tested: bool
    """It stands in `has(…)`: the last member need not exist."""
    start: int
    """Offset of the root in the expression."""
    bound: bool
    """The name is a macro's own variable here (`x` in `list.all(x, x > 0)`), not a root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """All that is known of an expression from its words."""

    reads: tuple[Read, ...]
    path: tuple[str, ...] | None
    """Root and members, if the expression is nothing but a path of literal names (`inputs.a["b-c"].d`)."""


def references(expression: str) -> frozenset[Reference]:
    """Return what `expression` reads: each root with the first member's name. Macro variables are not roots."""
    return frozenset(_reference(read) for read in scan(expression).reads if not read.bound)


def relevant(expression: str, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of `scope` that `expression` can possibly look at; the rest makes no difference to its value.

    Sending less is what keeps a small expression cheap in a run with large outputs. In doubt the whole value is kept: a
    macro variable named like a root counts as the root.
    """
    wanted: _Tree = {}
    for read in scan(expression).reads:
        if read.root in scope:
            _want(wanted, (read.root, *_names(read.members)))
    return {root: _pick(scope[root], members) for root, members in wanted.items()}


def scan(expression: str) -> Scan:
    """Return the variables that `expression` reads, in order of appearance.

    Nothing is read of an expression that is too long or too deeply nested to compile.
    """
    if len(expression) <= _SHORT:
        return _scan_short(expression)
    return _scan(expression) if len(expression) <= MAX_EXPRESSION else _NOTHING


def closing_brace(text: str, start: int) -> int:
    """Return the offset of the `}` that ends the expression which begins at `start`, just behind `${`.

    Braces of maps and whatever stands in strings and comments do not count. Raises ValueError with a sentence if there
    is none.
    """
    depth = 0
    for match in _TOKEN.finditer(text, start, start + MAX_EXPRESSION + 1):
        if match.lastgroup != "sign":
            continue
        if (sign := match.group()) in "\"'":
            raise ValueError(f"the quote at character {match.start() + 1} is never closed")
        if sign == "}" and depth == 0:
            return match.start()
        depth += {"{": 1, "}": -1}.get(sign, 0)
    within = f"within {MAX_EXPRESSION:,} characters" if len(text) > start + MAX_EXPRESSION else "by a }"
    advice = "write $${ for the two characters themselves"
    raise ValueError(f"the ${{ at character {start - 1} is not closed {within}; {advice}")


# --------------------------------------------------------------------------------------------------------------------


_SHORT: Final = 256
"""Longest expression of which the scan is kept in memory, in characters."""

_DEEPEST: Final = 64
"""Brackets open at once; the CEL library's parser gives up before."""

_NOTHING: Final = Scan(reads=(), path=None)


def _scan(expression: str) -> Scan:
    return _Reader(_tokens(expression)).scan()


_scan_short = lru_cache(maxsize=4096)(_scan)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    word: str
    """The text of a sign or name; "" for a string, which may look like one."""


_END: Final = _Token("end", "", -1, "")


def _tokens(expression: str) -> list[_Token]:
    tokens = []
    for match in _TOKEN.finditer(expression):
        kind, text = match.lastgroup or "", match.group()
        if kind == "sign" and text in "\"'":
            break  # a string that never ends: nothing behind it means anything
        if kind != "skip":
            tokens.append(_Token(kind, text, match.start(), text if kind in ("sign", "name") else ""))
    return tokens


@dataclass(slots=True)
class _Bracket:
    """An open bracket; the variables of a macro are bound behind its `bound_after`th comma."""

    opener: str
    message: bool = False
    """The braces of a message literal (`Type{field: value}`)."""
    variables: frozenset[str] = frozenset()
    bound_after: int = 0
    commas: int = 0

    def binds(self, name: str) -> bool:
        return name in self.variables and self.commas >= self.bound_after


class _Reader:
    """Goes through the tokens once, with what is open and what is bound at each of them."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._count = len(tokens)
        # A look a few tokens back from the first (a negative index), or on from the last, comes upon the end.
        self._tokens = [*tokens, *[_END] * 8]
        self._open: list[_Bracket] = []
        self._declarations: set[int] = set()
        """Positions of the tokens that name a macro's variable."""
        self._arguments = _arguments(tokens)

    def scan(self) -> Scan:
        reads: list[Read] = []
        path = None
        for at in range(self._count):
            token = self._tokens[at]
            if token.kind == "sign":
                self._follow_brackets(at)
                if len(self._open) > _DEEPEST:
                    return _NOTHING
            elif token.kind == "name" and self._is_variable(at):
                read, end = self._read(at)
                reads.append(read)
                path = _path(read) if at == 0 and end == self._count else None
        return Scan(reads=tuple(reads), path=path)

    def _is(self, at: int, *words: str) -> bool:
        """Tell whether these signs and names stand at `at` and behind."""
        return all(self._tokens[at + n].word == word for n, word in enumerate(words))

    def _follow_brackets(self, at: int) -> None:
        sign = self._tokens[at].text
        if sign in _OPENERS:
            self._open.append(self._bracket(at))
        elif sign in _CLOSERS:
            if self._open and self._open[-1].opener == _CLOSERS[sign]:
                self._open.pop()
        elif sign == "," and self._open:
            self._open[-1].commas += 1

    def _bracket(self, at: int) -> _Bracket:
        if self._tokens[at].word == "{":
            before = self._tokens[at - 1]
            return _Bracket("{", message=before.kind == "name" and before.text not in _NOT_VARIABLES)
        count = self._variables_of_macro(at) if self._tokens[at].word == "(" else 0
        declared = [at + 1, at + 3][:count]
        if count == 0 or not all(self._tokens[n].kind == "name" and self._tokens[n + 1].word == "," for n in declared):
            return _Bracket(self._tokens[at].text)
        self._declarations.update(declared)
        bound_after = 2 if self._is(at - 3, "cel", ".", "bind") else count
        return _Bracket("(", variables=frozenset(self._tokens[n].text for n in declared), bound_after=bound_after)

    def _variables_of_macro(self, at: int) -> int:
        """Return how many variables the call whose `(` stands at `at` declares: 0 for what is not a macro."""
        name = self._tokens[at - 1].text
        if not self._is_selector(at - 2):
            return 0
        if name == "bind":
            return 1 if self._tokens[at - 3].word == "cel" else 0
        if name in _TWO_VARIABLES and (name not in _ONE_VARIABLE or self._arguments.get(at, 0) > 2):
            return 2
        return 1 if name in _ONE_VARIABLE else 0

    def _is_selector(self, at: int) -> bool:
        """Tell whether at `at` is the dot of a selection (`a.b`), not one that begins an absolute name (`.b`)."""
        before = self._tokens[at - 1]
        operand = before.kind in ("string", "number", "quoted") or (before.kind == "name" and before.text != "in")
        return self._tokens[at].word == "." and (operand or (before.kind == "sign" and before.text in _CLOSERS))

    def _is_variable(self, at: int) -> bool:
        name = self._tokens[at].text
        return not (
            name in _NOT_VARIABLES
            or at in self._declarations
            or self._is_selector(at - 1)
            or (self._tokens[at - 1].word == "?" and self._is_selector(at - 2))
            or self._tokens[at + 1].word == "("
            or (name in _NAMESPACES and self._tokens[at + 1].word == "." and self._tokens[at + 3].word == "(")
            or self._names_a_message(at)
            or self._is_field_of_message(at)
        )

    def _names_a_message(self, at: int) -> bool:
        while self._tokens[at].kind == "name" and self._tokens[at + 1].word == ".":
            at += 2
        return self._tokens[at].kind == "name" and self._tokens[at + 1].word == "{"

    def _is_field_of_message(self, at: int) -> bool:
        inside = bool(self._open) and self._open[-1].message
        return inside and self._tokens[at + 1].word == ":" and self._tokens[at - 1].word in ("{", ",")

    def _read(self, at: int) -> tuple[Read, int]:
        name, start = self._tokens[at].text, self._tokens[at].start
        absolute = self._tokens[at - 1].word == "."
        members, optional, end = self._members(at + 1)
        return Read(
            root=name,
            members=members,
            required=len(members) if optional is None else optional,
            tested=self._is(at - 2, "has", "(") and self._tokens[end].word == ")",
            start=start,
            bound=not absolute and any(bracket.binds(name) for bracket in self._open),
        ), end

    def _members(self, at: int) -> tuple[tuple[str | int, ...], int | None, int]:
        """Return the literal members from `at` on, how many stand before the first optional one, and where they end."""
        members: list[str | int] = []
        optional: int | None = None
        while (opener := self._tokens[at].word) in (".", "["):
            asks = self._tokens[at + 1].word == "?"
            inner = at + 2 if asks else at + 1
            member = self._literal(inner) if opener == "[" else self._field(inner)
            if member is None:
                break
            if asks and optional is None:
                optional = len(members)
            members.append(member)
            at = inner + (2 if opener == "[" else 1)
        return tuple(members), optional, at

    def _field(self, at: int) -> str | None:
        token = self._tokens[at]
        if token.kind == "quoted":
            return token.text[1:-1]
        return token.text if token.kind == "name" and self._tokens[at + 1].word != "(" else None

    def _literal(self, at: int) -> str | int | None:
        """Return the literal key in `[…]`; one with escapes or a prefix counts as computed."""
        token = self._tokens[at]
        if self._tokens[at + 1].word != "]":
            return None
        if token.kind == "number" and token.text.isdecimal():
            return int(token.text)
        if token.kind != "string" or token.text[0] not in "\"'" or "\\" in token.text:
            return None
        quotes = 3 if token.text[:3] == token.text[0] * 3 else 1
        return token.text[quotes:-quotes]


def _arguments(tokens: list[_Token]) -> dict[int, int]:
    """Return how many arguments each call has, by the position of its `(`; items in other brackets are counted too."""
    counts: dict[int, int] = {}
    open_at: list[int] = []
    for at, token in enumerate(tokens):
        if token.word in _OPENERS:
            open_at.append(at)
            counts[at] = 1
        elif token.word in _CLOSERS and open_at:
            open_at.pop()
        elif token.word == "," and open_at:
            counts[open_at[-1]] += 1
    return counts


def _reference(read: Read) -> Reference:
    first = read.members[0] if read.members else None
    return Reference(root=read.root, name=first if isinstance(first, str) else None)


def _path(read: Read) -> tuple[str, ...] | None:
    names = _names(read.members)
    whole = len(names) == read.required == len(read.members) and not read.tested
    return (read.root, *names) if whole else None


def _names(members: tuple[str | int, ...]) -> tuple[str, ...]:
    """Return the members up to the first list index."""
    names: list[str] = []
    for member in members:
        if not isinstance(member, str):
            break
        names.append(member)
    return tuple(names)


_Tree: TypeAlias = "dict[str, _Tree | None]"
"""Wanted members by name; None: everything below."""


def _want(tree: _Tree, path: tuple[str, ...]) -> None:
    *parents, last = path
    for name in parents:
        below = tree.setdefault(name, {})
        if below is None:
            return
        tree = below
    tree[last] = None


def _pick(value: Any, members: _Tree | None) -> Any:
    if members is None:
        return value
    if isinstance(value, Mapping):
        return {name: _pick(value[name], below) for name, below in members.items() if name in value}
    return _EMPTY.get(type(value), value)


_EMPTY: Final = {str: "", list: [], tuple: (), float: 0.0}
"""Of what should have members and cannot have any, only the kind matters to the error."""
