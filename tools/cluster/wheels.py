# SPDX-License-Identifier: Apache-2.0
"""Puts the project and what it depends on into layers, with pip."""

import configparser
import hashlib
import platform
import shutil
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import debian
from .archive import Layer, layer_of, write_layer
from .errors import ClusterError
from .places import REPOSITORY
from .progress import quietly, run, say
from .python_root import PythonRoot

LOCK = REPOSITORY / "requirements.lock"


def project() -> dict[str, Any]:
    """The [project] table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return table


def dependencies_layer(cache: Path, root: PythonRoot, log: Path) -> Layer:
    """What the project needs, in the versions of requirements.lock where the checkout has one. Cached by what is asked for."""
    wanted = ["--requirement", str(LOCK)] if LOCK.exists() else requirements(project())
    asked = LOCK.read_text() if LOCK.exists() else "\n".join(wanted)
    file = cache / f"dependencies-{root.python}-{_short(asked.encode())}.layer"
    if file.exists():
        return layer_of(file)
    say("installing the project's dependencies from the package index")
    folder = cache / "dependencies.root"
    shutil.rmtree(folder, ignore_errors=True)
    target = folder / root.packages
    target.mkdir(parents=True)
    pip = [*_pip(root.python, log), "install", "--quiet", "--no-warn-script-location", "--target", str(target)]
    run([*pip, "--python-version", root.python, "--only-binary", ":all:", *wanted], log=log)
    shutil.rmtree(target / "bin", ignore_errors=True)  # scripts for this machine's Python, not the image's
    layer = write_layer(folder, file, keep_owners_and_times=True)
    shutil.rmtree(folder)
    return layer


def requirements(table: dict[str, Any]) -> list[str]:
    """The dependencies, with those that make it fast."""
    return [*table["dependencies"], *table.get("optional-dependencies", {}).get("speed", [])]


def project_layer(cache: Path, root: PythonRoot, log: Path) -> Layer:
    """The checkout's wheel, unpacked, and its command. Cached by the sources, so that only a change costs anything."""
    key = _short(
        *(part for file in _sources() for part in (str(file.relative_to(REPOSITORY)).encode(), file.read_bytes()))
    )
    file = cache / f"project-{root.python}-{key}.layer"
    if file.exists():
        return layer_of(file)
    say("building the project's wheel")
    folder, wheels = cache / "project.root", cache / "wheel"
    for old in (folder, wheels):
        shutil.rmtree(old, ignore_errors=True)
    (folder / root.packages).mkdir(parents=True)
    pip = _pip(root.python, log)
    backend = _build_backend(cache, pip, log)
    run(
        [
            "env",
            f"PYTHONPATH={backend}",
            *pip,
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            wheels,
            REPOSITORY,
        ],
        log=log,
    )
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / root.packages)
    _write_commands(folder, root.packages)
    for old in cache.glob("project-*.layer"):
        old.unlink()
    layer = write_layer(folder, file)
    shutil.rmtree(folder)
    return layer


def _build_backend(cache: Path, pip: list[str], log: Path) -> Path:
    """What builds the wheel, installed once: pip alone would fetch it for every build."""
    wanted: list[str] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["build-system"]["requires"]
    folder = cache / f"backend-{_short(*map(str.encode, [*pip, *wanted]))}"
    if not folder.exists():
        fresh = folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        run([*pip, "install", "--quiet", "--target", fresh, *wanted], log=log)
        fresh.rename(folder)
    return folder


def _sources() -> Iterable[Path]:
    top = (REPOSITORY / "pyproject.toml", REPOSITORY / "README.md")
    for file in (*top, *sorted((REPOSITORY / "operator").rglob("*"))):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file


def _write_commands(folder: Path, packages: str) -> None:
    """The commands that the wheel declares, for the image's Python."""
    for entry_points in (folder / packages).glob("*.dist-info/entry_points.txt"):
        declared = configparser.ConfigParser(delimiters=("=",))
        declared.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case; the stub knows no other use
        declared.read(entry_points)
        for name, target in declared["console_scripts"].items():
            command = folder / "usr/local/bin" / name
            command.parent.mkdir(parents=True, exist_ok=True)
            command.write_text(command_file(target))
            command.chmod(0o755)


def command_file(target: str) -> str:
    """`package.module:function` → the script that runs it."""
    module, _, function = target.partition(":")
    return f"#!/usr/bin/python3\nimport sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n"


def _pip(version: str, log: Path) -> list[str]:
    """A pip, of the image's Python where there is one: modules are then compiled for it as well."""
    beside = REPOSITORY / ".venv" / "bin" / "python"
    candidates = [str(beside), f"/usr/bin/python{version}", sys.executable]
    if not any(map(_has_pip, candidates)):
        debian.install(debian.PIP_PACKAGES, log)
    for python in candidates:
        if _has_pip(python):
            return [python, "-m", "pip"]
    raise ClusterError("no Python with pip was found: install Debian's python3-pip")


def _has_pip(python: str) -> bool:
    return shutil.which(python) is not None and quietly([python, "-m", "pip", "--version"])


def _short(*contents: bytes) -> str:
    digest = hashlib.sha256(platform.machine().encode())
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]
