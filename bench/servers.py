"""The proxies that are compared, configured alike: one worker, pages cached for an hour, no access log.

Knows how each is configured and started. Must not know what is asked of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.processes import free_port, isr_proxy, listening

_NGINX: Final = """
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/temp;
  fastcgi_temp_path {directory}/fastcgi;
  scgi_temp_path {directory}/scgi;
  uwsgi_temp_path {directory}/uwsgi;
  proxy_cache_path {directory}/cache levels=1:2 keys_zone=pages:64m max_size=4g inactive=1d use_temp_path=off;
  upstream origin {{ server 127.0.0.1:{origin_port}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    location /pass/ {{ proxy_pass http://origin; }}
    location / {{
      proxy_pass http://origin;
      proxy_cache pages;
      proxy_cache_valid 200 1h;
      proxy_cache_lock on;
    }}
  }}
}}
"""

_ISR_PROXY: Final = """
listen: 127.0.0.1:{port}
admin: {{listen: "127.0.0.1:{admin_port}"}}
log: {{access: false, level: warning}}
origin: {{url: "http://127.0.0.1:{origin_port}"}}
store: {{path: "{directory}/store", fsync: false}}
routes:
  - {{match: "/pass/**", revalidate: 0}}
  - {{match: "/**", revalidate: 1h, compress: false}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A running proxy."""

    name: str
    port: int
    pid: int


@contextmanager
def running(directory: Path, origin_port: int, core: int) -> Iterator[Sequence[Server]]:
    """Start isr-proxy and nginx, both pinned to one core; they are never loaded at the same time."""
    with ExitStack() as stack:
        servers = []
        for name in ("isr-proxy", "nginx"):
            port, own = free_port(), directory / name
            own.mkdir()
            command = _command(name, own, port, origin_port)
            process = stack.enter_context(listening(command, port, core))
            servers.append(Server(name, port, process.pid))
        yield servers


def _command(name: str, directory: Path, port: int, origin_port: int) -> list[str]:
    if name == "isr-proxy":
        config = directory / "isr.yaml"
        config.write_text(
            _ISR_PROXY.format(port=port, admin_port=free_port(), origin_port=origin_port, directory=directory)
        )
        return isr_proxy(config)
    config = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # else its worker may not enter our directory
    config.write_text(_NGINX.format(port=port, origin_port=origin_port, directory=directory, user=user))
    return [nginx_path(), "-c", str(config), "-p", str(directory)]


def nginx_path() -> str:
    """Return where nginx lies; Debian keeps it out of a user's PATH."""
    return shutil.which("nginx") or "/usr/sbin/nginx"
