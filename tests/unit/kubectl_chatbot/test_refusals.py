"""What a refused port-forward says: the API server's own sentence, not the handshake."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbot_operator.cluster import Transient
from kubectl_chatbot.client import Client, NoCluster

MESSAGE = "error dialing backend: no route to host"


class _Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"kind": "Status", "message": MESSAGE}).encode()
        self.send_response(500)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """Of a server that refuses every port-forward."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = tmp_path / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "a-secret-token"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(config))
    yield path
    server.shutdown()
    server.server_close()


def test_a_refused_port_forward_is_told_in_the_servers_words_alone(kubeconfig: Path) -> None:
    with pytest.raises(Transient) as caught:
        Client(kubeconfig=str(kubeconfig)).dial("chat", "demo-0", 8000)
    assert caught.value.message == f"port-forward to pod demo-0: {MESSAGE}"


def test_without_a_cluster_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NoCluster, match=r"found\. Set KUBECONFIG"):
        Client(kubeconfig=str(tmp_path / "none"))


def test_a_kubeconfig_that_is_no_yaml_is_told_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "broken"
    file.write_text("clusters: [")
    with pytest.raises(NoCluster, match="use --kubeconfig"):
        Client(kubeconfig=str(file))
