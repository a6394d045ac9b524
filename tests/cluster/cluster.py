# SPDX-License-Identifier: Apache-2.0
"""A cluster as its users see it, through kubectl, and the operator as the process that they run."""

from __future__ import annotations

import json
import os
import random
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
from typing import Any, Self
from urllib.parse import quote

import yaml
from tests.cluster.account import kubeconfig_of_account
from tests.cluster.kubelet import ContainerLost, lost_by_kubelet, twice
from tests.cluster.waiting import PATIENCE, wait_for

ROOT = Path(__file__).resolve().parents[2]
FINISHED = ("Succeeded", "Failed", "Compensated", "Cancelled", "Terminated")
_IMPORTED = ("operator", "tests/cluster", "examples/handlers", "examples/saga")
"""Where the operator under test finds itself, and handlers."""
OURS = "kubesaga.dev/"
"""What all our labels and finalizers begin with."""
UNTIL_STOPPED = "trap 'exit 1' TERM; sleep 1000 & wait"
"""A script that runs until it is told to stop, and then stops at once: PID 1 without a trap has to be killed after 30 s."""


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
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=2 * PATIENCE)
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done

    def install_crds(self, folder: Path) -> None:
        """Apply the CRDs; without validation, because servers before 1.25 do not know CEL rules."""
        self.kubectl("apply", "--validate=false", "-f", str(folder))
        for path in folder.glob("*.yaml"):
            name = yaml.safe_load(path.read_text())["metadata"]["name"]
            self.kubectl("wait", "--for=condition=Established", f"crd/{name}", f"--timeout={PATIENCE}s")

    @contextmanager
    def in_new_namespace(self) -> Iterator[Cluster]:
        """Yield the cluster in a namespace of its own."""
        name = f"test-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", name)
        inside = Cluster(self.kubeconfig, name, self.proxy)
        try:
            # Its ServiceAccount comes a moment later, and before 1.24 that one's token after that.
            wait_for("the namespace to take pods", lambda: not inside.refusal())
            yield inside
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
            inside._let_go()

    def refusal(self) -> str:
        """Return what the API server says against a pod in the namespace; "" if it would take one. None is made."""
        container = {"name": "a", "image": "a"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "try"}, "spec": {"containers": [container]}}
        url = f"{self.proxy}{collection('pods', self.namespace)}?dryRun=All"
        json_type = {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(url, json.dumps(pod).encode(), json_type)
            urllib.request.urlopen(request, timeout=PATIENCE).close()
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()
        return ""

    def held(self) -> list[dict[str, Any]]:
        """Return the runs that have finished, and the pods of such, that finalizers of ours still hold."""
        runs = self.list("workflowruns")
        live = {run["metadata"]["name"] for run in runs if (run.get("status") or {}).get("phase") not in FINISHED}
        over = [run for run in runs if run["metadata"]["name"] not in live]
        pods = [pod for pod in self.list("pods") if pod["metadata"].get("labels", {}).get(f"{OURS}run") not in live]
        return [each for each in (*over, *pods) if _is_held(each)]

    def _let_go(self) -> None:
        """Take our finalizers off what a test that failed has left: nobody else would, and the namespace would stay."""
        for kind in ("workflowruns", "pods"):
            for each in filter(_is_held, self.list(kind)):
                name = each["metadata"]["name"]
                print(f"{kind} {name} is still held when its test is over")
                self.kubectl("patch", kind, name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}', check=False)

    def apply(self, *documents: dict[str, Any], check: bool = True) -> subprocess.CompletedProcess[str]:
        """Apply documents."""
        # As JSON: what is `N` or `y` to YAML 1.1 is a boolean.
        listed = {"apiVersion": "v1", "kind": "List", "items": documents}
        return self.kubectl("apply", "-f", "-", stdin=json.dumps(listed), check=check)

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object, None if there is none."""
        return self._read(f"{collection(kind, self.namespace)}/{name}")

    def list(self, kind: str, labels: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind that bear these labels."""
        found = self._read(f"{collection(kind, self.namespace)}?labelSelector={quote(labels)}")
        items: list[dict[str, Any]] = (found or {}).get("items", [])
        return items

    def _read(self, path: str) -> dict[str, Any] | None:
        """Ask the API server through `kubectl proxy`: a kubectl of its own for each look would take all the processor."""
        for tries_left in (2, 1, 0):
            try:
                with urllib.request.urlopen(f"{self.proxy}{path}", timeout=PATIENCE / 3) as answer:
                    found: dict[str, Any] = json.load(answer)
                    return found
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 404:
                    return None
                if not tries_left or error.code not in (429, 500, 502, 503, 504):
                    raise
            except OSError:
                if not tries_left:
                    raise
            time.sleep(1)  # the API server is too busy to answer, which no test is about
        raise AssertionError

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

    def wait_status(self, run: str, what: str, fits: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Return the first status of a run that fits. Fails at once when it has finished with one that does not."""

        def look() -> dict[str, Any] | None:
            status = self.status(run)
            told = f"{run} should be {what}, and has finished: {json.dumps(status, indent=1)}"
            fit = fits(status)
            assert fit or status.get("phase") not in FINISHED, told
            return status if fit else None

        return wait_for(f"{run} to be {what}", look, otherwise=lambda: json.dumps(self.status(run), indent=1))

    def wait_phase(self, run: str, *phases: str) -> dict[str, Any]:
        """Return the status of a run once it is in one of the phases."""
        return self.wait_status(run, " or ".join(phases), lambda status: status.get("phase") in phases)

    def wait_activity(self, run: str, activity: str, **wanted: Any) -> dict[str, Any]:
        """Return what is recorded of an activity once it has these fields. They must be ones that it keeps for a while."""

        def fits(status: dict[str, Any]) -> bool:
            found = status.get("activities", {}).get(activity)
            return found is not None and all(found.get(name) == value for name, value in wanted.items())

        found: dict[str, Any] = self.wait_status(run, f"{activity} {wanted}", fits)["activities"][activity]
        return found

    def wait_pod(self, name: str, phase: str) -> dict[str, Any]:
        """Return a pod once it is in a phase, one that it stays in until the test goes on."""

        def look() -> dict[str, Any] | None:
            pod = self.find("pods", name) or {"metadata": {}}
            if lost_by_kubelet(pod):
                raise ContainerLost(name)
            return pod if pod.get("status", {}).get("phase") == phase else None

        return wait_for(f"{name} to be {phase}", look)

    def finished(self, run: str) -> dict[str, Any]:
        """Return the status of a run once it has finished, however. Raises ContainerLost."""
        status = self.wait_phase(run, *FINISHED)
        if lost := [pod for pod in self.list("pods", f"{OURS}run={run}") if lost_by_kubelet(pod)]:
            raise ContainerLost(", ".join(pod["metadata"]["name"] for pod in lost))
        return status

    def carried_out(self, name: str, workflow: str | dict[str, Any], **spec: Any) -> tuple[str, dict[str, Any]]:
        """Create a run; return its name and its status once it has finished: another one's if the kubelet lost a container."""

        def once(run: str) -> tuple[str, dict[str, Any]]:
            self.run(run, workflow, **spec)
            return run, self.finished(run)

        return twice(name, once)

    def patch_run(self, name: str, **spec: Any) -> None:
        """Change fields of a run's spec."""
        self.kubectl("patch", "workflowruns.kubesaga.dev", name, "--type=merge", "-p", json.dumps({"spec": spec}))


def _is_held(each: dict[str, Any]) -> bool:
    return any(finalizer.startswith(OURS) for finalizer in each["metadata"].get("finalizers") or ())


def collection(kind: str, namespace: str) -> str:
    """Return the path of the objects of a kind in a namespace."""
    group = {
        "workflowruns": "apis/kubesaga.dev/v1alpha1",
        "workflows": "apis/kubesaga.dev/v1alpha1",
        "workflowactions": "apis/kubesaga.dev/v1alpha1",
        "activities": "apis/kubesaga.dev/v1alpha1",
        "workfloweventsources": "apis/kubesaga.dev/v1alpha1",
        "controllerrevisions": "apis/apps/v1",
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
        self._born = 0

    def __enter__(self) -> Self:
        self._kubeconfig = self.cluster.kubeconfig
        if not self.as_admin:
            self._kubeconfig = kubeconfig_of_account(self.cluster, self.folder / "operator.kubeconfig")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._alive:
                self._wait_let_go()
        except BaseException as late:
            error = late
            raise
        finally:
            self.stop()
            if error is not None:
                print(self.log()[-6000:])

    def start(self, *handlers: str, **settings: str) -> None:
        """Start it, and wait until it leads."""
        self.launch(*handlers, **settings)
        wait_for("the operator to lead", lambda: self.leads)

    def launch(self, *handlers: str, **settings: str) -> None:
        """Start it, and do not wait. One that still runs is ended first."""
        self.stop()
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join(str(ROOT / folder) for folder in _IMPORTED),
            "KUBESAGA_NAMESPACES": self.cluster.namespace,
            "KUBESAGA_LEASE_NAMESPACE": self.cluster.namespace,
            "KUBESAGA_IDENTITY": "operator-0",
            "KUBESAGA_HTTP_HOST": "127.0.0.1",
            "KUBESAGA_HTTP_PORT": str(self.port),
            "KUBESAGA_HANDLERS": ",".join(handlers),
            **{f"KUBESAGA_{name.upper()}": value for name, value in (self.settings | settings).items()},
        }
        with self._log_file.open("ab") as log:
            self._born = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kubesaga", "controller", "--kubeconfig", str(self._kubeconfig)],
                env=environment, stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip

    def kill(self) -> None:
        """End it as a crash does: SIGKILL."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=PATIENCE)

    def stop(self) -> int | None:
        """End it as Kubernetes does: SIGTERM, and 30 s of grace; return its exit status."""
        if self._process is None or not self._alive:
            return None
        self._process.terminate()
        try:
            return self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def log(self) -> str:
        """Return what it has logged so far, over all its lives."""
        return self._log_file.read_text() if self._log_file.exists() else ""

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of its HTTP port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE / 3) as answer:
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

    def _wait_let_go(self) -> None:
        """Wait for what comes after a run's last status: an operator that is stopped before that leaves it held."""
        held = self.cluster.held
        wait_for(
            "what has finished to be let go", lambda: not held(), otherwise=lambda: [e["metadata"] for e in held()]
        )

    @property
    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def leads(self) -> bool:
        """Tell whether it has said, in this life, that it leads."""
        assert self._alive, f"the operator ended by itself: {self.log()[-3000:]}"
        return b"kubesaga leads as" in self._log_file.read_bytes()[self._born :]


def _free_port() -> int:
    """Return a port that is free and will be when the operator comes back: outgoing connections never take one this low."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("a hundred ports are taken")
