# SPDX-License-Identifier: Apache-2.0
"""Write crds/*.yaml from the models in operator/kubesaga/api, as part of `make generate`.

With `--check` nothing is written; the exit status tells whether the files are current.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "operator"))  # run as a program, the tool finds the package of its own checkout

from kubesaga.api.schema import RESOURCES, custom_resource_definition  # noqa: E402 - needs the path above

HEADER: Final = "# SPDX-License-Identifier: Apache-2.0\n# Generated from operator/kubesaga/api by `make generate`.\n"


class _Dumper(yaml.SafeDumper):
    """Writes lists indented, and everything out: a CRD with anchors is hard to read and some tools refuse it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's signature
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def rendered() -> dict[Path, str]:
    """Return the files and what stands in them."""
    return {
        ROOT / "crds" / f"{resource.crd_name}.yaml": HEADER + _yaml(custom_resource_definition(resource))
        for resource in RESOURCES
    }


def _yaml(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` compare them. Return the exit status."""
    stale = [path for path, text in rendered().items() if not path.exists() or path.read_text() != text]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not current; run make generate")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(rendered()[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
