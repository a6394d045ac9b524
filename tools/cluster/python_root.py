# SPDX-License-Identifier: Apache-2.0
"""A small Debian with Python as one layer: the base of the project's own images where there is no registry. Made once."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from . import debian
from .archive import Layer, write_layer
from .errors import ClusterError
from .progress import run, say

PACKAGES = ("python3", "ca-certificates")
_NOT_NEEDED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonRoot:
    """The layer, and the version (`3.11`) of the Python in it."""

    layer: Layer
    python: str

    @property
    def packages(self) -> str:
        """Where this Python looks for what Debian did not install, relative to the root."""
        return f"usr/local/lib/python{self.python}/dist-packages"


def python_root(cache: Path, log: Path) -> PythonRoot:
    """The layer from the cache, or made with debootstrap from the machine's own mirror."""
    mirror, suite = debian.mirror_and_suite()
    key = hashlib.sha256(json.dumps([suite, PACKAGES, _NOT_NEEDED]).encode()).hexdigest()[:12]
    file = cache / f"python-{suite}-{key}.layer"
    record = file.with_suffix(".json")
    if file.exists() and record.exists():
        known = json.loads(record.read_text())
        return PythonRoot(layer=Layer(file=file, digest=known["digest"]), python=known["python"])
    debian.install(debian.ROOT_PACKAGES, log)
    say(f"making a Debian {suite} with Python (log: {log})")
    root = cache / f"python-{suite}-{key}.root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, root, mirror], log=log)
    made = PythonRoot(python=_version_in(root), layer=_layer(root, file))
    record.write_text(json.dumps({"digest": made.layer.digest, "python": made.python}))
    shutil.rmtree(root)
    return made


def _layer(root: Path, file: Path) -> Layer:
    for folder in _NOT_NEEDED:
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir(parents=True)
    for device in (root / "dev").iterdir():  # the runtime makes its own
        shutil.rmtree(device) if device.is_dir() and not device.is_symlink() else device.unlink()
    return write_layer(root, file, keep_owners_and_times=True)


def _version_in(root: Path) -> str:
    for folder in root.glob("usr/lib/python3.*"):
        return folder.name.removeprefix("python")
    raise ClusterError(f"debootstrap left no Python in {root}")
