# SPDX-License-Identifier: Apache-2.0
"""The documentation holds: its Workflows are valid, its links lead somewhere, and nothing it must tell is left out."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools import generate_docs

from kubesaga.api.parsing import _LATER
from kubesaga.api.reasons import Reason
from kubesaga.cel.pool import CelPool
from kubesaga.cli.checking import check
from kubesaga.cli.documents import read_manifests
from kubesaga.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"), ROOT / "charts/kubesaga/README.md"]
)  # fmt: skip
OURS = re.compile(r"^kind: (Workflow|WorkflowRun|WorkflowAction|Activity)$", re.MULTILINE)

ADD_A_SERIES = ("gauge", "plain_gauge")
"""The methods of Metrics by which series are added later."""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield each fenced block: the number of its first line, its language, its text."""
    opened, language, lines = 0, "", []
    for number, line in enumerate(text.splitlines(), start=1):
        fence = re.match(r" *```(\w*)", line)
        if fence and opened:
            yield opened, language, "\n".join(lines)
            opened = 0
        elif fence:
            opened, language, lines = number + 1, fence[1], []
        elif opened:
            lines.append(line)
    assert not opened, f"the block of line {opened} is not closed"


def prose(text: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    return (ROOT / name).read_text()


# --- examples -------------------------------------------------------------------------------------------------------


def manifests_of(text: str) -> str:
    """Return the whole objects of ours of a page as one YAML text, each at the line where it stands."""
    lines = [""] * (text.count("\n") + 1)
    for first, language, block in blocks(text):
        whole = re.search(r"^spec:", block, re.MULTILINE)  # without a spec it is an excerpt: metadata, say
        if language == "yaml" and OURS.search(block) and whole:
            lines[first - 2] = "---"
            lines[first - 1 : first - 1 + block.count("\n") + 1] = block.split("\n")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def checker() -> Iterator[CelPool]:
    with CelPool(size=1) as pool:
        yield pool


def findings_in(text: str, folder: Path, checker: CelPool) -> list[str]:
    """Return what `kubesaga lint --strict` says of a page's examples, as `LINE: …`."""
    file = folder / "page.yaml"
    file.write_text(manifests_of(text))
    reading = read_manifests(str(file))
    found = [*reading.findings, *check(reading.manifests, checker).findings]
    return [str(finding).removeprefix(f"{file}:") for finding in found]


@every_page
def test_the_examples_of_a_page_are_valid(page: Path, tmp_path: Path, checker: CelPool) -> None:
    assert findings_in(page.read_text(), tmp_path, checker) == []


def test_an_example_that_is_wrong_is_told_with_its_line(tmp_path: Path, checker: CelPool) -> None:
    text = "# Page\n\n```yaml\napiVersion: kubesaga.dev/v1alpha1\nkind: Workflow\nmetadata: {name: x}\nspec:\n  activites: []\n```\n"
    found = findings_in(text, tmp_path, checker)
    assert any(line.startswith("8: spec.activites: there is no such field; did you mean activities?") for line in found)


def test_every_yaml_block_of_the_page_on_workflows_is_a_whole_object() -> None:
    yaml = [block for _, language, block in blocks(read("docs/workflow.md")) if language == "yaml"]
    assert len(yaml) > 10
    assert [block for block in yaml if not OURS.search(block)] == []


# --- links ----------------------------------------------------------------------------------------------------------


def anchors_of(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.+?) *$", prose(text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading).lower()
        kept = "".join(sign for sign in words if sign in " -_" or unicodedata.category(sign)[0] in "LN")
        anchor = kept.replace(" ", "-")
        found.append(anchor if anchor not in found else f"{anchor}-{found.count(anchor)}")
    return set(found)


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    broken = []
    text = re.sub(r"`[^`\n]*`", "", prose(page.read_text()))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        lost = anchor and target.suffix == ".md" and target.is_file() and anchor not in anchors_of(target.read_text())
        if not target.exists() or lost:
            broken.append(link)
    return broken


@every_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Äpfel & `birnen`\n[a](page.md#äpfel--birnen) [b](page.md#gone) [c](gone.md) [d](https://x.example)\n"
    )
    assert broken_links(page) == ["page.md#gone", "gone.md"]


@every_page
def test_every_file_and_test_that_a_page_names_is_there(page: Path) -> None:
    """Such as `tests/unit/test_docs.py::test_every_file_and_test_that_a_page_names_is_there`."""
    missing = []
    named = re.findall(
        r"`((?:operator|tests|tools|docs|charts|manifests|examples|crds)/[\w./-]+)(?:::(\w+))?`", page.read_text()
    )
    for path, test in named:
        file = ROOT / path
        if not file.exists() or (test and f"def {test}(" not in file.read_text()):
            missing.append(f"{path}::{test}" if test else path)
    assert missing == []


# --- completeness ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_explained(reason: Reason) -> None:
    assert re.search(rf"^\| `{reason}` \|", read("docs/operations.md"), re.MULTILINE)


def metric_names() -> set[str]:
    """Return the series of the registry, and those that the composition root adds while it leads."""
    exposed = re.findall(r"^# TYPE (\w+) ", Metrics("test").exposition().decode(), re.MULTILINE)
    names = {name for name in exposed if not name.endswith("_created")}
    for source in (ROOT / "operator/kubesaga/main").glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            added = (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ADD_A_SERIES
            )
            if added:
                names.add(ast.literal_eval(node.args[0]))
    return names


def test_the_metrics_that_are_added_later_are_found() -> None:
    assert metric_names() >= {
        "kubesaga_runs",
        "kubesaga_leader",
        "kubesaga_queue_depth",
        "kubesaga_runs_finished_total",
    }


def test_the_documented_metrics_are_those_that_there_are() -> None:
    told = set(re.findall(r"^\| `(kubesaga_\w+)` \|", read("docs/operations.md"), re.MULTILINE))
    assert told == metric_names()


@pytest.mark.parametrize(
    "field", sorted(name for names in _LATER.values() for name in names), ids=lambda name: f"{name} comes later"
)
def test_every_field_that_is_refused_for_now_is_told(field: str) -> None:
    assert f"`{field}`" in read("docs/workflow.md").partition("## What comes later")[2]


def test_the_page_on_settings_is_what_the_settings_say() -> None:
    assert generate_docs.SETTINGS_TARGET.read_text() == generate_docs.rendered_settings(), "run make generate"
