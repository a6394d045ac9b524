# SPDX-License-Identifier: Apache-2.0
"""What `uses` comes to: which deed names which Activity, who may use it, and how a revision keeps what was found.

An id is looked for in the namespace of whoever names it, then in the operator's catalogue: among the names of its
Activities, where `:` stands for `.`, then among their aliases.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kubesaga.api.activity import ActivityTypeSpec
from kubesaga.api.failure import Fallback
from kubesaga.api.parsing import parse_activity_spec
from kubesaga.api.work import INLINE, Work
from kubesaga.api.workflow import Activity
from kubesaga.engine.language.nearest import nearest
from kubesaga.errors import Problem

_KEPT: Final = "usedActivities"
"""The field of a revision that holds the Activities; no field of a Workflow's spec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """An Activity that can be used."""

    namespace: str
    name: str
    spec: ActivityTypeSpec
    document: Mapping[str, Any]
    """The spec on the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An Activity as it was found, whether or not it is valid."""

    namespace: str
    name: str
    document: Mapping[str, Any]
    spec: ActivityTypeSpec | None = None
    """None: it cannot be read."""
    problems: tuple[Problem, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """Its name and its aliases, also of one that is not valid."""
        aliases = self.document.get("aliases")
        return (self.name, *(alias for alias in aliases if isinstance(alias, str))) if isinstance(aliases, list) else (self.name,)  # fmt: skip

    @property
    def shown(self) -> str:
        """It in a sentence."""
        return f"the Activity {self.namespace}/{self.name}" if self.namespace else f"the Activity {self.name}"


Key = tuple[str, str]
"""Where an Activity was looked for, and under which id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """The Activities that a Workflow of `namespace` uses, and those that these use."""

    namespace: str = ""
    found: Mapping[Key, Used] = field(default_factory=dict)

    def of(self, work: Work, namespace: str | None = None) -> Used | None:
        """Return the Activity that a deed uses; `namespace` is where it is written down, if not in the Workflow."""
        named = named_by(work)
        return self.found.get((self.namespace if namespace is None else namespace, named[0])) if named else None


NOTHING: Final = Uses()


def named_by(work: Work) -> tuple[str, str] | None:
    """Return the id of the Activity that a deed uses, and the field that says so; None: it says itself what is done."""
    if work.uses is not None:
        return work.uses, "uses"
    if isinstance(work, Fallback):
        return (work.activity, "activity") if work.activity is not None and not work.skips else None
    if isinstance(work, Activity) and work.wait is None and all(getattr(work, name) is None for name in INLINE):
        return work.name, "name"
    return None


def works_in(spec: ActivityTypeSpec) -> Iterator[tuple[str, Work]]:
    """Yield the deeds that are written down in an Activity beside what it does, each with its path in the spec."""
    if spec.compensation is not None:
        yield "compensation", spec.compensation
    if spec.bulkhead is not None and spec.bulkhead.fallback is not None:
        yield "bulkhead.fallback", spec.bulkhead.fallback


class Catalogue:
    """The Activities that are there, by id."""

    def __init__(self, known: Iterable[Known] = (), *, shared: str = "", complete: bool = True) -> None:
        """`shared` is the operator's catalogue namespace, if any; not `complete`: there may be others elsewhere."""
        self._shared = shared
        self._names: dict[Key, Known] = {}
        self._aliases: dict[Key, list[Known]] = {}
        self.complete = complete
        for one in known:
            self._names[one.namespace, one.name] = one
            for alias in one.ids[1:]:
                self._aliases.setdefault((one.namespace, alias), []).append(one)

    def find(self, namespace: str, id_: str, caller: str) -> Used | str | None:
        """Return what an id in `namespace` comes to for runs of the namespace `caller`, or the sentence why it cannot be used.

        None: it is not here, and this catalogue is not complete.
        """
        for place in dict.fromkeys((namespace, self._shared)):
            known = self._names.get((place, id_.replace(":", ".")))
            among = [known] if known is not None else self._aliases.get((place, id_), [])
            if len(among) > 1:
                both = " and ".join(sorted(one.shown for one in among))
                return f"{both} have the alias {id_}; take it from one of them, or use it by its name"
            if among:
                return _usable(among[0], caller)
        return self._missing(namespace, id_) if self.complete else None

    def _missing(self, namespace: str, id_: str) -> str:
        places = [place for place in dict.fromkeys((namespace, self._shared)) if place]
        ids = {name for place, name in (*self._names, *self._aliases) if place in (namespace, self._shared)}
        where = f" in namespace {' or '.join(places)}" if places else ""
        return f"there is no Activity {id_}{where}; {nearest(id_, ids, 'Activities')}"


def _usable(known: Known, caller: str) -> Used | str:
    if known.problems or known.spec is None:
        first = str(known.problems[0]) if known.problems else "it cannot be read"
        return f"{known.shown} is not valid, so it cannot be used: {first}"
    allowed = known.spec.allowed_namespaces
    if allowed is not None and caller not in (known.namespace, *allowed):
        return f"{known.shown} may not be used from namespace {caller}: its allowedNamespaces do not name it"
    return Used(namespace=known.namespace, name=known.name, spec=known.spec, document=known.document)


# --- in a revision --------------------------------------------------------------------------------------------------


def with_uses(document: Mapping[str, Any], uses: Uses) -> dict[str, Any]:
    """Return what a revision holds: the Workflow's spec as it is, where it uses nothing; else with what it uses."""
    if not uses.found:
        return dict(document)
    kept = [
        {"in": place, "uses": id_, "namespace": used.namespace, "name": used.name, "spec": dict(used.document)}
        for (place, id_), used in sorted(uses.found.items())
    ]
    return {**document, _KEPT: kept}


def split_uses(document: Mapping[str, Any], namespace: str) -> tuple[dict[str, Any], Uses]:
    """Return the Workflow's spec that a revision of a namespace holds, and what it uses. Raises InvalidSpec."""
    spec = {name: value for name, value in document.items() if name != _KEPT}
    found = {
        (kept["in"], kept["uses"]): Used(
            namespace=kept["namespace"], name=kept["name"], document=kept["spec"], spec=parse_activity_spec(kept["spec"])
        )
        for kept in document.get(_KEPT, ())
    }  # fmt: skip
    return spec, Uses(namespace=namespace, found=found)


def size_of(document: Mapping[str, Any]) -> int:
    """Return the bytes of a revision's content as JSON."""
    return len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass"))
