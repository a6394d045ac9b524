# SPDX-License-Identifier: Apache-2.0
"""One text for one value: the JSON that the API server itself would write.

The API server compares the data of a ControllerRevision byte by byte and refuses every later change of the object if
they differ, changes by others included (a label, a finalizer, the garbage collector). And it decodes and encodes that
data again with Go's encoding/json: keys sorted, `<`, `>`, `&`, U+2028 and U+2029 escaped, numbers as int64 where they
fit and else as the shortest float64. Only a text that all this leaves as it is stays changeable for ever.

(One difference is left: backspace and form feed, for which Go has written `\\b` and `\\f` only since 1.22, that is in the
API servers since Kubernetes 1.30. Here the newer form is written.)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

_ESCAPED: Final = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_INT64: Final = range(-(2**63), 2**63)
_NAME_LIMIT: Final = 63
_HASH_LENGTH: Final = 10


def canonical_json(value: Any) -> str:
    """Return the canonical JSON of a JSON value (None, bool, numbers, str, sequences and mappings with str keys).

    Two values that JSON cannot tell apart have the same text: 1 and 1.0, a tuple and a list, any order of keys.
    Raises ValueError for NaN and infinity, TypeError for what JSON does not have.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case int():
            return str(int(value)) if int(value) in _INT64 else _number(float(value))
        case float():
            return _number(value)
        case Mapping():
            return _object(value)
        case Sequence() if not isinstance(value, (bytes, bytearray)):
            return "[" + ",".join(map(canonical_json, value)) + "]"
        case _:
            raise TypeError(f"{type(value).__name__} is not a JSON value")


def revision_name(owner_name: str, spec: Mapping[str, Any]) -> str:
    """Return the name of the one revision that holds `spec`: the owner's name, cut to fit, and a hash of the spec.

    At most 63 characters; a name for a ControllerRevision if the owner's is one.
    """
    return f"{_shown(owner_name)}-{content_hash(spec)}"


def may_be_revision_of(revision: str, owner_name: str) -> bool:
    """Tell whether a revision's name is one of an owner's, or of another one's whose long name begins alike."""
    return revision[: -_HASH_LENGTH - 1] == _shown(owner_name)


def _shown(owner_name: str) -> str:
    return owner_name[: _NAME_LIMIT - _HASH_LENGTH - 1].rstrip("-.")


def content_hash(value: Any) -> str:
    """Return ten hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:_HASH_LENGTH]


def _object(mapping: Mapping[str, Any]) -> str:
    if not all(isinstance(key, str) for key in mapping):
        raise TypeError("the keys of a JSON object are strings")
    members = {_sound(key): value for key, value in mapping.items()}
    # Go sorts by UTF-8 bytes, which is the order of code points, which is Python's order of str.
    return "{" + ",".join(f"{_text(key)}:{canonical_json(members[key])}" for key in sorted(members)) + "}"


def _text(value: str) -> str:
    return json.dumps(_sound(value), ensure_ascii=False).translate(_ESCAPED)


def _sound(text: str) -> str:
    """Replace what has no UTF-8, halves of surrogate pairs, as Go does."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _number(value: float) -> str:
    """Write a float64 as Go's encoder does: plain digits for 1e-6 <= |value| < 1e21, else in scientific form."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a JSON number")
    if value.is_integer() and int(value) in _INT64:
        return str(int(value))
    sign, digits, exponent = _shortest(value)
    if -6 <= exponent - 1 < 21:
        return sign + _plain(digits, exponent)
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{exponent - 1:+d}"


def _plain(digits: str, point: int) -> str:
    if point <= 0:
        return "0." + "0" * -point + digits
    if point >= len(digits):
        return digits + "0" * (point - len(digits))
    return f"{digits[:point]}.{digits[point:]}"


def _shortest(value: float) -> tuple[str, str, int]:
    """Split a float into its sign, its shortest digits, and the power of ten that 0.DIGITS is multiplied with."""
    text = repr(abs(value))
    mantissa, _, power = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(power or 0) - (len(whole + fraction) - len(digits))
    return "-" if value < 0 else "", digits.rstrip("0"), point
