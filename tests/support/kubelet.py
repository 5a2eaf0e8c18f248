"""What stands behind fake nodes for logs and port-forward: speaks a kubelet's side of both to the API server.

Logs are what a test says; a forwarded port leads to a real server of this machine.
"""

import asyncio
import contextlib
import json
import ssl
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime

from aiohttp import WSCloseCode, WSMsgType, web

from tests.support.cluster import ClusterAccess
from tests.support.loop_thread import LoopThread

PROTOCOLS = ("v4.channel.k8s.io",)
DATA, ERROR = b"\x00", b"\x01"


class Kubelet(LoopThread):
    """One for all fake nodes of a control plane, in a thread of its own."""

    def __init__(self, certificate: ssl.SSLContext) -> None:
        super().__init__()
        self.targets: dict[str, tuple[str, int]] = {}
        """Where a pod's port leads; "*" for every other pod."""
        self.forwarded: list[str] = []
        self._logs: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        self._certificate = certificate
        self._changed = asyncio.Condition()
        self.port = 0

    def log(self, pod: str, container: str, text: str, at: str = "") -> None:
        """A container writes a line, now unless said otherwise."""
        stamp = at or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")

        async def add() -> None:
            async with self._changed:
                self._logs[pod, container].append((stamp, text))
                self._changed.notify_all()

        asyncio.run_coroutine_threadsafe(add(), self._loop).result(5)

    async def _close(self) -> None:
        await self._runner.cleanup()

    async def _serve(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._container_logs),
                web.get("/portForward/{namespace}/{pod}", self._port_forward),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._certificate).start()
        self.port = self._runner.addresses[0][1]

    async def _container_logs(self, request: web.Request) -> web.StreamResponse:
        query, lines = request.query, self._logs[request.match_info["pod"], request.match_info["container"]]
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        sent = max(0, len(lines) - int(query.get("tailLines", len(lines))))
        since = query.get("sinceTime", "")
        while True:
            for stamp, text in lines[sent:]:
                if stamp >= since:
                    await response.write(f"{stamp} {text}\n".encode())
            sent = len(lines)
            if query.get("follow") != "true":
                return response
            async with self._changed:
                while len(lines) == sent:
                    await self._changed.wait()

    async def _port_forward(self, request: web.Request) -> web.WebSocketResponse:
        pod, port = request.match_info["pod"], int(request.query["port"])
        socket = web.WebSocketResponse(protocols=PROTOCOLS)
        await socket.prepare(request)
        self.forwarded.append(pod)
        for channel in (DATA, ERROR):
            await socket.send_bytes(channel + port.to_bytes(2, "little"))
        try:
            reader, writer = await asyncio.open_connection(
                *self.targets.get(pod, self.targets.get("*", ("127.0.0.1", 1)))
            )
        except OSError as error:
            await socket.send_bytes(ERROR + f"connection refused: {error}".encode())
            await socket.close()
            return socket
        back = asyncio.create_task(self._back(reader, socket))
        async for message in socket:
            if message.type == WSMsgType.BINARY and message.data[:1] == DATA:
                writer.write(message.data[1:])
        back.cancel()
        writer.close()
        return socket

    @staticmethod
    async def _back(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                await socket.send_bytes(DATA + data)
            await socket.close(code=WSCloseCode.OK)


@contextlib.contextmanager
def kubelet_on(access: ClusterAccess) -> Iterator[Kubelet]:
    """A kubelet behind every node of a control plane of our own. It shows the API server's own certificate, which is of
    the authority that kubelets are checked against."""
    assert access.cluster is not None
    pki = access.cluster.layout.pki
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")
    kubelet = Kubelet(certificate)
    kubelet.start()
    endpoint = {"kubeletEndpoint": {"Port": kubelet.port}}
    status = {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": endpoint}
    try:
        for node in access.get("nodes")["items"]:
            name = node["metadata"]["name"]
            patch = json.dumps({"status": status})
            access.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", patch)
        yield kubelet
    finally:
        kubelet.stop()
