# SPDX-License-Identifier: Apache-2.0
"""Write everything about deployment that has its source elsewhere, as part of `make generate`.

    crds/*.yaml                     ->  charts/kubesaga/files/crds/, manifests/base/crds/    copied
    operator/kubesaga/settings.py   ->  charts/kubesaga/values.schema.json                   the values under `settings`
    values.schema.json, values.yaml ->  charts/kubesaga/README.md                            its two tables
    charts/kubesaga, as rendered    ->  manifests/base/, manifests/gateway/                  the kustomize base, and what the gateway adds

The output depends on nothing else, so `git diff` after a run tells whether somebody forgot it.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import yaml
from helm_python import Chart

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "operator"))  # run as a program, the tool finds the package of its own checkout

from kubesaga import settings as settings_module  # noqa: E402 - needs the path above
from kubesaga.errors import InvalidSettings  # noqa: E402
from kubesaga.settings import Settings  # noqa: E402

CHART: Final = ROOT / "charts" / "kubesaga"
BASE: Final = ROOT / "manifests" / "base"
GATEWAY: Final = ROOT / "manifests" / "gateway"
NAMESPACE: Final = "kubesaga-system"
HELM_KEY: Final = re.compile(r"helm\.sh/|app\.kubernetes\.io/managed-by$")

LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the tests render some hundred times, CRDs included

HEADER: Final = (
    "# SPDX-License-Identifier: Apache-2.0\n# Generated from charts/kubesaga by `make generate`; do not edit.\n"
)

SET_BY_CHART: Final = frozenset(
    {"namespaces", "identity", "lease_namespace", "watchable_kinds", "gateway_tls_cert", "gateway_tls_key"}
)
"""Settings that the chart derives from other values or from the pod itself."""

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("json", "text"),
    "default_image_pull_policy": ("", "Always", "IfNotPresent", "Never"),
}
BOUNDS: Final[Mapping[str, dict[str, Any]]] = {
    "http_port": {"minimum": 1024, "maximum": 65535},  # never 0: the probes must know it; not below: only root may
    "lease_name": {"minLength": 1, "maxLength": 253, "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"},
    "http_host": {"minLength": 1},
    "gateway_port": {"minimum": 1024, "maximum": 65535},
    "gateway_host": {"minLength": 1},
}
OF_THE_VARIABLE: Final = re.compile(r" \(S\d+\)|, separated by commas|; 0: any free port")
"""What the descriptions of the settings say of the variables or requirements, and is not true of the chart's values."""

TYPES: Final[Mapping[str, dict[str, Any]]] = {
    "str": {"type": "string"},
    "float": {"type": "number"},
    "int": {"type": "integer"},
    "tuple[str, ...]": {"type": "array", "items": {"type": "string", "pattern": r"^[^,\s]+$"}, "uniqueItems": True},
}


def main() -> None:
    """Generate everything, in the order of what depends on what."""
    copy_crds(CHART / "files" / "crds")
    write_settings_schema()
    write_readme_tables()
    write_base()
    write_gateway()


def crd_files() -> list[Path]:
    """Return the CRDs, by name."""
    return sorted((ROOT / "crds").glob("*.yaml"))


def copy_crds(target: Path) -> None:
    """Make `target` hold the CRDs and nothing else, byte for byte."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for source in crd_files():
        shutil.copyfile(source, target / source.name)


# --- the schema of `settings` --------------------------------------------------------------------------------------


def camel_case(name: str) -> str:
    """Return the chart's spelling of a setting, e.g. `httpTimeout` of `http_timeout`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def setting_descriptions() -> dict[str, str]:
    """Return the sentence below each field of Settings, in one line."""
    tree = ast.parse(inspect.getsource(settings_module))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    return {
        field.target.id: OF_THE_VARIABLE.sub("", " ".join(text.value.value.split()))
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def settings_schema() -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each setting that the chart's `settings` may hold."""
    described = setting_descriptions()
    defaults = Settings()
    found: dict[str, dict[str, Any]] = {}
    for field in fields(Settings):
        if field.name in SET_BY_CHART:
            continue
        default = getattr(defaults, field.name)
        schema = {"description": described[field.name], **TYPES[str(field.type)]}
        schema["default"] = list(default) if isinstance(default, tuple) else default
        schema |= BOUNDS.get(field.name, {})
        if field.name in CHOICES:
            schema["enum"] = list(CHOICES[field.name])
        elif schema["type"] in ("number", "integer") and not _accepts(field.name, "0"):
            schema["exclusiveMinimum"] = 0
        found[camel_case(field.name)] = schema
    return found


def _accepts(name: str, text: str) -> bool:
    try:
        Settings.from_env({f"KUBESAGA_{name.upper()}": text})
    except InvalidSettings:
        return False
    return True


def write_settings_schema() -> None:
    """Put the settings into the schema of the chart's values."""
    path = CHART / "values.schema.json"
    schema = json.loads(path.read_text())
    schema["properties"]["settings"]["properties"] = settings_schema()
    path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")


# --- the tables of the chart's README ------------------------------------------------------------------------------


Row = tuple[str, Any, str]


def value_rows(schema: Mapping[str, Any], values: Mapping[str, Any], prefix: str = "") -> Iterator[Row]:
    """Yield path, default and description of each value that values.yaml holds, groups by their members."""
    for name, part in schema["properties"].items():
        if name not in values:
            continue  # `global` and `enabled`: Helm's own
        if part.get("properties") and values[name]:
            yield from value_rows(part, values[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", values[name], part["description"]


def markdown_table(rows: Iterator[Row]) -> str:
    """Return rows of value, default and meaning as a table."""
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for path, default, meaning in rows:
        shown = json.dumps(default, ensure_ascii=False)
        lines.append(f"| `{path}` | `{shown}` | {meaning} |".replace("||", r"\|\|"))
    return "\n".join(lines)


def write_readme_tables() -> None:
    """Put the values and the settings into the chart's README, between their marks."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    settings = schema["properties"]["settings"]["properties"]
    readme = CHART / "README.md"
    text = _between(readme.read_text(), "values", markdown_table(value_rows(schema, values)))
    rows = ((f"settings.{name}", part["default"], part["description"]) for name, part in settings.items())
    readme.write_text(_between(text, "settings", markdown_table(rows)))


def _between(text: str, mark: str, content: str) -> str:
    begin, end = f"<!-- {mark}:begin -->\n", f"<!-- {mark}:end -->"
    head, rest = text.split(begin)
    return head + begin + content + "\n" + end + rest.split(end)[1]


# --- the kustomize base --------------------------------------------------------------------------------------------


def render(
    values: Mapping[str, Any] | None = None, name: str = "kubesaga", namespace: str = NAMESPACE
) -> dict[str, list[dict[str, Any]]]:
    """Return the objects that Helm would apply, by the name of their template.

    Raises helm_python.HelmValuesError where a value breaks the schema, HelmRenderError where a template refuses.
    """
    with Chart.load(CHART) as chart:
        rendered = chart.render(dict(values or {}), name=name, namespace=namespace)
    return {
        Path(path).name: [document for document in yaml.load_all(text, LOADER) if document]
        for path, text in sorted(rendered.items())
        if path.endswith(".yaml")
    }


def without_helm(document: dict[str, Any]) -> dict[str, Any]:
    """Return an object without the labels and annotations that only mean something to Helm."""
    metadata = dict(document["metadata"])
    for group in ("labels", "annotations"):
        mine = {key: value for key, value in metadata.pop(group, {}).items() if not HELM_KEY.match(key)}
        if mine:
            metadata[group] = mine
    return {**document, "metadata": metadata}


def namespace_object() -> dict[str, Any]:
    """Return the operator's namespace; it holds nothing that needs more than the restricted Pod Security Standard."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def write_base() -> None:
    """Make manifests/base hold what the chart's default values give, and nothing else."""
    shutil.rmtree(BASE, ignore_errors=True)
    copy_crds(BASE / "crds")
    files = {"namespace.yaml": [namespace_object()]}
    files |= {name: documents for name, documents in render().items() if documents and name != "crds.yaml"}
    _write_kustomization(BASE, files, [f"crds/{path.name}" for path in crd_files()])


def write_gateway() -> None:
    """Make manifests/gateway hold what `gateway.enabled` adds to the base: to be listed beside it."""
    shutil.rmtree(GATEWAY, ignore_errors=True)
    GATEWAY.mkdir(parents=True)
    rendered = render({"gateway": {"enabled": True}})
    files = {name: documents for name, documents in rendered.items() if documents and name.startswith("gateway")}
    _write_kustomization(GATEWAY, files, [])


def _write_kustomization(folder: Path, files: Mapping[str, list[dict[str, Any]]], more: list[str]) -> None:
    """Write objects by file, and a kustomization that lists them behind `more`."""
    resources = more + list(files)
    kustomization = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources}
    for name, documents in {"kustomization.yaml": [kustomization], **files}.items():
        shown = [without_helm(document) if "metadata" in document else document for document in documents]
        text = "---\n".join(yaml.safe_dump(document, sort_keys=False, width=120) for document in shown)
        (folder / name).write_text(HEADER + text)


if __name__ == "__main__":
    main()
