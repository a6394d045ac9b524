# SPDX-License-Identifier: Apache-2.0
"""Container images without a container engine: a root folder becomes a layer, layers become an archive.

The archive is an OCI image layout (https://github.com/opencontainers/image-spec/blob/v1.0.2/image-layout.md) with Docker's
manifest.json beside it, as `docker save` writes since version 25: containerd, Docker and podman load it.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}
_READ = 1 << 20
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """An uncompressed layer on disk and its SHA-256, which is both its digest and its diff id."""

    file: Path
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What an image runs, and as whom. `user` is numeric where a pod says runAsNonRoot."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = "/"


def build_image(
    name: str,
    root: Path,
    *,
    target: Path,
    entrypoint: Sequence[str] = (),
    command: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    user: str = "",
    workdir: str = "/",
) -> Path:
    """Writes an image of one layer, everything below `root`, to the archive `target`; returns `target`.

    Import it with `images.load(target, …)`. All files belong to root in the image.
    """
    layer = write_layer(root, target.with_suffix(".layer"))
    start = Start(entrypoint=tuple(entrypoint), command=tuple(command), env=env or {}, user=user, workdir=workdir)
    write_archive(target, names=[name], layers=[layer], start=start)
    layer.file.unlink()
    return target


def write_layer(root: Path, target: Path, *, keep_owners_and_times: bool = False) -> Layer:
    """A layer of everything below `root`. The same files give the same bytes (sorted, owned by root, no times), unless owners and
    times matter: Python takes its compiled modules for stale where a source's time is another."""
    fresh = target.with_name(target.name + ".new")
    with tarfile.open(fresh, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(_walk(root)):
            archive.add(
                path,
                arcname=str(path.relative_to(root)),
                recursive=False,
                filter=None if keep_owners_and_times else _neutral,
            )
    fresh.replace(target)
    return layer_of(target)


def layer_of(file: Path) -> Layer:
    """Reads a layer that was written before."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_READ):
            digest.update(chunk)
    return Layer(file=file, digest=digest.hexdigest())


def write_archive(
    target: Path, *, names: Sequence[str], layers: Sequence[Layer], start: Start, present: Collection[str] = ()
) -> None:
    """Writes the archive. Layers whose digest is `present` where it goes are left out."""
    config = _json(configuration(layers, start))
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _described(_CONFIG, _digest(config), len(config)),
            "layers": [_described(_LAYER, layer.digest, layer.file.stat().st_size) for layer in layers],
        }
    )
    images = [_described(_MANIFEST, _digest(manifest), len(manifest)) | {"annotations": _named(name)} for name in names]
    docker = [
        {"Config": _blob(_digest(config)), "RepoTags": list(names), "Layers": [_blob(layer.digest) for layer in layers]}
    ]
    fresh = target.with_name(target.name + ".new")
    with tarfile.open(fresh, "w") as archive:
        _add_bytes(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add_bytes(archive, "index.json", _json({"schemaVersion": 2, "manifests": images}))
        _add_bytes(archive, "manifest.json", _json(docker))
        for content in (config, manifest):
            _add_bytes(archive, _blob(_digest(content)), content)
        for layer in {layer.digest: layer for layer in layers if layer.digest not in present}.values():
            archive.add(layer.file, arcname=_blob(layer.digest), filter=_neutral)
    fresh.replace(target)


def _described(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _named(name: str) -> dict[str, str]:
    return {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def configuration(layers: Sequence[Layer], start: Start) -> dict[str, Any]:
    """The image's configuration: platform, how it starts, and its layers' diff ids."""
    process: dict[str, Any] = {
        "Env": [f"{key}={value}" for key, value in {"PATH": _PATH, **start.env}.items()],
        "WorkingDir": start.workdir,
        "User": start.user,
    }
    if start.entrypoint:
        process["Entrypoint"] = list(start.entrypoint)
    if start.command:
        process["Cmd"] = list(start.command)
    return {
        "architecture": _MACHINES.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": process,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "tools/cluster"} for _ in layers],
    }


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _walk(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, subfolders, files in os.walk(root):
        found += [Path(folder) / name for name in (*subfolders, *files)]
    return found


def _neutral(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = 0
    return member


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
