"""The Kubernetes API as this tool uses it, on the official client: the only module that imports it. It must not know
what a Chatbot is."""

import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3
import yaml
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException

from chatbot_operator.cluster import Transient
from chatbot_operator.kinds import POD, Kind, RawObject, Ref
from chatbot_operator.rest import error_of, path

MANAGER = "kubectl-chatbot"
"""Field manager of what this tool writes."""

PAGE = 500
_SECONDS = 30
_FORWARD_THREAD = "Kubernetes port forward proxy"


class NoCluster(Exception):
    """It is not known which cluster is meant; the message says what to do."""


class Client:
    """One cluster, as a kubeconfig's context names it. Every call raises a ClusterError when it fails."""

    def __init__(self, *, kubeconfig: str | None = None, context: str | None = None) -> None:
        configuration = Configuration()
        self.namespace = _load(configuration, kubeconfig, context)
        configuration.retries = False
        self.host: str = configuration.host
        self._api = ApiClient(configuration)

    def get(self, resource: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What lies at a path."""
        return self._json("GET", resource, query)

    def list(self, kind: Kind, namespace: str | None, query: Mapping[str, str] | None = None) -> list[RawObject]:
        """All objects of a kind; `namespace` None: of the whole cluster."""
        asked, items = {"limit": str(PAGE), **(query or {})}, list[RawObject]()
        while True:
            page = self.get(path(kind, namespace), asked)
            items += ({"apiVersion": kind.api_version, "kind": kind.name, **item} for item in page.get("items") or ())
            if not (token := page["metadata"].get("continue")):
                return items
            asked["continue"] = token

    def object(self, ref: Ref) -> RawObject:
        """One object."""
        return self.get(path(ref.kind, ref.namespace, ref.name))

    def patch(self, ref: Ref, change: Mapping[str, Any], *, dry_run: bool = False) -> RawObject:
        """A merge patch of an object; with `dry_run` the API server only says what would become of it."""
        query = {"fieldManager": MANAGER} | ({"dryRun": "All"} if dry_run else {})
        return self._json("PATCH", path(ref.kind, ref.namespace, ref.name), query, change)

    def lines(self, namespace: str, pod: str, query: Mapping[str, str]) -> Iterator[str]:
        """A pod's log, line by line as it comes."""
        response = self._call("GET", path(POD, namespace, pod, "log"), query, seconds=None)
        try:
            rest = b""
            for chunk in response.stream(65_536):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in whole)
            if rest:
                yield rest.decode(errors="replace")
        except urllib3.exceptions.HTTPError as error:
            raise Transient(f"the log of pod {pod} broke off: {type(error).__name__}") from error
        finally:
            response.close()

    def dial(self, namespace: str, pod: str, port: int) -> socket.socket:
        """A connection to a pod's port, through the API server."""
        # Here, since its models take half a second to import.
        from kubernetes.client import CoreV1Api
        from kubernetes.stream import portforward

        threading.excepthook = _quietly
        try:
            call = CoreV1Api(self._api).connect_get_namespaced_pod_portforward
            forward = portforward(call, pod, namespace, ports=str(port))
        except ApiException as error:
            raise Transient(f"port-forward to pod {pod}: {_handshake(str(error.reason))}") from None
        connection: socket.socket = forward.socket(port)
        return connection

    def _json(
        self,
        method: str,
        resource: str,
        query: Mapping[str, str] | None = None,
        change: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        response = self._call(method, resource, query, change)
        try:
            parsed: dict[str, Any] = json.loads(response.data)
        except ValueError:
            raise Transient(f"{self.host} does not answer as an API server does") from None
        return parsed

    def _call(
        self,
        method: str,
        resource: str,
        query: Mapping[str, str] | None = None,
        change: Mapping[str, Any] | None = None,
        seconds: float | None = _SECONDS,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json, */*"}
        if change is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        try:
            method, url, headers, content, _ = self._api.param_serialize(
                method,
                resource,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=change,
                auth_settings=["BearerToken"],
            )
            answer = self._api.call_api(method, url, headers, content, _request_timeout=(_SECONDS, seconds))
            response: urllib3.BaseHTTPResponse = answer.response
            if response.status >= 400:
                raise error_of(response.status, response.data, response.headers, verb=method, resource=resource)
            return response
        except ApiException as error:
            raise Transient(f"no answer from {self.host}: {error.reason}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Transient(f"no answer from {self.host}: {_why(error)}") from error


def _load(configuration: Configuration, kubeconfig: str | None, context: str | None) -> str:
    """Fill in address and credentials; returns the namespace that commands are about by default."""
    file = kubeconfig or os.environ.get("KUBECONFIG")
    load, contexts_in, load_pod = (
        config.load_kube_config,
        config.list_kube_config_contexts,
        config.load_incluster_config,
    )
    try:
        load(config_file=file, context=context, client_configuration=configuration)  # type: ignore[no-untyped-call]
        contexts, active = contexts_in(config_file=file)  # type: ignore[no-untyped-call]
    except (config.ConfigException, yaml.YAMLError, OSError) as error:
        if kubeconfig or context or "KUBERNETES_SERVICE_HOST" not in os.environ:
            raise NoCluster(f"{str(error).rstrip('.')}. Set KUBECONFIG, or use --kubeconfig and --context") from None
        load_pod(client_configuration=configuration)  # type: ignore[no-untyped-call]
        return "default"
    chosen = next((c for c in contexts if c["name"] == context), active)
    return str(chosen["context"].get("namespace") or "default")


def _quietly(error: threading.ExceptHookArgs) -> None:
    """A forwarded connection that is closed in the middle of an answer is no news, and not this thread's to tell."""
    if error.thread is None or not error.thread.name.startswith(_FORWARD_THREAD):
        threading.__excepthook__(error)


def _handshake(reason: str) -> str:
    """What the API server says, out of the text that the websocket's client makes of a refused handshake."""
    status, _, answer = reason.partition(" -+-+- ")
    try:
        return str(json.loads(answer.rpartition(" -+-+- ")[2])["message"])
    except (ValueError, KeyError, TypeError):
        return status


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    text = str(reason)
    return text.rsplit(": ", 1)[-1] if isinstance(reason, urllib3.exceptions.NewConnectionError) else text
