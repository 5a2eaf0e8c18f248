"""Servers to measure: the runtime, variants of it, and its peers, each a process on one core. It measures nothing."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.runtime_load import JSON
from devcluster.processes import wait_until
from tests.support.runtime_process import RuntimeProcess, chat_bytes, question

PEERS = Path(__file__).parent / "peers"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatbot-operator" / "bench"
FASTAPI = ("fastapi", "uvicorn", "httptools", "uvloop", "orjson", "prometheus-client")
LITELLM = ("litellm[proxy]",)
LITELLM_ENVIRON = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # it listens on loopback only
}
START_SECONDS = 120.0
CORES = sorted(os.sched_getaffinity(0))
LOAD_CORE, SERVER_CORE = {CORES[0]}, {CORES[-1]}


class Unavailable(Exception):
    """A peer cannot be installed or started here; the message says why."""


@dataclass(frozen=True)
class Server:
    """A process that answers on loopback."""

    name: str
    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """CPU time of the process's threads, in seconds; finer than the clock ticks of `stat`."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


@contextlib.contextmanager
def on_core(core: set[int]) -> Iterator[None]:
    """What is started inside runs on `core`; this process is on the load generator's after it."""
    os.sched_setaffinity(0, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, LOAD_CORE)


@contextlib.contextmanager
def runtime(name: str = "runtime", module: str = "chatbot_runtime", **settings: object) -> Iterator[Server]:
    """The runtime, or a variant of it."""
    with on_core(SERVER_CORE):
        process = RuntimeProcess(module, **settings)
    with process:
        yield Server(name, process.pid, process.port)


@contextlib.contextmanager
def runtime_without(parts: str, **settings: object) -> Iterator[Server]:
    """The runtime without `log`, `metrics` or `log,metrics`."""
    os.environ["BENCH_WITHOUT"] = parts
    with runtime(f"without {parts}", "bench.peers.runtime_variant", **settings) as server:
        yield server


@contextlib.contextmanager
def bare(answer: Path, per_second: float) -> Iterator[Server]:
    """aiohttp, orjson and uvloop with nothing round them."""
    command = [sys.executable, str(PEERS / "bare_aiohttp.py"), str(answer), str(per_second)]
    with started("bare aiohttp", command) as server:
        yield server


@contextlib.contextmanager
def fastapi(answer: Path) -> Iterator[Server]:
    """FastAPI on uvicorn, with the same duties."""
    python = environment("fastapi", FASTAPI)
    with started("FastAPI", [str(python), str(PEERS / "fastapi_server.py"), str(answer)]) as server:
        yield server


@contextlib.contextmanager
def litellm(answer: Path) -> Iterator[Server]:
    """litellm's proxy with a mock answer."""
    text = json.loads(answer.read_bytes())["choices"][0]["message"]["content"]
    parameters = {"model": "openai/mock", "api_key": "none", "mock_response": text}
    with litellm_proxy(answer.with_name("litellm.yaml"), parameters) as server:
        yield server


@contextlib.contextmanager
def litellm_proxy(config: Path, parameters: Mapping[str, str]) -> Iterator[Server]:
    """litellm's proxy with one model."""
    python, port = environment("litellm", LITELLM), free_port()
    # JSON is YAML too.
    config.write_text(json.dumps({"model_list": [{"model_name": "mock", "litellm_params": parameters}]}))
    command = [str(python.with_name("litellm")), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with started("litellm", command, port) as server:
        yield server


def environment(name: str, packages: tuple[str, ...]) -> Path:
    """The Python of a virtual environment with these packages, in the user's cache; made when it is first needed."""
    folder = CACHE / name
    python, ready = folder / "bin/python", folder / "ready"
    if not ready.exists():
        print(f"installing {', '.join(packages)} into {folder}", file=sys.stderr)
        uv = [sys.executable, "-m", "uv"]
        for command in (
            [*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
            [*uv, "pip", "install", "--quiet", "--python", str(python), *packages],
        ):
            if subprocess.run(command, check=False).returncode != 0:
                raise Unavailable(f"{', '.join(packages)} cannot be installed")
        ready.touch()
    return python


@contextlib.contextmanager
def started(name: str, command: list[str], port: int = 0, core: set[int] = SERVER_CORE) -> Iterator[Server]:
    """A process that prints its port, or listens on `port`, and then answers."""
    environ = os.environ | LITELLM_ENVIRON | {"NO_PROXY": "*"}
    with on_core(core):
        # A pipe that is not read to its end stops whoever logs into it.
        output = subprocess.DEVNULL if port else subprocess.PIPE
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, env=environ)
    try:
        port = port or int((process.stdout and process.stdout.readline()) or 0)
        server = Server(name, process.pid, port)
        with contextlib.suppress(TimeoutError):
            wait_until(f"{name} answers", lambda: process.poll() is not None or _answers(port), START_SECONDS, 0.2)
        if process.poll() is not None or not _answers(port):
            raise Unavailable(f"{name} does not answer")
        yield server
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(chat_bytes(question("hello", model="mock"), JSON, "Connection: close"))
        return b" 200 " in connection.recv(100)
    return False
