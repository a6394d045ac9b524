# SPDX-License-Identifier: Apache-2.0
"""The cluster's certificate authority and what it signs, made with the openssl command."""

import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .places import API_SERVICE, CLUSTER_DOMAIN, NODE_ADDRESS, NODE_NAME
from .progress import run

_DAYS = "3650"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One certificate: `group` is the Kubernetes group (O=), `names` are DNS names and addresses it serves under."""

    file: str
    user: str
    group: str = ""
    names: tuple[str, ...] = ()


API_SERVER_NAMES = (
    "localhost",
    NODE_NAME,
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    f"kubernetes.default.svc.{CLUSTER_DOMAIN}",
    "127.0.0.1",
    NODE_ADDRESS,
    API_SERVICE,
)

IDENTITIES = (
    Identity(file="apiserver", user="kube-apiserver", names=API_SERVER_NAMES),
    Identity(file="apiserver-kubelet-client", user="kube-apiserver-kubelet-client", group="system:masters"),
    Identity(file="controller-manager", user="system:kube-controller-manager"),
    Identity(file="scheduler", user="system:kube-scheduler"),
    Identity(file="proxy", user="system:kube-proxy"),
    Identity(file="dns", user="kubesaga-dns", group="system:masters"),
    Identity(
        file="kubelet",
        user=f"system:node:{NODE_NAME}",
        group="system:nodes",
        names=(NODE_NAME, NODE_ADDRESS, "127.0.0.1"),
    ),
)


def make(folder: Path, log: Path) -> str:
    """Makes what is missing in `folder`; returns the administrator's token."""
    authority = folder / "ca.crt"
    if not authority.exists():
        _key(folder / "ca.key", log)
        run(
            [
                *("openssl", "req", "-x509", "-new", "-sha256", "-days", _DAYS, "-key", folder / "ca.key"),
                *("-subj", "/CN=kubesaga-ca", "-addext", "basicConstraints=critical,CA:TRUE"),
                *("-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", authority),
            ],
            log=log,
        )
    if not (folder / "sa.key").exists():
        _key(folder / "sa.key", log)
    for identity in IDENTITIES:
        if not (folder / f"{identity.file}.crt").exists():
            _sign(folder, identity, log)
    return _token(folder / "tokens.csv")


def _token(file: Path) -> str:
    if not file.exists():
        file.write_text(f'{secrets.token_hex(32)},admin,admin,"system:masters"\n')
        file.chmod(0o600)
    return file.read_text().split(",", 1)[0]


def _key(file: Path, log: Path) -> None:
    run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", file], log=log)
    file.chmod(0o600)


def _sign(folder: Path, identity: Identity, log: Path) -> None:
    key, request, extensions = (folder / f"{identity.file}.{suffix}" for suffix in ("key", "csr", "ext"))
    _key(key, log)
    run(["openssl", "req", "-new", "-key", key, "-subj", subject(identity), "-out", request], log=log)
    extensions.write_text(extension_file(identity.names))
    run(
        [
            *("openssl", "x509", "-req", "-sha256", "-days", _DAYS, "-in", request, "-extfile", extensions),
            *("-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial"),
            *("-out", folder / f"{identity.file}.crt"),
        ],
        log=log,
    )


def subject(identity: Identity) -> str:
    """The subject that Kubernetes reads user and group from."""
    return (f"/O={identity.group}" if identity.group else "") + f"/CN={identity.user}"


def extension_file(names: Sequence[str]) -> str:
    """OpenSSL's extensions for a certificate: a client's, and a server's too where it has names."""
    lines = ["basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature"]
    lines.append("extendedKeyUsage=clientAuth" + (",serverAuth" if names else ""))
    if names:
        lines.append(
            "subjectAltName=" + ",".join(f"IP:{name}" if _is_address(name) else f"DNS:{name}" for name in names)
        )
    return "\n".join(lines) + "\n"


def _is_address(name: str) -> bool:
    try:
        socket.inet_aton(name)
    except OSError:
        return False
    return name.count(".") == 3
