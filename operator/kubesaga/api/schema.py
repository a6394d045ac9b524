# SPDX-License-Identifier: Apache-2.0
"""CustomResourceDefinitions made from the models: what the API server refuses is what the models refuse, where it can.

A model's JSON schema is turned into a structural schema (apiextensions.k8s.io/v1, "Specifying a structural schema"):
references inlined, `null` alternatives dropped (absent means absent), unknown fields left to pruning. Rules over
several fields stand in the models as `oneOf`, `not` and `x-kubernetes-validations`; the first two also work on old
servers and cost nothing, so they are preferred.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubesaga.api import action, activity, event_source, run, workflow
from kubesaga.api.fields import Model
from kubesaga.api.names import GROUP, VERSION

CATEGORY: Final = "kubesaga"

_ORDER: Final = (
    "description", "type", "format", "default", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern",
    "minItems", "maxItems", "maxProperties", "required", "oneOf", "not", "properties", "items", "additionalProperties",
)  # fmt: skip
_DROPPED: Final = frozenset({"title", "$defs", "$ref", "anyOf", "const"})
_REQUIREMENT: Final = re.compile(r"\s*\(S\d+(?:[-,]\s*S?\d+)*\)")
_FEW: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind of custom resource: its names and columns, and the models of its two halves."""

    names: Mapping[str, Any]
    spec: type[Model]
    status: type[Model]
    description: str

    @property
    def crd_name(self) -> str:
        """The name of its CustomResourceDefinition."""
        return f"{self.names['plural']}.{GROUP}"


RESOURCES: Final = (
    Resource(
        names=workflow.resource_kind(),
        spec=workflow.WorkflowSpec,
        status=workflow.WorkflowStatus,
        description="What to do: activities, the order between them, and their limits. WorkflowRuns do it.",
    ),
    Resource(
        names=run.resource_kind(),
        spec=run.WorkflowRunSpec,
        status=run.WorkflowRunStatus,
        description="One execution of a Workflow. Its status is the only record of what happened.",
    ),
    Resource(
        names=activity.resource_kind(),
        spec=activity.ActivityTypeSpec,
        status=activity.ActivityTypeStatus,
        description="What many Workflows do in the same way: they name it in `uses`. Its breaker, bulkhead and rate limit hold for all of them.",
    ),
    Resource(
        names=action.resource_kind(),
        spec=action.WorkflowActionSpec,
        status=action.WorkflowActionStatus,
        description="One command to one WorkflowRun, applied once, and kept as the record of it.",
    ),
    Resource(
        names=event_source.resource_kind(),
        spec=event_source.WorkflowEventSourceSpec,
        status=event_source.WorkflowEventSourceStatus,
        description="An authenticated way in for events, which Workflows have triggers for.",
    ),
)


def custom_resource_definition(resource: Resource) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind, ready to be applied (apiextensions.k8s.io/v1)."""
    names = resource.names
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.crd_name},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": names["kind"],
                "listKind": f"{names['kind']}List",
                "plural": names["plural"],
                "singular": names["singular"],
                "shortNames": list(names["shortNames"]),
                "categories": [CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [dict(column) for column in names["columns"]],
                    "schema": {"openAPIV3Schema": _object_schema(resource)},
                }
            ],
        },
    }


def spec_schema(model: type[Model]) -> dict[str, Any]:
    """Return the structural schema of what people write."""
    return _schema_of(model, open_ended=False)


def status_schema(model: type[Model]) -> dict[str, Any]:
    """Return the structural schema of a status, open to what a newer operator writes.

    The operator alone writes it, and it is the record of what happened: a CRD older or newer than the operator (during
    an upgrade, after a rollback) must neither refuse a word that it does not know nor prune a field.
    """
    return {**_schema_of(model, open_ended=True), "x-kubernetes-preserve-unknown-fields": True}


def plain_description(text: str) -> str:
    """Return the first paragraph of a docstring as one line, for users."""
    return " ".join(for_users(text).strip().split("\n\n")[0].split())


def for_users(text: str) -> str:
    """Return a docstring without the numbers of requirements."""
    return _REQUIREMENT.sub("", text)


def _object_schema(resource: Resource) -> dict[str, Any]:
    return {
        "description": resource.description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec_schema(resource.spec),
            "status": status_schema(resource.status),
        },
    }


def _schema_of(model: type[Model], *, open_ended: bool) -> dict[str, Any]:
    # pydantic gives shared parts (oneOf and the like) out by reference.
    root = copy.deepcopy(model.model_json_schema(by_alias=True))
    definitions = root.get("$defs", {})
    if open_ended:
        root, definitions = _opened(root), {name: _opened(part) for name, part in definitions.items()}
    return _structural(root, definitions)


def _opened(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a part of a status: what it may hold is told, not enforced.

    An enumeration loses its list, which the description tells where it is short. Defaults are the operator's to write.
    """
    for part in definition.get("properties", {}).values():
        part.pop("default", None)
    if "enum" not in definition:
        return definition
    words = [str(word) for word in definition["enum"]]
    told = f" One of {', '.join(words)}." if len(words) <= _FEW else ""
    return {"type": "string", "description": plain_description(definition["description"]) + told}


def _structural(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    node = _resolved(node, definitions)
    schema = {key: value for key, value in node.items() if key not in _DROPPED}
    if "const" in node:
        schema["enum"] = [node["const"]]
    if schema.get("default", ...) is None:
        del schema["default"]
    if schema.get("additionalProperties") is False:
        del schema["additionalProperties"]
    if "description" in schema:
        schema["description"] = plain_description(schema["description"])
    if "properties" in schema:
        schema["properties"] = {name: _structural(part, definitions) for name, part in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in schema:
            schema[key] = _structural(schema[key], definitions)
    return dict(sorted(schema.items(), key=_place))


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node with its reference, or its one alternative that is not null, put in place; what is beside wins."""
    merged = dict(node)
    while "$ref" in merged or "anyOf" in merged:
        if (reference := merged.pop("$ref", None)) is not None:
            inner = definitions[reference.rpartition("/")[2]]
        else:
            (inner,) = (choice for choice in merged.pop("anyOf") if choice != {"type": "null"})
        merged = _with_words_of(inner, {**inner, **merged})
    return merged


def _with_words_of(inner: Mapping[str, Any], merged: dict[str, Any]) -> dict[str, Any]:
    """Keep the list of words at the end of an enumeration's description, though the field has its own description."""
    told = re.search(r" One of [^.]*\.$", inner.get("description", ""))
    if told and "description" in merged and told.group() not in merged["description"]:
        merged["description"] = plain_description(merged["description"]) + told.group()
    return merged


def _place(item: tuple[str, Any]) -> tuple[int, str]:
    key = item[0]
    return (_ORDER.index(key), "") if key in _ORDER else (len(_ORDER), key)
