"""A source of models in the cluster: the stand-in of the Hugging Face Hub in a pod, told from outside how to answer.

It also makes the images of tests: the engine with weights inside, and the stand-in for Ollama as an engine.
"""

import base64
import gzip
import json
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from devcluster import demo
from devcluster.build import cache_dir
from devcluster.images import description
from devcluster.images.builder import build, build_described
from devcluster.progress import Plain
from tests.support import tiny_gguf
from tests.support.cluster import ClusterAccess, make_namespace

HERE = Path(__file__).parent
OLLAMA_FOLDER = "stand_in"
"""Of the stand-in for Ollama and of its registry, in its image."""
PORT, STORE_PORT, REGISTRY_PORT = 8080, 8081, 5000
SENTENCES = {
    "org/tiny": "Hello from a tiny test model.",
    "org/other": "Quite another model says this.",
    "org/slow": "This one took its time to arrive.",
    "org/gated": "You have been let in.",
    "org/heavy": "I need more room than one would think.",
}
"""What the models say, by repository; each has one file, `model.gguf`."""
PADDING = {"org/slow": 3_000_000, "org/heavy": 40_000_000}
"""Bytes; an engine holds them in memory twice."""
BROKEN = {"org/broken": b"This is no model at all, whatever its name says.\n" * 2000}
UNPACK = """
import gzip, json, pathlib
for name, key in json.load(open("/packed/index.json")).items():
    path = pathlib.Path("/models", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.decompress(pathlib.Path("/packed", key).read_bytes()))
"""


def reference(repository: str) -> str:
    """The model of a repository, as a spec names it."""
    return f"hf://{repository}/model.gguf"


@dataclass(frozen=True)
class ModelHub:
    """A Hub that runs."""

    access: ClusterAccess
    namespace: str

    @property
    def url(self) -> str:
        """As pods reach it."""
        return f"http://hub.{self.namespace}.svc:{PORT}"

    def behave(self, **how: Any) -> None:
        """How it answers from now on; nothing: well."""
        self._call("POST", "/ctl", how)

    def asked(self) -> list[dict[str, Any]]:
        """The requests since they were last forgotten, probes aside."""
        found: list[dict[str, Any]] = json.loads(self._call("GET", "/ctl/requests"))
        return found

    def forget(self) -> None:
        """Forgets the requests."""
        self._call("DELETE", "/ctl/requests")

    def _call(self, method: str, path: str, body: Any = None) -> str:
        address = self.access.get("service", "hub", "-n", self.namespace)["spec"]["clusterIP"]
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://{address}:{PORT}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text: str = answer.read().decode()
        return text


@contextmanager
def model_hub(access: ClusterAccess) -> Iterator[ModelHub]:
    """A Hub that is up, in a namespace of its own, and that the chart's operator is told to use."""
    with make_namespace(access, "hub") as namespace:
        files = {f"{repo}/model.gguf": gguf(text, PADDING.get(repo, 0)) for repo, text in SENTENCES.items()}
        files |= {f"{repo}/model.gguf": content for repo, content in BROKEN.items()}
        ports = [{"name": f"p{port}", "port": port, "targetPort": port} for port in (PORT, STORE_PORT)]
        access.apply(
            _packed(files),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "hub"},
                "spec": {"selector": {"app": "hub"}, "ports": ports},
            },
            _pod(access.images["chatbot-runtime"]),
            namespace=namespace,
        )
        access.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/hub", "--timeout=90s", timeout=120)
        hub = ModelHub(access, namespace)
        settings = (f"hubURL={hub.url}", "settings.DOWNLOAD_RETRY_SECONDS=15")
        demo.install({**access.environment}, access.images, Plain(), settings)
        yield hub


def gguf(sentence: str, padding_bytes: int = 0) -> bytes:
    """The file of a model that says this."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.gguf")
        tiny_gguf.write(path, sentence, padding_bytes=padding_bytes)
        return path.read_bytes()


def _packed(files: Mapping[str, bytes]) -> dict[str, Any]:
    names = {name: f"file{number}" for number, name in enumerate(files)}
    packed = {names[name]: base64.b64encode(gzip.compress(content)).decode() for name, content in files.items()}
    scripts = {"hub.py": (HERE / "hub.py").read_text(), "unpack.py": UNPACK, "index.json": json.dumps(names)}
    metadata = {"name": "hub"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": scripts, "binaryData": packed}


def _pod(image: str) -> dict[str, Any]:
    mounts = [{"name": "packed", "mountPath": "/packed"}, {"name": "models", "mountPath": "/models"}]
    repos = [f"--repo={repo}=/models/{repo}" for repo in (*SENTENCES, *BROKEN)]
    serve = ["python", "/packed/hub.py", "--host=0.0.0.0", f"--port={PORT}", f"--store-port={STORE_PORT}"]
    hub = {
        "name": "hub",
        "image": image,
        "command": [*serve, *repos, "--gated=org/gated"],
        "readinessProbe": {"tcpSocket": {"port": STORE_PORT}, "periodSeconds": 1},
        "volumeMounts": mounts,
        "resources": {"requests": {"cpu": "50m"}},
    }
    unpack = {"name": "unpack", "image": image, "command": ["python", "/packed/unpack.py"], "volumeMounts": mounts}
    volumes = [{"name": "packed", "configMap": {"name": "hub"}}, {"name": "models", "emptyDir": {}}]
    spec = {
        "initContainers": [unpack],
        "containers": [hub],
        "volumes": volumes,
        "securityContext": {"fsGroup": 10001},
        "terminationGracePeriodSeconds": 1,
    }
    metadata = {"name": "hub", "labels": {"app": "hub"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def llama_server(access: ClusterAccess) -> str:
    """The image of our llama-server, which the cluster has afterwards."""
    return _loaded(access, build("chatbot-llama-server", Plain()))


def baked(access: ClusterAccess, sentence: str) -> tuple[str, str]:
    """An image of our llama-server with a model inside; its name, and the folder of the model in it."""
    engine = description.load()["chatbot-llama-server"]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights")
        weights.mkdir()
        tiny_gguf.write(weights / "model.gguf", sentence)
        image = replace(engine, name="test-baked", sources=(*engine.sources, weights))
        built = build_described(image, Plain(), cache_dir() / "images")
        return _loaded(access, built), f"{engine.workdir}/weights"


def ollama(access: ClusterAccess) -> str:
    """The image of the stand-in for Ollama, which the cluster has afterwards."""
    runtime = description.load()["chatbot-runtime"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, OLLAMA_FOLDER)
        folder.mkdir()
        for file in HERE.glob("ollama_*.py"):
            shutil.copy(file, folder)
        program = folder / "ollama"
        program.write_text(f'#!/bin/sh\nexec python {runtime.workdir}/{OLLAMA_FOLDER}/ollama_server.py "$@"\n')
        program.chmod(0o755)
        path = f"{runtime.workdir}/{OLLAMA_FOLDER}:/usr/local/bin:/usr/bin:/bin"
        environment = {**runtime.environment, "PATH": path}
        image = replace(runtime, name="test-ollama", sources=(folder,), entrypoint=("ollama",), environment=environment)
        return _loaded(access, build_described(image, Plain(), cache_dir() / "images"))


def _loaded(access: ClusterAccess, built: Any) -> str:
    assert access.cluster is not None, "a cluster that was given must hold the images of engines already"
    access.cluster.load_images([built])
    name: str = built.reference
    return name
