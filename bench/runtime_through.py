"""The runtime in phase hf and its peers, each before the same upstream. It measures nothing."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from bench import runtime_peers as peers
from bench.runtime_peers import PEERS, Server, Unavailable, started

OURS = "runtime"
STARLETTE = ("starlette", "uvicorn", "httptools", "uvloop", "httpx")
MANY = 10_000_000
NGINX = """daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests {many};
  client_body_buffer_size 64k;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests {many}; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer hf_bench";
      proxy_buffering off;
    }}
  }}
}}
"""
"""One process, as it is the other peers' number; what arrives is passed on at once."""


def upstream(answer: Path, per_second: float, tokens: int) -> AbstractContextManager[Server]:
    """The provider's stand-in, beside the load generator."""
    command = [sys.executable, str(PEERS / "upstream.py"), str(answer), str(per_second), str(tokens)]
    return started("direct", command, core=peers.LOAD_CORE)


def hosted_settings(provider: Server, folder: Path) -> dict[str, object]:
    """The runtime's settings: no limit is met, and nobody stands in for the provider."""
    settings, token = folder / "hosted.json", folder / "token"
    access = {"requestsPerMinute": MANY, "concurrentRequests": MANY}
    fallback = {"to": "none", "afterFailures": MANY}
    settings.write_text(json.dumps({"access": access, "hf": {"requestsPerMinute": MANY}, "fallback": fallback}))
    token.write_text("hf_bench")
    return {
        "phase": "hf",
        "models": "mock",
        "base_url": _url(provider),
        "server": "router",
        "allowed_hosts": "127.0.0.1",
        "token_file": token,
        "settings_file": settings,
        "max_running": 1024,
        "queue_seconds": 60,
        "NO_PROXY": "*",
    }


def runtime(provider: Server, folder: Path) -> AbstractContextManager[Server]:
    """The runtime."""
    return peers.runtime(OURS, "chatbot_runtime", **hosted_settings(provider, folder))


def aiohttp(provider: Server, _: Path) -> AbstractContextManager[Server]:
    """aiohttp and orjson with nothing round them."""
    return started("bare aiohttp", [sys.executable, str(PEERS / "through_aiohttp.py"), _url(provider)])


def hub(provider: Server, _: Path) -> AbstractContextManager[Server]:
    """A handler on `AsyncInferenceClient`."""
    return started("AsyncInferenceClient", [sys.executable, str(PEERS / "through_hub.py"), _url(provider)])


def starlette(provider: Server, _: Path) -> AbstractContextManager[Server]:
    """starlette and httpx on uvicorn."""
    python = peers.environment("starlette", STARLETTE)
    return started("starlette + httpx", [str(python), str(PEERS / "through_starlette.py"), _url(provider)])


def go(provider: Server, _: Path) -> AbstractContextManager[Server]:
    """`httputil.ReverseProxy`, built once."""
    source, program = PEERS / "through.go", peers.CACHE / "go" / "through"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        if shutil.which("go") is None:
            raise Unavailable("go is not on the PATH")
        program.parent.mkdir(parents=True, exist_ok=True)
        environ = os.environ | {"GOPROXY": "off", "GOTOOLCHAIN": "local", "GO111MODULE": "auto"}
        if subprocess.run(["go", "build", "-o", str(program), str(source)], check=False, env=environ).returncode != 0:
            raise Unavailable("its program cannot be built")
    return started("Go ReverseProxy", [str(program), f"http://127.0.0.1:{provider.port}"])


def nginx(provider: Server, folder: Path) -> AbstractContextManager[Server]:
    """nginx, if it is installed."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise Unavailable("nginx is not on the PATH")
    port, config = peers.free_port(), folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, upstream=provider.port, many=MANY))
    return started("nginx", [program, "-e", "stderr", "-p", str(folder), "-c", str(config)], port)


def litellm(provider: Server, folder: Path) -> AbstractContextManager[Server]:
    """litellm's proxy."""
    parameters = {"model": "openai/mock", "api_key": "hf_bench", "api_base": _url(provider)}
    return peers.litellm_proxy(folder / "litellm.yaml", parameters)


Start = Callable[[Server, Path], AbstractContextManager[Server]]
SERVERS: dict[str, Start] = {
    OURS: runtime,
    "bare aiohttp": aiohttp,
    "AsyncInferenceClient": hub,
    "starlette + httpx": starlette,
    "Go ReverseProxy": go,
    "nginx": nginx,
    "litellm": litellm,
}


@contextlib.contextmanager
def all_of(provider: Server, folder: Path) -> Iterator[list[Server]]:
    """Every server that can be had here; the others are named."""
    with contextlib.ExitStack() as stack:
        servers = []
        for name, start in SERVERS.items():
            try:
                servers.append(stack.enter_context(start(provider, folder)))
            except Unavailable as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
        yield servers


def _url(provider: Server) -> str:
    return f"http://127.0.0.1:{provider.port}/v1"
