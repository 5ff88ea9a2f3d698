"""How each server is configured: alike where it matters, and otherwise as a good operator would.

Knows the languages of configuration. Must not know processes. For all of them: pages are cached for as long
as the origin says (an hour), connections are kept, to visitors and to the origin, no page is fsynced, and
`/pass/` is not cached. What differs, and why:

- nginx: `sendfile`, and `open_file_cache`, without which it opens the file again for each hit (a fifth of
  its CPU). A gzip page is cached as the origin's gzip, under a key with what `Accept-Encoding` comes down to;
  compressing for each request would cost it many times more.
- HAProxy and Varnish keep their pages in memory: 1.5 and 4 GB. HAProxy keys on `Accept-Encoding` with
  `process-vary`. isr-proxy gets 2 GiB where the pages are 1 GB, and else its default of 128 MiB.
- Varnish has its threads as by default: one waits, one of a pool answers.
- isr-proxy makes its own compressed copies; only `/gzip/` is to be compressed, as with the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

IDLE_SECONDS: Final = 75  # a kept connection, for all; nginx's and isr-proxy's default


@dataclass(frozen=True, slots=True)
class Setup:
    """In what a server differs from its usual setup. `memory` is isr-proxy's hot tier, None: its default."""

    workers: int = 1
    has_access_log: bool = False
    memory: str | None = None


USUAL: Final = Setup()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens, whom it asks, and the directory that is its own."""

    directory: Path
    port: int
    admin_port: int
    origin_port: int


_ISR_PROXY: Final = """\
listen: 127.0.0.1:{port}
workers: {workers}
admin: {{listen: "127.0.0.1:{admin_port}"}}
log: {{access: {access}, level: warning}}
origin: {{url: "http://127.0.0.1:{origin_port}"}}
store: {{path: "{directory}/store", max_size: 20GiB, fsync: false{memory}}}
routes:
  - {{match: "/pass/**", revalidate: 0}}
  - {{match: "/gzip/**", revalidate: 1h}}
  - {{match: "/**", revalidate: 1h, compress: false}}
"""

_NGINX: Final = """\
daemon off;
{user}
worker_processes {workers};
worker_rlimit_nofile {files};
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log {access};
  sendfile on;
  tcp_nopush on;
  keepalive_timeout {idle}s;
  keepalive_requests 10000000;
  open_file_cache max={open_files} inactive=10m;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/temp;
  fastcgi_temp_path {directory}/fastcgi;
  scgi_temp_path {directory}/scgi;
  uwsgi_temp_path {directory}/uwsgi;
  proxy_cache_path {directory}/cache levels=1:2 keys_zone=pages:256m max_size=20g inactive=1d
    use_temp_path=off;
  map $http_accept_encoding $encoding {{ default ""; ~gzip gzip; }}
  upstream origin {{ server 127.0.0.1:{origin_port}; keepalive 128; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096{reuseport};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_cache pages;
    proxy_cache_lock on;
    proxy_cache_use_stale updating error timeout http_500 http_502 http_503 http_504;
    proxy_cache_background_update on;
    location /pass/ {{ proxy_pass http://origin; proxy_cache off; }}
    location /gzip/ {{
      proxy_pass http://origin;
      proxy_cache_key $scheme$host$request_uri$encoding;
      proxy_ignore_headers Vary;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header Accept-Encoding $encoding;
    }}
    location / {{ proxy_pass http://origin; }}
  }}
}}
"""

_HAPROXY: Final = """\
global
  nbthread {workers}
  maxconn 4096
{log_to}
defaults
  mode http
{log_what}
  option http-keep-alive
  timeout connect 2s
  timeout client {idle}s
  timeout server 10s
  timeout http-request 30s
  timeout http-keep-alive {idle}s
cache pages
  total-max-size 1500
  max-object-size 4194304
  max-age 3600
  process-vary on
frontend visitors
  bind 127.0.0.1:{port} backlog 4096
  use_backend passing if {{ path_beg /pass/ }}
  default_backend cached
backend cached
  http-request cache-use pages
  http-response cache-store pages
  http-reuse always
  server origin 127.0.0.1:{origin_port}
backend passing
  http-reuse always
  server origin 127.0.0.1:{origin_port}
"""

_VARNISH: Final = """\
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{origin_port}"; }}
sub vcl_recv {{
  if (req.url ~ "^/pass/") {{ return (pass); }}
  unset req.http.Cookie;
}}
"""


def isr_proxy(place: Place, setup: Setup) -> str:
    """Return isr-proxy's YAML."""
    return _ISR_PROXY.format(
        port=place.port,
        admin_port=place.admin_port,
        origin_port=place.origin_port,
        directory=place.directory,
        workers=setup.workers,
        access="true" if setup.has_access_log else "false",
        memory="" if setup.memory is None else f", memory: {setup.memory}",
    )


def nginx(place: Place, setup: Setup, *, user: str | None, files: int) -> str:
    """Return nginx's configuration.

    `user` is whom its workers run as, None: whoever starts it; `files` is how many it may open. Half of them
    may be pages.
    """
    log = f"{place.directory}/access.log combined buffer=64k flush=1s"
    return _NGINX.format(
        port=place.port,
        origin_port=place.origin_port,
        directory=place.directory,
        workers=setup.workers,
        reuseport=" reuseport" if setup.workers > 1 else "",
        access=log if setup.has_access_log else "off",
        user="" if user is None else f"user {user};",
        idle=IDLE_SECONDS,
        files=files,
        open_files=files // 2,
    )


def haproxy(place: Place, setup: Setup) -> str:
    """Return HAProxy's configuration. It logs to its standard output, which is a file."""
    return _HAPROXY.format(
        port=place.port,
        origin_port=place.origin_port,
        workers=setup.workers,
        log_to="  log stdout format raw local0" if setup.has_access_log else "",
        log_what="  log global\n  option httplog" if setup.has_access_log else "",
        idle=IDLE_SECONDS,
    )


def varnish(place: Place) -> str:
    """Return Varnish's VCL."""
    return _VARNISH.format(origin_port=place.origin_port)


def varnish_arguments(place: Place, setup: Setup) -> list[str]:
    """Return the rest of Varnish's configuration, which is on its command line."""
    return [
        *("-F", "-j", "none", "-n", f"{place.directory}/work", "-f", f"{place.directory}/pages.vcl"),
        *("-a", f"127.0.0.1:{place.port}", "-s", "malloc,4g"),
        *("-p", f"thread_pools={setup.workers}", "-p", f"timeout_idle={IDLE_SECONDS}"),
    ]
