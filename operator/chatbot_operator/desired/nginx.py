"""The two files of a web pod: nginx.conf, and what the page is told. Pure; it must not know Kubernetes.

nginx.conf takes numbers, paths and a host name, each of a closed form: nothing that a person writes in a spec for
people to read gets into it. Those texts are in config.json, which nginx only hands out.
"""

import json
from collections.abc import Iterator
from string import Template
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

CONF_KEY = "nginx.conf"
PAGE_KEY = "config.json"
WEB_PORT = 8080

Host = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:]{2,39}\])$")]
Port = Annotated[int, Field(ge=1, le=65_535)]
Path = Annotated[str, Field(pattern=r"^(/[-A-Za-z0-9_.]+)+$")]
Seconds = Annotated[int, Field(ge=1, le=86_400)]


class WebServer(BaseModel):
    """What nginx.conf depends on. The defaults are those of the image and the runtime."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    backend_host: Host
    backend_port: Port = 8000
    listen_host: Host | Literal[""] = ""
    """Empty: every address of the pod, of the family of the backend's."""
    listen_port: Port = WEB_PORT
    page_dir: Path = "/srv/page"
    config_dir: Path = "/etc/chatbot/web"
    """Where both files are mounted as a folder, so that a changed config.json shows without a restart."""
    scratch_dir: Path = "/tmp"  # noqa: S108 - the one writable volume, of this pod alone
    max_body_bytes: int = Field(4_194_304, ge=1024)
    """The same setting as the runtime's."""
    read_seconds: Seconds = 320
    """Longest silence of the backend: above the runtime's limit of one request."""
    reuse_seconds: Seconds = 4
    """How long an unused connection to the backend is kept. Below both the 20 s after which the runtime closes it and
    the 5 s for which a stopping runtime still answers: so nginx never sends on a connection that is being closed."""
    header_seconds: Seconds = 10
    body_seconds: Seconds = 10
    send_seconds: Seconds = 20
    """How long a client may take nothing of what is sent to it."""
    workers: int = Field(2, ge=1, le=64)
    max_requests: int = Field(1000, ge=1)
    """Requests at once in this pod. One takes about 25 kB; the pod has 32 MiB unless its spec says otherwise."""
    max_requests_per_address: int | None = Field(None, ge=1)
    """Only where the peer's address is the client's own."""
    backend_is_replaced: bool = False
    """`rollout: Replace`: a backend that is not there is most likely being replaced."""


class Page(BaseModel):
    """config.json: what the chat page is told. Everybody who can open the page can read it."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    chatbot: str
    title: str = "Chatbot"
    greeting: str = ""
    suggestions: tuple[str, ...] = ()
    access: Literal["APIKey", "Anonymous"] = "Anonymous"
    suspended: bool = False
    heartbeat_seconds: float = Field(10, gt=0)
    """The runtime's: a stream that is silent for three of them is dead."""


def page_text(page: Page) -> str:
    """The text of config.json."""
    return page.model_dump_json(by_alias=True, indent=2) + "\n"


def nginx_conf(server: WebServer) -> str:
    """The text of nginx.conf."""
    # A kernel without IPv6 refuses to listen on it; a backend with such an address shows that there is IPv6.
    everywhere = "[::]" if server.backend_host.startswith("[") else ""
    host = server.listen_host or everywhere
    listen = f"{host}:{server.listen_port}" if host else str(server.listen_port)
    if host == "[::]":
        listen += " ipv6only=off"
    fields = server.model_dump() | {
        "listen": listen,
        "policy": "; ".join(_POLICY),
        "per_address": _per_address(server.max_requests_per_address),
        "proxy": _PROXY,
        "error_pages": "\n    ".join(_error_pages(server)),
        # Twice as many descriptors as connections: files and log count too.
        "connections": server.max_requests * 3,
        "descriptors": server.max_requests * 6,
    }
    return _Conf(_Conf(_CONF).substitute(fields)).substitute(fields)


class _Conf(Template):
    """`$` is nginx's own."""

    delimiter = "@"


def _per_address(most: int | None) -> str:
    return f"limit_conn per_address {most};" if most else "# The peers' addresses are not the clients' own."


def _error_pages(server: WebServer) -> Iterator[str]:
    """nginx's own errors look like the API's. `return` has no quotes to escape in, so the messages have none."""
    for status, (answered, code, message) in _errors(server).items():
        kind = "invalid_request_error" if answered < 429 else "server_error"
        body = json.dumps({"error": {"message": message, "type": kind, "code": code, "param": None}})
        changed = "" if answered == status else f" ={answered}"
        yield f"error_page {status}{changed} /_errors/{status};"
        yield f"location = /_errors/{status} {{ internal; default_type application/json; return {answered} '{body}'; }}"


def _errors(server: WebServer) -> dict[int, tuple[int, str, str]]:
    """nginx's status: the status that is answered, code, message."""
    away = (503, "backend_unavailable", "The chatbot is not available at the moment. Please try again.")
    if server.backend_is_replaced:
        away = (503, "model_switching", "The chatbot is switching to another model. Please try again in a moment.")
    return {
        400: (400, "bad_request", "The request is not valid HTTP."),
        403: (403, "forbidden", "There is nothing to read at this address."),
        404: (404, "not_found", "There is nothing at this address."),
        405: (405, "method_not_allowed", "This method is not allowed here."),
        413: (413, "request_too_large", f"The body is larger than {server.max_body_bytes} bytes: send less."),
        414: (414, "uri_too_long", "The address is too long."),
        494: (431, "headers_too_large", "The headers are too large."),
        500: (500, "internal_error", "Something went wrong here. Please try again."),
        502: away,
        503: (503, "overloaded", "Too many requests at once. Please try again."),
        504: (504, "backend_timeout", "The chatbot did not answer in time. Please try again."),
    }


_POLICY = (
    "default-src 'none'",
    *(f"{kind}-src 'self'" for kind in ("script", "style", "connect", "font", "manifest")),
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)

_PROXY = """\
limit_conn whole_pod @max_requests;
      @per_address
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Request-Id $id;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_connect_timeout 3s;
      proxy_send_timeout @{send_seconds}s;
      proxy_read_timeout @{read_seconds}s;
      proxy_next_upstream error;
      # Every event goes out at once, also through a buffering proxy in front, which reads the header.
      proxy_buffering off;
      proxy_pass_header X-Accel-Buffering;
      # The runtime ends a body that only drips; collected here, it never would.
      proxy_request_buffering off;
      proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Charset;"""

_CONF = """\
# Written by chatbot-operator; a change by hand is undone.
daemon off;
worker_processes @workers;
worker_rlimit_nofile @descriptors;
pid @scratch_dir/nginx.pid;
error_log stderr warn;

events {
  worker_connections @connections;
}

http {
  types {
    text/html html;
    text/css css;
    text/javascript js;
    application/json json;
    application/manifest+json webmanifest;
    image/svg+xml svg;
    image/png png;
  }
  default_type application/octet-stream;
  charset utf-8;
  charset_types text/css text/javascript;

  client_body_temp_path @scratch_dir/body;
  proxy_temp_path @scratch_dir/proxy;
  fastcgi_temp_path @scratch_dir/fastcgi;
  uwsgi_temp_path @scratch_dir/uwsgi;
  scgi_temp_path @scratch_dir/scgi;

  # A client's id is kept if it is one.
  map $http_x_request_id $id {
    "~^[A-Za-z0-9._-]{1,128}$" $http_x_request_id;
    default $request_id;
  }
  # The runtime's own answers carry one already.
  map $upstream_http_x_request_id $own_id {
    "" $id;
    default "";
  }
  # One Retry-After and never two: the runtime's if it gave one.
  map "$status:$upstream_http_retry_after" $own_retry_after {
    "~^(429|502|503|504):$" 5;
    default "";
  }
  map $request_uri $path {
    "~^(?<before_query>[^?]*)" $before_query;
  }
  map "$status:$path" $own_cache_control {
    "~^(200|206|304):/assets/" "public, max-age=31536000, immutable";
    "~^[0-9]+:/v1/" "";
    default "no-cache";
  }

  # Ids, sizes, times and codes; never a query, a prompt, an answer or a key.
  log_format json escape=json '{"time":"$time_iso8601","id":"$id","method":"$request_method","path":"$path",'
    '"status":$status,"seconds":$request_time,"bytes":$bytes_sent,"upstream":"$upstream_status"}';
  access_log /dev/stdout json;

  server_tokens off;
  absolute_redirect off;
  sendfile on;
  gzip off;
  gzip_static on;
  gzip_vary on;

  client_max_body_size @max_body_bytes;
  client_header_timeout @{header_seconds}s;
  client_body_timeout @{body_seconds}s;
  send_timeout @{send_seconds}s;
  lingering_time @{body_seconds}s;
  reset_timedout_connection on;
  limit_conn_zone $server_name zone=whole_pod:1m;
  limit_conn_zone $binary_remote_addr zone=per_address:4m;
  limit_conn_log_level warn;

  upstream backend {
    # Twice, so that a refused connection, which no request was sent on, is tried again.
    server @backend_host:@backend_port max_fails=0;
    server @backend_host:@backend_port max_fails=0;
    keepalive 64;
    keepalive_timeout @{reuse_seconds}s;
    # New backend pods get their share.
    keepalive_requests 200;
  }

  server {
    # The kernel's buffers count as the pod's memory: a client that reads nothing must not fill megabytes.
    listen @listen backlog=1024 sndbuf=128k;
    server_name _;
    root @page_dir;

    # All of them here: a single add_header further in would silently drop these.
    add_header Content-Security-Policy "@policy" always;
    add_header X-Content-Type-Options nosniff always;
    add_header Referrer-Policy no-referrer always;
    add_header Permissions-Policy "camera=(), geolocation=(), microphone=(), payment=(), usb=()" always;
    add_header Cross-Origin-Opener-Policy same-origin always;
    add_header Cross-Origin-Resource-Policy same-origin always;
    add_header X-DNS-Prefetch-Control off always;
    add_header X-Request-Id $own_id always;
    add_header Retry-After $own_retry_after always;
    add_header Cache-Control $own_cache_control always;

    @error_pages

    location = /healthz {
      access_log off;
      default_type text/plain;
      return 200 "ok\\n";
    }

    location = /config.json {
      alias @config_dir/config.json;
    }

    location / {
      index index.html;
      try_files $uri $uri/index.html =404;
    }

    location /v1/ {
      if (-f @scratch_dir/draining) {
        rewrite ^ /_draining last;
      }
      @proxy
      proxy_pass http://backend;
    }

    # While the pod is about to stop, clients are told to open their next connection elsewhere.
    location = /_draining {
      internal;
      keepalive_timeout 0;
      @proxy
      proxy_pass http://backend$request_uri;
    }
  }
}
"""
