# SPDX-License-Identifier: Apache-2.0
"""The two images that need nothing but Debian's static busybox: busybox itself and the pause image of every pod's sandbox."""

import re
import shutil
from pathlib import Path

from .archive import Start, write_archive, write_layer
from .node_config import PAUSE_IMAGE
from .progress import output_of

_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
_GROUP = "root:x:0:\nnobody:x:65534:\n"

# Process 1 ignores signals that it has no handler for, so sleep alone would take a pod's whole grace period to end; and in a
# shared process namespace process 1 inherits the orphans, which a shell in `wait` reaps.
_PAUSE = "#!/bin/sh\ntrap 'exit 0' TERM INT\nwhile :; do sleep 2147483647 & wait $!; done\n"


def build(program: Path, folder: Path) -> list[Path]:
    """Writes the archives of both images below `folder`; returns them, the pause image's first."""
    version = version_of(output_of([program]))
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / "root"
    shutil.rmtree(root, ignore_errors=True)
    _fill(root, program)
    layer = write_layer(root, folder / "layer")
    pause, busybox = folder / "pause.tar", folder / "busybox.tar"
    write_archive(pause, names=[PAUSE_IMAGE], layers=[layer], start=Start(entrypoint=("/pause",), user="65535"))
    write_archive(busybox, names=names(version), layers=[layer], start=Start(command=("sh",)))
    return [pause, busybox]


def names(version: str) -> list[str]:
    """`1.35.0` → the names that the image is known by. No `latest`: Kubernetes would try to pull that at every start."""
    minor = version.rpartition(".")[0]
    return [f"docker.io/library/busybox:{tag}" for tag in dict.fromkeys([version, minor])]


def version_of(banner: str) -> str:
    """`BusyBox v1.35.0 (Debian 1:1.35.0-4) multi-call binary.` → `1.35.0`."""
    match = re.search(r"BusyBox v(\d+\.\d+\.\d+)", banner)
    return match[1] if match else "0.0.0"


def _fill(root: Path, program: Path) -> None:
    for name in ("bin", "etc", "root", "tmp", "usr/bin", "usr/sbin", "sbin", "var/log", "home", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(program, root / "bin" / "busybox")
    for applet in output_of([program, "--list"]).split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc" / "passwd").write_text(_PASSWD)
    (root / "etc" / "group").write_text(_GROUP)
    (root / "pause").write_text(_PAUSE)
    (root / "pause").chmod(0o755)
