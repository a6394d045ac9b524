# SPDX-License-Identifier: Apache-2.0
"""A cluster as its users see it, through kubectl, and the operator as the process that they run."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import yaml
from helm_python import Chart

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T | None], *, within: float = 60, every: float = 0.1) -> T:
    """Return the first thing that `look` finds. Fails after `within` seconds, saying what was waited for."""
    end = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"waited {within:g} s for {what}"
        time.sleep(every)


class Cluster:
    """kubectl in one namespace, with the rights of an administrator."""

    def __init__(self, kubeconfig: Path, namespace: str = "default", proxy: str = "") -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.proxy = proxy
        self._kubectl = shutil.which("kubectl") or str(Path(sys.executable).with_name("kubectl"))

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl."""
        command = [self._kubectl, "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=90)
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done

    def install_crds(self, folder: Path) -> None:
        """Apply the CRDs; without validation, because servers before 1.25 do not know CEL rules."""
        self.kubectl("apply", "--validate=false", "-f", str(folder))
        for path in folder.glob("*.yaml"):
            name = yaml.safe_load(path.read_text())["metadata"]["name"]
            self.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")

    @contextmanager
    def in_new_namespace(self) -> Iterator[Cluster]:
        """Yield the cluster in a namespace of its own."""
        name = f"test-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", name)
        inside = Cluster(self.kubeconfig, name, self.proxy)
        wait_for("the ServiceAccount", lambda: inside.find("serviceaccounts", "default"))
        try:
            yield inside
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def apply(self, *documents: dict[str, Any], check: bool = True) -> subprocess.CompletedProcess[str]:
        """Apply documents."""
        # As JSON: what is `N` or `y` to YAML 1.1 is a boolean.
        listed = {"apiVersion": "v1", "kind": "List", "items": documents}
        return self.kubectl("apply", "-f", "-", stdin=json.dumps(listed), check=check)

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object, None if there is none."""
        return self._read(f"{_collection(kind, self.namespace)}/{name}")

    def list(self, kind: str, labels: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind that bear these labels."""
        found = self._read(f"{_collection(kind, self.namespace)}?labelSelector={quote(labels)}")
        items: list[dict[str, Any]] = (found or {}).get("items", [])
        return items

    def _read(self, path: str) -> dict[str, Any] | None:
        """Ask the API server through `kubectl proxy`: a kubectl of its own for each look would take all the processor."""
        try:
            with urllib.request.urlopen(f"{self.proxy}{path}", timeout=20) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def run(self, name: str, workflow: str | dict[str, Any], **spec: Any) -> None:
        """Create a run of a Workflow, or of a spec of its own, in which nothing is tried again unless it says so."""
        if isinstance(workflow, str):
            what: dict[str, Any] = {"workflowRef": {"name": workflow}}
        else:
            once = {"activityError": {"retry": {"maxAttempts": 1}}}
            what = {"workflowSpec": {"errorHandling": once, **workflow}}
        self.apply(document("WorkflowRun", name, {**what, **spec}))

    def status(self, run: str) -> dict[str, Any]:
        """Return a run's status."""
        found = self.find("workflowruns", run) or {}
        status: dict[str, Any] = found.get("status") or {}
        return status

    def wait_phase(self, run: str, *phases: str, within: float = 90) -> dict[str, Any]:
        """Return the status of a run once it is in one of the phases."""

        def look() -> dict[str, Any] | None:
            status = self.status(run)
            return status if status.get("phase") in phases else None

        try:
            return wait_for(f"{run} to be {' or '.join(phases)}", look, within=within, every=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {json.dumps(self.status(run), indent=1)}") from None

    def wait_activity(self, run: str, activity: str, *, within: float = 60, **wanted: Any) -> dict[str, Any]:
        """Return what is recorded of an activity once it has these fields."""

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] | None = self.status(run).get("activities", {}).get(activity)
            fits = found is not None and all(found.get(name) == value for name, value in wanted.items())
            return found if fits else None

        return wait_for(f"{activity} of {run} to be {wanted}", look, within=within)


def _collection(kind: str, namespace: str) -> str:
    """Return the path of the objects of a kind in a namespace."""
    group = {
        "workflowruns": "apis/kubesaga.dev/v1alpha1",
        "workflows": "apis/kubesaga.dev/v1alpha1",
        "leases": "apis/coordination.k8s.io/v1",
    }.get(kind, "api/v1")
    return f"/{group}/namespaces/{namespace}/{kind}"


@contextmanager
def proxied(kubeconfig: Path) -> Iterator[Cluster]:
    """Yield the cluster, with a `kubectl proxy` at work."""
    cluster = Cluster(kubeconfig)
    command = [cluster._kubectl, "--kubeconfig", str(kubeconfig), "proxy", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().rpartition(" ")[2].strip()
            yield Cluster(kubeconfig, proxy=f"http://{address}")
        finally:
            process.terminate()


def document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return one of our own objects."""
    return {"apiVersion": "kubesaga.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def busybox(script: str, **more: Any) -> dict[str, Any]:
    """Return the pod part of an activity that runs a shell script."""
    image = {"image": "docker.io/library/busybox:1.35", "imagePullPolicy": "IfNotPresent"}
    return {**image, "command": ["sh", "-c", script], **more}


class Operator:
    """`kubesaga controller` as a process, with the rights that the chart gives its ServiceAccount in one namespace."""

    def __init__(self, cluster: Cluster, folder: Path, *, as_admin: bool = False, **settings: str) -> None:
        self.cluster = cluster
        self.as_admin = as_admin
        self.folder = folder
        self.settings = settings
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._kubeconfig: Path | None = None

    def __enter__(self) -> Self:
        self._kubeconfig = self.cluster.kubeconfig if self.as_admin else self._account()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            print(self.log()[-6000:])

    def start(self, *handlers: str, **settings: str) -> None:
        """Start it, and wait until it leads."""
        self.launch(*handlers, **settings)
        wait_for("the operator to lead", lambda: self.leads, within=40)

    def launch(self, *handlers: str, **settings: str) -> None:
        """Start it, and do not wait."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'tests' / 'cluster'}:{ROOT / 'examples' / 'handlers'}",
            "KUBESAGA_NAMESPACES": self.cluster.namespace,
            "KUBESAGA_LEASE_NAMESPACE": self.cluster.namespace,
            "KUBESAGA_IDENTITY": "operator-0",
            "KUBESAGA_HTTP_HOST": "127.0.0.1",
            "KUBESAGA_HTTP_PORT": str(self.port),
            "KUBESAGA_HANDLERS": ",".join(handlers),
            **{f"KUBESAGA_{name.upper()}": value for name, value in (self.settings | settings).items()},
        }
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kubesaga", "controller", "--kubeconfig", str(self._kubeconfig)],
                env=environment, stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip

    def kill(self) -> None:
        """End it as a crash does: SIGKILL."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=20)

    def stop(self) -> int | None:
        """End it as Kubernetes does: SIGTERM; return its exit status."""
        if self._process is None or self._process.poll() is not None:
            return None
        self._process.terminate()
        try:
            return self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def log(self) -> str:
        """Return what it has logged so far, over all its lives."""
        return self._log_file.read_text() if self._log_file.exists() else ""

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of its HTTP port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    @property
    def memory(self) -> int:
        """Bytes of resident memory."""
        assert self._process is not None
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def _log_file(self) -> Path:
        return self.folder / "operator.log"

    @property
    def leads(self) -> bool:
        """Tell whether it has said, in this life, that it leads."""
        assert self._process is not None
        assert self._process.poll() is None, f"the operator ended by itself: {self.log()[-3000:]}"
        return "kubesaga leads as" in self.log().rpartition("serves /metrics")[2]

    def _account(self) -> Path:
        """Make the ServiceAccount with the chart's own RBAC, and a kubeconfig that bears its token."""
        cluster, namespace = self.cluster, self.cluster.namespace
        values = {"watchNamespaces": [namespace], "crds": {"install": False}, "rbac": {"aggregatedRoles": False}}
        rendered = Chart.load(str(ROOT / "charts" / "kubesaga")).render(values, name="kubesaga", namespace=namespace)
        wanted = ("ServiceAccount", "Role", "RoleBinding")
        texts = [text for path, text in rendered.items() if path.endswith(".yaml")]
        documents = [doc for text in texts for doc in yaml.safe_load_all(text) if doc]
        documents = [doc for doc in documents if doc.get("kind") in wanted]
        cluster.apply(*documents)
        account = next(doc["metadata"]["name"] for doc in documents if doc["kind"] == "ServiceAccount")
        secret = {
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": "kubesaga-token", "annotations": {"kubernetes.io/service-account.name": account}},
        }  # fmt: skip
        cluster.apply(secret)

        def token() -> str | None:
            found = cluster.find("secrets", "kubesaga-token") or {}
            return (found.get("data") or {}).get("token")

        config = yaml.safe_load(cluster.kubeconfig.read_text())
        bearer = base64.b64decode(wait_for("the ServiceAccount's token", token)).decode()
        config["users"] = [{"name": "kubesaga", "user": {"token": bearer}}]
        config["contexts"] = [
            {
                "name": "kubesaga",
                "context": {**config["contexts"][0]["context"], "user": "kubesaga", "namespace": namespace},
            }
        ]
        config["current-context"] = "kubesaga"
        path = self.folder / "operator.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
