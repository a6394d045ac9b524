# SPDX-License-Identifier: Apache-2.0
"""The images that the cluster needs of this project: the operator's, the demo's ticket desk, and a bare Python."""

import shutil

from . import images, kind_cluster, python_root, wheels
from .archive import Layer, Start, write_archive, write_layer
from .choice import Kind
from .places import REPOSITORY, Places
from .progress import say

OPERATOR = "docker.io/library/kubesaga:dev"
DESK = "docker.io/library/kubesaga-desk:dev"
USER = "65532:65532"
_DESK_ARGUMENTS = ("--port", "8080", "--database", "/data/desk.db")
_DESK_SOURCE = REPOSITORY / "examples" / "ticket-desk"
# The root file system may be read-only in the cluster, and the user has no entry in /etc/passwd.
_ENV = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "HOME": "/tmp", "USER": "kubesaga", "LANG": "C.UTF-8"}


def operator(where: Places, kind: str) -> None:
    """The operator from this checkout, as kubesaga:dev and kubesaga:VERSION."""
    names = [OPERATOR, f"docker.io/library/kubesaga:{wheels.project()['version']}"]
    if kind == Kind.KIND:
        kind_cluster.build_with_docker(where, names, REPOSITORY / "Dockerfile", REPOSITORY)
    else:
        log = where.logs / "images.log"
        cache = where.cache / "images"
        root = python_root.python_root(cache, log)
        layers = [root.layer, wheels.dependencies_layer(cache, root, log), wheels.project_layer(cache, root, log)]
        start = Start(entrypoint=("kubesaga",), env=_ENV, user=USER, workdir="/tmp")
        _import(where, kind, "operator", names, layers, start)
    say(f"image: {' and '.join(names)}")


def desk(where: Places, kind: str) -> None:
    """The demo's ticket desk."""
    if kind == Kind.KIND:
        kind_cluster.build_with_docker(where, [DESK], _DESK_SOURCE / "Dockerfile", _DESK_SOURCE)
    else:
        cache = where.cache / "images"
        root = python_root.python_root(cache, where.logs / "images.log")
        folder = cache / "desk.root"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "app").mkdir(parents=True)
        shutil.copy(_DESK_SOURCE / "desk.py", folder / "app" / "desk.py")
        (folder / "data").mkdir()
        (folder / "data").chmod(0o1777)
        start = Start(entrypoint=("python3", "/app/desk.py"), command=_DESK_ARGUMENTS, env=_ENV, user=USER)
        _import(where, kind, "desk", [DESK], [root.layer, write_layer(folder, cache / "desk.layer")], start)
    say(f"image: {DESK}")


def python(where: Places, kind: str) -> None:
    """A bare Python under the name that a user would pull, for pods that run a script."""
    if kind == Kind.KIND:
        kind_cluster.pull_with_docker(where, "python:3.11-slim")
        return
    root = python_root.python_root(where.cache / "images", where.logs / "images.log")
    name = f"docker.io/library/python:{root.python}-slim"
    _import(where, kind, "python", [name], [root.layer], Start(command=("python3",), env={"LANG": "C.UTF-8"}))
    say(f"image: {name}")


def _import(where: Places, kind: str, file: str, names: list[str], layers: list[Layer], start: Start) -> None:
    archive = where.cache / "images" / f"{file}.tar"
    write_archive(archive, names=names, layers=layers, start=start, present=images.layers_on(where, kind))
    images.load(where, kind, archive)
    archive.unlink()
