# SPDX-License-Identifier: Apache-2.0
"""Kubernetes objects in files: read, told apart, and where in which file each of their fields stands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubesaga.api.names import API_VERSION, GROUP
from kubesaga.cli.yaml_text import MAX_BYTES, Document, Unreadable, read_yaml
from kubesaga.errors import Problem

STDIN: Final = "-"
KINDS: Final = ("Workflow", "WorkflowRun", "Activity", "WorkflowEventSource", "WorkflowAction")
_ENDINGS: Final = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to tell about a file. It reads as compilers and editors write it: `file:line: path: sentence`."""

    source: str
    line: int
    """From 1; 0: about the file as a whole."""
    path: str
    message: str
    warning: bool = False
    unreadable: bool = False
    """There is nothing to check: no such file, no YAML."""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        parts = [place, "warning" if self.warning else "", self.path, self.message]
        return ": ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One of our objects as a file has it. Only `kind` is known to be good."""

    source: str
    document: Document

    @property
    def value(self) -> dict[str, Any]:
        """The object."""
        value: dict[str, Any] = self.document.value
        return value

    @property
    def kind(self) -> str:
        """What it says that it is."""
        return str(self.value.get("kind"))

    @property
    def metadata(self) -> dict[str, Any]:
        """Its metadata, empty where that is no object."""
        metadata = self.value.get("metadata")
        return metadata if isinstance(metadata, dict) else {}

    @property
    def name(self) -> str:
        """Its name, "" where it has none."""
        return str(self.metadata.get("name") or "")

    @property
    def namespace(self) -> str:
        """Its namespace, "" where it leaves that to the one who applies it."""
        return str(self.metadata.get("namespace") or "")

    def finding(self, problem: Problem, *, warning: bool = False) -> Finding:
        """Return a problem of this object with its place in the file."""
        reading = self.document.reading(problem.path)
        return Finding(
            source=self.source, line=self.document.line(problem.path), path=problem.path,
            message=problem.message + (f" ({reading})" if reading else ""), warning=warning,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a file holds of ours, and what kept the rest of it from being read."""

    manifests: tuple[Manifest, ...] = ()
    findings: tuple[Finding, ...] = ()


def read_text(name: str) -> str:
    """Return a file's text, `-` being standard input. Raises Unreadable."""
    try:
        if name == STDIN:
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(name, "rb") as file:
                raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unreadable(0, f"cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise Unreadable(0, f"is larger than {MAX_BYTES:,} bytes; no Kubernetes object is that large")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(raw[: error.start].count(b"\n") + 1, "is not text in UTF-8") from None


def read_manifests(name: str) -> Reading:
    """Return our objects in a file. Objects of other groups are passed over; of ours, every kind must be known."""
    source = "<stdin>" if name == STDIN else name
    try:
        documents = read_yaml(read_text(name))
    except Unreadable as error:
        finding = Finding(source=source, line=error.line, path="", message=str(error), unreadable=True)
        return Reading(findings=(finding,))
    manifests: list[Manifest] = []
    findings: list[Finding] = []
    for document in documents:
        problem = _not_an_object(document) or _not_ours(document.value)
        if problem is not None:
            line = document.line(problem.path)
            findings.append(Finding(source=source, line=line, path=problem.path, message=problem.message))
        elif str(document.value.get("apiVersion")).startswith(f"{GROUP}/"):
            manifests.append(Manifest(source=source, document=document))
    return Reading(manifests=tuple(manifests), findings=tuple(findings))


def _not_an_object(document: Document) -> Problem | None:
    value = document.value
    if isinstance(value, dict) and isinstance(value.get("apiVersion"), str) and isinstance(value.get("kind"), str):
        return None
    return Problem("", "is no Kubernetes object: it needs apiVersion and kind")


def _not_ours(value: dict[str, Any]) -> Problem | None:
    """Return what is wrong with an object that means to be of ours."""
    version, kind = value["apiVersion"], value["kind"]
    if kind in KINDS and version != API_VERSION and (version.partition("/")[0] == GROUP or "/" not in version):
        return Problem("apiVersion", f"{version} is not known; write {API_VERSION}")
    if version.startswith(f"{GROUP}/") and kind not in KINDS:
        return Problem("kind", f"{kind} is not a kind of {GROUP}; there are {', '.join(KINDS)}")
    return None


def files_in(names: Iterable[str]) -> Iterator[str]:
    """Yield the files that names stand for: a folder for those in it, at any depth, that speak of our API group."""
    for name in names:
        if name != STDIN and os.path.isdir(name):
            yield from _files_below(Path(name))
        else:
            yield name


def _files_below(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            if path.suffix in _ENDINGS and _mentions_us(path):
                yield str(path)


def _mentions_us(path: Path) -> bool:
    """Tell whether a file may hold an object of ours; templates of other things need not be YAML at all."""
    try:
        with path.open("rb") as file:
            return f"{GROUP}/".encode() in file.read(MAX_BYTES)
    except OSError:
        return True  # to be told as unreadable
