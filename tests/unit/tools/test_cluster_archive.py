# SPDX-License-Identifier: Apache-2.0
"""Images as archives: what containerd and Docker find in them."""

import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tools.cluster.archive import Layer, Start, build_image, write_archive, write_layer
from tools.cluster.busybox import names, version_of
from tools.cluster.wheels import command_file, requirements

NAME = "docker.io/library/thing:1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "run").write_text("#!/bin/sh\n")
    (folder / "bin" / "run").chmod(0o755)
    (folder / "bin" / "alias").symlink_to("run")
    return folder


@pytest.fixture
def layer(root: Path, tmp_path: Path) -> Layer:
    return write_layer(root, tmp_path / "layer")


def members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as archive:
        return {member.name: stream.read() for member in archive if (stream := archive.extractfile(member)) is not None}


def document(content: bytes) -> Any:
    return json.loads(content)


def test_containerd_finds_a_whole_image_under_every_name(layer: Layer, tmp_path: Path) -> None:
    target = tmp_path / "image.tar"
    write_archive(
        target, names=[NAME, "localhost/other:2"], layers=[layer], start=Start(entrypoint=("run",), user="65532")
    )
    found = members(target)
    blobs = {name.rpartition("/")[2]: content for name, content in found.items() if name.startswith("blobs/sha256/")}
    assert all(hashlib.sha256(content).hexdigest() == digest for digest, content in blobs.items())
    index = document(found["index.json"])["manifests"]
    assert [entry["annotations"]["io.containerd.image.name"] for entry in index] == [NAME, "localhost/other:2"]
    manifest = document(blobs[index[0]["digest"].removeprefix("sha256:")])
    config = document(blobs[manifest["config"]["digest"].removeprefix("sha256:")])
    assert manifest["layers"][0]["size"] == len(blobs[layer.digest])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{layer.digest}"]
    assert config["config"]["Entrypoint"] == ["run"]
    assert config["config"]["User"] == "65532"


def test_docker_finds_the_same_image_in_its_own_manifest(layer: Layer, tmp_path: Path) -> None:
    target = tmp_path / "image.tar"
    write_archive(target, names=[NAME], layers=[layer], start=Start(command=("sh",), env={"A": "b"}))
    found = members(target)
    (image,) = document(found["manifest.json"])
    assert image["RepoTags"] == [NAME]
    assert image["Layers"] == [f"blobs/sha256/{layer.digest}"]
    config = document(found[image["Config"]])["config"]
    assert config["Cmd"] == ["sh"]
    assert "A=b" in config["Env"]
    assert any(pair.startswith("PATH=") for pair in config["Env"])


def test_layers_that_the_node_has_are_left_out_but_named(layer: Layer, tmp_path: Path) -> None:
    target = tmp_path / "image.tar"
    write_archive(target, names=[NAME], layers=[layer], start=Start(), present={layer.digest})
    found = members(target)
    assert f"blobs/sha256/{layer.digest}" not in found
    assert document(found["manifest.json"])[0]["Layers"] == [f"blobs/sha256/{layer.digest}"]


def test_the_same_files_make_the_same_layer_whenever_they_were_written(root: Path, tmp_path: Path) -> None:
    first = write_layer(root, tmp_path / "first")
    os.utime(root / "bin" / "run", (1, 1))
    assert write_layer(root, tmp_path / "second").digest == first.digest
    (root / "bin" / "run").write_text("#!/bin/sh\nexit 1\n")
    assert write_layer(root, tmp_path / "third").digest != first.digest


def test_a_layer_keeps_modes_and_links_and_belongs_to_root(layer: Layer) -> None:
    with tarfile.open(layer.file) as archive:
        found = {member.name: member for member in archive}
    assert found["bin/run"].mode == 0o755
    assert found["bin/alias"].linkname == "run"
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}


def test_an_image_is_made_of_a_folder_in_one_call(root: Path, tmp_path: Path) -> None:
    target = build_image(
        NAME, root, target=tmp_path / "image.tar", entrypoint=["run"], env={"A": "b"}, user="7", workdir="/bin"
    )
    (image,) = document(members(target)["manifest.json"])
    assert image["RepoTags"] == [NAME]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tar", "root"]


@pytest.mark.parametrize(
    ("banner", "version"),
    [("BusyBox v1.35.0 (Debian 1:1.35.0-4+b1) multi-call binary.\nmore", "1.35.0"), ("something else", "0.0.0")],
)
def test_busybox_tells_its_version(banner: str, version: str) -> None:
    assert version_of(banner) == version


def test_busybox_is_known_by_its_version_and_never_as_latest() -> None:
    assert names("1.35.0") == ["docker.io/library/busybox:1.35.0", "docker.io/library/busybox:1.35"]


def test_a_command_of_the_wheel_calls_its_function() -> None:
    script = command_file("package.module:main")
    assert script.startswith("#!/usr/bin/python3\n")
    compile(script, "command", "exec")
    assert "from package.module import main" in script


def test_the_image_gets_the_dependencies_that_make_it_fast() -> None:
    table = {"dependencies": ["a>=1"], "optional-dependencies": {"speed": ["b"], "rich": ["c"]}}
    assert requirements(table) == ["a>=1", "b"]
