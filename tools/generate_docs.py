# SPDX-License-Identifier: Apache-2.0
"""Write docs/api-reference.md from the models and the reasons, and docs/settings.md from the settings: `make generate`.

With `--check` nothing is written; the exit status tells whether the files are current.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, get_args

import click
from pydantic import TypeAdapter
from pydantic.alias_generators import to_camel

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "operator"))  # run as a program, the tool finds the package of its own checkout

# ruff: noqa: E402 - what follows needs the path above
from kubesaga.api.fields import Duration, Model
from kubesaga.api.names import API_VERSION
from kubesaga.api.reasons import REASON_TEXT, Reason
from kubesaga.api.schema import RESOURCES, Resource, for_users, plain_description
from kubesaga.cli.controller import controller
from kubesaga.cli.gateway import gateway
from kubesaga.settings import _POSITIVE, Settings

TARGET: Final = ROOT / "docs" / "api-reference.md"
SETTINGS_TARGET: Final = ROOT / "docs" / "settings.md"
_DURATION: Final = TypeAdapter(Duration).json_schema()["pattern"]
_MANY: Final = 12

INTRODUCTION: Final = f"""\
<!-- Generated from operator/kubesaga by `make generate`; change the docstrings there. -->
# API reference

API version `{API_VERSION}`. At the command line: `kubectl explain workflow.spec --api-version={API_VERSION}`.

| type | is |
|---|---|
| duration | `500ms`, `90s`, `1h30m`, `2d`: above zero, at most `366d` |
| quantity | an amount as Kubernetes writes it: `2`, `500m`, `64Mi` |
| time | RFC 3339 in UTC: `2026-11-22T10:00:05.120Z` |
| object | a JSON object whose shape is yours |
| any | any JSON value |

A field that says so may hold expressions: CEL inside `${{…}}`. A string that is one whole expression becomes the
expression's value and keeps its type; `$${{` stands for the two characters `${{`. They can read `inputs`, `workflow` (the
variables), `event`, `activities.NAME.{{phase,output,error}}` and `run`, and in `set` also `output`. `when` is CEL without
`${{}}`.
"""


def rendered() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    told: set[type[Model]] = set()
    for resource in RESOURCES:
        parts.append(_heading(resource))
        for model in (resource.spec, resource.status):
            parts += [_section(part) for part in _reachable(model, told)]
    parts.append(_reasons())
    return "\n".join(parts)


def _heading(resource: Resource) -> str:
    names = resource.names
    fields = [f"`spec` is a [{resource.spec.__name__}](#{resource.spec.__name__.lower()})"]
    fields.append(f"`status` a [{resource.status.__name__}](#{resource.status.__name__.lower()})")
    short = ", ".join(f"`{name}`" for name in names["shortNames"])
    called = f"`kubectl get {names['plural']}` or {short}"
    return f"## {names['kind']}\n\n{resource.description}\n\n{', '.join(fields)}. Seen by {called}.\n"


def _reachable(model: type[Model], told: set[type[Model]]) -> Iterator[type[Model]]:
    """Yield a model and those in its fields, each once in the whole page."""
    if model in told:
        return
    told.add(model)
    yield model
    for field in model.model_fields.values():
        if inner := _model_in(field.annotation):
            yield from _reachable(inner, told)


def _model_in(annotation: Any) -> type[Model] | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := _model_in(part))), None)


def _section(model: type[Model]) -> str:
    schema = model.model_json_schema(by_alias=True)
    required = schema.get("required", [])
    text = for_users(inspect.cleandoc(model.__doc__ or ""))
    lines = [f"### {model.__name__}", "", text, ""]
    choices = schema.get("oneOf", [])
    if choices and "one of" not in text and all(set(choice) == {"required"} for choice in choices):
        names = [f"`{choice['required'][0]}`" for choice in choices]
        lines += [f"Exactly one of {', '.join(names[:-1])} and {names[-1]}.", ""]
    lines += ["| field | type | default | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        wire_name = field.alias or name
        node = schema["properties"][wire_name]
        default = "required" if wire_name in required else _default(node.get("default"))
        kind = _type(node, schema.get("$defs", {}), _model_in(field.annotation))
        text = plain_description(field.description or node.get("description", ""))
        if any(rule["rule"] == "self == oldSelf" for rule in node.get("x-kubernetes-validations", ())):
            text += " Cannot be changed."
        lines.append(f"| `{wire_name}` | {kind} | {default} | {_cell(text)} |")
    return "\n".join([*lines, ""])


def _default(value: Any) -> str:
    return "" if value is None or value == "" else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(node: dict[str, Any], definitions: dict[str, Any], model: type[Model] | None) -> str:
    """Return a field's type in words. `model` is the one that the field holds, if it is a map of them."""
    node = next((choice for choice in node.get("anyOf", ()) if choice != {"type": "null"}), node)
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return _words(definitions[name]["enum"], name) if "enum" in definitions[name] else _link(name)
    if "enum" in node or "const" in node:
        return _words(node.get("enum") or [node["const"]], "")
    if "x-kubernetes-int-or-string" in node:
        return "quantity"
    match node.get("type"):
        case "string" if node.get("pattern") == _DURATION:
            return "duration"
        case "string" if node.get("format") == "date-time":
            return "time"
        case "array":
            return f"list of {_part(node['items'], definitions)}{_at_most(node, 'maxItems', '')}"
        case "object" if isinstance(node.get("additionalProperties"), dict):
            return f"map of {_part(node['additionalProperties'], definitions)}{_at_most(node, 'maxProperties', '')}"
        case "object" if model is not None:
            return f"map of {_link(model.__name__)}"
        case None:
            return "any"
        case kind:
            return f"{kind}{_at_most(node, 'maxLength', ' characters')}"


def _part(node: dict[str, Any], definitions: dict[str, Any]) -> str:
    return _type({key: value for key, value in node.items() if key != "maxLength"}, definitions, None)


def _at_most(node: dict[str, Any], key: str, unit: str) -> str:
    return f", at most {node[key]}{unit}" if key in node else ""


def _words(words: list[Any], name: str) -> str:
    if len(words) > _MANY:
        return f"a [reason](#{name.lower()}s)"
    return ", ".join(f"`{word}`" for word in words)


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _reasons() -> str:
    rows = "\n".join(f"| `{reason}` | {_cell(REASON_TEXT[reason])} |" for reason in Reason)
    return f"## Reasons\n\nThe list is closed: no run, activity or condition bears another.\n\n| reason | means |\n|---|---|\n{rows}\n"


# --- settings -------------------------------------------------------------------------------------------------------

SETTINGS_INTRODUCTION: Final = """\
<!-- Generated from operator/kubesaga/settings.py by `make generate`; change the docstrings there. -->
# Settings

The operator reads its settings once, at its start, from environment variables: `KUBESAGA_` and the setting's name in
capitals. A value that cannot be used, and a `KUBESAGA_` variable that is none of these, ends the operator at its start with
exit status 2 and a message that names all of them. `kubesaga run` reads the same variables.

Some have an option of `kubesaga controller` or, for those that begin with `KUBESAGA_GATEWAY_`, of `kubesaga gateway`
([gateway](gateway.md)), which wins over the variable. The [Helm chart](../charts/kubesaga/README.md) has a
value for each. A list is written with commas in a variable, by repeating an option, and as a YAML list in a value.

What concerns one Workflow only (timeouts, resources, the service account) is in the [Workflow](workflow.md), not here.

| variable | default | meaning | option | chart value |
|---|---|---|---|---|
"""

_TYPES: Final[Mapping[str, str]] = {"float": "seconds", "int": "a whole number"}
_CHART_VALUES: Final[Mapping[str, str]] = {"namespaces": "`watchNamespaces`", "watchable_kinds": "`watchableKinds`", "identity": "the pod's name",
                                           "lease_namespace": "the pod's namespace",
                                           "gateway_tls_cert": "`gateway.tlsSecretName`",
                                           "gateway_tls_key": "`gateway.tlsSecretName`"}  # fmt: skip
"""Where the chart does not take the setting's own name."""


def rendered_settings() -> str:
    """Return the page on settings."""
    meanings = _docstrings(Settings)
    commands = (gateway, controller)
    options = {
        option.name: option.opts[-1]
        for command in commands
        for option in command.params
        if isinstance(option, click.Option)
    }
    rows = []
    for field in fields(Settings):
        option = f"`{options[field.name]}`" if field.name in options else ""
        chart = _CHART_VALUES.get(field.name, f"`settings.{to_camel(field.name)}`")
        unit = _TYPES.get(str(field.type), "")
        bound = "above 0" if field.name in _POSITIVE else ""
        about = ", ".join(word for word in (unit, bound) if word)
        meaning = _cell(plain_description(meanings[field.name])) + (f" ({about})" if about else "")
        rows.append(f"| `KUBESAGA_{field.name.upper()}` | {_shown(field.default)} | {meaning} | {option} | {chart} |")
    return SETTINGS_INTRODUCTION + "\n".join(rows) + "\n"


def _docstrings(class_: type) -> dict[str, str]:
    """Return the text behind each field of a class. Raises KeyError later where one has none."""
    (tree,) = ast.parse(inspect.getsource(class_)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(field.target)] = inspect.cleandoc(str(text.value.value))
    return found


def _shown(default: Any) -> str:
    if default in ("", ()):
        return ""
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


# --------------------------------------------------------------------------------------------------------------------

PAGES: Final[Mapping[Path, Callable[[], str]]] = {TARGET: rendered, SETTINGS_TARGET: rendered_settings}


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` compare them. Return the exit status."""
    stale = 0
    for target, render in PAGES.items():
        text = render()
        if target.exists() and target.read_text() == text:
            continue
        name = target.relative_to(ROOT)
        if "--check" in arguments:
            print(f"{name} is not current; run make generate")
            stale = 1
        else:
            target.parent.mkdir(exist_ok=True)
            target.write_text(text)
            print(f"wrote {name}")
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
